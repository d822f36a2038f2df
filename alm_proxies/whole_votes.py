"""Whole votes in place of votes that are shared among labels, for likelihoods of counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alm_proxies.seeds import generator

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def whole_votes(rows: Index, vectors: Array, utterances: int, seed: int) -> Array:
    """One label for every vote, drawn by its shares, votes x labels: counts of these expect those of the shared votes.

    The Dirichlet-multinomial is the probability of whole votes. Shares vary less about an utterance's distribution,
    which it takes for distributions that hardly vary over utterances, and so for strengths of hundreds. Votes of a mass
    above 1, as secondary labels make them, give what is above to the votes below 1 of their utterance.
    """
    if not len(rows):
        return np.zeros_like(vectors)
    mass = vectors.sum(1, keepdims=True)
    over, under = np.maximum(mass - 1.0, 0.0), np.maximum(1.0 - mass, 0.0)
    pool = _summed(rows, vectors / mass * over, utterances)
    total = pool.sum(1, keepdims=True)
    pool = np.divide(pool, total, out=np.zeros_like(pool), where=total > 0)
    limits = np.cumsum(vectors / np.maximum(mass, 1.0) + under * pool[rows], axis=1)
    drawn = generator(seed, "whole votes").random(len(rows))[:, None] * limits[:, -1:]
    label = np.minimum((limits <= drawn).sum(1), vectors.shape[1] - 1)
    return np.asarray(np.eye(vectors.shape[1])[label])


def whole_counts(rows: Index, vectors: Array, utterances: int, seed: int) -> Array:
    """Counts of `whole_votes`, utterances x labels."""
    return _summed(rows, whole_votes(rows, vectors, utterances, seed), utterances)


def _summed(rows: Index, vectors: Array, utterances: int) -> Array:
    columns = [np.bincount(rows, weights=column, minlength=utterances) for column in vectors.T]
    return np.stack(columns, axis=1).astype(np.float64)
