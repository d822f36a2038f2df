from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.measures.arrays import quantiles
from alm_proxies.measures.bootstrap import (
    interval_by_speaker,
    mean_by_speaker,
    paired_by_speaker,
    paired_of_sums,
    ratio,
    sign_flip_p,
)


def test_the_estimate_is_the_plain_or_weighted_mean_whatever_the_order_of_rows():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=400), rng.integers(1, 9, 400)
    speakers = np.array([f"s{number}" for number in rng.integers(0, 30, 400)])
    interval = mean_by_speaker(values, speakers, weights=weights)
    assert interval.estimate == pytest.approx(np.average(values, weights=weights))
    assert interval.low < interval.estimate < interval.high
    assert (interval.method, interval.speakers) == ("percentile", 30)
    order = rng.permutation(400)
    again = mean_by_speaker(values[order], speakers[order], weights=weights[order])
    assert again.low == pytest.approx(interval.low, abs=1e-12)
    assert again.high == pytest.approx(interval.high, abs=1e-12)


def test_utterances_of_one_speaker_add_no_evidence():
    rng = np.random.default_rng(1)
    own = rng.normal(size=40)
    once = mean_by_speaker(own, np.arange(40))
    fifty_times = mean_by_speaker(np.repeat(own, 50), np.repeat(np.arange(40), 50))
    assert fifty_times.low == pytest.approx(once.low)
    assert fifty_times.high == pytest.approx(once.high)
    as_if_independent = mean_by_speaker(np.repeat(own, 50), None)
    assert as_if_independent.high - as_if_independent.low < (once.high - once.low) / 4


def test_under_twenty_speakers_it_is_the_t_interval_with_each_speakers_value():
    rng = np.random.default_rng(2)
    own = rng.normal(size=7)
    interval = mean_by_speaker(np.repeat(own, 3), np.repeat(np.arange(7), 3))
    expected = stats.t.interval(0.95, 6, loc=own.mean(), scale=stats.sem(own))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.per_speaker == pytest.approx(tuple(own))
    assert interval.method == "t"


def test_the_percentile_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        own = rng.normal(size=30)
        interval = mean_by_speaker(
            np.repeat(own, 4) + rng.normal(size=120), np.repeat(np.arange(30), 4), seed=trial % 5
        )
        held += interval.low <= 0 <= interval.high
    assert 180 <= held <= 199


def test_many_speakers_are_drawn_in_groups_without_changing_the_width():
    rng = np.random.default_rng(4)
    values = rng.normal(size=20_000)
    interval = mean_by_speaker(values, None)
    width = 2 * 1.96 / np.sqrt(20_000)
    assert interval.high - interval.low == pytest.approx(width, rel=0.1)
    assert interval.speakers == 20_000


def test_one_speaker_or_nothing_gives_no_interval():
    single = mean_by_speaker([1.0, 2.0], ["a", "a"])
    assert (single.estimate, single.method) == (1.5, "none")
    assert np.isnan([single.low, single.high]).all()
    assert np.isnan(mean_by_speaker([], None).estimate)
    unbounded = mean_by_speaker([1.0, np.inf], ["a", "b"])
    assert unbounded.estimate == np.inf
    assert unbounded.method == "none"


def test_any_statistic_of_sums_gets_an_interval():
    rng = np.random.default_rng(5)
    columns = rng.random((300, 3))
    speakers = rng.integers(0, 25, 300)
    interval = interval_by_speaker(columns, speakers, lambda sums: ratio(sums[:, :2]) + ratio(sums[:, 1:]))
    totals = columns.sum(0)
    assert interval.estimate == pytest.approx(totals[0] / totals[1] + totals[1] / totals[2])
    assert interval.low < interval.estimate < interval.high


def test_the_sign_flip_test_is_exact_for_few_speakers():
    difference = np.array([0.3, 0.1, 0.4, 0.2, 0.5, 0.6])
    assert sign_flip_p(difference, np.arange(6)) == pytest.approx(2 / 2**6)
    expected = stats.permutation_test(
        (difference - 0.35,), lambda x: x.mean(), permutation_type="samples", n_resamples=10_000
    ).pvalue
    assert sign_flip_p(difference - 0.35, np.arange(6)) == pytest.approx(expected)


def test_a_row_without_weight_takes_no_part_in_a_paired_test():
    first, second = np.array([0.1, 0.3, 0.2, 0.4, 0.2, 0.1, np.inf]), np.zeros(7)
    weights = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    paired = paired_by_speaker(first, second, np.arange(7), weights=weights)
    assert paired.p_value == sign_flip_p(first[:6], np.arange(6))
    assert np.isfinite(paired.difference.estimate)


def test_the_sign_flip_test_is_level_for_no_difference_and_small_for_a_clear_one():
    rng = np.random.default_rng(6)
    p = [sign_flip_p(rng.normal(size=40), np.arange(40), seed=s) for s in range(60)]
    assert 0.2 < np.mean(p) < 0.8
    paired = paired_by_speaker(rng.normal(size=200) + 1, rng.normal(size=200), np.arange(200) % 40)
    assert paired.p_value < 0.001
    assert paired.difference.low > 0


@pytest.mark.parametrize("speakers", [7, 30])
def test_swapping_speakers_is_the_sign_flip_test_where_the_statistic_is_a_mean(speakers: int) -> None:
    rng = np.random.default_rng(speakers)
    first, second, ones = rng.normal(size=speakers) + 0.3, rng.normal(size=speakers), np.ones(speakers)
    sums = paired_of_sums(np.stack([first, ones], 1), np.stack([second, ones], 1), ratio)
    paired = paired_by_speaker(first, second, np.arange(speakers))
    assert sums.p_value == pytest.approx(paired.p_value)
    for end in ("estimate", "low", "high"):
        assert getattr(sums.difference, end) == pytest.approx(getattr(paired.difference, end))


def test_swapping_speakers_is_exact_for_any_statistic_of_few_speakers() -> None:
    def product(sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] * sums[:, 1] / 10

    rng = np.random.default_rng(3)
    first, second = rng.random((6, 2)), rng.random((6, 2))
    observed = product(first.sum(0, keepdims=True)) - product(second.sum(0, keepdims=True))
    as_far = 0
    for swaps in itertools.product([False, True], repeat=6):
        swapped = np.array(swaps)[:, None]
        mine, theirs = np.where(swapped, second, first), np.where(swapped, first, second)
        apart = product(mine.sum(0, keepdims=True)) - product(theirs.sum(0, keepdims=True))
        as_far += abs(apart[0]) >= abs(observed[0]) - 1e-12
    paired = paired_of_sums(first, second, product)
    assert paired.difference.estimate == pytest.approx(observed[0])
    assert paired.p_value == pytest.approx(as_far / 2**6)


def test_wrong_speakers_and_levels_are_refused():
    with pytest.raises(InputError, match="speakers for"):
        mean_by_speaker([1.0, 2.0], ["a"])
    with pytest.raises(SettingsError, match="level"):
        mean_by_speaker([1.0, 2.0], ["a", "b"], level=95)
    with pytest.raises(InputError, match="do not match"):
        paired_by_speaker([1.0], [1.0, 2.0], None)


def test_speakers_of_whom_nothing_is_known_do_not_count_where_few_are():
    speakers, values = np.repeat(np.arange(30), 10), np.random.default_rng(0).random(300)
    few = np.where(speakers < 2, 1.0, 0.0)
    interval = mean_by_speaker(values, speakers, weights=few)
    assert (interval.method, interval.speakers) == ("none", 2)
    four = speakers < 4
    assert mean_by_speaker(values, speakers, weights=np.where(four, 1.0, 0.0)) == mean_by_speaker(
        values[four], speakers[four]
    )


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1999, 2000])
def test_quantiles_are_those_of_numpy_to_the_last_digit(count: int) -> None:
    rng = np.random.default_rng(count)
    for digits in (1, 16):  # with and without equal values
        values = np.round(rng.normal(size=count), digits)
        for ends in (np.array([0.0, 1.0]), *np.sort(rng.random((50, 2)), axis=1)):
            assert quantiles(values, ends) == np.quantile(values, ends).tolist()
