from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from alm_proxies.errors import InputError
from alm_proxies.measures.alt_test import alt_test, benjamini_yekutieli
from alm_proxies.tables import Votes

LABELS = ("angry", "happy", "neutral", "sad")


def panel(
    seed: int = 0, items: int = 120, raters: int = 4, noise: float = 0.3, proxy_noise: float = 0.3, draws: int = 1
):
    """Votes of raters and one proxy that all hear one truth, each wrong at its rate."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, items)
    rows = []

    def hear(name: str, source: str, wrong: float, many: int) -> None:
        for item in range(items):
            for draw in range(many):
                label = rng.integers(0, 4) if rng.random() < wrong else truth[item]
                rows.append((f"c/{item:04d}", name, source, draw, LABELS[label]))

    for rater in range(raters):
        hear(f"c/r{rater}", "human", noise, 1)
    hear("bot", "proxy", proxy_noise, draws)
    columns = ["utterance_id", "annotator", "source", "draw", "label"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def by_hand(frame: pl.DataFrame, epsilon: float):
    """The procedure written out as loops, one proxy draw an item."""
    humans: dict[str, dict[str, str]] = {}
    for row in frame.filter(pl.col("source") == "human").iter_rows(named=True):
        humans.setdefault(row["annotator"], {})[row["utterance_id"]] = row["label"]
    proxy = dict(frame.filter(pl.col("source") == "proxy").select("utterance_id", "label").iter_rows())
    results = {}
    for name, own in humans.items():
        mine, theirs = [], []
        for item, label in own.items():
            others = [votes[item] for other, votes in humans.items() if other != name and item in votes]
            if not others or item not in proxy:
                continue
            agreement = np.mean([other == proxy[item] for other in others])
            rated = np.mean([other == label for other in others])
            mine.append(agreement >= rated)
            theirs.append(rated >= agreement)
        difference = np.array(theirs, float) - np.array(mine, float)
        p = stats.ttest_1samp(difference, epsilon, alternative="less").pvalue
        results[name] = (len(mine), np.mean(mine), np.mean(theirs), p)
    return results


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_procedure_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    frame = panel(seed, proxy_noise=rng.choice([0.1, 0.3, 0.6])).filter(pl.Series(rng.random(600) < 0.85))
    result = alt_test(Votes.of(frame, taxonomy=LABELS), "bot", kind="skilled")
    expected = by_hand(frame, 0.15)
    assert [rater.rater for rater in result.raters] == sorted(expected)
    for rater in result.raters:
        values = (rater.items, rater.proxy_advantage, rater.rater_advantage, rater.p_value)
        assert values == pytest.approx(expected[rater.rater])
    corrected = stats.false_discovery_control([rater.p_value for rater in result.raters], method="by")
    assert [rater.won for rater in result.raters] == (corrected <= 0.05).tolist()
    assert result.win_rate == pytest.approx(np.mean(corrected <= 0.05))


def test_a_better_proxy_passes_and_a_guessing_one_does_not():
    better = alt_test(Votes.of(panel(noise=0.4, proxy_noise=0.05), taxonomy=LABELS), "bot")
    guessing = alt_test(Votes.of(panel(noise=0.2, proxy_noise=1.0), taxonomy=LABELS), "bot")
    assert better.passed is True
    assert guessing.passed is False
    assert better.advantage > 0.9 > guessing.advantage


def test_single_draws_are_scored_and_averaged():
    frame = panel(draws=5)
    votes = Votes.of(frame, taxonomy=LABELS)
    together = alt_test(votes, "bot").raters[0]
    single = []
    for draw in range(5):
        one_draw = frame.filter((pl.col("source") == "human") | (pl.col("draw") == draw))
        single.append(alt_test(Votes.of(one_draw, taxonomy=LABELS), "bot").raters[0])
    assert together.proxy_advantage == pytest.approx(np.mean([rater.proxy_advantage for rater in single]))
    assert together.rater_advantage == pytest.approx(np.mean([rater.rater_advantage for rater in single]))


def test_a_draw_whose_mass_is_shared_counts_each_label_by_its_share():
    frame = panel().with_columns(weight=pl.lit(1.0))
    human, proxy = frame.filter(pl.col("source") == "human"), frame.filter(pl.col("source") == "proxy")
    quarter = pl.concat([proxy.with_columns(label=pl.lit(label), weight=pl.lit(0.25)) for label in LABELS])
    shared = alt_test(Votes.of(pl.concat([human, quarter]), taxonomy=LABELS), "bot").raters[0]
    single = [
        alt_test(Votes.of(pl.concat([human, proxy.with_columns(label=pl.lit(label))]), taxonomy=LABELS), "bot").raters[
            0
        ]
        for label in LABELS
    ]
    assert shared.proxy_advantage == pytest.approx(np.mean([rater.proxy_advantage for rater in single]))


def test_raters_under_thirty_items_are_left_out_and_counted():
    frame = panel()
    few = pl.col("annotator").is_in(["c/r0", "c/r1"]) & (pl.col("utterance_id") >= "c/0020")
    result = alt_test(Votes.of(frame.filter(~few), taxonomy=LABELS), "bot")
    assert [rater.rater for rater in result.raters] == ["c/r2", "c/r3"]
    assert result.raters_left_out == 2
    assert result.passed is None


def test_failed_held_out_and_consensus_votes_take_no_part():
    frame = panel()
    plain = alt_test(Votes.of(frame, taxonomy=LABELS), "bot")
    extra = pl.DataFrame(
        {
            "utterance_id": [f"c/{item:04d}" for item in range(120)] * 3,
            "annotator": ["c/consensus"] * 120 + ["c/r9"] * 120 + ["c/r0"] * 120,
            "source": ["human"] * 360,
            "draw": [0] * 240 + [7] * 120,
            "label": ["sad"] * 240 + [None] * 120,
            "held_out": [False] * 120 + [True] * 120 + [False] * 120,
            "status": ["ok"] * 240 + ["failed"] * 120,
        }
    )
    more = pl.concat([frame.with_columns(held_out=False, status=pl.lit("ok")), extra.cast({"draw": pl.Int64})])
    assert alt_test(Votes.of(more, taxonomy=LABELS), "bot") == plain


def test_unknown_raters_and_absent_proxies_are_refused_in_one_sentence():
    frame = panel()
    crowd = frame.with_columns(
        annotator=pl.when(pl.col("source") == "human").then(pl.lit("c/crowd")).otherwise("annotator"),
        draw=pl.int_range(pl.len()).over("utterance_id", "source"),
    )
    with pytest.raises(InputError, match="raters of 'c/crowd' are not known"):
        alt_test(Votes.of(crowd, taxonomy=LABELS), "bot")
    with pytest.raises(InputError, match="no usable vote"):
        alt_test(Votes.of(frame, taxonomy=LABELS), "nobody")


def test_a_proxy_alone_leaves_nothing_to_test():
    alone = alt_test(Votes.of(panel(raters=0), taxonomy=LABELS), "bot")
    assert alone.raters == ()
    assert math.isnan(alone.win_rate)
    assert alone.passed is None
    one_rater = alt_test(Votes.of(panel(raters=1), taxonomy=LABELS), "bot")
    assert (one_rater.raters, one_rater.raters_left_out) == ((), 1)


def test_benjamini_yekutieli_is_scipys():
    rng = np.random.default_rng(0)
    for many in (1, 2, 7, 40):
        p = rng.random(many) ** 4
        expected = stats.false_discovery_control(p, method="by") <= 0.05
        np.testing.assert_array_equal(benjamini_yekutieli(p), expected)
    assert benjamini_yekutieli([]).shape == (0,)
