"""Strength, ambiguity and less likely labels: against simulation, brute force and what the truth itself would score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial as reference

from alm_proxies.measures.recovered import (
    ambiguity,
    confusion_of_shares,
    dirichlet_multinomial,
    halves,
    minor_recall,
    pair_disagreement,
    recall_over_votes,
    risk_coverage,
)


def world(count: int, votes: int, seed: int = 0, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.full(labels, 0.6), count)
    return truth, np.stack([rng.multinomial(votes, row / row.sum()) for row in truth]).astype(float)


def test_the_likelihood_is_that_of_scipy_for_votes_in_a_given_order() -> None:
    truth, counts = world(30, 7)
    strength = np.random.default_rng(1).uniform(0.5, 20, 30)
    got = dirichlet_multinomial(counts, truth, strength)
    for row in range(30):
        shares = np.maximum(truth[row], 1e-6)
        alpha = strength[row] * shares / shares.sum()
        orders = gammaln(8) - gammaln(counts[row] + 1).sum()  # scipy's counts come in any order
        wanted = -(reference(alpha, 7).logpmf(counts[row].astype(int)) - orders) / 7
        assert got[row] == pytest.approx(wanted)


def test_the_right_strength_is_scored_best() -> None:
    rng = np.random.default_rng(0)
    centre = rng.dirichlet(np.ones(4), 3_000)
    truth = np.stack([rng.dirichlet(6.0 * row) for row in centre])
    counts = np.stack([rng.multinomial(8, row / row.sum()) for row in truth]).astype(float)
    losses = {s: dirichlet_multinomial(counts, centre, np.full(3_000, s)).mean() for s in (1.5, 3.0, 6.0, 12.0, 50.0)}
    assert min(losses, key=lambda s: losses[s]) == 6.0


def test_the_disagreement_of_pairs_is_unbiased_for_one_minus_the_sum_of_squares() -> None:
    truth, counts = world(40_000, 3)
    assert pair_disagreement(counts).mean() == pytest.approx((1 - np.square(truth).sum(1)).mean(), abs=0.005)
    assert np.isnan(pair_disagreement(np.array([[1.0, 0.0]]))[0])


def test_votes_shared_among_labels_disagree_as_often_as_votes_drawn_from_them() -> None:
    random = np.random.default_rng(2)
    truth = random.dirichlet(np.full(4, 0.8), 4000)
    votes = np.stack([random.dirichlet(np.maximum(3.0 * row, 1e-3), 3) for row in truth])  # three votes, each shared
    mean = votes.mean((0, 1))
    counts, squares = votes.sum(1), np.square(votes).sum((1, 2))
    apart = [1.0 - (votes[:, a] * votes[:, b]).sum(1) for a, b in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(pair_disagreement(counts, squares), np.mean(apart, axis=0))
    assert mean.sum() == pytest.approx(1.0)
    recovered = ambiguity(counts, truth, None, squares=squares)
    assert recovered is not None
    assert recovered.bias.estimate == pytest.approx(0.0, abs=0.01)
    assert recovered.slope.estimate == pytest.approx(1.0, abs=0.1)


def test_the_truth_reaches_the_ceiling_is_calibrated_and_a_constant_is_not() -> None:
    truth, counts = world(4_000, 8)
    recovered = ambiguity(counts, truth, None)
    assert recovered is not None
    assert recovered.correlation.estimate == pytest.approx(recovered.ceiling, abs=0.03)
    assert recovered.slope.estimate == pytest.approx(1.0, abs=0.05)
    assert recovered.bias.estimate == pytest.approx(0.0, abs=0.01)
    sharp = truth**2 / np.square(truth).sum(1, keepdims=True)
    sharpened = ambiguity(counts, sharp, None)
    assert sharpened is not None
    assert sharpened.bias.high < -0.05


def test_the_ceiling_is_that_of_the_truth_where_numbers_of_votes_differ() -> None:
    rng = np.random.default_rng(3)
    truth = rng.dirichlet(np.full(4, 0.6), 6_000)
    votes = np.where(rng.random(6_000) < 0.8, 2, 10)
    counts = np.stack([rng.multinomial(n, row / row.sum()) for n, row in zip(votes, truth, strict=True)]).astype(float)
    recovered = ambiguity(counts, truth, None)
    assert recovered is not None
    assert recovered.correlation.estimate < 0.5
    assert recovered.ceiling == pytest.approx(recovered.correlation.estimate, abs=0.05)


def test_a_correlation_of_few_speakers_stays_within_one() -> None:
    truth, counts = world(60, 6)
    recovered = ambiguity(counts, truth, np.repeat(["a", "b", "c"], 20))
    assert recovered is not None
    assert -1 <= recovered.correlation.low <= recovered.correlation.high <= 1
    assert np.isnan(recovered.ceiling)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_risk_by_coverage_does_not_depend_on_the_order_of_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, counts = world(80, 4, seed)
    predicted = np.round(truth, 1) + 0.01
    order = rng.permutation(80)
    first, second = risk_coverage(counts, predicted), risk_coverage(counts[order], predicted[order])
    np.testing.assert_allclose(first.risk, second.risk)
    constant = risk_coverage(counts[np.argsort(counts[:, 0])], np.full((80, 4), 0.25))
    assert constant.area == pytest.approx(1 - (counts[:, 0] / 4).mean())


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_halves_are_parts_of_the_votes_that_differ_by_one_vote_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (50, 3)).astype(float)
    first, second = halves(counts, rng)
    np.testing.assert_array_equal(first + second, counts)
    assert (first >= 0).all()
    assert (second >= 0).all()
    assert np.abs(first.sum(1) - second.sum(1)).max() <= 1


def test_recall_over_votes_and_minor_labels_are_those_of_a_count_by_hand() -> None:
    counts = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 1.0]])
    predicted = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.6, 0.2]])
    # votes: label 0 3 of 3, label 1 3 of 4, label 2 0 of 2
    assert recall_over_votes(counts, predicted, None).estimate == pytest.approx((1 + 0.75 + 0) / 3)
    # minor labels: label 1 of the first (named), label 2 of the second (named); the third has none
    assert minor_recall(counts, predicted, None).estimate == pytest.approx(1.0)


def test_risk_falls_as_the_least_confident_are_left_out_where_confidence_is_earned() -> None:
    truth, counts = world(3_000, 6)
    curve = risk_coverage(counts, truth)
    assert curve.risk[0] < curve.risk[-1] - 0.2
    assert curve.coverage[-1] == 1.0
    top = counts[np.arange(3_000), truth.argmax(1)] / 6
    assert curve.risk[-1] == pytest.approx(1 - top.mean())


def test_rows_of_the_confusion_sum_to_one_and_a_label_without_votes_is_not_known() -> None:
    truth, counts = world(200, 5)
    counts[:, 3] = 0
    counts[:, 0] += 1
    confusion = confusion_of_shares(counts, truth)
    np.testing.assert_allclose(confusion[:3].sum(1), 1)
    assert np.isnan(confusion[3]).all()
