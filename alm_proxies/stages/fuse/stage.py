"""fuse: human votes and proxies in, a distribution with its strength for every utterance out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import ConfigDict, Field

from alm_proxies.estimators.merge import Counting
from alm_proxies.files import canonical_json
from alm_proxies.tables import ATTRIBUTES, Finding, Findings, Labels, MadeBy, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.estimators.counts import Counts
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator

Method = Literal["auto", "gated", "mixture", "dirichlet", "weighted", "human", "pool", "dawid_skene", "stacking"]


class FuseSettings(Counting):
    """How human votes and proxies become label distributions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    method: Method = "auto"
    """auto chooses by left-out human votes among human, weighted, dirichlet, gated and mixture, proxies on or off."""
    classes: int = Field(16, ge=1, le=256)
    """Latent classes of gated and mixture; auto chooses its own."""
    penalty: float = Field(0.001, gt=0)
    """Penalty on the gate's slopes; auto chooses its own."""
    folds: int = Field(5, ge=2, le=50)
    """Folds of the choosing, by speaker where known."""
    seed: int = 0
    """Seed of folds, samples and starts."""


@dataclass(frozen=True, slots=True)
class Fused:
    """Labels, what was tried to get them, and what was left out or worth knowing."""

    labels: Labels
    trials: pl.DataFrame
    """One row a candidate of auto: its log loss a left-out human vote, and against the best without proxies."""
    findings: Findings
    estimator: Estimator | DawidSkene
    """The fitted estimator; estimators.trials.influence traces one label with it."""


def fuse(
    votes: Votes,
    settings: FuseSettings | None = None,
    *,
    utterances: Utterances | None = None,
    quiet: bool = True,
) -> Fused:
    """A label distribution for every utterance that has votes; held-out votes are never seen.

    `utterances` brings the speakers (folds never share one) and the columns that may steer the gate.
    """
    from alm_proxies.estimators.counts import counts_of
    from alm_proxies.estimators.estimator import labels_of

    settings = settings or FuseSettings()
    if settings.method == "dawid_skene":
        return _dawid_skene(votes)
    counts = counts_of(
        votes, merge=settings.merge, utterances=utterances, columns=settings.columns, consensus=settings.consensus
    )
    trials, more = pl.DataFrame(), []
    if settings.method == "auto":
        from alm_proxies.stages.fuse.choose import choose

        with _quiet_fits():
            choice = choose(counts, folds=settings.folds, seed=settings.seed, quiet=quiet)
        estimator, trials, more = choice.estimator, choice.trials, list(choice.findings)
    else:
        with _quiet_fits():
            estimator = _named(settings).fit(counts)
        if estimator.uses_proxies:
            from alm_proxies.estimators.leaks import leaking
            from alm_proxies.stages.fuse.choose import leaks_found

            more = leaks_found(leaking(counts), "so the labels count them twice and claim too much")
    labels = labels_of(estimator, counts, votes.about)
    findings = [*counts.findings, *more, *_after(counts, estimator)]
    return _fused(votes, labels, trials, findings, estimator, settings)


def _dawid_skene(votes: Votes) -> Fused:
    from alm_proxies.estimators.dawid_skene import DawidSkene

    with _quiet_fits():
        estimator = DawidSkene().fit(votes)
    findings = [*estimator.findings_, *_unsettled(estimator)]
    settings = FuseSettings(method="dawid_skene")  # it counts votes in its own way, whatever else was set
    return _fused(votes, estimator.predict(votes), pl.DataFrame(), findings, estimator, settings)


def _fused(
    votes: Votes,
    labels: Labels,
    trials: pl.DataFrame,
    findings: list[Finding],
    estimator: Estimator | DawidSkene,
    settings: FuseSettings,
) -> Fused:
    frame = labels.frame
    if votes.frame.select(pl.any_horizontal(pl.col(*ATTRIBUTES).is_not_null().any())).item():
        from alm_proxies.estimators.attributes import Attributes

        with _quiet_fits():
            rated = Attributes().fit(votes)
        findings = [*findings, *rated.findings_]
        unsettled = [name for name, model in rated.models_.items() if not model.converged]
        if unsettled:
            what = f"the fit of {', '.join(unsettled)} stopped before it settled"
            findings.append(Finding("fuse", "not_converged", what))
        made = rated.predict(votes)
        frame = frame.drop(name for name in made.columns if name != "utterance_id" and name in frame.columns)
        frame = frame.join(made, on="utterance_id", how="left", maintain_order="left")
    about = labels.about.with_(made_by=MadeBy(stage="fuse", settings=canonical_json(settings.model_dump(mode="json"))))
    return Fused(Labels.of(frame, about=about, where="labels"), trials, Findings.gather(findings), estimator)


@contextmanager
def _quiet_fits() -> Iterator[None]:
    """A fit that does not settle is a finding here, not a Python warning."""
    from alm_proxies.estimators.estimator import NotConvergedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        yield


def _named(settings: FuseSettings) -> Estimator:
    from alm_proxies.estimators.dirichlet import Dirichlet, Human, Pool, Weighted
    from alm_proxies.estimators.gated import Gated
    from alm_proxies.estimators.mixture import Mixture

    if settings.method == "gated":
        return Gated(settings.classes, settings.penalty, seed=settings.seed)
    if settings.method == "mixture":
        return Mixture(settings.classes, seed=settings.seed)
    if settings.method == "stacking":
        from alm_proxies.estimators.stacking import Stacking

        return Stacking(seed=settings.seed)
    plain: dict[str, type[Dirichlet] | type[Weighted]] = {
        "dirichlet": Dirichlet,
        "weighted": Weighted,
        "human": Human,
        "pool": Pool,
    }
    return plain[settings.method]()


def _after(counts: Counts, estimator: Estimator) -> list[Finding]:
    """What a reader of the labels should know of the fit."""
    found = []
    alone = int((counts.human.sum(1) == 0).sum())
    if alone:
        what = "utterances without a human vote to fuse: their labels rest on proxies and corpus shares"
        found.append(Finding("fuse", "no_human_votes", what, count=alone))
    if getattr(estimator, "assumed_", False):
        what = "hardly any utterance has two human votes: an agreement of 0.3 between listeners is assumed"
        mend = "Have some utterances rated by two listeners or more."
        found.append(Finding("fuse", "assumed_agreement", what, mend=mend))
    return [*found, *_unsettled(estimator)]


def _unsettled(estimator: Estimator | DawidSkene) -> list[Finding]:
    if getattr(estimator, "converged_", True):
        return []
    return [Finding("fuse", "not_converged", f"{estimator.name} stopped before it settled")]
