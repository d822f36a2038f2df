"""The formulas of the concept pages, computed from their text alone, give what the code gives."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.counting import Merge
from alm_proxies.estimators.attributes import Attributes
from alm_proxies.estimators.counts import counts_of
from alm_proxies.stages.evaluate.stage import evaluate
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Utterances, Votes

DOCS = Path(__file__).parents[2] / "docs"
LABELS = ("angry", "happy", "sad", "neutral")


def votes(n: int = 80, *, rated: bool = False) -> Votes:
    """Three human votes an utterance, a fourth held out; a proxy with ratings if the raters rate."""
    random = np.random.default_rng(2)
    rows = []
    for number in range(n):
        share, felt = random.dirichlet(np.full(4, 0.5)), random.uniform(0.2, 0.8)
        for draw, who in enumerate((*random.permutation(6)[:4], "model")):
            human = who != "model"
            rating = float(np.clip(felt + random.normal(0.02 * draw, 0.1), 0, 1)) if rated else None
            label = LABELS[random.choice(4, p=share)]
            rows.append((f"u{number:03}", f"c/r{who}" if human else who, "human" if human else "proxy", label, rating,
                         human and draw == 3))  # fmt: skip
    names = ["utterance_id", "annotator", "source", "label", "valence", "held_out"]
    return Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS)


def tally(frame: pl.DataFrame) -> np.ndarray:
    """Votes for each label."""
    return np.array([(frame["label"] == label).sum() for label in LABELS], dtype=float)


def test_the_corpus_shares_have_one_even_vote_added_and_those_of_evaluate_half_a_vote_a_label() -> None:
    """docs/concepts/fusion.md, the beginning."""
    table = votes()
    fitted = tally(table.frame.filter((pl.col("source") == "human") & ~pl.col("held_out")))
    np.testing.assert_allclose(counts_of(table).shares, (fitted + 1 / 4) / (fitted.sum() + 1))
    ids = sorted(table.frame["utterance_id"].unique())
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "speaker": [f"s{int(i[1:]) % 20}" for i in ids]}))
    labels = fuse(table, FuseSettings(method="human"), utterances=people).labels
    scored = evaluate({"fused": labels}, table, people)
    held = table.frame.filter("held_out")
    shares = (fitted + 1 / 2) / (fitted.sum() + 4 / 2)
    loss = -(tally(held) * np.log(shares)).sum() / held.height
    assert scored.metrics["methods"]["class shares"]["nll_per_vote"]["value"] == pytest.approx(loss)


def test_merged_counts_take_a_share_from_every_vote_of_an_utterance() -> None:
    """docs/concepts/fusion.md: n = N ((1 - s) P + s S), S over the raters who named secondary labels."""
    frame = pl.DataFrame(
        {
            "utterance_id": ["a"] * 4 + ["b"],
            "annotator": ["r1", "r2", "r3", "r4", "r1"],
            "label": ["angry", "angry", "sad", "happy", "sad"],
            "secondary": [["sad", "neutral"], [], ["neutral"], [], []],
        }
    )
    human = counts_of(Votes.of(frame, taxonomy=LABELS), merge=Merge(primary=0.9, secondary=0.1)).human
    primary, secondary = np.array([2, 1, 1, 0]) / 4, (np.array([0, 0, 0.5, 0.5]) + np.array([0, 0, 0, 1])) / 2
    np.testing.assert_allclose(human[0], 4 * (0.9 * primary + 0.1 * secondary))
    np.testing.assert_allclose(human[1], [0, 0, 1, 0])


def test_a_flat_prior_gives_ten_votes_a_concentration_of_ten_and_the_labels() -> None:
    """docs/concepts/strength.md, by its own formula of the variance."""
    random = np.random.default_rng(0)
    drawn = random.dirichlet(np.array([4, 3, 2, 1, 0, 0]) + 1.0, 400_000)
    mean, variance = drawn.mean(0), drawn.var(0)
    assert (1 - (mean**2).sum()) / variance.sum() - 1 == pytest.approx(16, rel=0.01)
    page = (DOCS / "concepts/strength.md").read_text(encoding="utf-8")
    assert "$10 + K$: 16 with six labels" in page


def test_valence_is_the_posterior_mean_of_the_documented_model_and_not_the_mean_of_the_ratings() -> None:
    """docs/concepts/label.md, Ratings: the mean, its error, and the spread of one more listener's rating."""
    table = votes(rated=True)
    labels = fuse(table, FuseSettings(method="human")).labels.frame.sort("utterance_id")
    human = table.frame.filter((pl.col("source") == "human") & ~pl.col("held_out"))
    fitted = Attributes().fit(table)
    model, weighed = fitted.models_["valence"], fitted.weighed_["valence"]
    assert len(weighed) == 5
    bias = dict(zip(model.raters, model.rater_bias, strict=True))
    proxy = dict(table.frame.filter(pl.col("source") == "proxy").select("utterance_id", "valence").iter_rows())
    for row in labels.head(20).iter_rows(named=True):
        own = human.filter(pl.col("utterance_id") == row["utterance_id"])
        rated = list(own.select("annotator", "valence").iter_rows())
        means, errors = [], []
        for _, part in weighed:
            variance = dict(zip(part.raters, part.rater_variance, strict=True))
            offset, slope = part.proxy_offset[0], part.proxy_slope[0]
            error = part.proxy_covariance[0, 0] + part.proxy_noise[0]
            precision = 1 / part.variance + sum(1 / variance[who] for who, _ in rated) + slope**2 / error
            pull = part.mean / part.variance + sum((y - bias[who]) / variance[who] for who, y in rated)
            pull += slope * (proxy[row["utterance_id"]] - offset) / error
            means.append(pull / precision)
            errors.append(1 / precision)
        shares = np.array([weight for weight, _ in weighed])
        mean = shares @ means
        assert row["valence"] == pytest.approx(mean)
        assert row["valence_error"] ** 2 == pytest.approx(shares @ (np.array(errors) + (np.array(means) - mean) ** 2))
        away = np.array([y - bias[who] for who, y in rated])
        squares = model.spread_strength * model.spread_variance + np.square(away - away.mean()).sum()
        spread = squares / (model.spread_strength + len(away) - 1) + model.bias_variance
        assert row["valence_sd"] == pytest.approx(spread**0.5)


def test_every_column_that_fuse_writes_is_on_the_page_of_tables() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from site_pages.words import tables_page
    finally:
        sys.path.remove(str(DOCS))
    page = tables_page()
    listed = re.findall(r"^\| `(\w+)` \|", page[page.index("## Labels") :], flags=re.MULTILINE)
    written = fuse(votes(rated=True), FuseSettings(method="human")).labels.frame.columns
    assert [name for name in written if name not in listed and not name.startswith("p_")] == []
