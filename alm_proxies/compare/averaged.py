"""Losses averaged over draws of the held-out votes, with intervals over both speakers and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from alm_proxies.ballots import Array, Index, summed
from alm_proxies.compare.strata import Words
from alm_proxies.estimators.trials import Losses, Worth, votes_reaching
from alm_proxies.interval import Interval
from alm_proxies.seeds import generator

RESAMPLES = 1000
FEWEST_SPEAKERS = 5
"""With fewer there is no interval: as it ends at the lowest or highest speaker, it would hold the truth in 75 % of the
cases with three speakers, and in 88 % with four.
"""


@dataclass(frozen=True, slots=True)
class DrawnLosses:
    """One draw: the losses of each method at every k (human votes alone, then with proxies), and its strata."""

    curves: list[list[Losses]]
    strata: Words
    """The stratum of every utterance, from the votes of the fit of this draw."""


@dataclass(frozen=True, slots=True)
class Replicates:
    """Mean losses: over all speakers and draws in the first row, over a resample of both in every other row."""

    curves: Array
    """Methods x rows x numbers of votes."""
    labels: Array
    """Loss of the labels, by row."""
    utterances: int
    speakers: int

    def curve(self, method: int) -> tuple[Interval, ...]:
        """One method's losses, one interval per number of votes."""
        return tuple(self._interval(column) for column in self.curves[method].T)

    @property
    def fused(self) -> Interval:
        """The loss of the labels."""
        return self._interval(self.labels)

    def worth(self, at: Sequence[int]) -> Worth:
        """The number of human votes that alone reach the loss of the labels."""
        read = np.array([votes_reaching(at, *pair) for pair in zip(self.curves[0], self.labels, strict=True)])
        low = high = float("nan")
        if self.speakers >= FEWEST_SPEAKERS:
            low, high = (float(np.quantile(read[1:], end, method="nearest")) for end in self._ends())
        return Worth(float(read[0]), low, high, at[-1], self.utterances)

    def _interval(self, values: Array) -> Interval:
        if self.speakers < FEWEST_SPEAKERS or not np.isfinite(values[0]):
            return Interval(float(values[0]), float("nan"), float("nan"), "none", self.speakers)
        low, high = (float(np.quantile(values[1:], end)) for end in self._ends())
        return Interval(float(values[0]), low, high, "percentile", self.speakers)

    def _ends(self) -> tuple[float, float]:
        """Percentiles of a 95 % interval, widened for few speakers (Hesterberg 2015)."""
        reach = np.sqrt(self.speakers / (self.speakers - 1)) * stdtrit(self.speakers - 1, 0.975)
        return float(ndtr(-reach)), float(ndtr(reach))


@dataclass(frozen=True, slots=True, eq=False)
class Averaged:
    """Sums per speaker and draw, and the difference of the labels from the refitted fusion in the first draw."""

    sums: dict[str, Array]
    """By stratum: draws x speakers x (methods x numbers of votes)."""
    votes: dict[str, Array]
    """By stratum: draws x speakers."""
    apart: dict[str, Array]
    """By stratum: the labels' loss minus that of the refitted fusion, the number of votes, and the number of utterances
    with an infinite loss, which the first leaves out; speakers x 3.
    """
    members: dict[str, int]
    methods: int
    given: int
    """The index on the curve of the number of votes in the fit."""

    @property
    def strata(self) -> Words:
        """The names of the strata."""
        return np.array([name for name in self.sums if name != "all"], dtype=np.str_)

    @classmethod
    def of(
        cls, draws: Sequence[DrawnLosses], labels: Array, votes: Array, speakers: Index, usable: NDArray[np.bool_],
        given: int,
    ) -> Averaged:  # fmt: skip
        """Sum the losses of the usable utterances; `labels` is the loss of the labels over their held-out votes."""
        count = int(speakers.max()) + 1
        own = draws[0].strata
        names = ["all", *(str(name) for name in np.unique(own[usable]))]
        first = draws[0].curves
        refitted = first[1][given].loss if len(first) > 1 else np.zeros(len(usable))
        sums, sizes, apart, members = {}, {}, {}, {}
        for name in names:
            rows = [usable & ((draw.strata == name) | (name == "all")) for draw in draws]
            columns = [
                np.stack(
                    [
                        summed(speakers[kept], losses.loss[kept], count)
                        for curve in draw.curves
                        for losses in curve
                    ],
                    axis=1,
                )
                for draw, kept in zip(draws, rows, strict=True)
            ]  # fmt: skip
            sums[name] = np.stack(columns)
            sizes[name] = np.stack(
                [
                    summed(speakers[kept], draw.curves[0][0].votes[kept], count)
                    for draw, kept in zip(draws, rows, strict=True)
                ]
            )
            kept = rows[0]
            finite = np.isfinite(labels[kept])
            difference = np.where(finite, labels[kept] - refitted[kept], 0.0)
            parts = [difference, votes[kept], (~finite).astype(np.float64)]
            apart[name] = np.stack([summed(speakers[kept], part, count) for part in parts], axis=1)
            members[name] = int(kept.sum())
        return cls(sums, sizes, apart, members, len(first), given)

    def common(self) -> float:
        """The part of the variance between draws that speakers share: that of the fits.

        The rest is noise of the votes, each speaker's by itself, which a resample of speakers holds already: resampled
        once more by draws, it would count twice. B is the variance over draws of the labels' loss less that of human
        votes alone beside the given votes, W what it would be were speakers' changes independent; 1 - W / B.
        """
        draws = len(self.votes["all"])
        if draws < 2:
            return 0.0
        sums = self.sums["all"].reshape(draws, self.votes["all"].shape[1], self.methods, -1)[..., self.given]
        apart = sums[:, :, 1] - sums[:, :, 0] if self.methods > 1 else sums[:, :, 0]
        between = float(apart.sum(1).var(ddof=1))
        within = float(apart.var(axis=0, ddof=1).sum())
        return max(0.0, 1.0 - within / between) if between > 0 else 0.0

    def replicates(self, seed: int) -> dict[str, Replicates]:
        """Resample speakers and, as far as speakers share it, what changes between draws (Owen 2007, The Annals of
        Applied Statistics 1, who resamples both in full)."""
        replicates = {}
        draws, speakers = self.votes["all"].shape
        random = generator(seed, "worth")
        weights = np.ones((RESAMPLES + 1, speakers))
        weights[1:] = random.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES)
        drawn = np.ones((RESAMPLES + 1, draws))
        times = random.multinomial(draws, np.full(draws, 1 / draws), size=RESAMPLES)
        drawn[1:] += np.sqrt(self.common()) * (times - 1.0)
        for name, sums in self.sums.items():
            # a loop over draws saves memory: there may be as many speakers as utterances
            total = sum(drawn[:, [d]] * (weights @ sums[d]) for d in range(draws))
            votes = sum(drawn[:, d] * (weights @ self.votes[name][d]) for d in range(draws))
            apart, of, infinite = (weights @ self.apart[name]).T
            known = (np.asarray(votes) > 0) & (of > 0)
            if not known[0] or known[1:].sum() < RESAMPLES // 2:
                continue
            mean = (np.asarray(total)[known] / np.asarray(votes)[known, None]).reshape(
                int(known.sum()), self.methods, -1
            )
            labels = np.where(infinite[known] > 0, np.inf, apart[known] / of[known])
            if self.methods > 1:
                labels = labels + mean[:, 1, self.given]
            there = int((self.votes[name].sum(0) > 0).sum())
            replicates[name] = Replicates(mean.transpose(1, 0, 2), labels, self.members[name], there)
        return replicates
