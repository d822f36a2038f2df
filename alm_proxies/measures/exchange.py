"""The exchange test for leakage: whether a proxy predicts the votes of the fit better than held-out ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from alm_proxies.ballots import Index, ballots_of
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.taken_off import LEAST
from alm_proxies.tables import Utterances, Votes

NEEDED = 50
"""The lowest number of utterances, with votes that the proxy rates differently, for a conclusion."""
LEVEL = 0.01
_EQUAL = 1e-9
"""Logarithms that differ by less differ by rounding only."""
_FINE = 0.05
"""Share of the variance of which utterances with the smallest steps must account for the sum to have steps as small."""
_SYMMETRIC = 1e-4
"""Skewness below which the distribution of the deals is a normal one."""
_SMOOTHING = 0.5
"""The votes by its own mean shares that are added to the whole votes of a proxy; none are added to distributions."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The difference of a proxy's log score per vote between the fit votes and the held-out votes of an utterance."""

    annotator: str
    gap: Interval
    """Nats per vote, over speakers; above 0 the proxy predicts the fit votes better."""
    p_value: float
    """One-sided: how often a gap is as large if the votes of every utterance are dealt again; NaN without any. That of
    one of several proxies is corrected for their number (Holm).
    """
    utterances: int
    differing: int
    """Of these, utterances with two votes or more that the proxy rates differently: the others have no gap."""

    @property
    def knows(self) -> bool:
        """Whether the test shows that the proxy depends on the fit votes."""
        return self.differing >= NEEDED and self.p_value < LEVEL

    def words(self, who: str = "it") -> str:
        """The result in a sentence about `who`."""
        ends = "" if np.isnan(self.gap.low) else f" ({self.gap.low:+.3f} to {self.gap.high:+.3f})"
        gap = f"{self.gap.estimate:+.3f}{ends} nats a vote"
        if self.utterances < NEEDED:
            return f"only {self.utterances} utterances have votes of both kinds: too few for a test"
        if self.differing < NEEDED:
            some = f"only {self.differing} of {self.utterances} utterances with votes of both kinds"
            return f"{some} have votes that {who} rates differently: too few for a test"
        if self.knows:
            chance = "below .0001" if self.p_value < 1e-4 else f"{self.p_value:.4f}".lstrip("0")
            better = f"{who} predicts the votes of the fit better than held-out votes of the same utterances: {gap}"
            return f"{better}; the probability of such a gap by chance is {chance}"
        return f"{who} predicts votes of the fit no better than held-out votes of the same utterances: {gap}"


def exchange(shares: Array, fit: Array, held: Array, speakers: Array | None, *, annotator: str = "") -> Exchange:
    """The test for one proxy, from its distributions and the counts of fit votes and held-out votes, row by row.

    The held-out votes of an utterance are chosen at random, so fit votes and held-out votes are exchangeable for any
    proxy that saw neither, however good: d_i = sum_j (f_ij / F_i - h_ij / H_i) log q_ij has mean 0. A proxy that was
    trained on the fit votes makes it positive. The p-value is that of dealing: with the votes of an utterance given,
    d_i has the variance s_i^2 (1 / F_i + 1 / H_i), s_i^2 that of log q over all its votes, and the deals are
    independent, whatever utterances of a speaker have in common. Their sum is taken for a gamma distribution of its own
    variance and skewness, which matters where F_i and H_i differ much, and half a step is taken off it: with 50
    utterances whose votes differ, the lowest number for a conclusion, a level of 1 % is one of 1 % at most where all
    are rated alike, and of 1.5 % at most in simulations of others. Held-out votes must have been drawn at random from
    the utterance's; utterances without either kind, or without the proxy (a row of zeros), are not used. Distributions
    are taken as they are, but for shares below .001, which count as .001 so that no logarithm is infinite.
    """
    cast, kept = fit.sum(1), held.sum(1)
    rows = np.flatnonzero((cast > 0) & (kept > 0) & (shares.sum(1) > 0))
    names = None if speakers is None else np.asarray(speakers)[rows]
    return _exchange(shares[rows], fit[rows], held[rows], names, annotator)


def _exchange(shares: Array, fit: Array, held: Array, speakers: Array | None, annotator: str) -> Exchange:
    """The test on rows that have all."""
    if not len(shares):
        return Exchange(annotator, Interval(float("nan"), float("nan"), float("nan"), "none", 0), float("nan"), 0, 0)
    logs = np.log(np.maximum(shares / shares.sum(1, keepdims=True), LEAST))
    voted = fit + held > 0
    logs -= logs.max(1, where=voted, initial=-np.inf, keepdims=True)
    differ = logs.min(1, where=voted, initial=np.inf) < -_EQUAL
    gap = np.zeros(len(shares))
    gap[differ] = ((fit / fit.sum(1, keepdims=True) - held / held.sum(1, keepdims=True)) * logs).sum(1)[differ]
    p_value = _one_sided(gap[differ], logs[differ], fit[differ], held[differ])
    return Exchange(annotator, mean_by_speaker(gap, speakers), p_value, len(shares), int(differ.sum()))


class Exchanges:
    """The test for every proxy, from votes that are given part by part, with all votes of an utterance in one part.

    The distributions of a proxy are its shares as they are. The whole votes of one that gives single labels are no
    distribution yet: half a vote by its mean shares of all labels is added to those of every utterance.
    """

    def __init__(self, utterances: Utterances | None = None, *, consensus: bool = False) -> None:
        self._people = None if utterances is None else utterances.frame.select("utterance_id", "speaker")
        self._consensus = consensus
        self._shown = self._without_speaker = 0
        self._fit: list[Array] = []
        self._held: list[Array] = []
        """Votes of the fit and held-out votes, of the utterances that have both."""
        self._speakers: list[pl.Series] = []
        self._proxies: dict[str, _OfProxy] = {}

    def add(self, votes: Votes) -> None:
        """Add the votes of some utterances, which follow those of earlier parts in the order of ids."""
        ids = votes.frame["utterance_id"].unique().sort()
        human, held, proxy = (
            ballots_of(votes, ids, side, consensus=self._consensus) for side in ("human", "held_out", "proxy")
        )
        fit, kept = human.counts(), held.counts()
        both = np.flatnonzero((fit.sum(1) > 0) & (kept.sum(1) > 0))
        before = sum(map(len, self._fit))
        self._fit.append(fit[both].astype(np.float32))
        self._held.append(kept[both].astype(np.float32))
        if self._people is not None:
            known = ids.to_frame().join(self._people, on="utterance_id", how="left", maintain_order="left")
            self._shown += len(ids)
            self._without_speaker += known["speaker"].null_count()
            self._speakers.append(known.select(pl.coalesce("speaker", "utterance_id") + "").to_series()[both])
        for annotator in proxy.names:
            ballots = proxy.of(annotator)
            counts = ballots.counts()
            own = self._proxies.setdefault(annotator, _OfProxy(np.zeros(len(votes.taxonomy))))
            own.shared |= ballots.shared
            own.total += counts.sum(0)
            some = counts[both]
            there = np.flatnonzero(some.sum(1) > 0)
            own.counts.append(some[there])
            own.rows.append(there + before)

    def tests(self) -> list[Exchange]:
        """The test for every proxy, by name; p-values are corrected for the number of proxies (Holm)."""
        if not self._proxies:
            return []
        known = self._people is not None and self._without_speaker <= 0.5 * self._shown
        fit, held = np.concatenate(self._fit), np.concatenate(self._held)
        names = pl.concat(self._speakers).to_numpy() if known else None
        exchanges = []
        for annotator in sorted(self._proxies):
            own = self._proxies[annotator]
            rows = np.concatenate(own.rows)
            shares = np.concatenate(own.counts)
            if not own.shared:
                prior = own.total + 1.0  # corpus shares of the proxy only: those of the fit votes would depend on them
                shares = shares + _SMOOTHING * (prior / prior.sum())
            people = None if names is None else names[rows]
            own_fit, own_held = fit[rows].astype(np.float64), held[rows].astype(np.float64)
            exchanges.append(_exchange(shares, own_fit, own_held, people, annotator))
        return _holm(exchanges)


@dataclass(slots=True)
class _OfProxy:
    """The votes of one proxy on utterances that have both votes of the fit and held-out ones, part by part."""

    total: Array
    """Its votes for each label, on all utterances."""
    shared: bool = False
    """Whether it gives distributions."""
    counts: list[Array] = field(default_factory=list)
    rows: list[Index] = field(default_factory=list)
    """Their places among the utterances with both kinds of votes."""


def _one_sided(gap: Array, logs: Array, fit: Array, held: Array) -> float:
    """P(sum of the gaps >= the one seen) over deals of every utterance's votes, by a gamma distribution (Pearson III).

    A gap is N / H times the mean of log q of F votes drawn from all N without replacement, about its expectation. It is
    moved by half a step of the sum, which is what two votes that change places alter: where a proxy rates utterances
    alike the sum takes few values.
    """
    from scipy.special import gammainc, gammaincc, ndtr

    votes, first, second = fit + held, fit.sum(1), held.sum(1)
    number = first + second
    off = logs - ((votes * logs).sum(1) / number)[:, None]
    squares, cubes = (votes * off**2).sum(1), (votes * off**3).sum(1)
    variances = squares * number / (first * second * np.maximum(number - 1.0, 1.0))
    variance = float(variances.sum())
    if variance <= 0:
        return 1.0
    others = np.maximum((number - 1.0) * (number - 2.0), 1.0)
    third = number**2 * (second - first) * cubes / (np.square(first * second) * others)
    skewness = float(third.sum()) / variance**1.5
    apart = np.diff(np.sort(np.where(votes > 0, logs, 0.0), axis=1), axis=1)
    steps = apart.min(1, where=apart > _EQUAL, initial=np.inf) * number / (first * second)
    order = np.argsort(steps)
    step = float(steps[order][np.searchsorted(variances[order].cumsum(), _FINE * variance)])
    score = (float(gap.sum()) - 0.5 * step) / np.sqrt(variance)
    if abs(skewness) < _SYMMETRIC:
        return float(ndtr(-score))
    shape = 4.0 / skewness**2
    at = max(shape + np.sign(skewness) * score * np.sqrt(shape), 0.0)
    return float(gammaincc(shape, at) if skewness > 0 else gammainc(shape, at))


def _holm(tests: list[Exchange]) -> list[Exchange]:
    """The tests with p-values corrected for their number, by Holm's step-down."""
    order = sorted((n for n, test in enumerate(tests) if not np.isnan(test.p_value)), key=lambda n: tests[n].p_value)
    corrected, least = list(tests), 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, tests[number].p_value * (len(order) - place)))
        corrected[number] = replace(tests[number], p_value=least)
    return corrected
