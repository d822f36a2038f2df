"""Intervals and paired tests that resample whole speakers, since utterances of one speaker are not independent.

Every statistic here is a function of sums over utterances, so a resample is one row of a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.interval import FEWEST_TO_TEST, Interval
from alm_proxies.measures.arrays import Array, quantiles, same_rows
from alm_proxies.seeds import generator

RESAMPLES = 2000
FEW_SPEAKERS = 20
FEWEST_SPEAKERS = 3
"""With two, a 95 % interval is 12.7 standard errors to either side, known from one difference: it says nothing."""
SURE = 0.05
IT_TAKES = f"it takes {FEWEST_TO_TEST} for a p-value below {SURE}"
_MOST_GROUPS = 1000
_ALL_FLIPS_UP_TO = 12

Statistic = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of a - b with its interval, and the two-sided p-value of the sign-flip test over speakers."""

    difference: Interval
    p_value: float

    @property
    def can_be_judged(self) -> bool:
        """Whether there is an interval, and the p-value could be below 0.05 with this number of speakers."""
        return self.difference.can_be_judged

    @property
    def is_significant(self) -> bool:
        """Whether the difference can be judged and its p-value is below 0.05."""
        return self.can_be_judged and self.p_value < SURE


def ratio(sums: Array) -> Array:
    """The ratio of the first sum to the second, NaN where the second is 0: a mean, or a weighted mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Array = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    return quotient


def mean_by_speaker(
    values: ArrayLike,
    speakers: ArrayLike | None,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """The (weighted) mean of one value per utterance, with its interval over speakers, inside the possible range."""
    column = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(column) if weights is None else np.asarray(weights, dtype=np.float64)
    same_rows(values=column, weights=weight)
    with np.errstate(invalid="ignore"):
        weighted = np.where(weight > 0, column * weight, 0.0)
    columns = np.stack([weighted, weight], axis=1)
    return interval_by_speaker(columns, speakers, ratio, level=level, seed=seed).within(*within)


def interval_by_speaker(
    columns: ArrayLike,
    speakers: ArrayLike | None,
    statistic: Statistic = ratio,
    *,
    level: float = 0.95,
    seed: int = 0,
    biased: bool = False,
) -> Interval:
    """The bootstrap interval of statistic(sums over utterances of each column); without speakers every utterance is its
    own.

    20 speakers or more: percentiles over 2000 resamples of the S speakers, widened from z to t(S - 1) sqrt(S / (S - 1))
    (Hesterberg 2015, The American Statistician 69); in simulations they cover better than plain percentiles and than
    BCa. Speakers beyond 1000 are drawn in 1000 random groups. Fewer than 20: the value of each speaker, and estimate +-
    t(S - 1) x the jackknife's standard error; fewer than 3: no interval.

    `biased`: the statistic is off by a part that falls with S (the chance agreement of few speakers' labels is too
    high, so that alpha is too low). The interval is then about the estimate less the jackknife's bias, (S - 1) x (mean
    without one speaker - estimate) (Quenouille 1956); the estimate stays as it is defined.
    """
    table = np.asarray(columns, dtype=np.float64)
    codes, count = speaker_codes(speakers, len(table))
    return interval_of_sums(sums_by_speaker(table, codes, count), statistic, level=level, seed=seed, biased=biased)


def interval_of_sums(
    sums: Array, statistic: Statistic = ratio, *, level: float = 0.95, seed: int = 0, biased: bool = False
) -> Interval:
    """The same from given sums, speakers x columns."""
    if not 0 < level < 1:
        raise SettingsError(f"a confidence level of {level} is not between 0 and 1", fix="Use 0.95.")
    sums = where_few(sums)
    count = len(sums)
    estimate = float(statistic(sums.sum(0, keepdims=True))[0])
    per_speaker = tuple(float(value) for value in statistic(sums)) if 1 < count < FEW_SPEAKERS else ()
    if count < FEWEST_SPEAKERS or not np.isfinite(estimate):
        return Interval(estimate, float("nan"), float("nan"), "none", count, per_speaker)
    bias = _jackknife_bias(sums, statistic, estimate) if biased else 0.0
    if count < FEW_SPEAKERS:
        low, high = _t_interval(sums, statistic, estimate, level)
        return Interval(estimate, low - bias, high - bias, "t", count, per_speaker)
    low, high = _percentiles(sums, statistic, level, seed)  # resamples have the bias twice
    return Interval(estimate, low - 2 * bias, high - 2 * bias, "percentile", count)


def where_few(sums: Array) -> Array:
    """The sums of the speakers of whom anything is known, if these are fewer than 20; else of all."""
    known = sums[sums.any(axis=1)]
    return known if len(known) < FEW_SPEAKERS else sums


def reach_of_sums(sums: Array, speakers: int, *, level: float = 0.95) -> Array:
    """Half the width of a t-interval of each column's total, from its influence summed by speaker.

    `speakers` is the number of them that limits the precision; NaN with fewer than three.
    """
    from scipy.special import stdtrit

    if speakers < FEWEST_SPEAKERS:
        return np.full(sums.shape[1], np.nan)
    variance = speakers / (speakers - 1) * np.square(sums).sum(0)
    reach: Array = float(stdtrit(speakers - 1, 0.5 + level / 2)) * np.sqrt(variance)
    return reach


def paired_by_speaker(
    first: ArrayLike,
    second: ArrayLike,
    speakers: ArrayLike | None,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    seed: int = 0,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Paired:
    """The mean of first - second over the same utterances, with its interval and sign-flip p-value."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    same_rows(first=a, second=b)
    with np.errstate(invalid="ignore"):
        difference = a - b
    interval = mean_by_speaker(difference, speakers, weights=weights, level=level, seed=seed, within=within)
    return Paired(interval, sign_flip_p(difference, speakers, weights=weights, seed=seed))


def sign_flip_p(
    difference: ArrayLike, speakers: ArrayLike | None, *, weights: ArrayLike | None = None, seed: int = 0
) -> float:
    """Two-sided p-value that a mean difference is 0: each speaker's sum changes sign with probability 1/2.

    All 2^S sign patterns up to 12 speakers, 9999 random ones above (the observed one counts too); NaN without speakers.
    """
    column = np.asarray(difference, dtype=np.float64)
    if weights is not None:
        weight = np.asarray(weights, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            column = np.where(weight > 0, column * weight, 0.0)
    codes, count = speaker_codes(speakers, len(column))
    if count < 1 or not np.isfinite(column).all():
        return float("nan")
    sums = _grouped(sums_by_speaker(column[:, None], codes, count), seed)[:, 0]
    observed = abs(sums.sum()) * (1 - 1e-12)
    return _share_of_flips(lambda signs: np.abs(signs @ sums) >= observed, len(sums), seed)


def paired_of_sums(
    first: Array,
    second: Array,
    statistic: Statistic,
    *,
    level: float = 0.95,
    seed: int = 0,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Paired:
    """statistic(first) - statistic(second) of sums by speaker with its interval, and the p-value of swapped speakers.

    For the p-value the sums of each speaker change places with probability 1/2: of means, that is the sign-flip test.
    """
    columns = first.shape[1]

    def difference(sums: Array) -> Array:
        return statistic(sums[:, :columns]) - statistic(sums[:, columns:])

    both = np.concatenate([first, second], axis=1)
    interval = interval_of_sums(both, difference, level=level, seed=seed).within(*within)
    observed = abs(interval.estimate) - 1e-12
    if not np.isfinite(observed):
        return Paired(interval, float("nan"))
    grouped = _grouped(both, seed)
    mine, theirs = grouped[:, :columns], grouped[:, columns:]
    mean, half = 0.5 * (mine + theirs).sum(0, keepdims=True), 0.5 * (mine - theirs)

    def as_far(signs: Array) -> NDArray[np.bool_]:
        swapped = signs @ half
        both = np.concatenate([mean + swapped, mean - swapped], axis=1)
        far: NDArray[np.bool_] = np.abs(difference(both)) >= observed
        return far

    return Paired(interval, _share_of_flips(as_far, len(grouped), seed))


def _share_of_flips(as_far: Callable[[Array], NDArray[np.bool_]], speakers: int, seed: int) -> float:
    """The share of sign patterns of the speakers whose difference is as far from 0 as the observed one."""
    if speakers <= _ALL_FLIPS_UP_TO:
        signs = (1 - 2 * (np.arange(2**speakers)[:, None] >> np.arange(speakers) & 1)).astype(np.float64)
        return float(as_far(signs).mean())
    signs = _random_signs(speakers, seed).astype(np.float64)
    return float((1 + as_far(signs).sum()) / 10_000)


def speaker_codes(speakers: ArrayLike | None, rows: int) -> tuple[NDArray[np.int64], int]:
    """Codes of the speakers from 0 in sorted order, and the number of speakers."""
    if speakers is None:
        return np.arange(rows), rows
    names = np.asarray(speakers)
    if names.shape != (rows,):
        raise InputError(
            f"there are {names.size} speakers for {rows} rows", where="speakers", fix="Name one speaker per row."
        )
    distinct, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), len(distinct)


def sums_by_speaker(columns: Array, codes: NDArray[np.int64], count: int) -> Array:
    """Each column summed within each speaker, speakers x columns."""
    parts = [np.bincount(codes, weights=column, minlength=count) for column in columns.T]
    return np.stack(parts, axis=1) if parts else np.zeros((count, 0))


def _grouped(sums: Array, seed: int) -> Array:
    if len(sums) <= _MOST_GROUPS:
        return sums
    order = generator(seed, "groups of speakers", len(sums)).permutation(len(sums))
    return sums_by_speaker(sums[order], np.arange(len(sums)) % _MOST_GROUPS, _MOST_GROUPS)


def _t_interval(sums: Array, statistic: Statistic, estimate: float, level: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    without = statistic(sums.sum(0) - sums)
    count = len(without)
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    reach = float(stdtrit(count - 1, 0.5 + level / 2) * error)
    return estimate - reach, estimate + reach


def _jackknife_bias(sums: Array, statistic: Statistic, estimate: float) -> float:
    without = statistic(sums.sum(0) - sums)
    without = without[np.isfinite(without)]
    return float((len(sums) - 1) * (without.mean() - estimate)) if len(without) else 0.0


def _percentiles(sums: Array, statistic: Statistic, level: float, seed: int) -> tuple[float, float]:
    drawn = statistic(resampled(sums, seed))
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < RESAMPLES // 2:
        return float("nan"), float("nan")
    low, high = quantiles(drawn, widened(len(sums), level))
    return low, high


def resampled(sums: Array, seed: int) -> Array:
    """The totals of the columns in each resample of the speakers, resamples x columns."""
    grouped = _grouped(sums, seed)
    return np.asarray(_resamples(len(grouped), seed) @ grouped)


@lru_cache(maxsize=64)
def widened(speakers: int, level: float) -> Array:
    """The two percentiles that are the ends of an interval of this level over these speakers."""
    from scipy.special import ndtr, stdtrit

    count = min(speakers, _MOST_GROUPS)
    reach = np.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.5 + level / 2)
    return np.asarray(ndtr(np.array([-reach, reach])))


@lru_cache(maxsize=4)
def _random_signs(count: int, seed: int) -> NDArray[np.int8]:
    """Patterns x speakers, a byte each: paired tests of as many speakers take the same, so they are drawn once."""
    return np.asarray(generator(seed, "sign flips").integers(0, 2, (9999, count)) * 2 - 1, dtype=np.int8)


@lru_cache(maxsize=4)
def _resamples(count: int, seed: int) -> Array:
    """The number of times each speaker is drawn in each resample, resamples x speakers."""
    drawn = generator(seed, "bootstrap", count).integers(0, count, (RESAMPLES, count))
    flat = np.bincount((drawn + count * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * count)
    return flat.reshape(RESAMPLES, count).astype(np.float64)
