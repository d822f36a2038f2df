"""Votes by utterance and label, where a vote may be shared among labels, and the expectation over samples of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.ballots import Ballots, Index
from alm_proxies.errors import InputError
from alm_proxies.measures.arrays import Array, counts


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The votes of every utterance; a vote that is a distribution is one vote for a label drawn by its shares.

    What is computed from it is the expectation over these draws, so nothing depends on a random number.
    """

    counts: Array
    """Votes for each label, utterances x labels; a shared vote counts by its shares."""
    rows: Index
    """The utterance of each shared vote."""
    shares: Array
    """The shares of each shared vote, which sum to 1."""

    @classmethod
    def of_counts(cls, table: ArrayLike, name: str = "votes") -> Tally:
        """Whole votes from their counts, utterances x labels."""
        whole = np.atleast_2d(counts(table, name))
        if (whole != np.round(whole)).any():
            raise InputError("the counts are not whole votes", where=name, fix="Give counts of votes, unweighted.")
        return cls(whole, np.zeros(0, dtype=np.int64), np.zeros((0, whole.shape[1])))

    @classmethod
    def of(cls, ballots: Ballots) -> Tally:
        """The votes of ballots."""
        shared = ballots.vectors.max(1, initial=0.0) < 1.0 - 1e-9
        return cls(ballots.counts(), ballots.rows[shared], ballots.vectors[shared])

    @property
    def sizes(self) -> Array:
        """The number of votes of each utterance."""
        return np.asarray(np.round(self.counts.sum(1)))

    @property
    def is_shared(self) -> bool:
        """Whether any vote is shared among labels."""
        return bool(len(self.rows))

    @property
    def squares(self) -> Array:
        """The summed squared shares of each utterance's votes, where a whole vote has 1."""
        return self.sizes + self._summed(np.square(self.shares).sum(1) - 1.0)

    def where(self, kept: NDArray[np.bool_]) -> Tally:
        """Some of the utterances."""
        own = kept[self.rows]
        place = np.cumsum(kept) - 1
        return Tally(self.counts[kept], place[self.rows[own]].astype(np.int64), self.shares[own])

    def drawn(self, votes: int) -> Array:
        """P(c of `votes` votes are for the label), utterances x labels x (votes + 1), drawn without replacement.

        The coefficient of t^votes x^c in prod_b (1 + t (1 - v_b + v_b x)) / C(n, votes), v_b the share of vote b.
        """
        number = self.sizes
        samples = _choose(number, votes)[-1]
        probabilities = np.zeros((*self.counts.shape, votes + 1))
        whole = self.counts - np.stack([self._summed(column) for column in self.shares.T], axis=1)
        all_whole = np.round(whole.sum(1))
        for label in range(self.counts.shape[1]):
            own = np.round(whole[:, label])
            ways = self._ways(_choose(own, votes), _choose(all_whole - own, votes), label)
            for c in range(votes + 1):
                probabilities[:, label, c] = ways[c, votes - c] / np.where(samples > 0, samples, 1.0)
        return probabilities

    def _ways(self, own: list[Array], others: list[Array], label: int) -> dict[tuple[int, int], Array]:
        """The weighted number of samples with c votes for the label and r for others, from those of whole votes."""
        votes = len(own) - 1
        ways = {(c, r): own[c] * others[r] for c in range(votes + 1) for r in range(votes + 1 - c)}
        largest_first = sorted(ways, key=lambda place: -sum(place))
        for some in self._in_turn():
            row, share = self.rows[some], self.shares[some, label]
            for c, r in largest_first:
                if c:
                    ways[c, r][row] += share * ways[c - 1, r][row]
                if r:
                    ways[c, r][row] += (1.0 - share) * ways[c, r - 1][row]
        return ways

    def _in_turn(self) -> list[Index]:
        """The shared votes in groups: the first of every utterance, the second of every utterance ..."""
        order = np.argsort(self.rows, kind="stable")
        sizes = np.bincount(self.rows, minlength=len(self.counts))
        turn = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return [order[turn == number] for number in range(int(sizes.max(initial=0)))]

    def _summed(self, values: Array) -> Array:
        """A value of each shared vote, summed by utterance."""
        return np.bincount(self.rows, weights=values, minlength=len(self.counts)).astype(np.float64)


def jsd_of_samples(first: Tally, second: Tally, votes: int) -> tuple[Array, Array]:
    """The expected JSD (base 2) of two disjoint samples of `first`, and of a sample of `first` and one of `second`.

    JSD(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2, and an entropy is a sum over labels, so its expectation needs no
    more than the probability of every number of votes for a label: it is exact, without any random draw. Utterances
    need 2 x votes votes of the first and votes of the second.
    """
    one, two, other = first.drawn(votes), first.drawn(2 * votes), second.drawn(votes)
    steps = np.arange(votes + 1)
    single, mixed = _entropy_of(steps / votes), _entropy_of((steps[:, None] + steps) / (2 * votes))
    alone = (one @ single).sum(1)
    within = (two @ _entropy_of(np.arange(2 * votes + 1) / (2 * votes))).sum(1) - alone
    between = np.einsum("ulc,uld,cd->u", one, other, mixed, optimize=True) - (alone + (other @ single).sum(1)) / 2
    return np.maximum(within, 0.0), np.maximum(between, 0.0)


def _entropy_of(share: Array) -> Array:
    """A label's part of the entropy, in bits."""
    bits: Array = -share * np.log2(np.where(share > 0, share, 1.0))
    return bits


def _choose(number: Array, votes: int) -> list[Array]:
    """The binomial coefficients C(n, 0) ... C(n, votes) of whole numbers."""
    falling = [np.ones_like(number)]
    for place in range(votes):
        falling.append(falling[-1] * np.maximum(number - place, 0.0) / (place + 1))
    return falling
