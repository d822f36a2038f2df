"""Methods to compare the fused labels with, fitted to the same votes: human votes alone, shares, weighted and pool.

What proxies are worth is the difference to the same method without them: against another one, a gain of the method
would pass for theirs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import polars as pl

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.counts import COLUMNS, Counts
from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.estimators.dirichlet import Human, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.named import named
from alm_proxies.estimators.names import page_name
from alm_proxies.estimators.stack import Stack
from alm_proxies.tables import Labels, Votes

FUSED, ALONE, AUTO_ALONE = "fused labels", "human votes alone", "auto without proxies"
PLAIN, WEIGHTED, POOL = (page_name(method.name) for method in (Human, Weighted, Pool))
METHOD_OF = {AUTO_ALONE: Stack.name, PLAIN: Human.name, WEIGHTED: Weighted.name, POOL: Pool.name}
"""By name on the page: the method of fuse that gives these labels, without proxies if the name says so."""
ROLES = {
    FUSED: "fused",
    ALONE: "human-only",
    PLAIN: "human",
    WEIGHTED: "weighted",
    POOL: "pool",
    AUTO_ALONE: "other",
}


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Human votes alone: the labels that the method of the labels gives without proxies."""

    labels: Labels
    method: str
    """Its name in settings."""
    words: str
    """What it is, for pages: "those of ..."."""


def uses_proxies(labels: Labels) -> bool:
    """Whether any of the labels uses proxy votes."""
    return bool((labels.frame["proxy_votes"] > 0).any())


def method_of(labels: Labels) -> str | None:
    """The method of fuse that made labels which use proxies; None if it is not known, or they use none."""
    maker = labels.about.made_by
    method = None if maker is None else maker.settings.get("method")
    return str(method) if method is not None and uses_proxies(labels) else None


def alone_of(counts: Counts, votes: Votes, labels: Labels, *, seed: int) -> Alone:
    """What the labels would be without proxies: by their own method and settings, with the same columns.

    By gated where they use no proxies, do not state their method, or it cannot be fitted to human votes alone.
    """
    method = method_of(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        if method is not None and (own := _by(method, counts, votes, labels)) is not None:
            return Alone(own, method, f"those of {page_name(method)}, the method of the labels, without proxies")
        others = Gated(seed=seed).fit(counts.only((COLUMNS,))).predict(counts)
    why = "the labels use no proxies or do not state their method"
    why = why if method is None else f"{page_name(method)}, the method of the labels, cannot be fitted without proxies"
    return Alone(others, Gated.name, f"those of {page_name(Gated.name)} without proxies, because {why}")


def _by(method: str, counts: Counts, votes: Votes, labels: Labels) -> Labels | None:
    """The labels of a method without proxies; None where it is not installed or cannot be fitted so."""
    settings = {} if labels.about.made_by is None else labels.about.made_by.settings
    try:
        if method == DawidSkene.name:
            human = Votes(votes.frame.filter(pl.col("source") == "human"), votes.about)
            return DawidSkene().fit(human).predict(human)
        return named(method, settings, quiet=True).fit(counts.only((COLUMNS,))).predict(counts)
    except (InputError, SettingsError):
        return None


def rivals(counts: Counts, fused: Labels, alone: Alone, *, seed: int) -> dict[str, Labels]:
    """The labels of each method; the rivals are fitted to the votes of the fit.

    Labels that use proxies are compared with auto without proxies too, so that a better method on human votes alone
    shows.
    """
    labels = {FUSED: fused, ALONE: alone.labels}
    others: dict[str, Estimator] = {PLAIN: Human()}
    if counts.blocks:
        others |= {WEIGHTED: Weighted(), POOL: Pool()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        for name, estimator in others.items():
            labels[name] = estimator.fit(counts).predict(counts)
        if alone.method != Stack.name and uses_proxies(fused):
            labels[AUTO_ALONE] = Stack(seed=seed, quiet=True).fit(counts.only((COLUMNS,))).predict(counts)
    return labels
