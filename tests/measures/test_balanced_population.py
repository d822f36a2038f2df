"""The balanced-population estimate covers the truth of a balanced population; raw shares of votes do not balance it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from alm_proxies.measures.balanced_population import BalancedPopulation, balanced_population

Array = NDArray[np.float64]
PRIOR = np.array([0.6, 0.25, 0.15])
SPREAD = 3.0 * np.eye(3) + 0.5


def drawn(rng: np.random.Generator, speakers: int, each: int) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """True distributions, three fitted votes each, a model's loss on three others, and who speaks."""
    habits = rng.dirichlet(10 * PRIOR, speakers)
    who = np.repeat(np.arange(speakers), each)
    kinds = (rng.random((len(who), 1)) > habits[who].cumsum(1)).sum(1).clip(max=2)
    true = rng.gamma(SPREAD[kinds])
    true /= true.sum(1, keepdims=True)
    fit, held, own = (rng.multinomial(3, true).astype(np.float64) for _ in range(3))
    loss = -(held * np.log(posterior(own))).sum(1) / 3
    return true, fit, loss, who.astype(np.float64)


def posterior(counts: Array) -> Array:
    from scipy.special import gammaln

    logs = np.log(PRIOR) + np.stack(
        [
            gammaln(spread.sum())
            - gammaln(spread.sum() + counts.sum(1))
            + (gammaln(spread + counts) - gammaln(spread)).sum(1)
            for spread in SPREAD
        ],
        axis=1,
    )
    shares = np.exp(logs)
    shares /= shares.sum(1, keepdims=True)
    each = np.stack([(spread + counts) / (spread + counts).sum(1, keepdims=True) for spread in SPREAD], axis=1)
    means: Array = np.einsum("ik,ikl->il", shares, each)
    return means


def estimate(means: Array, loss: Array, who: Array, replicates: int = 100) -> BalancedPopulation:
    estimated = balanced_population(means, {"loss": (loss, 1.0)}, who, replicates=replicates)
    assert isinstance(estimated, BalancedPopulation)
    return estimated


def test_the_estimate_covers_the_truth_and_its_true_shares_are_balanced_where_those_by_raw_shares_are_not() -> None:
    rng = np.random.default_rng(1)
    true, _, loss, who = drawn(rng, 2000, 40)
    truth = estimate(true, loss, who, replicates=1).means["loss"].estimate
    assert truth - loss.mean() > 0.015  # the balanced population is harder
    covered, away = [], {"posterior": np.zeros(3), "raw": np.zeros(3)}
    for _ in range(60):
        true, fit, loss, who = drawn(rng, 30, 20)
        for name, means in (("posterior", posterior(fit)), ("raw", fit / 3)):
            estimated = estimate(means, loss, who)
            away[name] += (estimated.weights @ true / len(true) - 1 / 3) / 60
            np.testing.assert_allclose(estimated.weights @ means / len(means), 1 / 3, atol=1e-4)
            if name == "posterior":
                covered.append(estimated.means["loss"].low <= truth <= estimated.means["loss"].high)
    assert np.mean(covered) >= 0.88
    assert np.abs(away["posterior"]).max() < 0.01
    assert away["raw"][0] > 0.03


def test_weights_are_found_again_in_each_replicate() -> None:
    """With the weights of the whole set the interval would not know that they were estimated."""
    rng = np.random.default_rng(3)
    _, fit, _, who = drawn(rng, 30, 20)
    means = posterior(fit)
    estimated = balanced_population(means, {"share": (means[:, 0], 1.0)}, who, replicates=50)
    assert isinstance(estimated, BalancedPopulation)
    share = estimated.means["share"]
    assert share.high - share.low < 1e-4  # every replicate's own weights bring it to a third
    assert share.estimate == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("speakers", [12, 30])
def test_intervals_are_by_the_jackknife_under_20_speakers(speakers: int) -> None:
    _, fit, loss, who = drawn(np.random.default_rng(4), speakers, 20)
    estimated = estimate(posterior(fit), loss, who)
    interval = estimated.means["loss"]
    assert interval.method == ("t" if speakers < 20 else "percentile")
    assert interval.low < interval.estimate < interval.high
    assert estimated.effective_size == pytest.approx(estimated.weights.sum() ** 2 / np.square(estimated.weights).sum())
    assert estimated.effective_size < len(fit)


def test_a_target_is_reached_and_equal_shares_already_there_leave_equal_weights() -> None:
    rng = np.random.default_rng(5)
    _, fit, loss, who = drawn(rng, 30, 20)
    means = posterior(fit)
    estimated = balanced_population(means, {"loss": (loss, 1.0)}, who, target=[0.5, 0.3, 0.2], replicates=20)
    assert isinstance(estimated, BalancedPopulation)
    np.testing.assert_allclose(estimated.weights @ means / len(means), [0.5, 0.3, 0.2], atol=1e-4)
    around = np.concatenate([means, np.roll(means, 1, 1), np.roll(means, 2, 1)])
    same = estimate(around, np.tile(loss, 3), np.tile(who, 3))
    np.testing.assert_allclose(same.weights, 1.0, atol=1e-3)
    assert same.means["loss"].estimate == pytest.approx(loss.mean(), abs=1e-3)


def test_there_is_no_figure_from_too_few_or_where_no_weights_balance() -> None:
    _, fit, loss, who = drawn(np.random.default_rng(6), 12, 20)
    means = posterior(fit)

    def reason(rows: slice, speakers: Array | None) -> str:
        message = balanced_population(means[rows], {"loss": (loss[rows], 1.0)}, speakers, replicates=5)
        assert isinstance(message, str)
        return message

    assert "99 utterances are too few" in reason(slice(99), who[:99])
    assert "9 speakers are too few" in reason(slice(180), who[:180])
    assert "speakers are not known" in reason(slice(None), None)
    same = balanced_population(np.tile(PRIOR, (240, 1)), {"loss": (loss, 1.0)}, who, replicates=5)
    assert isinstance(same, str)
    assert "differ too little" in same


def test_resamples_in_which_no_weights_reach_the_target_are_counted_and_many_leave_no_interval() -> None:
    rng = np.random.default_rng(7)
    _, fit, loss, who = drawn(rng, 30, 20)
    means = posterior(fit)
    rare = means[:, 2] > 1 / 3
    shares = {}
    for speakers in (1, 3, 30):  # the speakers with utterances of the rare label: a resample may have none of them
        kept = ~rare | (who < speakers)
        few = estimate(means[kept], loss[kept], who[kept], replicates=200)
        assert few.resamples == 200
        shares[speakers] = few.failed / few.resamples
        assert np.isnan(few.means["loss"].low) == (few.failed > 10)
    assert shares[1] > shares[3] > shares[30] == 0
    assert shares[1] == pytest.approx(np.exp(-1), abs=0.12)


def test_an_infinite_loss_takes_the_interval_of_no_other_method() -> None:
    rng = np.random.default_rng(0)
    means, who, loss = rng.dirichlet([2, 1, 1], 600), rng.integers(0, 40, 600), rng.random(600)
    worst = loss.copy()
    worst[3] = np.inf
    alone = balanced_population(means, {"good": (loss, 1.0)}, who, replicates=200)
    beside = balanced_population(means, {"good": (loss, 1.0), "worst": (worst, 1.0)}, who, replicates=200)
    assert isinstance(alone, BalancedPopulation)
    assert isinstance(beside, BalancedPopulation)
    good, same = beside.means["good"], alone.means["good"]
    np.testing.assert_allclose([good.estimate, good.low, good.high], [same.estimate, same.low, same.high], rtol=1e-12)
    assert beside.failed == alone.failed
    assert np.isinf(beside.means["worst"].estimate)
    assert np.isnan(beside.means["worst"].low)
