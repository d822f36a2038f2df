"""Rival methods for the fused labels: human votes alone, tuned weights and pooling, fitted to the same votes."""

from __future__ import annotations

import warnings

from alm_proxies.estimators.counts import Counts
from alm_proxies.estimators.dirichlet import Human, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.tables import Labels

FUSED, ALONE, PLAIN = "fused labels", "human votes alone", "human shares + prior"
WEIGHTED, POOL = "tuned weights", "pooling"
ROLES = {FUSED: "fused", ALONE: "human-only", PLAIN: "human", WEIGHTED: "weighted", POOL: "pool"}


def rivals(counts: Counts, fused: Labels, human_only: Estimator) -> dict[str, Labels]:
    """The labels of each method; the rivals are fitted to the votes of the fit."""
    labels = {FUSED: fused, ALONE: human_only.predict(counts)}
    others: dict[str, Estimator] = {PLAIN: Human()}
    if counts.blocks:
        others |= {WEIGHTED: Weighted(), POOL: Pool()}
    for name, estimator in others.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            labels[name] = estimator.fit(counts).predict(counts)
    return labels
