"""Entropy from few votes: the plain entropy of three votes is far too low, and this is the correction we chose."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alm_proxies.errors import InputError
from alm_proxies.measures.arrays import Array, counts


def entropy_few_votes_nats(votes: ArrayLike) -> Array:
    """Chao-Shen entropy of each row of whole vote counts, in nats, for AVERAGES over utterances; NaN below two votes.

    With coverage C = 1 - (labels voted once) / n, or 1/n where every vote fell on its own label, and p = C c / n:
    H = -sum p ln p / (1 - (1 - p)^n)   (Chao and Shen 2003, Environmental and Ecological Statistics 10).

    Chosen among plain, Miller-Madow, Grassberger and Dirichlet posterior means because its mean is right for the
    most kinds of truth: drawn from CREMA-D voice clips smoothed by 0, 0.5 and 2 votes, its bias at three votes is
    +.03, -.01 and -.05 nats (plain: -.35, -.43, -.54; Grassberger: +.14, +.08, +.02). A single row's value is noisier
    (rms error .7 nats at three votes, plain .5 to .65) and may exceed ln K: for one utterance use its fused Labels.
    """
    table = counts(votes, "votes")
    n = table.sum(-1, keepdims=True)
    if (table != np.round(table)).any():
        raise InputError("the counts are not whole votes", where="votes", fix="Give counts of votes, unweighted.")
    once = (table == 1).sum(-1, keepdims=True)
    safe_n = np.maximum(n, 1.0)
    coverage = 1.0 - np.where(once == n, n - 1, once) / safe_n
    p = coverage * table / safe_n
    seen = table > 0
    log_p = np.log(np.where(seen, p, 1.0))
    chance = np.where(seen, -np.expm1(safe_n * np.log1p(-np.where(p < 1, p, 0.0))), 1.0)
    chance = np.where(p >= 1, 1.0, chance)
    entropy: Array = -(p * log_p / chance).sum(-1)
    return np.where(n[..., 0] < 2, np.nan, np.maximum(entropy, 0.0))
