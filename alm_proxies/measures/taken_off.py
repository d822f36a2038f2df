"""How much of class shares' log loss one proxy's votes alone take off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array
from alm_proxies.measures.bootstrap import interval_by_speaker
from alm_proxies.measures.ranges import SHARE_OF_LOSS

LEAST = 1e-3
"""The smallest probability of a proxy's shares: a single vote costs at most 7 nats."""


def taken_off(human: Array, proxy: Array, speakers: NDArray[np.str_] | None, *, whole: bool, seed: int = 0) -> Interval:
    """1 - log loss of the proxy / log loss of class shares, per human vote; class shares are of the other speakers.

    `human` and `proxy` are counts; rows without both are left out. `whole` votes are smoothed by one vote of the class
    shares; scored and stated shares count as they are.
    """
    rows = np.flatnonzero((human.sum(1) > 0) & (proxy.sum(1) > 0))
    _, who = np.unique(np.arange(len(human)) if speakers is None else speakers, return_inverse=True)
    by_speaker = np.zeros((who.max() + 1, human.shape[1]))
    np.add.at(by_speaker, who, human)
    prior = (by_speaker.sum(0) - by_speaker)[who[rows]] + 1.0
    prior /= prior.sum(1, keepdims=True)
    votes = proxy[rows] + prior if whole else proxy[rows]
    shares = np.maximum(votes / votes.sum(1, keepdims=True), LEAST)
    shares /= shares.sum(1, keepdims=True)
    of_prior, of_proxy = (-(human[rows] * np.log(given)).sum(1) for given in (prior, shares))
    columns = np.stack([of_prior - of_proxy, of_prior], axis=1)
    interval = interval_by_speaker(columns, None if speakers is None else speakers[rows], seed=seed)
    return interval.within(*SHARE_OF_LOSS)
