"""fuse: human votes and proxies in, a distribution with its strength for every utterance out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import ConfigDict, Field

from alm_proxies.ballots import Counting
from alm_proxies.tables import Findings, Labels, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator

Method = Literal["auto", "gated", "mixture", "dirichlet", "weighted", "human", "pool", "dawid_skene", "supervised"]


class FuseSettings(Counting):
    """How human votes and proxies become label distributions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    method: Method = "auto"
    """auto chooses by left-out human votes among human, weighted, dirichlet, gated and mixture, proxies on or off."""
    classes: int = Field(default=16, ge=1, le=256)
    """Latent classes of gated and mixture; auto chooses its own."""
    penalty: float = Field(default=0.001, gt=0)
    """Penalty on the gate's slopes; auto chooses its own."""
    folds: int = Field(default=5, ge=2, le=50)
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
    settings = settings or FuseSettings()
    if settings.method == "dawid_skene":
        return _dawid_skene(votes)
    from alm_proxies.stages.fuse.labels import Fusion

    fusion = Fusion.of([(votes, utterances)], settings, quiet=quiet)
    labels = fusion.labels(votes, utterances)
    return Fused(labels, fusion.trials, Findings.gather(fusion.findings), fusion.estimator)


def _dawid_skene(votes: Votes) -> Fused:
    from alm_proxies.ballots import left_out
    from alm_proxies.estimators.attributes import has_ratings
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.stages.fuse.labels import finished, rate
    from alm_proxies.stages.fuse.learn import quiet_fits, unsettled

    with quiet_fits():
        estimator = DawidSkene().fit(votes)
    findings = [*estimator.findings_, *unsettled(estimator)]
    rated = None
    if has_ratings(votes):
        rated, more = rate(votes)
        findings = [*findings, *left_out(votes, answer="rating"), *more]
    settings = FuseSettings(method="dawid_skene")  # it counts votes in its own way, whatever else was set
    labels = finished(estimator.predict(votes), votes, settings, rated)
    return Fused(labels, pl.DataFrame(), Findings.gather(findings), estimator)
