"""Agreement of each rater with the others on the same utterances, compared with the agreement among the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, counts
from alm_proxies.measures.bootstrap import interval_of_sums, speaker_codes, sums_by_speaker
from alm_proxies.measures.ranges import DIFFERENCE, SHARE

FEWEST_ITEMS = 30
MOST_SHOWN = 30


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """One rater: the probability that a vote of theirs agrees with another rater's vote of the same utterance.

    others: the probability that two votes of the others agree; difference: agreement less others, on the utterances
    with two others or more. stands_out: whether the difference is significantly below zero (one-sided t-test over
    speakers, Bonferroni over the raters compared); None where the speakers are too few to judge.
    """

    rater: int
    items: int
    agreement: Interval
    others: Interval
    difference: Interval
    stands_out: bool | None


@dataclass(frozen=True, slots=True)
class RatersApart:
    """The raters with the lowest differences; the number of raters compared, and of those with too few utterances."""

    lowest: tuple[RaterAgreement, ...]
    compared: int
    left_out: int


def raters_apart(
    unit: ArrayLike,
    rater: ArrayLike,
    vote: ArrayLike,
    speakers: ArrayLike | None,
    *,
    fewest: int = FEWEST_ITEMS,
    most: int = MOST_SHOWN,
    level: float = 0.95,
    seed: int = 0,
) -> RatersApart:
    """Every rater against the others, from one row per vote: codes of utterance and rater, and its weights over labels.

    Two votes v and w agree with probability v . w. A rater's several votes of one utterance count as their mean.
    `speakers` has the speaker of each utterance. Raters with fewer than `fewest` utterances that two others judged are
    left out.
    """
    u, who, v = _means(np.asarray(unit, dtype=np.int64), np.asarray(rater, dtype=np.int64), counts(vote, "vote"))
    if not len(u):
        return RatersApart((), 0, 0)
    size = int(u.max()) + 1
    n = np.bincount(u, minlength=size).astype(np.float64)
    total = np.stack([np.bincount(u, column, size) for column in v.T], axis=1)
    squared = np.square(v).sum(1)
    squares = np.bincount(u, squared, size)
    m = n[u] - 1.0
    rest = total[u] - v
    usable = m >= 2
    agree = (v * rest).sum(1) / np.maximum(m, 1.0)
    among = (np.square(rest).sum(1) - (squares[u] - squared)) / np.maximum(m * (m - 1.0), 1.0)
    everyone = len(np.unique(who))
    u, who, agree, among = u[usable], who[usable], agree[usable], among[usable]
    items = np.bincount(who)
    compared = np.flatnonzero(items >= fewest)
    gap = agree - among
    mean = np.bincount(who, gap) / np.maximum(items, 1)
    spread = np.sqrt(np.maximum(np.bincount(who, gap**2) / np.maximum(items, 1) - mean**2, 1e-12))
    order = sorted(compared.tolist(), key=lambda code: (mean[code] * np.sqrt(items[code]) / spread[code], code))
    named = None if speakers is None else np.asarray(speakers)
    results = []
    for code in order[:most]:
        rows = np.flatnonzero(who == code)
        codes, count = speaker_codes(None if named is None else named[u[rows]], len(rows))
        ones = np.ones(len(rows))
        sums = [sums_by_speaker(np.stack([values[rows], ones], axis=1), codes, count) for values in (agree, among, gap)]
        ranges = (SHARE, SHARE, DIFFERENCE)
        three = [
            interval_of_sums(each, level=level, seed=seed).within(*ends)
            for each, ends in zip(sums, ranges, strict=True)
        ]
        apart = None
        if three[2].can_be_judged:
            apart = _p_below(gap[rows], codes, count) * len(compared) < 1.0 - level
        results.append(RaterAgreement(code, len(rows), three[0], three[1], three[2], apart))
    results.sort(key=lambda code: (code.difference.estimate, code.rater))
    return RatersApart(tuple(results), len(compared), everyone - len(compared))


def _p_below(gap: Array, codes: NDArray[np.int64], count: int) -> float:
    """One-sided p-value that the mean is not below zero: t of S - 1, the variance that of sums over the S speakers."""
    from scipy.special import stdtr

    if count < 2:
        return 1.0
    sums = np.bincount(codes, gap - gap.mean(), count)
    error = float(np.sqrt(count / (count - 1) * np.square(sums).sum())) / len(gap)
    if error < 1e-12:
        return 0.0 if gap.mean() < 0 else 1.0
    return float(stdtr(count - 1, gap.mean() / error))


def reliability_of_votes(alpha: float, votes: float) -> float:
    """The share of the variance of the mean of k votes that is the utterance's own, k a / (1 + (k - 1) a).

    It is the share of the variance between utterances in that of the mean; for a single vote it is Krippendorff's alpha
    a, and the rest is sampling of raters. It is also the squared correlation with the shares of infinitely many votes
    (Spearman 1910, Brown 1910).
    """
    return votes * alpha / (1.0 + (votes - 1.0) * alpha)


def reliability_interval(alpha: Interval, votes: int) -> Interval:
    """The reliability of k votes with its interval, which follows from that of alpha: it is monotonic in alpha.

    For two votes or more it is at least 0, as a share of variance is: the formula has a pole at a negative alpha.
    """
    least = 0.0 if votes > 1 else -1.0
    ends = [reliability_of_votes(max(end, least), votes) for end in (alpha.estimate, alpha.low, alpha.high)]
    return Interval(ends[0], ends[1], ends[2], alpha.method, alpha.speakers)


def votes_for_reliability(alpha: float, reliability: float) -> float:
    """The number of votes needed for a reliability r: r (1 - a) / (a (1 - r)); infinite without agreement."""
    return reliability * (1.0 - alpha) / (alpha * (1.0 - reliability)) if alpha > 0 else float("inf")


def _means(
    unit: NDArray[np.int64], rater: NDArray[np.int64], vote: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """One row per utterance and rater, with votes averaged."""
    raters = int(rater.max(initial=0)) + 1
    keys, place = np.unique(unit * raters + rater, return_inverse=True)
    many = np.bincount(place, minlength=len(keys)).astype(np.float64)
    mean = np.stack([np.bincount(place, column, len(keys)) for column in vote.T], axis=1) / many[:, None]
    return keys // raters, keys % raters, mean
