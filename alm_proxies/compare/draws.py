"""Draws of the held-out votes: random splits of each utterance's votes into those of the fit and held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import Array, Index
from alm_proxies.compare.material import Material
from alm_proxies.estimators.counts import Counts, LeftOut


@dataclass(frozen=True, slots=True)
class Pool:
    """All human votes of the scored utterances; votes of the fit come first."""

    rows: Index
    """The utterance index of every vote."""
    beside: Array
    """The vote as a fit counts it, with secondary labels merged."""
    votes: Array
    """The vote as it is scored: its primary label."""
    own: NDArray[np.bool_]
    """Whether the vote belongs to the fit in the given corpus."""
    given: int
    """Number of votes per utterance in the fit."""

    @classmethod
    def of(cls, material: Material, counts: Counts, usable: NDArray[np.bool_], given: int) -> Pool:
        """The votes of the given utterances."""
        human, held = material.human, material.held_out
        cast = human.vectors if counts.draws is None else counts.draws[1]  # the same draws in the same order
        first, second = usable[human.rows], usable[held.rows]
        return cls(
            np.concatenate([human.rows[first], held.rows[second]]),
            np.concatenate([cast[first], held.vectors[second]]),
            np.concatenate([human.vectors[first], held.vectors[second]]),
            np.concatenate([np.ones(int(first.sum()), np.bool_), np.zeros(int(second.sum()), np.bool_)]),
            given,
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw: the position of every vote within its utterance; the first `given` belong to the fit."""

    pool: Pool
    place: Index

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """A mask of the votes that belong to the fit."""
        given: NDArray[np.bool_] = self.place < self.pool.given
        return given

    def counts(self, counts: Counts) -> Counts:
        """The counts with this draw's votes of the fit."""
        human = counts.human.copy()
        human[np.unique(self.pool.rows)] = 0.0
        fitted = self.fitted
        np.add.at(human, self.pool.rows[fitted], self.pool.beside[fitted])
        return replace(counts.with_human(human), draws=self._draws(counts))

    def cast(self, utterances: int) -> Array:
        """The votes of the fit by their primary labels, utterances x labels."""
        cast = np.zeros((utterances, self.pool.votes.shape[1]))
        np.add.at(cast, self.pool.rows[self.fitted], self.pool.votes[self.fitted])
        return cast

    def _draws(self, counts: Counts) -> tuple[Index, Array] | None:
        """Row and vector of every vote of the fit, where some vote is shared among labels."""
        pool, fitted = self.pool, self.fitted
        if counts.draws is None and (pool.beside.max(1) >= 1.0).all():
            return None
        rows, vectors = counts.draws or _votes_in(counts.human)
        others = ~np.isin(rows, pool.rows)
        rows = np.concatenate([rows[others], pool.rows[fitted]])
        order = np.argsort(rows, kind="stable")
        return rows[order], np.concatenate([vectors[others], pool.beside[fitted]])[order]

    def contexts(self, at: Sequence[int]) -> dict[int, LeftOut]:
        """For every k: each held-out vote with k other votes of its utterance, votes of the fit first.

        Votes of an utterance that are predicted from the same k votes are merged.
        """
        pool = self.pool
        target = np.flatnonzero(~self.fitted)
        rows, own = pool.rows[target], self.place[target]
        table = np.zeros((int(pool.rows.max()) + 1, int(self.place.max()) + 1), dtype=np.int64)
        table[pool.rows, self.place] = np.arange(len(pool.rows))
        running = np.zeros((len(target), pool.votes.shape[1]))
        contexts: dict[int, LeftOut] = {}
        for k in range(max(at) + 1):
            if k > 0:
                place = (k - 1) + (own <= k - 1)  # skip the predicted vote
                running = running + pool.beside[table[rows, place]]
            if k in at:
                # the first k + 1 votes without the predicted one, or without the last where a later one is predicted
                left_out = pool.beside[table[rows, np.minimum(own, k)]]
                contexts[k] = LeftOut.merged(rows, left_out, running, pool.votes[target])
        return contexts


def _votes_in(human: Array) -> tuple[Index, Array]:
    """Row and vector of every vote of counts in whole votes."""
    rows, labels = np.nonzero(human)
    times = np.round(human[rows, labels]).astype(np.int64)
    return np.repeat(rows, times), np.repeat(np.eye(human.shape[1])[labels], times, axis=0)


def drawn(pool: Pool, random: np.random.Generator, *, as_given: bool) -> Draw:
    """The corpus's own split in random order (`as_given`), or a new random split of each utterance's votes."""
    key = random.random(len(pool.rows)) + (np.where(pool.own, 0.0, 1.0) if as_given else 0.0)
    order = np.lexsort((key, pool.rows))
    sorted_rows = pool.rows[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.searchsorted(sorted_rows, sorted_rows)
    return Draw(pool, place)
