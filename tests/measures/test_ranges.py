"""No interval reaches where no value can be, and with fewer than three speakers there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import equal_votes
from alm_proxies.measures.bootstrap import mean_by_speaker, paired_by_speaker
from alm_proxies.measures.ranges import (
    DIFFERENCE,
    DIFFERENCE_OF_KAPPAS,
    SHARE,
    SHARE_OF_LOSS,
    range_of,
    range_of_difference,
)
from alm_proxies.measures.recovered import ambiguity
from alm_proxies.measures.taken_off import taken_off
from alm_proxies.measures.tally import Tally
from alm_proxies.seeds import generator

VALUES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 30)), min_size=1, max_size=60)


@given(VALUES)
def test_intervals_of_shares_and_their_differences_stay_inside_the_possible_range(
    rows: list[tuple[float, float, int]],
) -> None:
    first, second, speakers = (np.array(column) for column in zip(*rows, strict=True))
    level = mean_by_speaker(first, speakers, within=SHARE)
    change = paired_by_speaker(first, second, speakers, within=range_of_difference("jsd_base2")).difference
    for interval, lowest in ((level, 0.0), (change, -1.0)):
        if len(set(speakers)) < 3:
            assert interval.method == "none"
            assert math.isnan(interval.low)
        else:
            assert lowest <= interval.low <= interval.high <= 1.0
            assert interval.low - 1e-9 <= interval.estimate <= interval.high + 1e-9


def test_without_a_range_three_speakers_would_reach_beyond_it() -> None:
    values, speakers = [0.9, 0.1, 0.9], ["a", "b", "c"]
    assert mean_by_speaker(values, speakers).high > 1.0
    assert mean_by_speaker(values, speakers, within=SHARE).high == 1.0


def test_two_speakers_are_shown_each_without_an_interval() -> None:
    interval = mean_by_speaker([0.2, 0.4], ["a", "b"], within=SHARE)
    assert (interval.method, interval.speakers, interval.per_speaker) == ("none", 2, (0.2, 0.4))
    assert interval.estimate == pytest.approx(0.3)


def test_an_unknown_interval_stays_unknown() -> None:
    assert math.isnan(Interval(0.5, math.nan, math.nan, "none").within(*SHARE).high)


def test_an_interval_beyond_the_range_ends_where_the_range_does() -> None:
    below, above = Interval(-0.3, -0.5, -0.1).within(*SHARE), Interval(1.3, 1.1, 1.5).within(*SHARE)
    assert (below.low, below.high) == (0.0, 0.0)
    assert (above.low, above.high) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_kappas_disagreement_and_losses_taken_off_stay_inside_their_ranges_for_three_speakers(seed: int) -> None:
    random = generator(seed, "three speakers")
    human, proxy = (random.multinomial(4, random.dirichlet([0.2] * 3, 6)).astype(np.float64) for _ in range(2))
    speakers = np.array(list("abc") * 2)
    equal = equal_votes(Tally.of_counts(human), Tally.of_counts(proxy), speakers, votes=1)
    taken = taken_off(human, proxy, speakers, whole=True)
    many = [random.multinomial(2, random.dirichlet([0.2] * 3, 24)) for _ in range(2)]
    recovered = ambiguity(many[0], many[1] / 2, np.array(list("abc") * 8))
    assert recovered is not None
    for interval, (low, high) in (
        (equal.kappa.human_human, DIFFERENCE),
        (equal.kappa.human_proxy, DIFFERENCE),
        (equal.kappa.difference, DIFFERENCE_OF_KAPPAS),
        (recovered.bias, DIFFERENCE),
        (taken, SHARE_OF_LOSS),
    ):
        assert low <= interval.low <= interval.high <= high


def test_measures_have_their_ranges() -> None:
    assert range_of("brier") == (0.0, 2.0)
    assert range_of_difference("brier") == (-2.0, 2.0)
    assert range_of("nll_per_vote") == (0.0, math.inf)
    assert range_of("ccc_valence") == (-1.0, 1.0)
    assert range_of("rmse_valence") == (0.0, math.inf)
    assert range_of("of_a_plug_in") == (-math.inf, math.inf)
