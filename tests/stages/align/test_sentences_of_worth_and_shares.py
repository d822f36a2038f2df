"""Sentences of the sections on worth and on label shares: each is on the page only where it is true."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from alm_proxies.compare.worth import Learning
from alm_proxies.estimators.trials import Worth
from alm_proxies.interval import Interval
from alm_proxies.measures.class_shares import ClassShares
from alm_proxies.metrics import METRICS
from alm_proxies.report.charts import Curves
from alm_proxies.report.page import Section, Text
from alm_proxies.stages.align.shares import LabelShare, Shares, shares_section
from alm_proxies.stages.align.worth import worth_figure, worth_section

LEARNED = Learning(
    at=(1, 2, 3, 4),
    human=tuple(Interval(loss, loss - 0.1, loss + 0.1) for loss in (1.4, 1.3, 1.25, 1.2)),
    with_proxies=(),
    fused=Interval(1.25, 1.15, 1.35),
    given=2,
    worth={"all": Worth(3.0, 2.5, 3.5, 4, 47)},
    concentration_gain={"all": 2.4},
    strength=(3.0, 4.0, 5.2, 6.4),
    utterances=47,
)


def section(learned: Learning, *, judged: int = 60) -> Section:
    found = worth_section(learned, judged=judged, has_proxies=True, uses_proxies=True)
    assert found is not None
    return found


def words(learned: Learning) -> str:
    return next(block.words for block in section(learned).blocks if isinstance(block, Text))


def test_utterances_outside_the_curve_are_those_with_too_few_votes_of_either_kind() -> None:
    condition = "2 votes in the fit and 3 or more held-out votes"
    curve = section(LEARNED)
    assert f"47 of the 60 utterances with held-out votes, those with {condition}: their log loss" in curve.lead
    assert getattr(curve.blocks[0], "note", "").startswith(f"47 utterances with {condition}. Beyond 2 votes the others")
    assert "those with" not in section(LEARNED, judged=47).lead
    one = replace(LEARNED, given=1, at=(1,), human=LEARNED.human[:1], strength=(3.0,), worth={})
    assert "those with 1 vote in the fit: their log loss" in section(one).lead


def test_the_point_of_the_labels_is_the_refitted_fusion_and_their_difference_in_the_first_draw() -> None:
    several = replace(LEARNED, draws=8, with_proxies=LEARNED.human)
    sentence = "the refitted fusion, averaged over the draws, plus the labels' difference from it in the first draw"
    assert sentence in section(several).lead
    assert sentence not in section(LEARNED).lead
    meaning = METRICS["fused"].meaning
    assert "less that of the refitted fusion in the first draw" in meaning


@pytest.mark.parametrize(
    ("strength", "gain", "sentence"),
    [
        ((3.0, 4.0, 5.2, 6.4), 2.4, "adds 1.2 to the concentration, not 1, so 2.4 equal 2.0 human votes."),
        ((3.0, 4.0, 5.02, 6.04), 2.4, None),
        ((3.0, 4.0, 5.2, 6.4), 0.04, None),
    ],
)
def test_the_gain_is_converted_into_votes_only_where_that_changes_it(
    strength: tuple[float, ...], gain: float, sentence: str | None
) -> None:
    text = words(replace(LEARNED, strength=strength, concentration_gain={"all": gain}))
    assert (sentence in text) if sentence else ("adds" not in text.partition("Where the curve")[2])


def test_a_worth_at_the_start_of_the_curve_stands_for_any_that_is_less() -> None:
    least = replace(LEARNED, worth={"all": Worth(1.0, 1.0, 2.5, 4, 47)})
    assert "were worth −1 human votes or fewer (≤ −1 to 0.5, in addition to 2 given)" in words(least)
    assert worth_figure(least).value == "≤ −1"
    assert worth_figure(LEARNED).value == "1.0"
    none = replace(LEARNED, fused=Interval(math.inf, math.nan, math.nan, "none", 30))
    chart = section(none).blocks[0]
    assert isinstance(chart, Curves)
    assert "inf" not in chart.wide
    assert "∞" in str(chart.drawn().html())


def shares_in_the_corpus(human: tuple[float, float], ends: float) -> Shares:
    """Two labels, with intervals of this half width; NaN where speakers are too few."""
    low, high = (tuple(value + side * ends for value in human) for side in (-1, 1))
    corpus = ClassShares(human, low, high, (0.3, 0.3), human, low, high, 80, 80)
    rows = tuple(share(name, 0.5, Interval(0.0, -0.1, 0.1, "t", 10)) for name in ("happy", "sad"))
    return Shares(rows, np.full((2, 2), 0.5), corpus)


@pytest.mark.parametrize(("ends", "sentence"), [(math.nan, "too few speakers"), (0.0, "no narrower")])
def test_proxies_narrow_no_interval_that_is_not_known_or_has_no_width(ends: float, sentence: str) -> None:
    found = shares_section(shares_in_the_corpus((0.6, 0.4), ends), ("happy", "sad"), ())
    text = " ".join(block.words for block in found.blocks if isinstance(block, Text))
    assert sentence in text
    assert ("narrower" in text) == (ends == 0.0)


def share(label: str, human: float, difference: Interval) -> LabelShare:
    proxy = human + difference.estimate
    return LabelShare(label, Interval(human, human, human), Interval(proxy, proxy, proxy), difference, 0.5)


def test_a_difference_that_is_shown_as_zero_is_no_headline() -> None:
    def of(estimate: float, low: float, high: float) -> Interval:
        return Interval(estimate, low, high, "percentile", 30)

    rare = [share(name, 1e-6, of(2e-6, 1e-6, 3e-6)) for name in ("fear", "disgust")]
    none = share("contempt", 0.0, of(1e-5, 1e-6, 4e-4))
    more, less = (
        share("happy", 0.3, of(0.1, 0.05, 0.15)),
        share("sad", 0.4, of(-0.1, -0.15, -0.05)),
    )
    table = np.full((4, 4), 0.25)

    def lead(*rows: LabelShare) -> str:
        return shares_section(Shares(rows, table, None), [row.label for row in rows], []).lead

    assert lead(*rare, more, less) == "On the same utterances proxies say happy more often than humans, sad less often."
    assert lead(*rare, none, more, share("angry", 0.2, of(0.0, 0.0, 0.0))).count("proxies say happy more") == 1
    assert lead(*rare, none, share("angry", 0.2, of(0.1, -0.1, 0.3))) == (
        "No label is clearly over- or under-used by proxies."
    )
