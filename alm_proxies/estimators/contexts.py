"""Contexts: an utterance's human votes split into given and held-out votes, for every number given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alm_proxies.estimators.ballot_raters import BallotRaters
from alm_proxies.estimators.counts import Array, Counts, Index
from alm_proxies.seeds import generator
from alm_proxies.whole_votes import whole_votes

_ROTATIONS = 4
"""The highest number of cuts of one size per utterance."""
_EVERY_SIZE = 4
"""Up to this, every number of given votes is used; beyond it doubled numbers, and all but one."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Cuts of the utterances' human votes; equal cuts of an utterance are merged, with their total weight.

    Where raters are known, cuts with votes of different raters are not equal.
    """

    rows: Index
    """The utterance."""
    sizes: Index
    """Number of votes given."""
    given: Array
    """Counts of the votes given."""
    left: Array
    """Counts of the held-out votes."""
    whole: Array
    """The same with one label for every vote that is shared among labels, for likelihoods."""
    mass: Array
    """Weight of the cut: cuts of one size sum to one for every utterance."""
    last: np.ndarray
    """Whether all votes but one are given: the context nearest to that of the final labels."""
    raters: BallotRaters | None = None
    """The given ballots, each in the row of its cut."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def share(self) -> Array:
        """Weights that sum to one for each utterance, over all its cuts."""
        total = np.bincount(self.rows, weights=self.mass)
        return np.asarray(self.mass / total[self.rows])

    @property
    def targets(self) -> Array:
        """The held-out votes, weighted so that an utterance counts as many votes as it has."""
        votes = np.maximum(self.left.sum(1), 1e-12)
        cast = self.given.sum(1) + votes
        return np.asarray(self.left * (self.share * cast / votes)[:, None])


def contexts_of(counts: Counts, seed: int) -> Contexts:
    """The cuts of every utterance with a human vote: none given, one, ... all but one.

    The votes of an utterance are arranged on a circle in random order; a cut takes the next n from one of up to four
    starting points. With up to four votes these are all cuts, except some of the middle sizes.
    """
    known = counts.raters
    rows, vectors = (known.rows, known.vectors) if known is not None else _ballots(counts)
    rng = generator(seed, "contexts")
    order = np.lexsort((rng.random(len(rows)), rows))
    rows, vectors = rows[order], vectors[order]
    cast = np.bincount(rows, minlength=len(counts))
    first = np.concatenate([[0], np.cumsum(cast)[:-1]])
    labels = vectors.shape[1] if len(vectors) else counts.human.shape[1]
    whole = vectors if counts.draws is None else whole_votes(rows, vectors, len(counts), seed)
    parts: list[tuple[Index, Index, Array, Array, Array, Array]] = []
    ballots: list[Index] = []
    for votes in np.unique(cast[cast > 0]).tolist():
        members = np.flatnonzero(cast == votes).astype(np.int64)
        around = (first[members][:, None] + np.arange(votes)).ravel()
        circle, wholes = (each[around].reshape(len(members), votes, labels) for each in (vectors, whole))
        totals = circle.sum(1)
        for size in _sizes(votes):
            starts = _starts(votes) if size else [0]
            for start in starts:
                given = circle[:, (start + np.arange(size)) % votes].sum(1)
                left = np.maximum(totals - given, 0.0)
                others = wholes[:, (start + np.arange(size, votes)) % votes].sum(1)
                mass = np.full(len(members), 1.0 / len(starts))
                parts.append((members, np.full(len(members), size, dtype=np.int64), given, left, others, mass))
                places = first[members][:, None] + (start + np.arange(size)) % votes
                ballots += [order[row] for row in places] if known is not None else []
    if not parts:
        none = np.zeros((0, labels))
        return Contexts(rows, rows, none, none, none, np.zeros(0), np.zeros(0, dtype=bool))
    members, sizes, given, left, others, mass = (np.concatenate(each) for each in zip(*parts, strict=True))
    if known is None:
        return _once(members, sizes, given, left, others, mass, cast)
    place = np.lexsort((sizes, members))
    given_by = known.only(
        np.concatenate([ballots[cut] for cut in place]), np.repeat(np.arange(len(place)), sizes[place]).astype(np.int64)
    )
    members, sizes = members[place], sizes[place]
    last = sizes == cast[members] - 1
    return Contexts(members, sizes, given[place], left[place], others[place], mass[place], last, given_by)


def _once(rows: Index, sizes: Index, given: Array, left: Array, whole: Array, mass: Array, cast: Index) -> Contexts:
    """Equal cuts merged, in the order of utterances and sizes."""
    key = np.concatenate([rows[:, None], sizes[:, None], given], axis=1)
    distinct, place = np.unique(key, axis=0, return_inverse=True)
    place = place.ravel()
    _, first = np.unique(place, return_index=True)
    total = np.bincount(place, weights=mass, minlength=len(distinct))
    rows, sizes = rows[first], sizes[first]
    last = sizes == cast[rows] - 1
    return Contexts(rows, sizes, given[first], left[first], whole[first], np.asarray(total, np.float64), last)


def _ballots(counts: Counts) -> tuple[Index, Array]:
    if counts.draws is not None:
        return counts.draws
    row, label = np.nonzero(counts.human)
    times = np.maximum(np.rint(counts.human[row, label]), 1.0).astype(np.int64)
    each = counts.human[row, label] / times
    vectors = np.eye(counts.human.shape[1])[label] * each[:, None]
    return np.repeat(row, times).astype(np.int64), np.repeat(vectors, times, axis=0)


def _sizes(votes: int) -> list[int]:
    doubling = [_EVERY_SIZE * 2**power for power in range(1, 20)]
    sizes = [*range(min(votes, _EVERY_SIZE + 1)), *(size for size in doubling if size < votes - 1), votes - 1]
    return sorted(set(sizes))


def _starts(votes: int) -> list[int]:
    if votes <= _ROTATIONS:
        return list(range(votes))
    return [(turn * votes) // _ROTATIONS for turn in range(_ROTATIONS)]
