"""The alternative annotator test: whether a proxy can replace one of the human raters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from alm_proxies.ballots import refuse_unknown_raters, which_count
from alm_proxies.errors import InputError
from alm_proxies.measures.arrays import Array, places
from alm_proxies.tables import Votes

EPSILON = {"crowd": 0.10, "skilled": 0.15, "expert": 0.20}
FEWEST_ITEMS = 30
FEWEST_RATERS = 3

Kind = Literal["crowd", "skilled", "expert"]


@dataclass(frozen=True, slots=True)
class RaterTest:
    """One rater's comparison: how often the proxy, and how often the rater, is at least as near to the other humans."""

    rater: str
    items: int
    proxy_advantage: float
    rater_advantage: float
    p_value: float
    won: bool


@dataclass(frozen=True, slots=True)
class AltTest:
    """The test of one proxy annotator; `passed` is None where fewer than three raters could be tested."""

    annotator: str
    epsilon: float
    raters: tuple[RaterTest, ...]
    raters_left_out: int
    items: int

    @property
    def win_rate(self) -> float:
        """The share of the raters against whom the proxy won; NaN if none could be tested."""
        return float(np.mean([rater.won for rater in self.raters])) if self.raters else float("nan")

    @property
    def advantage(self) -> float:
        """The mean over raters of the proxy's advantage, the measure by which proxies are compared."""
        return float(np.mean([rater.proxy_advantage for rater in self.raters])) if self.raters else float("nan")

    @property
    def passed(self) -> bool | None:
        """Whether the proxy won against half of the raters or more."""
        return self.win_rate >= 0.5 if len(self.raters) >= FEWEST_RATERS else None


def alt_test(votes: Votes, annotator: str, *, kind: Kind = "crowd", q: float = 0.05) -> AltTest:
    """The alternative annotator test of one proxy (Calderon, Reichart and Dror 2025, arXiv 2501.10970).

    For rater j and utterance i, S(l) is the share of the OTHER humans' votes for l. The proxy has the advantage
    where S(its vote) >= S(j's vote), the rater where S(j's vote) >= S(its vote); single proxy draws are scored one by
    one and averaged, and a draw shared between labels counts each by its share. With d the mean of the
    rater's advantage minus the proxy's, a one-sided t-test asks whether d < epsilon (crowd .1, skilled .15, expert .2);
    the proxy wins against the raters left after Benjamini-Yekutieli at q, and passes with half of them or more.
    Raters with fewer than 30 utterances that another human and the proxy also judged are left out and counted.
    Held-out votes, published consensus labels and votes whose status is not ok are not used.
    """
    human = votes.frame.filter(which_count("human"))
    proxy = votes.frame.filter(which_count("proxy") & (pl.col("annotator") == annotator))
    refuse_unknown_raters(human, "the alt-test")
    if proxy.height == 0:
        raise InputError(
            f"the proxy annotator {annotator!r} cast no usable vote", where="votes", fix="Check the annotator's name."
        )
    ids = proxy["utterance_id"].unique().sort()
    labels = {label: place for place, label in enumerate(votes.taxonomy)}
    human = human.filter(pl.col("utterance_id").is_in(ids.implode()))
    names = human["annotator"].unique().sort()
    cell = places(proxy["utterance_id"], ids) * len(labels) + _codes(proxy["label"], labels)
    mass = np.bincount(cell, proxy["weight"].to_numpy(), len(ids) * len(labels)).astype(np.float64)
    mass = mass.reshape(len(ids), len(labels))
    unit, rater = places(human["utterance_id"], ids), places(human["annotator"], names)
    label, weight = _codes(human["label"], labels), human["weight"].to_numpy()
    tested = alt_test_of(unit, rater, label, weight, mass, epsilon=EPSILON[kind], q=q)
    raters = tuple(
        RaterTest(names[place], items, mine, theirs, p, won) for place, items, mine, theirs, p, won in tested
    )
    return AltTest(annotator, EPSILON[kind], raters, len(names) - len(raters), len(np.unique(unit)))


def alt_test_of(
    unit: ArrayLike, rater: ArrayLike, label: ArrayLike, weight: ArrayLike, proxy: Array, *, epsilon: float, q: float
) -> list[tuple[int, int, float, float, float, bool]]:
    """The test from arrays: (rater, items, proxy's advantage, rater's advantage, p, won) of each rater with 30 items or
    more.

    One row per human vote: codes of its utterance, rater and label, and its weight; proxy: the weights of the proxy's
    votes, utterances x labels.
    """
    units, raters, labels = (np.asarray(column, dtype=np.int64) for column in (unit, rater, label))
    mass = np.asarray(weight, dtype=np.float64)
    kinds = proxy.shape[1]
    shares = proxy / np.maximum(proxy.sum(1, keepdims=True), 1e-300)
    counts = np.bincount(units * kinds + labels, weights=mass, minlength=shares.size).reshape(shares.shape)
    pair, pair_of = np.unique(units * (int(raters.max(initial=0)) + 1) + raters, return_inverse=True)
    own = np.bincount(pair_of * kinds + labels, weights=mass, minlength=len(pair) * kinds).reshape(len(pair), kinds)
    pair_unit, pair_rater = np.divmod(pair, int(raters.max(initial=0)) + 1)
    others = counts[pair_unit] - own
    usable = (others.sum(1) > 1e-9) & (shares[pair_unit].sum(1) > 0.5)
    own, others, pair_unit, pair_rater = own[usable], others[usable], pair_unit[usable], pair_rater[usable]
    own = own / own.sum(1, keepdims=True)
    drawn = shares[pair_unit]
    proxy_wins, rater_wins = np.zeros(len(own)), np.zeros(len(own))
    for answer in range(kinds):
        gap = others - others[:, answer : answer + 1]
        proxy_wins += own[:, answer] * (drawn * (gap >= -1e-9)).sum(1)
        rater_wins += own[:, answer] * (drawn * (gap <= 1e-9)).sum(1)
    columns = (np.ones(len(own)), proxy_wins, rater_wins)
    n, mine, theirs = (np.bincount(pair_rater, column).astype(np.float64) for column in columns)
    tested = np.flatnonzero(n >= FEWEST_ITEMS)
    mean = (theirs - mine) / np.maximum(n, 1.0)
    squares: Array = np.bincount(pair_rater, np.square(rater_wins - proxy_wins - mean[pair_rater])).astype(np.float64)
    p = _one_sided_p(mean[tested], squares[tested], n[tested], epsilon)
    won = benjamini_yekutieli(p, q)
    by_rater = (tested, n[tested].astype(np.int64), mine[tested] / n[tested], theirs[tested] / n[tested], p, won)
    return list(zip(*(column.tolist() for column in by_rater), strict=True))


def benjamini_yekutieli(p_values: ArrayLike, q: float = 0.05) -> NDArray[np.bool_]:
    """The Benjamini-Yekutieli test: which hypotheses are rejected at false discovery rate q under any dependence: p_(k)
    <= k q / (m (1 + 1/2 + ... + 1/m)).
    """
    p = np.asarray(p_values, dtype=np.float64)
    m = len(p)
    if m == 0:
        return np.zeros(0, dtype=np.bool_)
    order = np.argsort(p, kind="stable")
    limit = np.arange(1, m + 1) * q / (m * (1.0 / np.arange(1, m + 1)).sum())
    below = np.flatnonzero(p[order] <= limit)
    rejected = np.zeros(m, dtype=np.bool_)
    rejected[order[: below[-1] + 1 if len(below) else 0]] = True
    return rejected


def _one_sided_p(mean: Array, squares: Array, n: Array, epsilon: float) -> Array:
    """P-values of t-tests of mean < epsilon, from means, sums of squared deviations and numbers of items."""
    from scipy.special import stdtr

    error = np.sqrt(squares / (n - 1) / n)
    certain = error < 1e-12
    t = (mean - epsilon) / np.where(certain, 1.0, error)
    return np.where(certain, np.where(mean < epsilon, 0.0, 1.0), stdtr(n - 1, t))


def _codes(column: pl.Series, labels: dict[str, int]) -> NDArray[np.int64]:
    return column.replace_strict(labels, return_dtype=pl.Int64).to_numpy()
