from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alm_proxies.errors import InputError
from alm_proxies.measures import calibration as c
from alm_proxies.measures.divergence import nll_per_vote


def test_ece_compares_confidence_with_the_share_of_votes_not_with_right_or_wrong():
    predicted = np.tile([0.6, 0.4], (40, 1))
    assert c.reliability(predicted, np.tile([3, 2], (40, 1))).error == pytest.approx(0)
    assert c.reliability(predicted, np.tile([5, 0], (40, 1))).error == pytest.approx(0.4)


def test_probabilities_of_their_own_votes_are_calibrated_and_sharpened_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 0.7), 20_000)
    votes = rng.multinomial(5, p)
    sharp = p**2 / (p**2).sum(1, keepdims=True)
    assert c.reliability(p, votes).error < 0.01
    assert c.reliability(sharp, votes).error > 0.05


def test_bins_hold_equal_mass_and_equal_values_share_one_in_any_order():
    rng = np.random.default_rng(1)
    values = rng.random(1500)
    assert np.bincount(c.equal_mass_bins(values)).tolist() == [100] * 15
    tied = np.repeat([0.2, 0.5, 0.9], [700, 400, 400])
    order = rng.permutation(1500)
    assert (c.equal_mass_bins(tied)[order] == c.equal_mass_bins(tied[order])).all()
    assert len(set(c.equal_mass_bins(tied).tolist())) == 3


def test_the_curve_holds_every_utterance_once():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), 333)
    curve = c.reliability(p, rng.multinomial(3, p))
    assert sum(curve.utterances) == 333
    assert list(curve.confidence) == sorted(curve.confidence)


@pytest.mark.parametrize("strength", [0.5, 3.0, 40.0, 1e9])
def test_the_probability_of_counts_is_scipys(strength):
    rng = np.random.default_rng(3)
    p, votes = rng.dirichlet(np.ones(4), 50), rng.multinomial(6, np.full(4, 0.25), 50)
    ours = c.log_probability(p, np.full(50, strength), votes.astype(float))
    if strength < 1e6:
        expected = [stats.dirichlet_multinomial.logpmf(x, strength * q, 6) for x, q in zip(votes, p, strict=True)]
    else:  # scipy loses its digits there; the limit is the multinomial
        expected = [stats.multinomial.logpmf(x, 6, q) for x, q in zip(votes, p, strict=True)]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    exact = c.log_probability(p, np.full(50, np.inf), votes.astype(float))
    np.testing.assert_allclose(exact, stats.multinomial.logpmf(votes, 6, p), atol=1e-10)


def test_the_right_concentration_covers_and_scores_best():
    rng = np.random.default_rng(4)
    mean = rng.dirichlet(np.full(4, 2.0), 20_000)
    gamma = rng.gamma(6.0 * mean)
    truth = gamma / gamma.sum(1, keepdims=True)
    votes = rng.multinomial(rng.integers(1, 9, 20_000), truth)
    checks = {s: c.concentration_check(mean, np.full(20_000, s), votes) for s in (1.0, 6.0, 60.0)}
    for level, covered in checks[6.0].coverage.items():
        assert covered == pytest.approx(level, abs=0.01)
        assert checks[60.0].coverage[level] < covered < checks[1.0].coverage[level]
    assert np.ptp(checks[6.0].pit) < 0.02
    assert checks[6.0].log_score < min(checks[1.0].log_score, checks[60.0].log_score, checks[6.0].log_score_without)
    exact = c.concentration_check(mean, np.full(20_000, np.inf), votes)
    assert exact.log_score == exact.log_score_without


def test_the_pit_is_the_mean_of_the_randomised_one():
    rng = np.random.default_rng(5)
    mean, strength = np.array([[0.6, 0.3, 0.1]]), 5.0
    votes = np.array([[4, 2, 1]])
    f = stats.betabinom(7, 3.0, 2.0)
    u = f.cdf(3) + rng.random(200_000) * f.pmf(4)
    expected = np.histogram(u, bins=10, range=(0, 1))[0] / len(u)
    np.testing.assert_allclose(c.concentration_check(mean, [strength], votes).pit, expected, atol=0.005)


@pytest.mark.parametrize("share", [0.6, 0.7868, 0.9])
@pytest.mark.parametrize("votes", [50, 3000])
@pytest.mark.parametrize("likely", [False, True])
def test_every_utterance_has_its_place_in_the_pit_however_unlikely_its_votes(share, votes, likely):
    check = c.concentration_check([[1 - share, share]], [np.inf], [[0, votes] if likely else [votes, 0]])
    assert sum(check.pit) == pytest.approx(1, abs=1e-9)
    assert check.pit[9 if likely else 0] == pytest.approx(1, abs=0.1)


def test_scores_are_infinite_where_a_vote_was_called_impossible_and_zero_shares_do_no_harm_else():
    votes = np.array([[1, 1], [2, 0]])
    shares = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert c.concentration_check(shares, [3.0, 3.0], votes).log_score == np.inf
    fine = c.concentration_check(shares[1:], [3.0], votes[1:])
    assert fine.log_score == pytest.approx(0)
    assert nll_per_vote(shares[1:], votes[1:])[0] == 0


def test_nothing_gives_no_numbers_and_wrong_values_are_refused():
    empty = np.zeros((0, 3))
    assert np.isnan(c.reliability(empty, empty).error)
    assert np.isnan(c.concentration_check(empty, [], empty).log_score)
    with pytest.raises(InputError, match="concentration"):
        c.concentration_check([[0.5, 0.5]], [np.nan], [[1, 0]])
    with pytest.raises(InputError, match="whole votes"):
        c.concentration_check([[0.5, 0.5]], [2.0], [[1.5, 0]])
    with pytest.raises(InputError, match="do not match"):
        c.reliability([[0.5, 0.5]], [[1, 0], [0, 1]])


@pytest.mark.parametrize(("utterances", "bins"), [(20, 3), (200, 5), (5000, 15)])
def test_a_reliability_picture_has_fewer_bins_for_fewer_utterances_and_covers_the_diagonal(
    utterances: int, bins: int
) -> None:
    random = np.random.default_rng(3)
    truth = random.dirichlet([0.7] * 4, utterances)
    votes = np.array([random.multinomial(5, share) for share in truth])
    bins_shown = c.reliability_bins(truth, votes, None)
    assert len(bins_shown) == bins
    assert sum(each.utterances for each in bins_shown) == utterances
    assert [each.confidence for each in bins_shown] == sorted(each.confidence for each in bins_shown)
    inside = [each.share.low <= each.confidence <= each.share.high for each in bins_shown]
    assert sum(inside) >= 0.8 * bins - 1


def test_a_reliability_picture_of_no_utterance_is_empty() -> None:
    assert c.reliability_bins(np.zeros((0, 3)), np.zeros((0, 3)), None) == ()


def test_thirds_follow_the_middle_of_ranks_and_keep_equal_values_together() -> None:
    assert np.bincount(c.thirds(np.arange(300.0))).tolist() == [100, 100, 100]
    assert np.bincount(c.thirds(np.repeat([0.0, 1.0], [46, 54]))).tolist() == [46, 0, 54]
    assert np.bincount(c.thirds(np.repeat([0.0, 1.0], [28, 72])), minlength=3).tolist() == [28, 72, 0]
    assert c.thirds(np.array([3.0, 1.0, 2.0])).tolist() == [2, 0, 1]
    assert c.thirds(np.full(5, 0.5)).tolist() == [1] * 5
