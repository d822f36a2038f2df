"""Pooling of predictive distributions: simplex weights, a mixture's moments, and the strength of one Dirichlet."""

from __future__ import annotations

import numpy as np

from alm_proxies.estimators.counts import Array
from alm_proxies.estimators.estimator import minimise
from alm_proxies.estimators.likelihood import matched_strength

_SCALE_SPREAD = 0.5
"""Standard deviation of the Gaussian prior on the logarithm of the strength's scale."""
_SAME = 1e-9


def stacking_weights(means: Array, targets: Array, pull: float) -> Array:
    """Weights on the simplex that maximise the log score of held-out votes, shrunk to equal weights.

    max_w  sum_i t_i . log(sum_m w_m p_mi) + (pull / M) sum_m log w_m,   w on the simplex

    (Yao et al. 2018; the second term is a Dirichlet prior of `pull` votes.) means: methods x cuts x labels. Methods
    with equal predictions share one weight, so a copy of a method changes nothing.
    """
    which = _alike(means)
    first = [int(np.flatnonzero(which == group)[0]) for group in range(int(which.max()) + 1)]
    weights = _weights(means[first], targets, pull)
    return np.asarray((weights / np.bincount(which))[which])


def _weights(means: Array, targets: Array, pull: float) -> Array:
    methods = len(means)
    votes = max(float(targets.sum()), 1e-12)
    if methods == 1 or votes <= 1e-12:
        return np.full(methods, 1.0 / methods)

    def objective(theta: Array) -> tuple[float, Array]:
        weight = np.exp(theta - theta.max())
        weight /= weight.sum()
        pooled = np.maximum(np.tensordot(weight, means, 1), 1e-300)
        value = float((targets * np.log(pooled)).sum()) + pull / methods * float(np.log(weight).sum())
        slope = np.tensordot(means, targets / pooled, 2) + pull / methods / weight
        return -value / votes, -weight * (slope - weight @ slope) / votes

    theta = minimise(objective, np.zeros(methods), 200, 1e-10).x
    weight = np.exp(theta - theta.max())
    return np.asarray(weight / weight.sum())


def _alike(means: Array) -> np.ndarray:
    """A number for each method, equal for methods with equal predictions."""
    which = np.zeros(len(means), dtype=np.int64)
    seen: list[int] = []
    for method in range(len(means)):
        twin = [
            place for place, other in enumerate(seen) if np.abs(means[method] - means[other]).max(initial=0) < _SAME
        ]
        which[method] = twin[0] if twin else len(seen)
        if not twin:
            seen.append(method)
    return which


def mixed(means: Array, strengths: Array, weights: Array) -> tuple[Array, Array]:
    """Mean and matched strength of the mixture sum_m w_m Dirichlet(S_m p_m)."""
    mean = np.tensordot(weights, means, 1)
    second = (strengths * np.square(means).sum(2) + 1.0) / (strengths + 1.0)
    return mean, matched_strength(mean, weights @ second)


def averaged(means: Array, strengths: Array, weights: Array, learned: float = 0.0) -> tuple[Array, Array]:
    """Mean of the same mixture, with the strength that expects the methods' average squared error.

    S = (1 - |p|^2) / V - 1,   V = sum_m w_m (1 - |p_m|^2) / (S_m + 1) + learned sum_m w_m |p_m - p|^2

    If every method's strength is right, V less sum_m w_m |p_m - p|^2 is the squared error of the average (Krogh and
    Vedelsby 1995), where `mixed` adds this term; it is left out because methods differ by the noise of their fits too,
    which their strengths do not count. It is added as far as strengths are `learned`: held-out votes then scale them.
    """
    if learned == 1.0:
        return mixed(means, strengths, weights)
    mean = np.tensordot(weights, means, 1)
    expected = weights @ ((1.0 - np.square(means).sum(2)) / (strengths + 1.0))
    if learned:
        expected = expected + learned * (weights @ np.square(means - mean).sum(2))
    return mean, matched_strength(mean, np.square(mean).sum(1) + expected)


def rescaled(strength: Array, given: Array, scale: float) -> Array:
    """n + s (S - n): the strength with its excess over the n votes scaled; unchanged if there is no excess."""
    return np.asarray(strength + (scale - 1.0) * np.maximum(strength - given, 0.0))


def strength_scale(
    mean: Array, strength: Array, given: Array, left: Array, mass: Array, spread: float = _SCALE_SPREAD
) -> float:
    """The scale s that maximises the Dirichlet-multinomial likelihood of the held-out votes.

    max_s  sum_i m_i log DM(n_i | rescaled(S_i, s) p_i) - (log s)^2 / (2 spread^2), over cuts with two held-out votes
    or more: a single vote has no information about a strength. 1 if there is no such cut.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    votes = left.sum(1)
    usable = votes > 1.5
    if not usable.any():
        return 1.0
    mean, strength, given, left = np.maximum(mean[usable], 1e-12), strength[usable], given[usable], left[usable]
    mass, votes = mass[usable], votes[usable]

    def loss(log_scale: float) -> float:
        total = rescaled(strength, given, float(np.exp(log_scale)))
        alpha = total[:, None] * mean
        each = (gammaln(left + alpha) - gammaln(alpha)).sum(1) + gammaln(total) - gammaln(total + votes)
        return 0.5 * (log_scale / spread) ** 2 - float(mass @ each)

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def share_of_second(first: Array, second: Array, targets: Array, doubt: float) -> float:
    """The share v of the second forecast that maximises the log score, shrunk to 0.

    max_v  sum_i t_i . log((1 - v) p_i + v q_i) + doubt log(1 - v)
    """
    from scipy.optimize import minimize_scalar

    def loss(share: float) -> float:
        pooled = np.maximum((1.0 - share) * first + share * second, 1e-300)
        return -float((targets * np.log(pooled)).sum()) - doubt * float(np.log1p(-share))

    result = minimize_scalar(loss, bounds=(0.0, 0.9999), method="bounded", options={"xatol": 1e-6})
    return float(result.x)
