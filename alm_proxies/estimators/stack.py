"""The default: several methods stacked, in two levels, by votes left out; proxies count only where they show it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import COLUMNS, Array, Counts, counts_of, unique_rows
from alm_proxies.estimators.dirichlet import Dirichlet, Human, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, Posterior, has_pairs
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.leaks import leaking
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.merge import summed
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.pooling import mixed, share_of_second, stacking_weights, strength_scale
from alm_proxies.estimators.trials import Interval, Losses, folds_of, paired
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances, Votes

TUNE_ROWS = 4_000
"""More utterances than these are stacked on a seeded sample of them."""
MEMBER_ROWS = 20_000
"""More utterances than these are fitted on a seeded sample of them."""
PULL = 15.0
"""Votes by which weights are drawn to equal over methods."""
DOUBT = 5.0
"""Votes by which the weight between the two levels is drawn to `without proxies`."""
LEVEL = 0.10
"""The chance that worthless proxies pass the one-sided test."""
FEWEST = 20
"""Utterances with human votes below which nothing is stacked."""
_SMALLEST = 0.02
_TOLERANCE = 1e-6
Maker = Callable[[int], Estimator]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the stack: its sizes and penalties are averaged, so that it counts once however many there are."""

    name: str
    makers: tuple[Maker, ...]
    """Each is given the seed."""


def _gated(classes: int, penalty: float) -> Maker:
    return lambda seed: Gated(classes, penalty, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE)


WITHOUT = (
    Method("dirichlet", (lambda _: Dirichlet(),)),
    Method("gated", (_gated(8, 0.01), _gated(16, 0.01))),
)
"""Methods of human votes alone."""
WITH = (
    Method("weighted", (lambda _: Weighted(),)),
    Method("loglinear", (lambda seed: Loglinear(seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
    Method("gated", (_gated(8, 0.003), _gated(16, 0.01))),
    Method("mixture", (lambda seed: Mixture(16, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
)
"""Methods of human votes and proxies."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The log loss a left-out vote with proxies less that without, beside a number of given votes."""

    context: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Side:
    """One level's fold-by-fold predictions, and the weights of its methods."""

    methods: tuple[Method, ...]
    means: Array
    """Methods x cuts x labels, each cut by a fit that never saw its utterance's speaker."""
    strengths: Array
    weights: Array
    """Of each method, by all folds."""
    outer: Array
    """Cuts x labels, pooled by weights that the cut's own fold had no part in."""


class Stack(Estimator):
    """Stacking of predictive distributions (Yao et al. 2018) in two levels, then one Dirichlet an utterance.

    p = v sum_m w_m p_m(with proxies) + (1 - v) sum_m u_m p_m(without),   S = s * strength of that mixture

    p_m of a cut (n votes given, the others left out; n = 0 .. k - 1) comes from a fit to other speakers. w and u
    maximise the log score of the votes left out, drawn to equal over methods; every utterance counts the same over its
    cuts, and weights learned over all n are used at k as they are: methods differ in how they read proxies, much less
    in how they weigh votes. v is drawn to 0, and is 0 unless a paired one-sided t-test over speakers says that proxies
    help. s maximises the Dirichlet-multinomial likelihood of cuts that leave out two votes or more. Utterances without
    any proxy are given the level without proxies. Gains are scored in folds that had no part in any weight.
    """

    name: ClassVar[str] = "auto"

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        quiet: bool = True,
        methods: Sequence[Method] = WITH,
        methods_without: Sequence[Method] = WITHOUT,
    ) -> None:
        self.folds = folds
        self.seed = seed
        self.quiet = quiet
        self.methods = tuple(methods)
        self.methods_without = tuple(methods_without)

    def fit(self, votes: Votes | Counts, speakers: Mapping[str, str] | None = None) -> Self:
        """Learn from human votes and proxies; folds keep speakers (utterance id -> name) whole, where given."""
        if speakers is not None and isinstance(votes, Votes):
            table = pl.DataFrame({"utterance_id": list(speakers), "speaker": list(speakers.values())})
            votes = counts_of(votes, utterances=Utterances.of(table))
        return super().fit(votes)

    def _learn(self, counts: Counts) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            self._stack(counts)
        self.blocks_ = tuple(name for name in self.proxies_ if name != COLUMNS)

    def _stack(self, counts: Counts) -> None:
        self.leaks_ = leaking(counts)
        names = tuple(name for name in counts.steering if name not in self.leaks_)
        voted = np.flatnonzero(counts.human.any(1)).astype(np.int64)
        self.assumed_ = not has_pairs(counts.rows(voted))
        self.gains_: tuple[Gain, ...] = ()
        self.test_: Interval | None = None
        self.share_, self.scale_, self.scale_without_ = 0.0, 1.0, 1.0
        self.proxies_ = names
        self.utterances_, self.fits_ = len(voted), 0
        self.too_few_ = len(voted) < FEWEST
        if self.too_few_:
            self.by_ = "no folds"
            self.weights_ = {"weighted": 1.0} if names else {}
            self.weights_without_ = {"human": 1.0}
            self.share_ = 1.0 if names else 0.0
            self.trials_ = _table([])
            with_ = (Method("weighted", (lambda _: Weighted(),)),)
            self._final(counts, with_, (Method("human", (lambda _: Human(),)),))
            return
        sample = voted
        if len(voted) > TUNE_ROWS:
            sample = np.sort(generator(self.seed, "tune rows").choice(voted, TUNE_ROWS, replace=False))
        trial = _Trial(counts.rows(sample), names, self)
        trial.run()
        self._final(counts, self.methods, self.methods_without)

    def _final(self, counts: Counts, methods: Sequence[Method], without: Sequence[Method]) -> None:
        if not self.share_:
            self.proxies_ = ()
        self.members_ = _fitted(methods, self.weights_, counts.only(self.proxies_), self.seed) if self.share_ else []
        self.members_without_ = _fitted(without, self.weights_without_, counts.only(()), self.seed)
        every = [member for _, member in (*self.members_, *self.members_without_)]
        self.converged_ = all(getattr(member, "converged_", True) for member in every)
        self.iterations_ = max(getattr(member, "iterations_", 0) for member in every)

    def posterior(self, counts: Counts) -> Posterior:
        """The Dirichlet of the pooled mean and the scaled strength."""
        means, strengths = self._alone(counts)
        weights = np.array([weight for weight, _ in self.members_without_])
        mean, strength = mixed(means, strengths, weights)
        strength = self.scale_without_ * strength
        seen = np.flatnonzero(seen_of(counts, self.proxies_)).astype(np.int64)
        if self.share_ and len(seen):
            part = counts.rows(seen) if len(seen) < len(counts) else counts
            beside = [member.posterior(member.aligned(part)) for _, member in self.members_]
            both = np.concatenate([np.stack([one.mean for one in beside]), means[:, seen]])
            concentrations = np.concatenate([np.stack([one.concentration for one in beside]), strengths[:, seen]])
            level = [self.share_ * weight for weight, _ in self.members_]
            made = mixed(both, concentrations, np.array([*level, *((1 - self.share_) * weights)]))
            mean[seen], strength[seen] = made[0], self.scale_ * made[1]
        return Posterior(mean, strength)

    def _alone(self, counts: Counts) -> tuple[Array, Array]:
        """Means and strengths of the members without proxies: made once for equal human votes."""
        distinct, which = unique_rows(counts.human)
        rows = np.arange(len(distinct), dtype=np.int64)
        part = counts.only(()).rows(rows).with_human(distinct)
        made = [member.posterior(member.aligned(part)) for _, member in self.members_without_]
        return np.stack([one.mean[which] for one in made]), np.stack([one.concentration[which] for one in made])

    def words(self) -> str:
        """The stack in a few words."""
        parts = []
        for share, weights, where in (
            (self.share_, self.weights_, f"with {', '.join(self.proxies_)}"),
            (1.0 - self.share_, self.weights_without_, "without proxies"),
        ):
            if share > 0:
                shown = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items() if weight >= _SMALLEST)
                parts.append(f"{share:.2f} {where} ({shown})")
        return " + ".join(parts)


class _Trial:
    """The predictions fold by fold, and all that is learned from them."""

    def __init__(self, counts: Counts, names: tuple[str, ...], stack: Stack) -> None:
        stack.by_ = "speakers" if counts.speakers_known else "utterances (speakers are not known)"
        if len(counts) > 1 and (counts.speakers == counts.speakers[0]).all():
            stack.by_ = "utterances (all are of one speaker)"
            counts = replace(counts, speakers=np.arange(len(counts), dtype=np.int64))
        self.counts, self.names, self.stack = counts, names, stack
        self.fold = folds_of(counts, stack.folds, stack.seed)
        self.cuts = contexts_of(counts, stack.seed)
        self.targets = self.cuts.targets
        self.cut_fold = self.fold[self.cuts.rows]
        self.seen = seen_of(counts, names)[self.cuts.rows]

    def run(self) -> None:
        stack = self.stack
        with Progress("stacking", quiet=stack.quiet) as self.progress:
            every = np.ones(len(self.cuts), dtype=bool)
            alone = self.side(stack.methods_without, (), every)
            stack.weights_without_ = _named(alone)
            if not stack.assumed_:
                stack.scale_without_ = self.scale(alone.means, alone.strengths, alone.weights, every)
            rows = self.rows_of(alone, every, (), None)
            if self.names and self.seen.any():
                rows += self.with_proxies(alone)
            else:
                stack.weights_ = {}
            stack.trials_ = _table(rows)

    def with_proxies(self, alone: Side) -> list[tuple[object, ...]]:
        """The level with proxies, whether it counts, and by how much."""
        stack, seen = self.stack, self.seen
        some = self.side(stack.methods, self.names, seen)
        stack.weights_ = _named(some)
        stack.test_ = self.paired(some.outer, alone.outer, seen)
        if _helps(stack.test_, len(np.unique(self.counts.speakers[self.cuts.rows[seen]]))):
            pooled = [np.tensordot(side.weights, side.means, 1)[seen] for side in (alone, some)]
            stack.share_ = share_of_second(pooled[0], pooled[1], self.targets[seen], DOUBT)
            both = [np.concatenate([a, b]) for a, b in ((some.means, alone.means), (some.strengths, alone.strengths))]
            weights = np.concatenate([stack.share_ * some.weights, (1 - stack.share_) * alone.weights])
            if not stack.assumed_:
                stack.scale_ = self.scale(both[0], both[1], weights, seen)
        outer = self.together(alone, some)
        sizes = self.cuts.sizes
        stack.gains_ = tuple(
            Gain(size, self.paired(outer, alone.outer, seen & (sizes == size)))
            for size in np.unique(sizes[seen]).tolist()
        )
        return self.rows_of(some, seen, self.names, alone)

    def together(self, alone: Side, some: Side) -> Array:
        """Both levels pooled, by a weight that the cut's own fold had no part in."""
        made = alone.outer.copy()
        for one in range(int(self.fold.max()) + 1):
            others, own = self.seen & (self.cut_fold != one), self.seen & (self.cut_fold == one)
            if others.any() and own.any():
                share = share_of_second(alone.outer[others], some.outer[others], self.targets[others], DOUBT)
                made[own] = share * some.outer[own] + (1 - share) * alone.outer[own]
        return made

    def side(self, methods: Sequence[Method], names: tuple[str, ...], rows: NDArray[np.bool_]) -> Side:
        """Predictions of every method for every cut, and its weights by the cuts of `rows`."""
        made = [self.predictions(method, self.counts.only(names)) for method in methods]
        means, strengths = np.stack([mean for mean, _ in made]), np.stack([strength for _, strength in made])
        weights = stacking_weights(means[:, rows], self.targets[rows], PULL)
        outer = np.zeros(means.shape[1:])
        for one in range(int(self.fold.max()) + 1):
            others, own = rows & (self.cut_fold != one), self.cut_fold == one
            inner = stacking_weights(means[:, others], self.targets[others], PULL) if others.any() else weights
            outer[own] = np.tensordot(inner, means[:, own], 1)
        return Side(tuple(methods), means, strengths, weights, outer)

    def predictions(self, method: Method, counts: Counts) -> tuple[Array, Array]:
        """Mean and strength of every cut by fits to the other folds; sizes averaged."""
        means = np.zeros((len(method.makers), len(self.cuts), len(counts.labels)))
        strengths = np.zeros(means.shape[:2])
        for number, maker in enumerate(method.makers):
            for one in range(int(self.fold.max()) + 1):
                train, test = np.flatnonzero(self.fold != one), np.flatnonzero(self.cut_fold == one)
                estimator = maker(self.stack.seed).fit(counts.rows(train.astype(np.int64)))
                beside = counts.rows(self.cuts.rows[test]).with_human(self.cuts.given[test])
                made = estimator.posterior(estimator.aligned(beside))
                means[number, test], strengths[number, test] = made.mean, made.concentration
                self.stack.fits_ += 1
            self.progress.advance(note=method.name)
        return mixed(means, strengths, np.full(len(means), 1.0 / len(means)))

    def scale(self, means: Array, strengths: Array, weights: Array, rows: NDArray[np.bool_]) -> float:
        mean, strength = mixed(means[:, rows], strengths[:, rows], weights)
        return strength_scale(mean, strength, self.cuts.left[rows], self.cuts.share[rows])

    def losses(self, mean: Array, rows: NDArray[np.bool_]) -> Losses:
        """Log loss of the votes left out, for each utterance."""
        targets = self.targets[rows]
        each = -(targets * np.log(np.maximum(mean[rows], 1e-300))).sum(1)
        where, n = self.cuts.rows[rows], len(self.counts)
        return Losses(summed(where, each, n), summed(where, targets.sum(1), n))

    def paired(self, first: Array, second: Array, rows: NDArray[np.bool_]) -> Interval:
        return paired(self.losses(first, rows), self.losses(second, rows), self.counts.speakers)

    def rows_of(
        self, side: Side, rows: NDArray[np.bool_], names: tuple[str, ...], alone: Side | None
    ) -> list[tuple[object, ...]]:
        """Rows of the trials: every method, and the level; each scored with all votes given but one."""
        last = rows & self.cuts.last
        context = int(np.median(self.cuts.sizes[last])) if last.any() else 0
        made: list[tuple[object, ...]] = []
        shown = [
            (method.name, mean, float(w))
            for method, mean, w in zip(side.methods, side.means, side.weights, strict=True)
        ]
        for name, mean, weight in (*shown, ("stack", side.outer, 1.0)):
            gap = self.paired(mean, alone.outer, last) if alone is not None else Interval(0.0, 0.0, 0.0)
            level = self.stack.share_ if alone is not None else 1.0 - self.stack.share_
            made.append(
                (name, list(names), context, self.losses(mean, last).mean, gap.mean, gap.low, gap.high, weight * level)
            )
        return made


def _table(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    schema = {"method": pl.String(), "proxies": pl.List(pl.String()), "context": pl.Int64()}
    numbers = dict.fromkeys(("nll", "against_no_proxies", "low", "high", "weight"), pl.Float64())
    return pl.DataFrame(list(rows), schema={**schema, **numbers}, orient="row")


def seen_of(counts: Counts, names: Sequence[str]) -> NDArray[np.bool_]:
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
    return bool(gap.mean + float(stdtrit(speakers - 1, 1.0 - LEVEL)) * error < 0)


def _named(side: Side) -> dict[str, float]:
    return {method.name: float(weight) for method, weight in zip(side.methods, side.weights, strict=True)}


def _fitted(
    methods: Sequence[Method], weights: Mapping[str, float], counts: Counts, seed: int
) -> list[tuple[float, Estimator]]:
    """Members fitted to all votes, with their weights; a method of hardly any weight is left out."""
    total = sum(weights[method.name] for method in methods if weights[method.name] >= _SMALLEST)
    return [
        (weights[method.name] / total / len(method.makers), maker(seed).fit(counts))
        for method in methods
        if weights[method.name] >= _SMALLEST
        for maker in method.makers
    ]
