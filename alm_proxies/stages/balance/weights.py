"""Entropy balancing: the weights closest to the given ones that bring shares to a target (Hainmueller 2012).

Minimise KL(w || w0) subject to (1/n) sum_i w_i x_i = t, 0 <= w_i <= cap and, for every speaker, sum_i w_i <= limit. The
solution is w_i = min(cap, w0_i exp(a + l.x_i)), where x_i includes an indicator for each speaker at the limit; a and l
minimise the convex dual

    D = (1/n) sum_i f(u_i) - a - l.t + (r/2) |l|^2,   u_i = a + l.x_i,   f' = min(cap, w0 exp(u))

by damped Newton steps (Levenberg and Marquardt). r goes to 0 if all wishes can be met. Otherwise it stays at 1e-3: the
reached shares are then nearly the least-squares optimum, with far more even weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_proxies.seeds import generator

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TOLERANCE = 0.001
"""The weights are searched until every share is this near to its target."""
MISSED = 0.002
"""A share farther than this from its target counts as not met: nearer ones look the same where they are shown."""
_SOFTER, _HARDER = (
    (1e-2, 1e-3),
    (1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
)  # ridges, each started from the solution of the last one
_HOPELESS = 0.05
"""A share this far from its target at the last of the softer ridges cannot be met."""
_STEPS = 60
_LEAST, _MOST = 1e-12, 1e6  # damping of a Newton step
_CHUNK = 65_536
_FIRST = 50_000  # rows for a first solution, if there are many more


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """The solution: weights (mean 1), reached and wanted shares, and whether all of them are met."""

    weights: Array
    reached: Array
    asked: Array
    over: tuple[tuple[str, float, float], ...] = ()
    """Limits that were not met: utterance or speaker, the limit, and the value reached."""

    @property
    def error(self) -> Array:
        """Reached minus wanted, for each share."""
        return self.reached - self.asked

    @property
    def met(self) -> bool:
        """Whether no share is missed, and every limit is kept."""
        return not self.missed.any() and not self.over

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Whether a share is so far from its target that it shows."""
        return np.asarray(np.abs(self.error) > MISSED)

    @property
    def effective_size(self) -> float:
        """The number of equally weighted utterances with the same information."""
        return effective_size(self.weights)


def effective_size(weights: Array) -> float:
    """Kish's effective sample size: (sum w)^2 / sum w^2."""
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def balanced(
    features: Array,
    target: Array,
    *,
    start: Array | None = None,
    cap: float | None = None,
    speakers: Index | None = None,
    speaker_cap: float | None = None,
) -> Balance:
    """Weights of mean 1, closest to `start`, such that the weighted mean of `features` (n x m) is `target`.

    `cap` is the largest weight; `speaker_cap` the largest share of all weight that one of `speakers` may have.
    """
    count, width = features.shape
    first = np.ones(count) if start is None else start * (count / start.sum())
    limit = float(count) if cap is None else float(cap)
    full: list[int] = []  # speakers at the limit: at most 1 / speaker_cap of them
    while True:
        marks = _marked(speakers, full)
        problem = _Problem(
            np.concatenate([features, marks], 1) if full else features,
            np.concatenate([target, np.full(len(full), speaker_cap or 0.0)]),
            first,
            limit,
            width,
        )
        weights = problem.weights(problem.solve(np.zeros(width + len(full) + 1)))
        if speakers is None or speaker_cap is None:
            break
        shares = np.bincount(speakers, weights) / count
        shares[full] = 0.0
        over = np.flatnonzero(shares > speaker_cap * (1 + 1e-6))
        if not len(over) or (len(full) + 1) * speaker_cap > 1:
            break
        worst = int(over[np.argmax(shares[over])])
        full.append(worst)
    over_limit = []
    if cap is not None and weights.max() > cap * (1 + TOLERANCE):
        over_limit.append(("utterance", cap, float(weights.max())))
    if speakers is not None and speaker_cap is not None:
        most = float(np.bincount(speakers, weights).max()) / count
        if most > speaker_cap + TOLERANCE:
            over_limit.append(("speaker", speaker_cap, most))
    return Balance(weights, weights @ features / count, target, tuple(over_limit))


def _marked(speakers: Index | None, full: list[int]) -> Array:
    if speakers is None or not full:
        return np.zeros((0, 0))
    return np.stack([speakers == speaker for speaker in full], 1).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    features: Array
    target: Array
    start: Array
    cap: float
    soft: int
    """Number of features with the ridge, which come first; those behind them are limits that must hold."""

    def solve(self, point: Array) -> Array:
        """The multipliers (a, then l), from a starting point."""
        count = len(self.start)
        if count > 4 * _FIRST:
            rows = np.sort(generator(0, "balance").choice(count, _FIRST, replace=False))
            part = self.start[rows] * (_FIRST / self.start[rows].sum())
            few = _Problem(self.features[rows], self.target, part, min(self.cap, float(_FIRST)), self.soft)
            point = few.solve(point)
            if np.abs(few._error(point)).max() < TOLERANCE:  # so near that the last ridge needs a few steps
                there = self._newton(point, _HARDER[-1])
                if np.abs(self._error(there)).max() < TOLERANCE:
                    return there
        for ridge in _SOFTER if count <= 4 * _FIRST else _SOFTER[-1:]:
            point = self._newton(point, ridge)
        if np.abs(self._error(point)).max() > _HOPELESS:
            return point
        there = point
        for ridge in _HARDER:
            there = self._newton(there, ridge)
        return there if np.abs(self._error(there)).max() < TOLERANCE else point

    def weights(self, point: Array) -> Array:
        """The weights of these multipliers, scaled to mean 1."""
        weights = self._raw_weights(point)
        scaled: Array = weights * (len(weights) / weights.sum())
        return scaled

    def _raw_weights(self, point: Array) -> Array:
        with np.errstate(divide="ignore"):
            raw = np.log(self.start) + point[0] + self.features @ point[1:]
        weights: Array = np.exp(np.minimum(raw, np.log(self.cap)))
        return weights

    def _error(self, point: Array) -> Array:
        weights = self.weights(point)
        return weights @ self.features / len(weights) - self.target

    def _newton(self, point: Array, ridge: float) -> Array:
        value, slope, curve = self._dual(point, ridge)
        damping = _LEAST  # more if rows at the cap leave the dual flat in some direction
        for _ in range(_STEPS):
            while True:
                move = np.linalg.solve(curve + damping * np.eye(len(point)), -slope)
                expected = float(slope @ move)
                if expected > -1e-12 and damping <= _LEAST:
                    return point
                tried = point + move
                new, new_slope, new_curve = self._dual(tried, ridge)
                if new <= value + 1e-4 * expected:
                    break
                damping = max(10.0 * damping, 1e-6)
                if damping > _MOST:
                    return point
            point, value, slope, curve = tried, new, new_slope, new_curve
            damping = max(damping / 10.0, _LEAST)
        return point

    def _dual(self, point: Array, ridge: float) -> tuple[float, Array, Array]:
        """The dual, its gradient and its Hessian, a chunk of rows at a time."""
        count, width = self.features.shape
        top = float(np.log(self.cap))
        value, slope, curve = 0.0, np.zeros(width), np.zeros((width, width))
        total, inside, edge = 0.0, 0.0, np.zeros(width)
        for low in range(0, count, _CHUNK):
            rows = self.features[low : low + _CHUNK]
            with np.errstate(divide="ignore"):
                raw = np.log(self.start[low : low + _CHUNK]) + point[0] + rows @ point[1:]
            over = raw > top
            weights = np.exp(np.minimum(raw, top))
            value += float(weights.sum()) + self.cap * float((raw[over] - top).sum())
            total += float(weights.sum())
            slope += weights @ rows
            inner = np.where(over, 0.0, weights)
            inside += float(inner.sum())
            edge += inner @ rows
            curve += (rows * inner[:, None]).T @ rows
        ridges = np.where(np.arange(width) < self.soft, ridge, 0.0)
        multipliers = point[1:]
        dual = value / count - point[0] - float(multipliers @ self.target) + 0.5 * float(ridges @ multipliers**2)
        slopes = np.concatenate([[total / count - 1.0], slope / count - self.target + ridges * multipliers])
        curves = np.empty((width + 1, width + 1))
        curves[0, 0], curves[0, 1:], curves[1:, 0] = inside / count, edge / count, edge / count
        curves[1:, 1:] = curve / count + np.diag(ridges)
        return dual, slopes, curves
