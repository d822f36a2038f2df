"""Strata of utterances: what can be seen before any held-out vote, and what only the held-out votes show."""

from __future__ import annotations

import numpy as np

from alm_proxies.ballots import Array
from alm_proxies.compare.material import Material, Words

AGREEMENT = "agreement of the human votes"
AMBIGUITY = "ambiguity of the label"
LABEL = "most likely label"
OUTCOME = "ambiguity of the held-out votes"
"""Thirds of the entropy of the held-out votes: an outcome, which rewards over-confidence in its low stratum."""
OBSERVABLE = (AGREEMENT, AMBIGUITY, LABEL)
_ORDER = ("none", "one vote", "all agree", "a majority", "no majority", "low", "medium", "high")
_THIRDS = np.array(["low", "medium", "high"])


def strata_of(material: Material) -> dict[str, Words]:
    """A stratum for every utterance, by each way to stratify that needs no held-out vote.

    agreement: from the votes of the fit; ambiguity: thirds of the fused entropy over ln K; label: the fused label of
    highest probability.
    """
    made = {AGREEMENT: agreement(material.human.counts())}
    share = material.fused
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1) / np.log(share.shape[1])
    made[AMBIGUITY] = _THIRDS[np.minimum((np.round(entropy, 12) * 3).astype(np.int64), 2)]
    made[LABEL] = np.asarray(material.labels)[share.argmax(1)]
    return made


def agreement(votes: Array) -> Words:
    """none, one vote, all agree, a majority (over half), or no majority."""
    total, most = votes.sum(1), votes.max(1)
    words = np.where(most > total / 2 + 1e-9, "a majority", "no majority")
    words = np.where(most >= total - 1e-9, "all agree", words)
    words = np.where(total < 1.5, "one vote", words)
    return np.where(total <= 0, "none", words).astype(np.str_)


def in_order(values: Words) -> list[str]:
    """The distinct values: strata from clear to ambiguous, others by name."""
    distinct = [str(value) for value in np.unique(values)]
    return sorted(distinct, key=lambda value: (_ORDER.index(value) if value in _ORDER else len(_ORDER), value))
