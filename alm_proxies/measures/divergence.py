"""Divergences between distributions, row by row; every name states the base of its logarithm.

All functions take rows of shares (..., labels), broadcast, and return one number per row. Natural logarithms are
`nats`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alm_proxies.measures.arrays import Array, counts, distributions

_LN2 = float(np.log(2.0))


def jsd_nats(p: ArrayLike, q: ArrayLike) -> Array:
    """Jensen-Shannon divergence, 0..ln 2: H((p+q)/2) - (H(p) + H(q))/2."""
    first, second = distributions(p, "p"), distributions(q, "q")
    middle = (first + second) / 2
    divergence: Array = (kld_terms(first, middle) + kld_terms(second, middle)).sum(-1) / 2
    return np.maximum(divergence, 0.0)


def jsd_base2(p: ArrayLike, q: ArrayLike) -> Array:
    """Jensen-Shannon divergence in bits, 0..1."""
    return jsd_nats(p, q) / _LN2


def kld_nats(target: ArrayLike, predicted: ArrayLike) -> Array:
    """Kullback-Leibler divergence sum t ln(t/q); infinite where the prediction is 0 and the target is not."""
    first, second = distributions(target, "target"), distributions(predicted, "predicted")
    divergence: Array = kld_terms(first, second).sum(-1)
    return np.maximum(divergence, 0.0)


def bhattacharyya(p: ArrayLike, q: ArrayLike) -> Array:
    """Bhattacharyya coefficient sum sqrt(p q), 0..1, where 1 means equal."""
    coefficient: Array = np.sqrt(distributions(p, "p") * distributions(q, "q")).sum(-1)
    return np.minimum(coefficient, 1.0)


def total_variation(p: ArrayLike, q: ArrayLike) -> Array:
    """Total variation distance sum |p - q| / 2, 0..1."""
    distance: Array = np.abs(distributions(p, "p") - distributions(q, "q")).sum(-1) / 2
    return distance


def nll_per_vote(predicted: ArrayLike, votes: ArrayLike) -> Array:
    """Mean of -ln q(vote) over a row's votes, in nats; with a distribution as `votes`, its cross-entropy."""
    shares = _share_of_votes(votes)
    with np.errstate(divide="ignore"):
        log_q = np.log(distributions(predicted, "predicted"))
    loss: Array = (shares * np.where(shares > 0, -log_q, 0.0)).sum(-1)
    return loss


def brier(predicted: ArrayLike, votes: ArrayLike) -> Array:
    """Mean over a row's votes of |onehot(vote) - q|^2, 0..2: 1 - 2 sum(f q) + sum(q^2) with f the votes' shares."""
    shares, q = _share_of_votes(votes), distributions(predicted, "predicted")
    score: Array = 1.0 - 2.0 * (shares * q).sum(-1) + np.square(q).sum(-1)
    return score


def r2_within_utterance(target: ArrayLike, predicted: ArrayLike) -> Array:
    """Squared correlation over the labels within an utterance, one number per row; NaN where either side is uniform."""
    t, q = distributions(target, "target"), distributions(predicted, "predicted")
    t, q = t - t.mean(-1, keepdims=True), q - q.mean(-1, keepdims=True)
    t_spread, q_spread = np.square(t).sum(-1), np.square(q).sum(-1)
    flat = (t_spread < 1e-20) | (q_spread < 1e-20)
    r2: Array = np.square((t * q).sum(-1)) / np.where(flat, 1.0, t_spread * q_spread)
    return np.where(flat, np.nan, np.minimum(r2, 1.0))


def entropy_nats(p: ArrayLike) -> Array:
    """Shannon entropy -sum p ln p, 0..ln K."""
    shares = distributions(p, "p")
    entropy: Array = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)
    return np.maximum(entropy, 0.0)


def entropy_normalised(p: ArrayLike) -> Array:
    """Shannon entropy over ln K, 0..1, K being the number of labels in the taxonomy."""
    normalised: Array = entropy_nats(p) / float(np.log(np.shape(p)[-1]))
    return normalised


def kld_terms(p: Array, q: Array) -> Array:
    """p ln(p / q), 0 where p is 0: what each label adds to KLD."""
    p, q = np.broadcast_arrays(p, q)
    with np.errstate(divide="ignore"):
        ratio = np.log(p, where=p > 0, out=np.zeros_like(p)) - np.log(q, where=p > 0, out=np.zeros_like(p))
    part: Array = p * ratio
    return part


def _share_of_votes(votes: ArrayLike) -> Array:
    table = counts(votes, "votes", at_least=1e-9)
    share: Array = table / table.sum(-1, keepdims=True)
    return share
