"""Cross-validation of a stack: weights, the test of the proxies and their share, and the scale of the strength."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from alm_proxies.ballots import summed
from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import COLUMNS, Array, Counts
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, learned_part
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.pooling import averaged, mixed, share_of_second, stacking_weights, strength_scale
from alm_proxies.estimators.screening import Names, Rows, Screening
from alm_proxies.estimators.stack_methods import Maker, Method
from alm_proxies.estimators.trials import Losses, folds_of, paired, printed, units_of
from alm_proxies.interval import Interval
from alm_proxies.progress import Progress

PULL = 15.0
"""Strength, in votes, of the shrinkage to equal weights, in the level with proxies."""
PULL_WITHOUT = 4.0
"""The same in the level without."""
DOUBT = 2.0
"""Strength, in votes, of the shrinkage to `without proxies`, where enough utterances have two votes or more."""
_LEAST_SHARE = 0.005
"""A smaller share of the level with proxies is none."""
LEVEL = 0.05
"""The level of the one-sided test: the probability that worthless proxies pass."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The log loss per held-out vote with proxies minus without, for a number of given votes."""

    context: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Level:
    """One level: its methods' weights, and its loss in folds not used for them."""

    weights: dict[str, float]
    share: float
    """The level's share of the stack."""
    scale: float
    """The scale of the strength beyond the given votes, for labels of this level."""
    loss: float
    """Log loss per held-out vote with all others given, in outer folds."""
    learned: float
    """How much of the strength is learned; the rest is assumed."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The learned state of a stack, except its members."""

    alone: Level
    beside: Level | None
    """The level with proxies; None where there are none."""
    test: Interval | None
    """The loss with proxies minus without, over all contexts; it decides whether proxies count."""
    gains: tuple[Gain, ...]
    """The gain by the number of votes given, in outer folds."""
    proxies: Names
    """The proxies that remain after screening."""
    trials: pl.DataFrame
    by: str
    """The unit of the folds, such as speakers."""
    fits: int
    raters: Interval | None = None
    """The loss with the method of raters by name minus without it; None if there is none."""
    raters_count: bool = False


@dataclass(frozen=True, slots=True)
class _Side:
    """One level's predictions of every cut by fits that never saw its utterance's speaker."""

    methods: tuple[Method, ...]
    means: Array
    """Methods x cuts x labels."""
    strengths: Array
    weights: Array
    outer: Array
    """Cuts x labels, pooled by weights learned without the cut's own fold."""
    raters: Interval | None = None
    """The loss with the methods of raters by name minus without them."""
    raters_count: bool = False


class Trial:
    """The predictions of every fold, and the state learned from them."""

    def __init__(self, counts: Counts, names: Names, *, folds: int, seed: int) -> None:
        counts, self.by = units_of(counts)
        self.counts, self.names, self.seed = counts, names, seed
        self.without, self.beside = (learned_part(counts, beside=side) for side in (False, True))
        self.fold = folds_of(counts, folds, seed)
        self.cuts = contexts_of(counts, seed)
        self.targets = self.cuts.targets
        self.cut_fold = self.fold[self.cuts.rows]
        self.seen = seen_of(counts, names)[self.cuts.rows]
        self.folds = int(self.fold.max()) + 1
        # beside no vote at all, the level without proxies is the corpus shares: no reason to keep a part of it at k = 1
        self.doubt = DOUBT * self.beside
        self.fits = 0
        self.screening = Screening(self._screened, counts.speakers)

    def run(self, methods: Sequence[Method], without: Sequence[Method], *, quiet: bool = False) -> Learned:
        """Predict every cut by every method, then learn the weights."""
        every = np.ones(len(self.cuts), dtype=np.bool_)
        with Progress("stacking", quiet=quiet) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            alone = self._side(without, [()] * self.folds, every, PULL_WITHOUT, progress)
            some, kept = None, self.names
            if self.seen.any():
                # each fold's proxies, like its weights, are chosen on the other folds
                by_fold = [self.screening.kept(self.names, self.fold != fold) for fold in range(self.folds)]
                kept = self.screening.kept(self.names, np.ones(len(self.counts), dtype=np.bool_))
                some = self._side(methods, by_fold, self.seen, PULL, progress)
        scale = self._scale(alone.means, alone.strengths, alone.weights, every, self.without)
        if some is None:
            level = Level(_named(alone), 1.0, scale, self._losses(alone.outer, self.cuts.last).mean, self.without)
            table = self._table(alone, None, 0.0)
            return Learned(
                level, None, None, (), (), table, self.by, self.fits, alone.raters, alone.raters_count
            )  # fmt: skip
        seen = self.seen
        test = self._paired(some.outer, alone.outer, seen)
        share = 0.0
        if _helps(test, len(np.unique(self.counts.speakers[self.cuts.rows[seen]]))):
            first, second = (np.tensordot(side.weights, side.means[:, seen], 1) for side in (alone, some))
            share = share_of_second(first, second, self.targets[seen], self.doubt)
            share = share if share >= _LEAST_SHARE else 0.0
        means, strengths = np.concatenate([some.means, alone.means]), np.concatenate([some.strengths, alone.strengths])
        weights = np.concatenate([share * some.weights, (1.0 - share) * alone.weights])
        outer = self._together(alone, some) if share else alone.outer
        last = self.cuts.last
        return Learned(
            Level(_named(alone), 1.0 - share, scale, self._losses(alone.outer, last & seen).mean, self.without),
            Level(
                _named(some),
                share,
                self._scale(means, strengths, weights, seen, self.beside),
                self._losses(outer, last & seen).mean,
                self.beside,
            ),
            test,
            self._gains(outer, alone.outer) if share else (),
            kept,
            self._table(alone, some, share),
            self.by,
            self.fits,
            (some if share else alone).raters,
            (some if share else alone).raters_count,
        )

    def _side(
        self, methods: Sequence[Method], by_fold: Sequence[Names], rows: Rows, pull: float, progress: Progress
    ) -> _Side:
        """Predictions of every method for every cut, and its weights learned on the cuts of `rows`."""
        parts = []
        for method in methods:
            each = [self._predictions(make, by_fold) for make in method.makers]
            means, strengths = np.stack([mean for mean, _ in each]), np.stack([strength for _, strength in each])
            parts.append(mixed(means, strengths, np.full(len(each), 1.0 / len(each))))  # sizes are averaged
            progress.advance(note=method.name)
        means, strengths = np.stack([mean for mean, _ in parts]), np.stack([strength for _, strength in parts])
        crowd = np.flatnonzero([not method.by_rater for method in methods])
        side = self._pooled(tuple(methods), means, strengths, rows, pull)
        if not 0 < len(crowd) < len(methods):
            return side
        # raters by name count only if held-out votes show a gain, so a crowd without rater effects loses nothing
        others = tuple(methods[member] for member in crowd.tolist())
        plain = self._pooled(others, means[crowd], strengths[crowd], rows, pull)
        test = self._paired(side.outer, plain.outer, rows)
        counts = _helps(test, len(np.unique(self.counts.speakers[self.cuts.rows[rows]])))
        return replace(side if counts else plain, raters=test, raters_count=counts)

    def _pooled(self, methods: tuple[Method, ...], means: Array, strengths: Array, rows: Rows, pull: float) -> _Side:
        """The methods with their weights; the weights for a fold are learned without it."""
        weights = stacking_weights(means[:, rows], self.targets[rows], pull)
        outer = np.zeros(means.shape[1:])
        for fold in range(self.folds):
            others, own = rows & (self.cut_fold != fold), self.cut_fold == fold
            outer[own] = np.tensordot(stacking_weights(means[:, others], self.targets[others], pull), means[:, own], 1)
        return _Side(methods, means, strengths, weights, outer)

    def _predictions(self, make: Maker, by_fold: Sequence[Names]) -> tuple[Array, Array]:
        """Mean and strength of every cut by fits to the other folds, each with its fold's proxies."""
        means = np.zeros((len(self.cuts), len(self.counts.labels)))
        strengths = np.ones(len(self.cuts))
        for fold, names in enumerate(by_fold):
            counts = self.counts.only(names)
            train, own = np.flatnonzero(self.fold != fold), np.flatnonzero(self.cut_fold == fold)
            estimator = make(self.seed).fit(counts.rows(train.astype(np.int64)))
            given_by = None
            if self.cuts.raters is not None:
                given_by = self.cuts.raters.of(own.astype(np.int64), len(self.cuts))
            beside = replace(counts, raters=None).rows(self.cuts.rows[own])
            beside = beside.with_human(self.cuts.given[own], given_by)
            predicted = estimator.posterior(estimator.aligned(beside))
            means[own], strengths[own] = predicted.mean, predicted.concentration
            self.fits += 1
        return means, strengths

    def _screened(self, names: Names) -> Losses:
        """Losses of the cuts by one cheap method with these proxies."""
        mean, _ = self._predictions(_cheap, [names] * self.folds)
        return self._losses(mean, self.seen)

    def _together(self, alone: _Side, some: _Side) -> Array:
        """Both levels pooled by a share learned without the cut's own fold."""
        pooled = alone.outer.copy()
        for fold in range(self.folds):
            others, own = self.seen & (self.cut_fold != fold), self.seen & (self.cut_fold == fold)
            share = share_of_second(alone.outer[others], some.outer[others], self.targets[others], self.doubt)
            pooled[own] = share * some.outer[own] + (1.0 - share) * alone.outer[own]
        return pooled

    def _scale(self, means: Array, strengths: Array, weights: Array, rows: Rows, learned: float) -> float:
        mean, strength = averaged(means[:, rows], strengths[:, rows], weights, learned)
        cuts = self.cuts
        return strength_scale(mean, strength, cuts.given[rows].sum(1), cuts.whole[rows], cuts.share[rows])

    def _gains(self, first: Array, second: Array) -> tuple[Gain, ...]:
        sizes = self.cuts.sizes
        return tuple(
            Gain(size, self._paired(first, second, self.seen & (sizes == size)))
            for size in np.unique(sizes[self.seen]).tolist()
        )

    def _losses(self, mean: Array, rows: Rows) -> Losses:
        """Log loss of the held-out votes for each utterance."""
        targets = self.targets[rows]
        each = -(targets * np.log(np.maximum(mean[rows], 1e-300))).sum(1)
        where, n = self.cuts.rows[rows], len(self.counts)
        return Losses(summed(where, each, n), summed(where, targets.sum(1), n))

    def _paired(self, first: Array, second: Array, rows: Rows) -> Interval:
        return paired(self._losses(first, rows), self._losses(second, rows), self.counts.speakers)

    def _table(self, alone: _Side, some: _Side | None, share: float) -> pl.DataFrame:
        """The loss of every method of both levels, and of the levels, with all votes but one given; weights of the full
        stack.
        """
        rows: list[tuple[object, ...]] = []
        for side, level in ((alone, 1.0 - share), (some, share)):
            if side is None:
                continue
            names = list(self.names) if side is some else []
            last = self.cuts.last & (self.seen if some is not None else True)
            context = int(np.median(self.cuts.sizes[last])) if last.any() else 0
            shown = [
                *zip((m.name for m in side.methods), side.means, side.weights, strict=True),
                ("stack", side.outer, 1.0),
            ]
            for name, mean, weight in shown:
                gap = printed(self._paired(mean, alone.outer, last))
                loss = self._losses(mean, last).mean
                rows.append((name, names, context, loss, gap.estimate, gap.low, gap.high, float(weight) * level))
        if some is not None and len(self.names) > 1:
            rows += self._each_proxy()
        return table_of(rows)

    def _each_proxy(self) -> list[tuple[object, ...]]:
        """Rows of the cheap method with all proxies but one: the gain of each proxy, over all contexts."""
        every = np.ones(len(self.counts), dtype=np.bool_)
        rows: list[tuple[object, ...]] = []
        for proxy in self.names:
            fewer = [name for name in self.names if name != proxy]
            gap = printed(self.screening.adds(self.names, proxy, every))
            loss = self.screening.losses(tuple(fewer)).mean
            rows.append((f"loglinear less {proxy}", fewer, None, loss, -gap.estimate, -gap.high, -gap.low, 0.0))
        return rows


def _cheap(seed: int) -> Estimator:
    return Loglinear(seed=seed, tolerance=1e-5)


def table_of(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    """The table of trials."""
    schema = {"method": pl.String(), "proxies": pl.List(pl.String()), "context": pl.Int64()}
    numbers = dict.fromkeys(("nll", "against_no_proxies", "low", "high", "weight"), pl.Float64())
    return pl.DataFrame(list(rows), schema={**schema, **numbers}, orient="row")


def seen_of(counts: Counts, names: Sequence[str]) -> Rows:
    """Which utterances have a vote of one of these proxies, or a known column where COLUMNS is among them."""
    seen = np.zeros(len(counts), dtype=np.bool_)
    for block in counts.blocks:
        if block.name in names:
            seen |= block.votes > 0
    if COLUMNS in names:
        seen |= np.isfinite(counts.columns).any(1)
    return seen


def _helps(gap: Interval, speakers: int) -> bool:
    """Whether the loss is lower by a one-sided paired t-test over speakers."""
    from scipy.special import stdtrit

    if speakers < 2 or not np.isfinite(gap.error):
        return False
    error = gap.error / float(stdtrit(speakers - 1, 0.975))
    return bool(gap.estimate + float(stdtrit(speakers - 1, 1.0 - LEVEL)) * error < 0)


def _named(side: _Side) -> dict[str, float]:
    return {method.name: float(weight) for method, weight in zip(side.methods, side.weights, strict=True)}
