"""Scores of strength, ambiguity and less likely labels, which a mean log loss does not show.

Counts are held-out votes, utterances x labels; predicted are distributions, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import gammaln

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array
from alm_proxies.measures.bootstrap import interval_by_speaker, ratio
from alm_proxies.measures.ranges import DIFFERENCE, SHARE
from alm_proxies.seeds import generator

_SMALLEST = 1e-6
_FEWEST = 20
_FEWEST_CEILING = 200
_DEALS = 5


def dirichlet_multinomial(counts: Array, predicted: Array, concentration: Array) -> Array:
    """-ln of the Dirichlet-multinomial likelihood of each row's votes, in nats per vote; NaN without concentration.

    ln G(a0) - ln G(a0 + n) + sum_k ln G(a_k + n_k) - ln G(a_k) with a = concentration * p, for the votes in a given
    order; p is kept above 1e-6.
    """
    shares = np.maximum(predicted, _SMALLEST)
    alpha = concentration[:, None] * shares / shares.sum(1, keepdims=True)
    total, votes = alpha.sum(1), counts.sum(1)
    with np.errstate(invalid="ignore"):
        log = gammaln(total) - gammaln(total + votes) + (gammaln(alpha + counts) - gammaln(alpha)).sum(1)
        loss: Array = np.where((votes > 0) & np.isfinite(concentration), -log / votes, np.nan)
    return loss


def dirichlet_prior(counts: Array) -> Array:
    """S pi: pi are the shares of all votes, S the strength of highest Dirichlet-multinomial likelihood on a grid."""
    shares = (counts.sum(0) + 0.5) / (counts.sum() + 0.5 * counts.shape[1])
    alike, strengths = np.tile(shares, (len(counts), 1)), np.geomspace(0.5, 200.0, 25)
    votes = counts.sum(1)
    loss = [dirichlet_multinomial(counts, alike, np.full(len(counts), strength)) @ votes for strength in strengths]
    prior: Array = strengths[int(np.argmin(loss))] * shares
    return prior


def pair_disagreement(counts: Array, squares: Array | None = None) -> Array:
    """The share of pairs of votes that differ, an unbiased estimate of 1 - sum p^2; NaN with fewer than two votes.

    1 - (sum_k c_k^2 - sum_v |v|^2) / (n (n - 1)): two votes v and w agree by v . w. `squares` is sum_v |v|^2; without
    it every vote is for one label, and the sum is n.
    """
    total = counts.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        same = (np.square(counts).sum(1) - (total if squares is None else squares)) / (total * (total - 1))
        disagreement: Array = np.where(total >= 2 - 1e-9, 1.0 - same, np.nan)
    return disagreement


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """Predicted disagreement, 1 - sum p^2, against the disagreement of held-out votes: correlation and calibration."""

    correlation: Interval
    """Pearson's correlation with its interval over speakers."""
    rank_correlation: Interval
    """Spearman's."""
    ceiling: float
    """The correlation of the truth itself with the same number of votes; NaN if it cannot be estimated."""
    rank_ceiling: float
    """The same for the rank correlation, from votes drawn from likely truths; NaN if it cannot be estimated."""
    slope: Interval
    """The slope of observed on predicted disagreement: 1 is calibrated, below 1 the predictions vary too much."""
    bias: Interval
    """Mean of predicted minus observed: above 0 the predictions are too ambiguous."""
    utterances: int


def ambiguity(
    counts: Array, predicted: Array, speakers: NDArray[np.str_] | None, *, squares: Array | None = None, seed: int = 0
) -> Ambiguity | None:
    """Whether ambiguity is recovered, over utterances with two held-out votes or more; None if there are too few.

    `squares` are those of `pair_disagreement`, for votes that are shared among labels.
    """
    observed = pair_disagreement(counts, squares)
    known = np.isfinite(observed)
    if known.sum() < _FEWEST:
        return None
    mine = 1.0 - np.square(predicted[known]).sum(1)
    theirs = observed[known]
    who = None if speakers is None else speakers[known]
    ranks = np.stack([_ranks(mine), _ranks(theirs)], axis=1)
    ranks /= len(ranks)
    ones = np.ones(len(mine))
    return Ambiguity(
        interval_by_speaker(_moments(mine, theirs), who, _correlation, seed=seed).within(*DIFFERENCE),
        interval_by_speaker(_moments(*ranks.T), who, _correlation, seed=seed).within(*DIFFERENCE),
        _ceiling(counts[known], theirs),
        _rank_ceiling(counts[known], theirs, seed),
        interval_by_speaker(_moments(mine, theirs), who, _slope, seed=seed),
        interval_by_speaker(np.stack([mine - theirs, ones], axis=1), who, ratio, seed=seed).within(*DIFFERENCE),
        int(known.sum()),
    )


def _moments(x: Array, y: Array) -> Array:
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _centred(sums: Array) -> tuple[Array, Array, Array]:
    w = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    x, y, xx, yy, xy = (sums[:, column] / w for column in range(1, 6))
    return xy - x * y, xx - x * x, yy - y * y


def _correlation(sums: Array) -> Array:
    both, first, second = _centred(sums)
    product = first * second
    correlation: Array = both / np.sqrt(np.where(product > 1e-15, product, np.nan))
    return correlation


def _slope(sums: Array) -> Array:
    both, first, _ = _centred(sums)
    slope: Array = both / np.where(first > 1e-12, first, np.nan)
    return slope


def _ceiling(counts: Array, seen: Array) -> float:
    """sqrt(variance of the true disagreement / variance of the observed one); the former is estimated on utterances
    with 4 votes or more.

    For n votes, sum p^2 squared is estimated without bias by the share of pairs of disjoint pairs that both agree:
    [sum_(a != b) n_a (n_a - 1) n_b (n_b - 1) + sum_a n_a (n_a - 1) (n_a - 2) (n_a - 3)] / n (n - 1) (n - 2) (n - 3).
    """
    total = counts.sum(1)
    enough = (total >= 4 - 1e-9) & (np.abs(counts - np.round(counts)).max(1, initial=0.0) < 1e-9)
    if enough.sum() < _FEWEST_CEILING:
        return float("nan")
    votes, n = counts[enough], total[enough]
    pairs = votes * (votes - 1)
    both = pairs.sum(1) ** 2 - (pairs**2).sum(1) + (pairs * (votes - 2) * (votes - 3)).sum(1)
    square = both / (n * (n - 1) * (n - 2) * (n - 3))
    same = pairs.sum(1) / (n * (n - 1))
    observed = float(seen.var())
    true = float(square.mean()) - float(same.mean()) ** 2
    return float(np.sqrt(min(max(true, 0.0) / observed, 1.0))) if observed > 0 else float("nan")


def _rank_ceiling(counts: Array, observed: Array, seed: int) -> float:
    """The ceiling of Pearson's correlation times the ratio of both correlations in votes drawn from likely truths.

    A likely truth of an utterance is drawn from Dirichlet(n + S pi), and its number of votes from that truth; ranks and
    values of true and drawn disagreement are then correlated. Mean over five draws.
    """
    ceiling = _ceiling(counts, observed)
    total = counts.sum(1)
    if not np.isfinite(ceiling):
        return float("nan")
    prior = dirichlet_prior(counts)
    random = generator(seed, "likely truths")
    values, ranks = [], []
    for _ in range(_DEALS):
        truth = random.standard_gamma(counts + prior) + 1e-12
        truth /= truth.sum(1, keepdims=True)
        seen = pair_disagreement(random.multinomial(np.round(total).astype(np.int64), truth).astype(np.float64))
        true = 1.0 - np.square(truth).sum(1)
        if seen.std() > 0:
            values.append(float(np.corrcoef(true, seen)[0, 1]))
            ranks.append(float(np.corrcoef(_ranks(true), _ranks(seen))[0, 1]))
    plain, ranked = (float(np.mean(column)) if column else 0.0 for column in (values, ranks))
    return float(min(1.0, ceiling * ranked / plain)) if plain > 0.0 else float("nan")


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values with their mean rank."""
    return pl.Series(values).rank("average").to_numpy()


def halves(counts: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each row's whole votes split at random into two halves that differ in size by one at most."""
    given = np.round(counts).astype(np.int64)
    total = given.sum(1)
    sizes = total // 2 + (total % 2) * rng.integers(0, 2, len(total))
    # Multivariate hypergeometric, label by label.
    first = np.zeros_like(given)
    left, wanted = total.copy(), sizes.copy()
    for label in range(given.shape[1]):
        good = given[:, label]
        drawn = rng.hypergeometric(good, left - good, np.minimum(wanted, left)) if len(given) else good
        first[:, label] = drawn
        left, wanted = left - good, wanted - drawn
    return first.astype(np.float64), (given - first).astype(np.float64)


def recall_over_votes(counts: Array, predicted: Array, speakers: NDArray[np.str_] | None, *, seed: int = 0) -> Interval:
    """Of the votes for each label, the share on utterances whose most likely label it is, averaged over labels."""
    labels = counts.shape[1]
    top = np.eye(labels)[predicted.argmax(1)]
    columns = np.concatenate([counts * top, counts], axis=1)

    def statistic(sums: Array) -> Array:
        right, all_votes = sums[:, :labels], sums[:, labels:]
        occurs = all_votes > 0
        each = np.where(occurs, right / np.where(occurs, all_votes, 1.0), 0.0)
        return ratio(np.stack([each.sum(1), occurs.sum(1).astype(np.float64)], axis=1))

    return interval_by_speaker(columns, speakers, statistic, seed=seed).within(*SHARE)


def minor_recall(counts: Array, predicted: Array, speakers: NDArray[np.str_] | None, *, seed: int = 0) -> Interval:
    """Of the labels voted for besides the most voted one, the share among the m likeliest, m labels having votes."""
    named = counts > 1e-9
    order = np.argsort(np.argsort(-predicted, axis=1, kind="stable"), axis=1, kind="stable")
    inside = order < named.sum(1, keepdims=True)
    minor = named & (counts < counts.max(1, keepdims=True) - 1e-9)
    columns = np.stack([(minor & inside).sum(1), minor.sum(1)], axis=1).astype(np.float64)
    return interval_by_speaker(columns, speakers, ratio, seed=seed).within(*SHARE)


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The share of votes that the most likely label does not get, over the most confident part of the utterances."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float
    """Mean risk over all coverages: lower is better."""


def risk_coverage(counts: Array, predicted: Array, *, points: int = 20) -> RiskCoverage:
    """The risk-coverage curve: the least confident utterances are rejected first."""
    sure = predicted.max(1)
    order = np.argsort(-sure, kind="stable")
    top = predicted.argmax(1)
    missed = 1.0 - counts[np.arange(len(counts)), top] / counts.sum(1)
    # Utterances of equal confidence are tied: each counts as their mean.
    _, alike = np.unique(sure, return_inverse=True)
    missed = (np.bincount(alike, missed) / np.bincount(alike))[alike]
    running = np.cumsum(missed[order]) / np.arange(1, len(order) + 1)
    at = np.unique(np.ceil(np.linspace(1, points, points) / points * len(order)).astype(np.int64))
    return RiskCoverage(
        tuple((at / len(order)).tolist()), tuple(running[at - 1].tolist()), float(running.mean()) if len(order) else 0.0
    )


def confusion_of_shares(counts: Array, predicted: Array) -> Array:
    """Confusion matrix of shares: row by row, the mean prediction for a label's votes; utterances are weighted by its
    share.
    """
    share = counts / counts.sum(1, keepdims=True)
    mass = share.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        confusion: Array = np.where(mass[:, None] > 0, share.T @ predicted / mass[:, None], np.nan)
    return confusion
