"""Statistics of the study: differences of actors, intervals, corrections for several tests, and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from study_design import SMALLEST_DIFFERENCE
from study_votes import Array

from alm_proxies.measures.bootstrap import interval_of_sums


@dataclass(frozen=True, slots=True)
class Contrast:
    """A mean difference over actors: t interval and p-value, and the interval of the bootstrap."""

    estimate: float
    low: float
    high: float
    p_value: float
    boot_low: float
    boot_high: float
    actors: int

    @property
    def verdict(self) -> str:
        """lower, higher, no effect (the interval lies within the smallest difference of interest), or not decided."""
        if self.low >= -SMALLEST_DIFFERENCE and self.high <= SMALLEST_DIFFERENCE:
            return "no effect"
        if self.high < 0:
            return "lower"
        return "higher" if self.low > 0 else "not decided"


def by_actor(losses: Array, weights: Array, actors: np.ndarray) -> dict[str, float]:
    """The weighted mean loss of every actor with any weight."""
    means = {}
    for actor in np.unique(actors):
        rows = actors == actor
        if weights[rows].sum() > 0:
            means[str(actor)] = float(losses[rows].sum() / weights[rows].sum())
    return means


def contrast(first: Sequence[dict[str, float]], second: Sequence[dict[str, float]]) -> Contrast:
    """First less second: of each actor the mean over replicates, then the mean over actors (95 %, t and bootstrap)."""
    from scipy.stats import t as student

    actors = sorted(set.intersection(*(set(losses) for losses in (*first, *second))))
    each = np.array([np.mean([a[who] - b[who] for a, b in zip(first, second, strict=True)]) for who in actors])
    count = len(each)
    mean = float(each.mean())
    error = float(each.std(ddof=1) / np.sqrt(count))
    reach = float(student.ppf(0.975, count - 1)) * error
    p = 2.0 * float(student.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0.0)
    boot = interval_of_sums(np.stack([each, np.ones(count)], axis=1))
    return Contrast(mean, mean - reach, mean + reach, p, boot.low, boot.high, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm's procedure: the largest so far of (m - i) p_(i), at most 1."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1.0)
    return [float(value) for value in adjusted]


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Benjamini and Yekutieli: c m p_(i) / i, the smallest from the end; c = 1 + 1/2 + .. 1/m."""
    p = np.asarray(p_values, dtype=np.float64)
    count = len(p)
    rank = np.arange(1, count + 1)
    order = np.argsort(p, kind="stable")
    raised = (1.0 / rank).sum() * count * p[order] / rank
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return [float(value) for value in adjusted]
