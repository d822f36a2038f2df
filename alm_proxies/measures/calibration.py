"""Calibration: of probabilities against the share of votes for a label, and of the concentration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, counts, distributions, same_rows
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.ranges import SHARE

BINS = 15
_BIN_ROWS = 40
"""Utterances of a bin that is drawn with its interval, where there are three such bins."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
_CHUNK_NUMBERS = 8_000_000


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability curve: for each bin the mean confidence, the mean share of votes and the number of utterances."""

    confidence: tuple[float, ...]
    share: tuple[float, ...]
    utterances: tuple[int, ...]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over utterances of the bins' |confidence - share|; NaN without any."""
        many = np.array(self.utterances, dtype=np.float64)
        if many.sum() == 0:
            return float("nan")
        gap = np.abs(np.array(self.confidence) - np.array(self.share))
        return float((many * gap).sum() / many.sum())


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: mean confidence, mean share of votes with its interval."""

    confidence: float
    share: Interval
    utterances: int


@dataclass(frozen=True, slots=True)
class ConcentrationCheck:
    """Calibration of the concentration on held-out votes.

    coverage: for each central interval's level, the share of utterances whose votes for the top label fall inside.
    pit: ten equal bins of the probability integral transform; flat means calibrated, a U over-confident, a hill
    under-confident.
    log_score: -ln of the probability of the row's votes, per vote, with the concentration; log_score_without: with
    the same shares taken as exact. Lower is better, and a useful concentration lowers log_score.
    """

    coverage: dict[float, float]
    pit: tuple[float, ...]
    log_score: float
    log_score_without: float
    utterances: int


def reliability(predicted: ArrayLike, votes: ArrayLike, *, bins: int = BINS) -> Reliability:
    """The top label's probability against the SHARE OF VOTES for it (not right or wrong), in bins of equal mass."""
    q, table = _matched(predicted, votes)
    confidence, share = top_label(q, table)
    return _curve(confidence, share, bins)


def reliability_bins(
    predicted: ArrayLike, votes: ArrayLike, speakers: ArrayLike | None, *, level: float = 0.95, seed: int = 0
) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram: 3 to 15 bins of equal mass, about 40 utterances each, intervals by speaker."""
    q, table = _matched(predicted, votes)
    confidence, share = top_label(q, table)
    place = equal_mass_bins(confidence, int(np.clip(len(q) // _BIN_ROWS, 3, BINS)))
    names = None if speakers is None else np.asarray(speakers)
    curve = []
    for bin_number in np.unique(place):
        rows = place == bin_number
        interval = mean_by_speaker(
            share[rows], None if names is None else names[rows], level=level, seed=seed, within=SHARE
        )
        curve.append(ReliabilityBin(float(confidence[rows].mean()), interval, int(rows.sum())))
    return tuple(curve)


def top_label(predicted: Array, votes: Array) -> tuple[Array, Array]:
    """The highest probability of each row, and the share of its votes for that label (the first one in a tie)."""
    rows, top = np.arange(len(predicted)), predicted.argmax(1) if len(predicted) else np.zeros(0, dtype=np.int64)
    share: Array = votes[rows, top] / votes.sum(1)
    return predicted[rows, top], share


def equal_mass_bins(values: Array, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each value: bins of equal size, with equal values in the same bin, whatever the order of rows."""
    if bins < 1:
        raise InputError(f"{bins} bins are too few", where="bins", fix="Use one or more.")
    order = np.sort(values)
    place: NDArray[np.int64] = np.searchsorted(order, values, side="left") * bins // max(len(values), 1)
    return place


def thirds(values: Array) -> NDArray[np.int64]:
    """The third (0, 1 or 2) of each value, by the middle of its ranks; equal values are always in the same one."""
    order = np.sort(values)
    middle = np.searchsorted(order, values, side="left") + np.searchsorted(order, values, side="right")
    third: NDArray[np.int64] = np.minimum(middle * 3 // max(2 * len(values), 1), 2)
    return third


def concentration_check(
    predicted: ArrayLike, concentration: ArrayLike, votes: ArrayLike, *, levels: tuple[float, ...] = LEVELS
) -> ConcentrationCheck:
    """Coverage, PIT and log score of Dirichlet(concentration x p) for held-out counts; infinite concentration = exact.

    The top label's count among n votes is then beta-binomial(n, c p, c (1 - p)). A count is discrete, so its PIT is
    uniform between F(x - 1) and F(x); its expectation is used instead of a random draw (Czado, Gneiting
    and Held 2009, Biometrics 65): it has the mean of the randomised PIT and is deterministic.
    """
    q, table = _matched(predicted, votes, whole=True)
    strength = np.asarray(concentration, dtype=np.float64)
    same_rows(predicted=q, concentration=strength)
    if np.isnan(strength).any() or (strength <= 0).any():
        raise InputError(
            "has a value that is not a positive number",
            where="concentration",
            fix="Use infinity for exact shares, and leave out rows with unknown concentration.",
        )
    rows = len(q)
    if rows == 0:
        nothing = float("nan")
        return ConcentrationCheck(dict.fromkeys(levels, nothing), (nothing,) * 10, nothing, nothing, 0)
    low, high = _pit_limits(q.max(1), strength, table[np.arange(rows), q.argmax(1)], table.sum(1))
    coverage = {level: float(_overlap(low, high, 0.5 - level / 2, 0.5 + level / 2).mean()) for level in levels}
    pit = tuple(float(_overlap(low, high, place / 10, (place + 1) / 10).mean()) for place in range(10))
    total = table.sum()
    score = float(-log_probability(q, strength, table).sum() / total)
    without = float(-log_probability(q, np.full(rows, np.inf), table).sum() / total)
    return ConcentrationCheck(coverage, pit, score, without, rows)


def log_probability(predicted: Array, concentration: Array, votes: Array) -> Array:
    """ln of each row's Dirichlet-multinomial probability; the multinomial one for an infinite concentration.

    ln n! - sum ln x_k! + ln G(c) - ln G(c + n) + sum [ln G(c p_k + x_k) - ln G(c p_k)].
    """
    from scipy.special import betaln, gammaln

    n = votes.sum(1)
    ways = gammaln(n + 1) - gammaln(votes + 1).sum(1)
    exact = np.isinf(concentration)
    c = np.where(exact, 1.0, concentration)
    alpha = c[:, None] * predicted
    impossible = ((predicted <= 0) & (votes > 0)).any(1)
    used = (votes > 0) & (predicted > 0)
    multinomial = np.where(used, votes * np.log(np.where(used, predicted, 1.0)), 0.0).sum(1)
    # ln G(a + x) - ln G(a) as ln G(x) - ln B(a, x): no digits are lost for large a.
    rise = np.where(
        used, gammaln(np.where(used, votes, 1.0)) - betaln(np.where(used, alpha, 1.0), np.where(used, votes, 1.0)), 0.0
    )
    voted = n > 0
    denominator = np.where(voted, gammaln(np.where(voted, n, 1.0)) - betaln(c, np.where(voted, n, 1.0)), 0.0)
    compound = rise.sum(1) - denominator
    return np.where(impossible, -np.inf, ways + np.where(exact, multinomial, compound))


def _pit_limits(share: Array, concentration: Array, hits: Array, n: Array) -> tuple[Array, Array]:
    """F(x - 1) and F(x) of each row's count of votes for its top label."""
    low, high = np.empty(len(share)), np.empty(len(share))
    step = max(_CHUNK_NUMBERS // (int(n.max()) + 1), 1)
    for start in range(0, len(share), step):
        part = slice(start, start + step)
        possible = np.arange(int(n[part].max()) + 1, dtype=np.float64)
        rows = len(share[part])
        hit = np.broadcast_to(possible, (rows, len(possible)))
        missed = n[part, None] - hit
        inside = missed >= 0
        pair = np.stack([np.where(inside, hit, 0.0), np.where(inside, missed, 0.0)], axis=2).reshape(-1, 2)
        shares = np.repeat(np.stack([share[part], 1.0 - share[part]], axis=1), len(possible), axis=0)
        strengths = np.repeat(concentration[part], len(possible))
        mass = np.exp(log_probability(shares, strengths, pair)).reshape(rows, -1) * inside
        below = np.minimum(np.cumsum(mass, axis=1) / mass.sum(1, keepdims=True), 1.0)
        at = hits[part].astype(np.int64)
        high[part] = below[np.arange(rows), at]
        low[part] = np.where(at > 0, below[np.arange(rows), np.maximum(at - 1, 0)], 0.0)
    return low, high


def _overlap(low: Array, high: Array, start: float, stop: float) -> Array:
    """The share of each [low, high] within [start, stop]."""
    width = high - low
    inside = np.clip(np.minimum(high, stop) - np.maximum(low, start), 0.0, None)
    point = ((low >= start) & ((low < stop) | (stop >= 1.0))).astype(np.float64)
    share: Array = np.where(width > 1e-15, inside / np.maximum(width, 1e-15), point)
    return share


def _curve(confidence: Array, share: Array, bins: int) -> Reliability:
    place = equal_mass_bins(confidence, bins)
    many = np.bincount(place, minlength=bins)
    full = many > 0
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins)[full] / many[full]
    mean_share = np.bincount(place, weights=share, minlength=bins)[full] / many[full]
    return Reliability(tuple(mean_confidence.tolist()), tuple(mean_share.tolist()), tuple(many[full].tolist()))


def _matched(predicted: ArrayLike, votes: ArrayLike, *, whole: bool = False) -> tuple[Array, Array]:
    q = np.atleast_2d(distributions(predicted, "predicted"))
    table = np.atleast_2d(counts(votes, "votes", at_least=1e-9))
    same_rows(predicted=q, votes=table)
    if whole and (table != np.round(table)).any():
        raise InputError("the counts are not whole votes", where="votes", fix="Give counts of votes, unweighted.")
    return q, table
