"""Model selection by held-out (cross-validated) human votes: one method, its classes and penalty, and its proxies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl

from alm_proxies.estimators.counts import COLUMNS, Counts
from alm_proxies.estimators.dirichlet import Dirichlet, Human, Weighted
from alm_proxies.estimators.estimator import Estimator, Posterior
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.leaks import leaking, leaks_found
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.trials import Losses, cross_validate, folds_of, gap_words, paired, printed, units_of
from alm_proxies.interval import Interval
from alm_proxies.printable import counted
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding

TUNE_ROWS = 4_000
"""With more utterances than this, a seeded sample of them is used for the choice."""
PENALTIES = (0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
"""Penalties from strong to weak, tried while the loss falls."""
CLASSES = (4, 8, 16, 32)
FIRST_CLASSES = 16
_TOO_FEW = 20
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate: a method with its classes, penalty and proxies."""

    method: str
    classes: int | None = None
    penalty: float | None = None
    proxies: tuple[str, ...] = ()

    def make(self, seed: int, start: Gated | None = None, tolerance: float = 1e-7) -> Estimator:
        """The estimator, not yet fitted."""
        if self.method == "gated":
            return Gated(
                self.classes or FIRST_CLASSES, self.penalty or PENALTIES[0], seed=seed, start=start, tolerance=tolerance
            )
        if self.method == "mixture":
            return Mixture(self.classes or FIRST_CLASSES, seed=seed)
        plain: dict[str, type[Dirichlet] | type[Weighted]] = {
            "dirichlet": Dirichlet,
            "weighted": Weighted,
            "human": Human,
        }
        return plain[self.method]()

    def words(self) -> str:
        """The candidate in a few words."""
        size = f" of {self.classes} classes" if self.classes is not None else ""
        size += f", penalty {self.penalty:g}" if self.penalty is not None and self.proxies else ""
        return f"{self.method}{size} with {', '.join(self.proxies) if self.proxies else 'no proxies'}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen estimator, fitted to all votes; every trial; and findings."""

    candidate: Candidate
    estimator: Estimator
    trials: pl.DataFrame
    findings: tuple[Finding, ...]
    leaks: Mapping[str, str]
    """Proxies that depend on the human votes, and how that shows: they do not count."""


class Chosen(Estimator):
    """The single method with the lowest log loss on held-out votes: see `choose`. A stack predicts better."""

    name: ClassVar[str] = "chosen"
    takes: ClassVar[tuple[str, ...]] = ("folds", "seed", "quiet")

    def __init__(self, *, folds: int = 5, seed: int = 0, quiet: bool = False) -> None:
        self.folds = folds
        self.seed = seed
        self.quiet = quiet

    def _learn(self, counts: Counts) -> None:
        choice = choose(counts, folds=self.folds, seed=self.seed, quiet=self.quiet)
        self.candidate_, self.trials_, self.findings_ = choice.candidate, choice.trials, choice.findings
        self.estimator_, self.leaks_ = choice.estimator, choice.leaks
        self.converged_ = getattr(choice.estimator, "converged_", True)
        self.iterations_ = getattr(choice.estimator, "iterations_", 0)
        self.learned_part_ = choice.estimator.learned_part_
        self.blocks_ = tuple(name for name in choice.candidate.proxies if name != COLUMNS)

    def posterior(self, counts: Counts) -> Posterior:
        """The posterior of the chosen method."""
        return self.estimator_.posterior(self.estimator_.aligned(counts))


def choose(counts: Counts, *, folds: int = 5, seed: int = 0, quiet: bool = False) -> Choice:
    """The estimator that predicts held-out human votes best; proxies count only if they lower the loss significantly.

    Cross-validation: every human vote of every utterance is held out once and predicted from the utterance's other
    votes and proxies by a fit to other speakers (other utterances where speakers are unknown). Candidates with proxies
    must beat the best one without by more than one standard error of the paired difference over speakers, widened for
    few of them as a t-interval is; else no proxies are used. If all utterances are of one speaker, folds and pairs are
    by utterance. With fewer than 20 utterances with human votes no test is possible: `weighted` then counts proxies by
    its weak prior. Proxies that depend on the human votes (see `leaks`) would predict held-out ones for the wrong
    reason: they do not count. With k votes per utterance this tunes for k - 1, where proxies help a little more than
    beside all k; the tuned parameters are likelihoods and pseudo-counts, which do not depend on the number of other
    votes.
    """
    voted = np.flatnonzero(counts.human.any(1))
    leaks = leaking(counts)
    names = tuple(name for name in counts.steering if name not in leaks)
    if len(voted) < _TOO_FEW:
        candidate = Candidate("weighted" if names else "human", proxies=names)
        message = (
            f"only {counted(len(voted), 'utterance has', 'utterances have')} human votes: too few for a choice, so "
            f"{candidate.words()} is used"
        )
        finding = Finding.of("too_few_to_choose", message, fix="Give more utterances human votes.")
        return Choice(candidate, _final(candidate, counts, seed), _table([], {}, {}, None), (finding,), leaks)
    sample = voted
    if len(voted) > TUNE_ROWS:
        sample = np.sort(generator(seed, "tune rows").choice(voted, TUNE_ROWS, replace=False))
    search = _Search(counts.rows(sample.astype(np.int64)), folds, seed, quiet)
    off, on = search.run(names)
    best, gain = off, None
    if on is not None:
        gain = paired(search.losses[on], search.losses[off], search.groups)
        if gain.estimate + gain.error / 1.96 < 0:
            best = on
    findings = [*_findings(search, names, off, on, best, gain), *leaks_found(leaks, "so they do not count")]
    trials = _table(search.order, search.losses, search.gains(off), best)
    return Choice(best, _final(best, counts, seed), trials, tuple(findings), leaks)


class _Search:
    def __init__(self, counts: Counts, folds: int, seed: int, quiet: bool) -> None:
        counts, self.by = units_of(counts)
        self.counts = counts
        self.seed = seed
        self.quiet = quiet
        self.fold = folds_of(counts, folds, seed)
        self.groups = counts.speakers
        self.losses: dict[Candidate, Losses] = {}
        self.order: list[Candidate] = []
        self.fits: dict[Candidate, list[Estimator]] = {}

    def run(self, names: tuple[str, ...]) -> tuple[Candidate, Candidate | None]:
        """The best candidate without proxies and the best with some."""
        with Progress("choosing", quiet=self.quiet) as progress:
            self.progress = progress
            none = self.classes(Candidate("gated", FIRST_CLASSES, PENALTIES[0]))
            off = self.best([Candidate("human"), Candidate("dirichlet"), none])
            if not names:
                return off, None
            gated = self.classes(self.fewer(self.penalties(Candidate("gated", FIRST_CLASSES, PENALTIES[0], names))))
            mixed = self.classes(Candidate("mixture", FIRST_CLASSES, proxies=gated.proxies))
            plain = [Candidate("weighted", proxies=names), Candidate("dirichlet", proxies=names)]
            return off, self.best([gated, mixed, *plain])

    def penalties(self, first: Candidate) -> Candidate:
        """Weaker and weaker penalties while the loss falls; each fold starts from its fit with the stronger penalty."""
        best = first
        self.score(first)
        for penalty in PENALTIES[1:]:
            weaker = replace(first, penalty=penalty)
            if self.score(weaker, best).mean > self.score(best).mean:
                break
            best = weaker
        return best

    def classes(self, first: Candidate) -> Candidate:
        """More classes while the loss falls, or else fewer."""
        middle = CLASSES.index(FIRST_CLASSES)
        best = first
        for onward in (CLASSES[middle + 1 :], CLASSES[:middle][::-1]):
            for count in onward:
                other = replace(first, classes=count)
                if self.score(other).mean >= self.score(best).mean:
                    break
                best = other
            if best != first:
                break
        return best

    def fewer(self, best: Candidate) -> Candidate:
        """Drop one block of proxies after another while held-out votes are predicted no worse."""
        while len(best.proxies) > 1:
            tries = [replace(best, proxies=tuple(n for n in best.proxies if n != name)) for name in best.proxies]
            better = self.best([*tries, best])
            if better == best:
                break
            best = better
        return best

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """The candidate with the lowest loss; the first of equals."""
        return min(candidates, key=lambda candidate: self.score(candidate).mean)

    def score(self, candidate: Candidate, before: Candidate | None = None) -> Losses:
        """Cross-validated losses, computed once."""
        if candidate in self.losses:
            return self.losses[candidate]
        starts: list[Estimator | None] = list(self.fits[before]) if before is not None else [None] * 99
        losses, fits = cross_validate(self._maker(candidate, starts), self.counts.only(candidate.proxies), self.fold)
        self.losses[candidate], self.fits[candidate] = losses, fits
        self.order.append(candidate)
        self.progress.advance(note=candidate.words())
        return losses

    def _maker(self, candidate: Candidate, starts: list[Estimator | None]) -> Callable[[int], Estimator]:
        def make(fold: int) -> Estimator:
            start = starts[fold] if fold < len(starts) else None
            return candidate.make(self.seed, start if isinstance(start, Gated) else None, _TOLERANCE)

        return make

    def gains(self, off: Candidate) -> dict[Candidate, Interval]:
        """Every candidate's loss less that of the best without proxies."""
        return {c: paired(losses, self.losses[off], self.groups) for c, losses in self.losses.items()}


def _final(candidate: Candidate, counts: Counts, seed: int) -> Estimator:
    return candidate.make(seed).fit(counts.only(candidate.proxies))


def _findings(
    search: _Search,
    names: tuple[str, ...],
    off: Candidate,
    on: Candidate | None,
    best: Candidate,
    gain: Interval | None,
) -> list[Finding]:
    votes = search.counts.human.sum(1)
    k = float(np.median(votes))
    fits = len(search.order) * (int(search.fold.max()) + 1)
    message = (
        f"{best.words()} predicts held-out human votes best: {search.losses[best].mean:.4f} nats a vote; "
        f"{fits} fits to {counted(len(votes), 'utterance')}, folds by {search.by}; "
        f"one of {k:g} votes held out, so chosen for {max(k - 1, 0):g} votes beside the proxies"
    )
    findings = [Finding.of("chosen", message)]
    if on is not None and gain is not None:
        verdict = "the proxies count" if best == on else "the proxies are switched off"
        message = f"{verdict}: with them {gap_words(gain, search.by)} against {off.words()}"
        findings.append(Finding.of("proxies", message))
        dropped = [name for name in names if name not in on.proxies]
        if best == on and dropped:
            message = f"proxies that did not help and do not count: {', '.join(dropped)}"
            findings.append(Finding.of("proxies_dropped", message, count=len(dropped)))
    return findings


def _table(
    order: Sequence[Candidate],
    losses: dict[Candidate, Losses],
    gains: dict[Candidate, Interval],
    best: Candidate | None,
) -> pl.DataFrame:
    rows = []
    for c in order:
        gain = printed(gains[c])
        shown = (c.method, c.classes, c.penalty, list(c.proxies), losses[c].mean, gain.estimate, gain.low, gain.high)
        rows.append((*shown, c == best))
    schema = {"method": pl.String(), "classes": pl.Int64(), "penalty": pl.Float64(), "proxies": pl.List(pl.String())}
    numbers = dict.fromkeys(("nll", "against_no_proxies", "low", "high"), pl.Float64())
    return pl.DataFrame(rows, schema={**schema, **numbers, "chosen": pl.Boolean()}, orient="row")
