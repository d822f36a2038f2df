"""Dirichlet regression: a log-linear prior from the proxies' shares, for proxies as accurate as a listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.estimator import (
    Estimator,
    Posterior,
    assumed_strength,
    fitting_rows,
    learned_part,
    minimise,
)
from alm_proxies.estimators.features import GateFeatures
from alm_proxies.estimators.likelihood import matched_strength, softmax
from alm_proxies.estimators.sample import FIT_ROWS

_SLOPE_PENALTY = 4.0
_SCALE_PENALTY = 0.5
_STRENGTH_PENALTY = 4.0
_FIRST_STRENGTH = 2.0
_LOG_STRENGTH = 6.0
_DARK_NEEDED = 30


class Loglinear(Estimator):
    """Dirichlet regression: each utterance's human votes come from a Dirichlet with mean and strength regressed on the
    proxies.

    n ~ DirichletMultinomial(S mu),   mu = softmax(b + sum_b t_b z_b + B x),   log S = s + v x         (L-BFGS)
    posterior Dirichlet(n + S mu)

    z_b: centred log shares of block b, so t_b is the power its distribution is raised to (a log-linear pool; 0 for a
    worthless proxy, 1 for a calibrated forecast); x: the gate's features; B and v have Gaussian priors. A model's
    distribution (`score`) is used in full detail, where latent classes would reduce it to a few prototypes, and its
    strength in votes is learned. Where few utterances have two human votes, log S is learned in part and assumed for
    the rest (`learned_part`).
    """

    name: ClassVar[str] = "loglinear"
    takes: ClassVar[tuple[str, ...]] = ("seed",)

    def __init__(self, *, seed: int = 0, rows: int = FIT_ROWS, iterations: int = 300, tolerance: float = 1e-7) -> None:
        self.seed = seed
        self.rows = rows
        self.iterations = iterations
        self.tolerance = tolerance

    def _learn(self, counts: Counts) -> None:
        counts = fitting_rows(counts, self.seed, self.rows)
        self.shares_ = counts.shares
        self.features_ = GateFeatures().fit(counts)
        inputs, human = self.features_.of(counts), counts.whole(self.seed)
        self.learned_part_ = learned = learned_part(counts, beside=True)
        fixed = float(np.log(assumed_strength(self.shares_))) if learned == 0.0 else None
        objective = _Objective(human, inputs, self.shares_, len(counts.blocks), fixed)
        result = minimise(objective, objective.start(), self.iterations, self.tolerance)
        self.bias_, self.slope_, self.strength_, self.strength_slope_ = objective.parts(result.x)
        if learned < 1.0:
            mean = softmax(inputs @ self.slope_ + self.bias_)
            assumed = float(np.log(assumed_strength(self.shares_, mean, human)))
            self.strength_ = learned * self.strength_ + (1.0 - learned) * assumed
            self.strength_slope_ = learned * self.strength_slope_
        dark = self.features_.dark(counts)
        self.knows_dark_ = bool(dark.sum() >= _DARK_NEEDED or not inputs.any())
        mean, strength = self._prior(inputs)
        self.average_ = mean.mean(0)
        second = ((strength * np.square(mean).sum(1) + 1.0) / (strength + 1.0)).mean(keepdims=True)
        self.average_strength_ = float(matched_strength(self.average_[None, :], second)[0])
        self.settled(result)

    def _prior(self, inputs: Array) -> tuple[Array, Array]:
        mean = softmax(inputs @ self.slope_ + self.bias_)
        strength = self.strength_ + inputs @ self.strength_slope_
        return mean, np.exp(np.clip(strength, -_LOG_STRENGTH, _LOG_STRENGTH))

    def posterior(self, counts: Counts) -> Posterior:
        """Mean and strength of the Dirichlet n + S mu; without any proxy the prior is the average utterance's."""
        mean, strength = self._prior(self.features_.of(counts))
        if not self.knows_dark_:
            dark = self.features_.dark(counts)
            mean[dark], strength[dark] = self.average_, self.average_strength_
        total = strength + counts.human.sum(1)
        return Posterior((counts.human + strength[:, None] * mean) / total[:, None], total)


class _Objective:
    """Penalised negative Dirichlet-multinomial log-likelihood per utterance, and its gradient."""

    def __init__(self, human: Array, inputs: Array, shares: Array, blocks: int, fixed: float | None) -> None:
        self.human, self.inputs, self.fixed = human, inputs, fixed
        self.labels, self.blocks = human.shape[1], blocks
        self.centre = np.log(shares)
        self.votes = human.sum(1)
        self.voted = np.flatnonzero(human)
        self.cast = human.ravel()[self.voted]
        wide = self.labels + 2  # a block's features: log shares, entropy, missing
        self.diagonal = [(wide * b + np.arange(self.labels), np.arange(self.labels)) for b in range(blocks)]

    def start(self) -> Array:
        width = self.inputs.shape[1]
        first = self.fixed if self.fixed is not None else float(np.log(_FIRST_STRENGTH))
        powers = np.full(self.blocks, 0.3)
        return np.concatenate([self.centre, powers, np.zeros(width * self.labels), [first], np.zeros(width)])

    def _split(self, theta: Array) -> tuple[Array, Array, Array, float, Array]:
        cut = self.labels + self.blocks
        width = self.inputs.shape[1]
        slope = theta[cut : cut + width * self.labels].reshape(width, self.labels)
        rest = theta[cut + width * self.labels :]
        return theta[: self.labels], theta[self.labels : cut], slope, float(rest[0]), rest[1:]

    def parts(self, theta: Array) -> tuple[Array, Array, float, Array]:
        """The unpacked parameters: bias, slope with the powers on its diagonal, log strength and its slope."""
        bias, powers, slope, strength, strength_slope = self._split(theta)
        slopes = slope.copy()
        for power, place in zip(powers, self.diagonal, strict=True):
            slopes[place] += power
        return bias, slopes, strength, strength_slope

    def _of_votes(self, function: Callable[[Array], Array], alpha: Array) -> Array:
        """f(n + alpha) - f(alpha), which is 0 without votes and is not computed there."""
        differences = np.zeros_like(alpha)
        given = alpha.ravel()[self.voted]
        differences.ravel()[self.voted] = function(self.cast + given) - function(given)
        return differences

    def __call__(self, theta: Array) -> tuple[float, Array]:
        from scipy.special import digamma, gammaln

        bias, powers, slope, log_strength, strength_slope = self._split(theta)
        _, slopes, _, _ = self.parts(theta)
        mean = np.maximum(softmax(self.inputs @ slopes + bias), 1e-12)
        free = log_strength + self.inputs @ strength_slope
        strength = np.exp(np.clip(free, -_LOG_STRENGTH, _LOG_STRENGTH))
        alpha = strength[:, None] * mean
        total = strength + self.votes
        value = float(self._of_votes(gammaln, alpha).sum() + (gammaln(strength) - gammaln(total)).sum())
        by_alpha = self._of_votes(digamma, alpha) + (digamma(strength) - digamma(total))[:, None]
        weighed = alpha * by_alpha
        by_strength = weighed.sum(1)
        by_logit = weighed - mean * by_strength[:, None]
        by_free = np.where(np.abs(free) < _LOG_STRENGTH, by_strength, 0.0)
        d_slope = self.inputs.T @ by_logit
        d_powers = np.array([d_slope[place].sum() for place in self.diagonal])
        away = bias - self.centre
        value -= 0.5 * _SCALE_PENALTY * float(powers @ powers + away @ away)
        value -= 0.5 * _SLOPE_PENALTY * float(np.square(slope).sum())
        value -= 0.5 * _STRENGTH_PENALTY * float(strength_slope @ strength_slope)
        if self.fixed is None:
            d_strength, d_strength_slope = by_free.sum(), self.inputs.T @ by_free - _STRENGTH_PENALTY * strength_slope
        else:
            d_strength, d_strength_slope = np.float64(0.0), np.zeros_like(strength_slope)
        gradient = np.concatenate(
            [
                by_logit.sum(0) - _SCALE_PENALTY * away,
                d_powers - _SCALE_PENALTY * powers,
                (d_slope - _SLOPE_PENALTY * slope).ravel(),
                [d_strength],
                d_strength_slope,
            ]
        )
        rows = max(len(self.human), 1)
        return -value / rows, -gradient / rows
