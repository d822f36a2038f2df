"""The default: several methods stacked in two levels by held-out votes; proxies count only if they help."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import polars as pl

from alm_proxies.estimators.counts import COLUMNS, Array, Counts, counts_of, unique_rows
from alm_proxies.estimators.dirichlet import Human, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, Posterior, has_pairs, learned_part
from alm_proxies.estimators.known_raters import KnownRaters
from alm_proxies.estimators.leaks import leaking, leaks_found
from alm_proxies.estimators.pooling import averaged, rescaled
from alm_proxies.estimators.screening import Names
from alm_proxies.estimators.stack_methods import RATERS, WITH, WITHOUT, Method
from alm_proxies.estimators.stack_trial import Learned, Level, Trial, seen_of, table_of
from alm_proxies.estimators.trials import gap_words, groups_in
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Utterances, Votes

TUNE_ROWS = 3_000
"""With more utterances than this, the stack is learned on a seeded sample of them."""
FEWEST = 20
"""The lowest number of utterances with human votes for a stack."""
_SMALLEST = 0.05
"""Methods of lower weight are left out."""


class Stack(Estimator):
    """Stacking of predictive distributions (Yao et al. 2018) in two levels, then one Dirichlet per utterance.

    p = v sum_m w_m p_m(with proxies) + (1 - v) sum_m u_m p_m(without),   S = n + s (S' - n)

    Every utterance's votes are split, n given and the rest held out, n = 0 .. k - 1; p_m of a cut comes from a fit to
    other speakers. w and u maximise the log score of the held-out votes, shrunk to equal weights (a method's sizes are
    averaged first). Every utterance counts as many votes as it has over its cuts, and weights are used unchanged at k.
    v is shrunk to 0, but less where few utterances have two votes: beside no vote the level without proxies is the
    corpus shares alone. v is 0 unless a paired one-sided t-test over speakers shows that proxies help. S' is the
    strength of the mixture; s scales its excess over the n votes, by maximum Dirichlet-multinomial likelihood of cuts
    with two held-out votes or more. Single votes have no information about a strength: where no utterance has two, s
    is 1 and S' expects the average squared error of the methods, whose strengths are assumed (`averaged`); where few
    have, it is learned in part, as the methods' strengths are (`learned_part`). Utterances without any proxy use the
    level without proxies. If raters are known by name, `raters` is added to the methods of a level if the same test
    shows that it helps there. Proxies that depend on the human votes (`leaking`) do not count.
    """

    name: ClassVar[str] = "auto"
    takes: ClassVar[tuple[str, ...]] = ("folds", "seed", "quiet")

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        quiet: bool = False,
        methods: Sequence[Method] = WITH,
        without: Sequence[Method] = WITHOUT,
    ) -> None:
        self.folds = folds
        self.seed = seed
        self.quiet = quiet
        self.methods = tuple(methods)
        self.without = tuple(without)

    def fit(self, votes: Votes | Counts, speakers: Mapping[str, str] | None = None) -> Self:
        """Learn from human votes and proxies; folds are speaker-disjoint if speakers are given."""
        if speakers is not None and isinstance(votes, Votes):
            table = pl.DataFrame({"utterance_id": list(speakers), "speaker": list(speakers.values())})
            votes = counts_of(votes, utterances=Utterances.of(table))
        return super().fit(votes)

    def _learn(self, counts: Counts) -> None:
        self.leaks_ = leaking(counts)
        names = tuple(name for name in counts.steering if name not in self.leaks_)
        voted = np.flatnonzero(counts.human.any(1)).astype(np.int64)
        methods, without = self.methods, self.without
        if len(voted) < FEWEST:
            methods, without = (Method("weighted", (lambda _: Weighted(),)),), (Method("human", (lambda _: Human(),)),)
            self.learned_ = _unproven(names, *(learned_part(counts.rows(voted), beside=side) for side in (False, True)))
        else:
            sample = voted
            if len(voted) > TUNE_ROWS:
                sample = np.sort(generator(self.seed, "tune rows").choice(voted, TUNE_ROWS, replace=False))
            known = counts.rows(sample).raters
            if known is not None and known.telling and has_pairs(counts.rows(voted)):
                methods, without = (*methods, RATERS), (*without, RATERS)
            else:
                counts = replace(counts, raters=None)
            trial = Trial(counts.rows(sample), names, folds=self.folds, seed=self.seed)
            self.learned_ = trial.run(methods, without, quiet=self.quiet)
        beside = self.learned_.beside
        self.share_ = beside.share if beside is not None else 0.0
        self.learned_part_ = beside.learned if beside is not None and self.share_ else self.learned_.alone.learned
        self.proxies_ = self.learned_.proxies if self.share_ else ()
        self.blocks_ = tuple(name for name in self.proxies_ if name != COLUMNS)
        self.trials_ = self.learned_.trials
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            self.members_ = []
            if beside is not None and self.share_:
                self.members_ = _fitted(methods, beside, counts.only(self.proxies_), self.seed)
            self.members_without_ = _fitted(without, self.learned_.alone, counts.only(()), self.seed)
        every = [member for _, member in (*self.members_, *self.members_without_)]
        self.converged_ = all(getattr(member, "converged_", True) for member in every)
        self.iterations_ = max(getattr(member, "iterations_", 0) for member in every)
        self.findings_ = (*self._findings(names, counts.human[voted]), *_other_folds(counts))

    def posterior(self, counts: Counts) -> Posterior:
        """The Dirichlet of the pooled mean and the scaled strength."""
        means, strengths = self._alone(counts)
        weights = np.array([weight for weight, _ in self.members_without_])
        mean, strength = averaged(means, strengths, weights, self.learned_.alone.learned)
        votes = counts.human.sum(1)
        strength = rescaled(strength, votes, self.learned_.alone.scale)
        seen = np.flatnonzero(seen_of(counts, self.proxies_)).astype(np.int64)
        if self.learned_.beside is not None and len(seen):
            part = counts.rows(seen) if len(seen) < len(counts) else counts
            beside = [member.posterior(member.aligned(part)) for _, member in self.members_]
            level = np.array([self.share_ * weight for weight, _ in self.members_])
            pooled, matched = averaged(
                np.concatenate([np.stack([posterior.mean for posterior in beside]), means[:, seen]]),
                np.concatenate([np.stack([posterior.concentration for posterior in beside]), strengths[:, seen]]),
                np.concatenate([level, (1.0 - self.share_) * weights]),
                self.learned_.beside.learned,
            )
            mean[seen], strength[seen] = pooled, rescaled(matched, votes[seen], self.learned_.beside.scale)
        return Posterior(mean, strength)

    def _alone(self, counts: Counts) -> tuple[Array, Array]:
        """Means and strengths of the members without proxies, computed once for equal human votes."""
        distinct, which = unique_rows(counts.human)
        rows = np.arange(len(distinct), dtype=np.int64)
        part = counts.only(()).rows(rows).with_human(distinct)
        means, strengths = [], []
        for _, member in self.members_without_:
            named = isinstance(member, KnownRaters) and counts.raters is not None
            posterior = member.posterior(member.aligned(counts.only(()) if named else part))
            means.append(posterior.mean if named else posterior.mean[which])
            strengths.append(posterior.concentration if named else posterior.concentration[which])
        return np.stack(means), np.stack(strengths)

    def words(self) -> str:
        """The stack in a few words: the share of each level, and the weights of its methods in the whole stack."""
        parts = []
        for level, where in (
            (self.learned_.beside, f"with {', '.join(self.proxies_)}"),
            (self.learned_.alone, "without proxies"),
        ):
            if level is not None and level.share > 0:
                weights = _kept(level.weights)
                shown = ", ".join(f"{name} {level.share * weight:.2f}" for name, weight in weights.items())
                parts.append(f"{100 * level.share:.0f} % {where} ({shown})")
        return " + ".join(parts)

    def _findings(self, names: Names, human: Array) -> list[Finding]:
        learned = self.learned_
        leaks = leaks_found(self.leaks_, "so they do not count")
        if len(human) < FEWEST:
            message = (
                f"only {counted(len(human), 'utterance has', 'utterances have')} human votes: too few to stack, so "
                f"this is used: {self.words()}"
            )
            return [Finding.of("too_few_to_choose", message, fix="Give more utterances human votes."), *leaks]
        context = int(learned.trials["context"][0])
        best = learned.beside if learned.beside is not None and self.share_ else learned.alone
        message = (
            f"the stack is {self.words()}: {best.loss:.4f} nats per held-out vote, {context} of the others given; "
            f"{learned.fits} fits, folds by {learned.by}"
        )
        findings = [Finding.of("chosen", message)]
        if learned.raters is not None:
            gap = gap_words(learned.raters, learned.by)
            verdict = "count" if learned.raters_count else "do not count"
            message = f"raters by name {verdict}: with a weight for each rater {gap} against equal weights"
            findings.append(Finding.of("known_raters", message))
        if learned.test is not None and not self.share_:
            test = learned.test
            why = (
                "too little"
                if test.high < 0
                else f"no significant gain in a one-sided test over {groups_in(learned.by)}"
            )
            message = f"the proxies are switched off: with them {gap_words(test, learned.by)}, {why}"
            findings.append(Finding.of("proxies", message))
        if learned.gains:
            each = ((gain.context, gap_words(gain.interval, learned.by, "")) for gain in learned.gains)
            shown = "; ".join(f"{given} given {words}" for given, words in each)
            message = (
                f"the proxies count: nats per held-out human vote, by the number of votes given: {shown}; "
                "with all votes of an utterance given the gain is usually smaller, which only `evaluate` can show"
            )
            findings.append(Finding.of("proxies", message))
            dropped = [name for name in names if name not in self.proxies_]
            if dropped:
                message = f"proxies that add nothing to the others and do not count: {', '.join(dropped)}"
                findings.append(Finding.of("proxies_dropped", message, count=len(dropped)))
        return [*findings, *leaks]


def _unproven(names: Names, without: float, learned: float) -> Learned:
    """The method for too few utterances: `weighted`, which counts proxies by its weak prior, or `human`."""
    alone = Level({"human": 1.0}, 0.0 if names else 1.0, 1.0, float("nan"), without)
    beside = Level({"weighted": 1.0}, 1.0, 1.0, float("nan"), learned) if names else None
    return Learned(alone, beside, None, (), names, table_of([]), "", 0)


def _other_folds(counts: Counts) -> list[Finding]:
    """A finding if a proxy was trained in folds that the fit could not use."""
    if counts.folds is None or counts.folds.fold is not None:
        return []
    if counts.folds.parted:
        message = "was trained in folds that share speakers, so the fit made its own, of speakers"
        fix = "Train it again with the speakers of all utterances known."
        return [Finding.of("folds_share_speakers", message, fix, where=counts.folds.annotator)]
    message = "was trained in folds that are not known for most of these utterances, so the fit made its own"
    fix = "Give the utterances file with the speakers that it was trained on."
    return [Finding.of("folds_unknown", message, fix, where=counts.folds.annotator)]


def _kept(weights: Mapping[str, float]) -> dict[str, float]:
    least = min(_SMALLEST, max(weights.values()))  # with very many methods each may have a low weight
    kept = {name: weight for name, weight in weights.items() if weight >= least}
    total = sum(kept.values())
    return {name: weight / total for name, weight in kept.items()}


def _fitted(methods: Sequence[Method], level: Level, counts: Counts, seed: int) -> list[tuple[float, Estimator]]:
    """Members fitted to all votes, with their weights."""
    weights = _kept(level.weights)
    return [
        (weights[method.name] / len(method.makers), make(seed).fit(counts))
        for method in methods
        if method.name in weights
        for make in method.makers
    ]
