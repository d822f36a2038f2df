"""Methods to compare the fused labels with, fitted to the same votes: human votes alone, shares, weighted and pool."""

from __future__ import annotations

import warnings

from alm_proxies.estimators.counts import Counts
from alm_proxies.estimators.dirichlet import Human, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.names import page_name
from alm_proxies.tables import Labels

FUSED, ALONE = "fused labels", "human votes alone"
PLAIN, WEIGHTED, POOL = (page_name(method.name) for method in (Human, Weighted, Pool))
METHOD_OF = {ALONE: "gated", PLAIN: Human.name, WEIGHTED: Weighted.name, POOL: Pool.name}
"""By name on the page: the method of fuse that gives these labels; human votes alone is gated without proxies."""
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
