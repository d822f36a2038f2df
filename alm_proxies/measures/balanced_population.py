"""What a score would be in a population with the same share of every label, estimated from an unbalanced test set.

Utterances get the weights w_i proportional to exp(l . m_i), the closest to equal ones with which the mean of the
posterior means m_i is the target t (entropy balancing, Hainmueller 2012). The weights depend on nothing but the data
D_i behind m_i = E(p_i | D_i), hence E(sum_i w_i p_i) = E(sum_i w_i m_i) = t: the TRUE shares are balanced too. Shares
of raw votes are no such means: with them the true shares stay on the side of the common labels.

The interval resamples whole speakers and solves for the weights again in each replicate. With S speakers, 20 or more:
percentiles, widened from z to t(S - 1) sqrt(S / (S - 1)) as in bootstrap.py. Fewer: estimate +- t(S - 1) x the
jackknife's standard error, each speaker left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, same_rows
from alm_proxies.measures.bootstrap import FEW_SPEAKERS, speaker_codes
from alm_proxies.printable import counted
from alm_proxies.seeds import generator

REPLICATES = 1000
FEWEST_UTTERANCES, FEWEST_SPEAKERS = 100, 10
"""With fewer utterances or speakers there is no figure."""
TOLERANCE = 1e-4
"""A share further than this from the target was not reached."""
_STEPS = 50
_FAR = 60.0  # a multiplier beyond this follows a target that no weights reach
MOST_FAILED = 0.05
"""The share of resamples without weights that an interval can do without."""
TOO_ALIKE = "no weights bring the mean of these posterior means to equal shares: they differ too little"
"""Why there is no estimate where no weights reach the target."""


@dataclass(frozen=True, slots=True, eq=False)
class BalancedPopulation:
    """Weighted means with their intervals, the weights (mean 1), and how many equal ones carry as much information."""

    means: dict[str, Interval]
    weights: Array
    effective_size: float
    shares: Array
    """Mean of the posterior means without the weights."""
    resamples: int
    """Resamples of speakers; under 20 speakers, the number of speakers, each left out in turn."""
    failed: int
    """Those of them in which no weights reach the target, which the intervals leave out; above 5 % there is none."""


def balanced_population(
    posterior: ArrayLike,
    columns: Mapping[str, tuple[ArrayLike, ArrayLike]],
    speakers: ArrayLike | None,
    *,
    target: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> BalancedPopulation | str:
    """Means in the balanced population, or why there are none.

    `posterior`: posterior means, rows x labels. `columns`: by name one value a row and how much each row counts besides
    (the number of its votes, or 1). `target`: the wanted share of each label; uniform without one.
    """
    means = np.asarray(posterior, dtype=np.float64)
    same_rows(posterior=means[:, 0], **{name: np.asarray(value) for name, (value, _) in columns.items()})
    codes, count = speaker_codes(speakers, len(means))
    if len(means) < FEWEST_UTTERANCES:
        return f"{counted(len(means), 'utterance is', 'utterances are')} too few; {FEWEST_UTTERANCES} are needed"
    if speakers is None:
        return "speakers are not known, so that no interval can be given"
    if count < FEWEST_SPEAKERS:
        return f"{counted(count, 'speaker is', 'speakers are')} too few; {FEWEST_SPEAKERS} are needed"
    labels = means.shape[1]
    wanted = np.full(labels, 1 / labels) if target is None else np.asarray(target, dtype=np.float64)
    away = (means - wanted)[:, :-1]  # the last share follows from the others
    tilt = _tilt(away, np.ones(len(means)), np.zeros(labels - 1))
    if tilt is None:
        return TOO_ALIKE
    weights = _weights(away, np.ones(len(means)), tilt)
    names = list(columns)
    values = np.stack([np.asarray(value, dtype=np.float64) for value, _ in columns.values()])
    counts = np.stack([np.broadcast_to(np.asarray(by, dtype=np.float64), len(means)) for _, by in columns.values()])
    if count >= FEW_SPEAKERS:
        rng = generator(seed, "balanced population", count)
        drawings = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(replicates)]
        times = np.stack(drawings).astype(np.float64)
    else:
        times = 1 - np.eye(count)
    drawn, failed = np.full((len(times), len(names)), np.nan), 0
    for row, each in enumerate(times):
        base = each[codes]
        again = _tilt(away, base, tilt)
        if again is None:
            failed += 1
        else:
            drawn[row] = _means(values, counts, _weights(away, base, again))
    estimates = _means(values, counts, weights)
    intervals = {
        name: _interval(float(estimates[place]), drawn[:, place], count, level) for place, name in enumerate(names)
    }
    size = float(weights.sum()) ** 2 / float(weights @ weights)
    return BalancedPopulation(intervals, weights, size, means.mean(0), len(times), failed)


def _means(values: Array, counts: Array, weights: Array) -> Array:
    with np.errstate(invalid="ignore"):
        sums = (np.where(counts > 0, values, 0.0) * counts) @ weights
    means: Array = sums / (counts @ weights)
    return means


def _weights(away: Array, base: Array, tilt: Array) -> Array:
    raised = away @ tilt
    weights = base * np.exp(raised - raised.max())
    scaled: Array = weights * (len(weights) / weights.sum())
    return scaled


def _tilt(away: Array, base: Array, start: Array) -> Array | None:
    """The minimum over l of ln sum_i base_i exp(l . away_i), whose gradient is the weighted mean; None without one."""
    tilt = start.copy()
    value, slope, curve = _dual(away, base, tilt)
    for _ in range(_STEPS):
        if np.abs(slope).max(initial=0.0) < TOLERANCE * 1e-2:
            return tilt
        step = np.linalg.solve(curve + 1e-10 * np.eye(len(tilt)), -slope)
        size = 1.0
        while True:
            tried = tilt + size * step
            new_value, new_slope, new_curve = _dual(away, base, tried)
            if new_value <= value + 1e-4 * size * float(slope @ step) or size < 1e-6:
                break
            size /= 2
        tilt, value, slope, curve = tried, new_value, new_slope, new_curve
        if np.abs(tilt).max() > _FAR:
            return None
    return tilt if np.abs(slope).max(initial=0.0) < TOLERANCE else None


def _dual(away: Array, base: Array, tilt: Array) -> tuple[float, Array, Array]:
    raised = away @ tilt
    top = float(raised.max())
    weights = base * np.exp(raised - top)
    total = float(weights.sum())
    weights = weights / total
    slope = weights @ away
    curve = (away * weights[:, None]).T @ away - np.outer(slope, slope)
    return top + float(np.log(total)), slope, curve


def _interval(estimate: float, drawn: NDArray[np.float64], count: int, level: float) -> Interval:
    from scipy.special import ndtr, stdtrit

    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(estimate) or len(known) < (1 - MOST_FAILED) * len(drawn) or not len(known):
        return Interval(estimate, float("nan"), float("nan"), "none", count)
    reach = float(stdtrit(count - 1, 0.5 + level / 2))
    if count >= FEW_SPEAKERS:
        reach *= float(np.sqrt(count / (count - 1)))
        low, high = np.quantile(known, ndtr(np.array([-reach, reach])))
        return Interval(estimate, float(low), float(high), "percentile", count)
    error = float(np.sqrt((count - 1) / count * np.square(known - known.mean()).sum()))
    return Interval(estimate, estimate - reach * error, estimate + reach * error, "t", count)
