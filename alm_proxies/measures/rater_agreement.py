"""Each rater beside the others of the same utterances: who agrees with them less than they do among themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, counts
from alm_proxies.measures.bootstrap import mean_by_speaker, speaker_codes

FEWEST_ITEMS = 30
MOST_SHOWN = 30


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """One rater: how often a vote of theirs agrees with another rater's vote of the same utterance.

    others: how often two votes of those others agree with each other; difference: agreement less others, on the
    utterances with two others or more. stands_out: the difference is below zero beyond what trying every rater explains
    (one-sided t-test over speakers, Bonferroni over the raters compared).
    """

    rater: int
    items: int
    agreement: Interval
    others: Interval
    difference: Interval
    stands_out: bool


@dataclass(frozen=True, slots=True)
class RatersApart:
    """The raters of lowest difference, as many as are shown; how many were compared, and how many could not be."""

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
    """Every rater against the others, from one row a vote: numbers of utterance and rater, and its mass over labels.

    Two votes v and w agree with chance v . w. A rater's several votes of one utterance count as their mean. `speakers`
    names one for each utterance number. Raters with fewer than `fewest` utterances that two others judged are left out.
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
    order = sorted(compared.tolist(), key=lambda one: (mean[one] * np.sqrt(items[one]) / spread[one], one))
    named = None if speakers is None else np.asarray(speakers)
    made = []
    for one in order[:most]:
        rows = np.flatnonzero(who == one)
        names = None if named is None else named[u[rows]]

        three = [mean_by_speaker(values[rows], names, level=level, seed=seed) for values in (agree, among, gap)]
        apart = _p_below(gap[rows], names) * len(compared) < 1.0 - level
        made.append(RaterAgreement(one, len(rows), three[0], three[1], three[2], apart))
    made.sort(key=lambda one: (one.difference.estimate, one.rater))
    return RatersApart(tuple(made), len(compared), everyone - len(compared))


def _p_below(gap: Array, speakers: NDArray[np.str_] | None) -> float:
    """One-sided p-value that the mean is not below zero: t of S - 1, the variance that of sums over the S speakers."""
    from scipy.special import stdtr

    codes, count = speaker_codes(speakers, len(gap))
    if count < 2:
        return 1.0
    sums = np.bincount(codes, gap - gap.mean(), count)
    error = float(np.sqrt(count / (count - 1) * np.square(sums).sum())) / len(gap)
    if error < 1e-12:
        return 0.0 if gap.mean() < 0 else 1.0
    return float(stdtr(count - 1, gap.mean() / error))


def reliability_of_votes(alpha: float, votes: float) -> float:
    """The share of the variance of the mean of k votes that is the utterance's own, k a / (1 + (k - 1) a).

    Spearman and Brown (1910) from Krippendorff's alpha, which for labels is the same share of a single vote: the rest
    is the luck of who voted. Also the squared correlation of the shares with those of endless votes.
    """
    return votes * alpha / (1.0 + (votes - 1.0) * alpha)


def votes_for_reliability(alpha: float, reliability: float) -> float:
    """How many votes make shares of such a reliability: r (1 - a) / (a (1 - r)); infinite without agreement."""
    return reliability * (1.0 - alpha) / (alpha * (1.0 - reliability)) if alpha > 0 else float("inf")


def _means(
    unit: NDArray[np.int64], rater: NDArray[np.int64], vote: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """One row for every utterance and rater, its votes averaged."""
    raters = int(rater.max(initial=0)) + 1
    keys, place = np.unique(unit * raters + rater, return_inverse=True)
    many = np.bincount(place, minlength=len(keys)).astype(np.float64)
    mean = np.stack([np.bincount(place, column, len(keys)) for column in vote.T], axis=1) / many[:, None]
    return keys // raters, keys % raters, mean
