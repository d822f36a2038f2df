from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import dirichlet_multinomial, norm

from alm_proxies.models.calibration import Calibration, log_softmax, signs_of
from alm_proxies.training.calibrate import _concentration, _fitted, fit_calibration

Array = NDArray[np.float64]


def drawn(
    seed: int, *, strength: float = 6.0, sharper: float = 1.0, rows: int = 1500, n: int = 5
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Logits whose softmax to the power of 1/sharper is the mean of Dirichlets that votes are drawn from."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([0.7] * 4, rows).clip(1e-3)
    true /= true.sum(1, keepdims=True)
    counts = np.stack([rng.multinomial(n, rng.dirichlet(strength * p + 1e-9)) for p in true]).astype(np.float64)
    return sharper * np.log(true), counts, np.arange(rows) % 20


def test_a_model_that_is_too_sure_gets_its_temperature_back() -> None:
    logits, counts, speakers = drawn(0, sharper=2.5)
    fitted = _fitted("temperature", log_softmax(logits), counts)
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)
    assert fitted.distributions(logits).sum(1) == pytest.approx(1.0)
    chosen = fit_calibration(logits, counts, speakers, distance=np.ones(len(logits)))
    assert chosen.method in ("temperature", "dirichlet")
    assert chosen.loss["temperature"] < chosen.loss["none"] - 0.05


def test_a_calibrated_model_is_left_alone_or_hardly_changed() -> None:
    logits, counts, speakers = drawn(1, rows=300)
    chosen = fit_calibration(logits, counts, speakers, distance=np.ones(len(logits)))
    shares = np.exp(log_softmax(logits))
    assert np.abs(chosen.distributions(logits) - shares).mean() < 0.03


def test_labels_that_are_mixed_up_need_a_matrix() -> None:
    logits, counts, speakers = drawn(2)
    chosen = fit_calibration(logits[:, [1, 0, 2, 3]], counts, speakers, distance=np.ones(len(logits)))
    assert chosen.method == "dirichlet"
    assert chosen.loss["dirichlet"] < chosen.loss["temperature"] - 0.1


@pytest.mark.parametrize("strength", [3.0, 30.0])
def test_the_concentration_is_that_of_the_dirichlets_behind_the_votes(strength: float) -> None:
    logits, counts, speakers = drawn(3, strength=strength, rows=3000, n=8)
    chosen = fit_calibration(logits, counts, speakers, distance=np.ones(len(logits)))
    shares = chosen.distributions(logits)
    got = chosen.concentrations(signs_of(shares, np.ones(len(shares)), None))
    assert np.median(got) == pytest.approx(strength, rel=0.25)
    assert chosen.abstain_below is not None
    assert (got < chosen.abstain_below).mean() == pytest.approx(0.05, abs=0.01)


def test_a_clip_that_is_far_from_the_training_clips_abstains_however_certain_its_prediction_is() -> None:
    logits, counts, speakers = drawn(4, rows=1000)
    distance = np.random.default_rng(5).gamma(20.0, 0.05, len(logits))
    chosen = fit_calibration(logits, counts, speakers, distance=distance)
    certain = np.full(3, 1e3)
    near = float(np.quantile(distance, 0.98))
    assert chosen.abstains(certain, np.array([1.0, near, 10.0])).tolist() == [False, False, True]
    shares = chosen.distributions(logits)
    own = chosen.abstains(chosen.concentrations(signs_of(shares, distance, None)), distance)
    assert 0.05 <= own.mean() <= 0.065


def few(seed: int, strength: float) -> float:
    """The median concentration that is learned from 20 development utterances."""
    logits, counts, speakers = drawn(seed, strength=strength, rows=20, n=4)
    distance = np.exp(np.random.default_rng(seed).standard_normal(20))
    chosen = fit_calibration(logits, counts, speakers, distance=distance)
    return float(np.median(chosen.concentrations(signs_of(chosen.distributions(logits), distance, None))))


def test_a_concentration_from_twenty_utterances_is_not_far_from_the_usual_by_chance() -> None:
    weak, strong = ([few(seed, strength) for seed in range(40)] for strength in (4.5, 15.0))
    assert 3.0 < np.median(weak) < 7.0
    assert np.quantile(weak, 0.95) < 15.0
    assert np.median(strong) > 1.3 * np.median(weak), "the votes are still heard"
    assert np.quantile(strong, 0.95) < 30.0


def test_the_concentration_is_where_an_independent_posterior_is_highest() -> None:
    logits, counts, _ = drawn(6, rows=60, n=4)
    shares = np.exp(log_softmax(logits))
    signs = np.random.default_rng(0).standard_normal((60, 2)) * [1.0, 3.0]
    signs -= signs.mean(0)
    fitted = _concentration(shares, counts, signs)

    def posterior(x: Array) -> float:
        alpha = shares * np.exp(x[0] + signs @ x[1:])[:, None]
        votes = sum(dirichlet_multinomial.logpmf(n.astype(int), a, 4) for n, a in zip(counts, alpha, strict=True))
        prior = norm.logpdf(x[0], np.log(5.0), 1.0) + norm.logpdf(x[1:] * signs.std(0), 0.0, np.sqrt(0.5)).sum()
        return float(votes + prior)

    best = posterior(fitted)
    for place in range(3):
        for step in (-0.03, 0.03):
            other = fitted.copy()
            other[place] += step
            assert posterior(other) < best


def test_single_votes_tell_no_concentration_and_no_votes_no_calibration() -> None:
    logits, counts, speakers = drawn(4, n=1, rows=400)
    chosen = fit_calibration(logits, counts, speakers, distance=np.ones(400))
    assert chosen.concentration is None
    assert np.isnan(chosen.concentrations(np.zeros((2, 2)))).all()
    assert fit_calibration(logits, 0 * counts, speakers, distance=np.ones(400)) == Calibration()


@pytest.mark.parametrize("method", ["temperature", "dirichlet"])
def test_the_fits_are_at_a_minimum(method: str) -> None:
    logits, counts, _ = drawn(5, sharper=1.7, rows=200)
    log_p = log_softmax(logits)

    def loss(calibration: Calibration) -> float:
        pull = 0.0
        if calibration.matrix is not None and calibration.intercept is not None:
            away = np.square(np.asarray(calibration.matrix) - np.eye(4)).sum()
            pull = 0.01 * (away + np.square(calibration.intercept).sum())
        return float(-(counts * np.log(calibration.distributions(log_p))).sum() / counts.sum() + pull)

    best = _fitted(method, log_p, counts)
    rng = np.random.default_rng(0)
    for _ in range(20):
        if method == "temperature":
            other = best.model_copy(update={"temperature": best.temperature * float(rng.uniform(0.8, 1.25))})
        else:
            matrix = np.asarray(best.matrix) + 0.02 * rng.standard_normal((4, 4))
            other = best.model_copy(update={"matrix": tuple(map(tuple, matrix.tolist()))})
        assert loss(other) >= loss(best) - 1e-7
    assert Calibration.model_validate_json(best.model_dump_json()) == best
