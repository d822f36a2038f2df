"""Agreement with a proxy that gives distributions: exact, whatever the seed and the order of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.dirichlet import Pool
from alm_proxies.seeds import generator
from alm_proxies.stages.align.stage import AlignSettings, align
from alm_proxies.tables import About, AnnotatorCard, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")


def votes_of(order: tuple[str, ...]) -> Votes:
    """240 utterances with five human votes and a distribution of one proxy."""
    random = generator(4, "distributions")
    rows: list[dict[str, Any]] = []
    for place, share in enumerate(random.dirichlet([0.4] * 4, 240)):
        for draw in range(5):
            vote = {"annotator": "c/crowd", "draw": draw, "label": LABELS[int(random.choice(4, p=share))]}
            rows.append({"utterance_id": f"c/u{place:03}", **vote, "source": "human", "held_out": False, "weight": 1.0})
        stated = 0.6 * share + 0.4 * random.dirichlet([1.0] * 4)
        for label, weight in zip(LABELS, stated, strict=True):
            vote = {"annotator": "stated", "draw": 0, "label": label, "weight": float(weight)}
            rows.append({"utterance_id": f"c/u{place:03}", **vote, "source": "proxy", "held_out": False})
    card = AnnotatorCard(digest="c", model="m", elicit="state")
    return Votes.of(pl.DataFrame(rows), about=About(taxonomy=order, annotators={"stated": card}))


def test_agreement_with_distributions_needs_no_random_draw_and_fits_the_confusion_table() -> None:
    people = {
        "utterance_id": [f"c/u{place:03}" for place in range(240)],
        "speaker": [f"c/s{place % 30}" for place in range(240)],
        "gender": ["female" if place % 2 else "male" for place in range(240)],
    }
    utterances = Utterances.of(pl.DataFrame(people))
    figures = []
    for seed, order in ((0, LABELS), (5, LABELS[::-1])):
        votes = votes_of(order)
        settings = AlignSettings(examples=0, seed=seed)
        metrics = align(Pool().fit(votes).predict(votes), votes, utterances, settings).metrics
        equal = [metrics["agreement_at_equal_votes"], metrics["proxies"]["stated"]["agreement_at_one_vote"]]
        equal += [metrics["agreement_within"]["gender"][value] for value in ("female", "male")]
        names = [(measure, pair) for measure in ("jsd_base2", "agreement", "kappa")
                 for pair in ("human_human", "human_proxy", "difference")]  # fmt: skip
        figures.append([each[measure][pair]["value"] for each in equal for measure, pair in names])
        confusion = np.array(metrics["confusion_human_by_proxy"])
        common = np.array([row["human"]["value"] for row in metrics["label_shares"]])
        diagonal = float(common @ np.diag(confusion))
        assert equal[0]["agreement"]["human_proxy"]["value"] == pytest.approx(diagonal, abs=1e-9)
    np.testing.assert_allclose(figures[0], figures[1], atol=1e-9)
