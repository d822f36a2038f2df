"""The gain of the proxies is over what the labels' own method gives without them, not over another method."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from wording import Wording

from alm_proxies.compare import worth
from alm_proxies.compare.material import material_of
from alm_proxies.compare.rivals import ALONE, AUTO_ALONE, FUSED
from alm_proxies.compare.worth import DRAWS
from alm_proxies.seeds import generator
from alm_proxies.stages.align.prepared import Prepared, prepare
from alm_proxies.stages.align.scored import Scored, scored_of
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
Corpus = tuple[Votes, Utterances]


def corpus(truth: float, *, known: bool = False, utterances: int = 90, held_out: int = 3) -> Corpus:
    """Two kinds of speech and 30 speakers: three votes to fit; a proxy that hears the truth in a share of cases."""
    random = generator(8, "alone", truth)
    kinds = np.array([[0.94, 0.03, 0.03], [0.05, 0.5, 0.45]])
    rows: list[tuple[str, str, str, int, str, bool]] = []
    for number, kind in enumerate(random.integers(0, 2, utterances)):
        name, share = f"u{number:03}", kinds[kind]
        for draw, label in enumerate(random.choice(3, 3 + held_out, p=share)):
            who = f"c/r{(number + draw) % 7}" if known else "crowd"
            rows.append((name, who, "human", 0 if known else draw, LABELS[label], draw >= 3))
        heard = random.choice(3, 4, p=truth * share + (1.0 - truth) * kinds.mean(0))
        rows += [(name, "proxy", "proxy", draw, LABELS[label], False) for draw, label in enumerate(heard)]
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    people = {
        "utterance_id": [f"u{n:03}" for n in range(utterances)],
        "speaker": [f"s{n % 30}" for n in range(utterances)],
    }
    return Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS), Utterances.of(
        pl.DataFrame(people)
    )


def labels_of(votes: Votes, utterances: Utterances, method: str) -> Labels:
    return fuse(votes, FuseSettings(method=method, classes=4, seed=3), utterances=utterances, quiet=True).labels


def scored(votes: Votes, utterances: Utterances, labels: Labels) -> Scored:
    ids = votes.frame["utterance_id"].unique()
    material, _ = material_of(labels, ids, lambda _: votes, utterances, at_most=1000, seed=0)
    prepared: Prepared = prepare(material, votes, utterances, FuseSettings())
    found = scored_of(prepared, utterances, consensus=False, seed=0)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "method", ["auto", "chosen", "dirichlet", "gated", "loglinear", "mixture", "pool", "weighted", "dawid_skene"]
)
def test_human_votes_alone_are_the_labels_fused_without_the_proxies_votes(method: str) -> None:
    votes, utterances = corpus(0.8, known=method == "dawid_skene")
    few = ~pl.col("held_out") | (pl.col("utterance_id") < "u025")  # too few for a learning curve, which takes long
    votes = Votes.of(votes.frame.filter(few), about=votes.about)
    found = scored(votes, utterances, labels_of(votes, utterances, method))
    human = Votes.of(votes.frame.filter(pl.col("source") == "human"), about=votes.about)
    without = labels_of(human, utterances, method).frame.sort("utterance_id")
    names = [f"p_{label}" for label in LABELS]
    alone = found.alone.labels.frame.sort("utterance_id")
    np.testing.assert_allclose(alone.select(names).to_numpy(), without.select(names).to_numpy(), atol=1e-12)
    assert found.alone.method == method
    assert (AUTO_ALONE in found.comparison.methods) == (method != "auto")


@pytest.mark.parametrize("method", ["weighted", "loglinear"])
def test_a_gain_of_the_method_is_not_taken_for_one_of_the_proxies(method: str) -> None:
    votes, utterances = corpus(0.0, utterances=240)
    scores = scored(votes, utterances, labels_of(votes, utterances, method)).comparison
    gain = scores.of(FUSED).gain
    assert gain is not None
    assert scores.paired(AUTO_ALONE, ALONE).difference.high < 0  # another method is better on human votes alone
    assert scores.paired(FUSED, AUTO_ALONE).difference.low > 0
    assert gain.difference.high > 0
    assert abs(gain.difference.estimate) < 0.02


def test_a_better_method_on_human_votes_alone_is_named_with_its_figure(
    wording: Wording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worth, "DRAWS", DRAWS)  # with fewer the page has other sentences
    votes, utterances = corpus(0.9, utterances=240)
    labels = labels_of(votes, utterances, "weighted")
    report = align(labels, votes, utterances, AlignSettings(examples=0))
    scores = report.metrics["scores"]
    gain = -scores["against_fused"][AUTO_ALONE]["value"]
    assert scores["alone"] == "weighted"
    assert scores["overall"][0]["less_baseline"]["value"] < gain
    assert f"The method auto does better on human votes alone: against it the difference is {gain:+.3f}" in (
        report.page.headline.replace("\N{MINUS SIGN}", "-")
    )
    wording.page(report.page.html())


def test_the_method_of_the_labels_is_said_beside_human_votes_alone() -> None:
    votes, utterances = corpus(0.9)

    def said(labels: Labels) -> str:
        report: Alignment = align(labels, votes, utterances, AlignSettings(examples=0))
        return next(section.lead for section in report.page.sections if section.title == "Against held-out votes")

    labels = labels_of(votes, utterances, "loglinear")
    assert "Human votes alone are those of loglinear, the method of the labels, without proxies." in said(labels)
    silent = Labels(labels.frame, labels.about.with_(made_by=None))
    assert "those of gated without proxies, because the labels use no proxies or do not state their method" in said(
        silent
    )
    assert labels.about.made_by is not None
    settings: dict[str, Any] = {**labels.about.made_by.settings, "method": "of_another_package"}
    foreign = Labels(
        labels.frame, labels.about.with_(made_by=labels.about.made_by.model_copy(update={"settings": settings}))
    )
    assert "because of_another_package, the method of the labels, cannot be fitted without proxies" in said(foreign)
