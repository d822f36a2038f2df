from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.interval import Interval
from alm_proxies.measures.agreement import alpha_columns, alpha_of_sums, pairwise_agreement
from alm_proxies.measures.rater_agreement import (
    raters_apart,
    reliability_interval,
    reliability_of_votes,
    votes_for_reliability,
)
from alm_proxies.measures.tally import Tally
from alm_proxies.seeds import generator

LABELS = 4


def made_up(
    seed: int, *, raters: int = 12, units: int = 600, each: int = 5, random_raters: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes (utterance, rater, one-hot): raters draw from the utterance's shares, random ones evenly."""
    random = generator(seed, "raters")
    truth = random.dirichlet([0.4] * LABELS, units)
    unit, rater, label = [], [], []
    for place, share in enumerate(truth):
        for chosen in random.choice(raters, each, replace=False):
            unit.append(place)
            rater.append(int(chosen))
            label.append(random.choice(LABELS, p=None if chosen in random_raters else share))
    return np.array(unit), np.array(rater), np.eye(LABELS)[label]


def test_a_rater_who_answers_at_random_stands_out_among_twelve_and_nobody_else_does() -> None:
    unit, rater, vote = made_up(1, random_raters=(7,))
    apart = raters_apart(unit, rater, vote, unit % 40)
    assert apart.compared == 12
    assert [row.rater for row in apart.lowest if row.stands_out] == [7]
    worst = apart.lowest[0]
    assert worst.rater == 7
    assert worst.agreement.low <= 1 / LABELS <= worst.agreement.high
    assert worst.items == len(np.unique(unit[rater == 7]))


def test_no_rater_stands_out_or_not_where_speakers_are_too_few_to_judge() -> None:
    unit, rater, vote = made_up(1, random_raters=(7,))
    few, enough = (raters_apart(unit, rater, vote, unit % speakers).lowest for speakers in (5, 6))
    assert [row.rater for row in enough if row.stands_out] == [7]
    assert {row.stands_out for row in few} == {None}


def test_the_agreement_of_honest_raters_is_that_of_the_shares_they_draw_from() -> None:
    unit, rater, vote = made_up(2, units=2000)
    expected = (0.4 * 1.4 * LABELS) / ((0.4 * LABELS) * (0.4 * LABELS + 1))  # sum_k E p_k^2 of the Dirichlet
    apart = raters_apart(unit, rater, vote, None)
    inside = [row.agreement.low <= expected <= row.agreement.high for row in apart.lowest]
    assert sum(inside) >= 10
    assert sum(row.difference.low <= 0 <= row.difference.high for row in apart.lowest) >= 10
    assert not any(row.stands_out for row in apart.lowest)


def test_raters_alike_seldom_stand_out_over_many_corpora() -> None:
    wrong = 0
    for seed in range(30):
        unit, rater, vote = made_up(100 + seed, units=150)
        wrong += any(row.stands_out for row in raters_apart(unit, rater, vote, None).lowest)
    assert wrong <= 5  # at a rate of .05 more than five of 30 have chance .003


def test_the_agreements_are_those_of_a_loop_over_votes() -> None:
    unit, rater, vote = made_up(3, units=40, each=4)
    rows = {row.rater: row for row in raters_apart(unit, rater, vote, None, fewest=1).lowest}
    for number in range(12):
        own, among = [], []
        for place in np.unique(unit[rater == number]):
            here = unit == place
            mine, rest = vote[here & (rater == number)][0], vote[here & (rater != number)]
            own.append(np.mean([mine @ other for other in rest]))
            among.append(pairwise_agreement(Tally.of_counts(rest.sum(0)[None]))[0])
        assert rows[number].agreement.estimate == pytest.approx(np.mean(own))
        assert rows[number].others.estimate == pytest.approx(np.mean(among))
        assert rows[number].difference.estimate == pytest.approx(np.mean(own) - np.mean(among))


def test_raters_with_few_utterances_are_left_out_and_counted_and_the_rest_is_cut() -> None:
    unit, rater, vote = made_up(4)
    rare = rater == 3
    kept = ~rare | (np.cumsum(rare) <= 20)
    apart = raters_apart(unit[kept], rater[kept], vote[kept], None, most=5)
    assert (apart.compared, apart.left_out, len(apart.lowest)) == (11, 1, 5)
    assert raters_apart([], [], np.zeros((0, 3)), None).lowest == ()
    alone = raters_apart([0, 1], [0, 1], np.eye(3)[[0, 1]], None, fewest=1)
    assert (alone.compared, alone.left_out) == (0, 2)


def test_several_votes_of_one_rater_do_not_count_as_agreement_among_raters() -> None:
    unit, rater, vote = made_up(5, random_raters=(0,))
    three_times = np.concatenate([np.arange(len(unit)), *[np.flatnonzero(rater == 0)] * 2])
    once = raters_apart(unit, rater, vote, None)
    again = raters_apart(unit[three_times], rater[three_times], vote[three_times], None)
    assert again == once


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_reliability_of_k_votes_is_their_split_half_correlation_and_their_squared_one_with_the_truth(
    k: int,
) -> None:
    random = generator(6, "halves")
    truth = random.dirichlet([0.5] * LABELS, 6000)
    first, second = (random.multinomial(k, truth) / k for _ in range(2))
    alpha = float(alpha_of_sums(alpha_columns(Tally.of_counts(random.multinomial(5, truth))).sum(0, keepdims=True))[0])
    expected = reliability_of_votes(alpha, k)

    def together(values: np.ndarray, other: np.ndarray) -> float:
        a, b = values - values.mean(0), other - other.mean(0)
        return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))

    assert expected == pytest.approx(together(first, second), abs=0.02)
    assert expected == pytest.approx(together(first, truth) ** 2, abs=0.02)


@given(st.floats(0.01, 0.99), st.floats(0.1, 50))
@settings(max_examples=60, deadline=None)
def test_votes_for_a_reliability_are_those_that_give_it(alpha: float, votes: float) -> None:
    assert votes_for_reliability(alpha, reliability_of_votes(alpha, votes)) == pytest.approx(votes, rel=1e-6)


def test_without_agreement_no_number_of_votes_is_enough() -> None:
    assert votes_for_reliability(0.0, 0.8) == float("inf")
    assert reliability_of_votes(1.0, 3) == 1.0


def test_the_reliability_of_votes_that_may_not_agree_at_all_is_at_least_0() -> None:
    alpha = Interval(0.19, -0.14, 0.51, "t", 5)
    ten = reliability_interval(alpha, 10)
    assert (ten.low, ten.estimate) == (0.0, reliability_of_votes(0.19, 10))
    assert reliability_interval(alpha, 1) == alpha
