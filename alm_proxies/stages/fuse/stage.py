"""fuse: human votes and proxies become a label distribution with its strength for every utterance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from alm_proxies.arguments import checked
from alm_proxies.printable import counted
from alm_proxies.shown import Shown
from alm_proxies.stages.fuse.kept import kept
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on_votes

__all__ = ["FuseSettings", "Fused", "fuse"]

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator


@dataclass(frozen=True, slots=True, repr=False)
class Fused(Shown):
    """The result of fuse: labels, trials and findings."""

    labels: Labels
    trials: pl.DataFrame
    """One row per method of auto (or candidate of chosen): its log loss per held-out human vote with `context` others
    given, the difference to no proxies, and its weight.
    """
    findings: Findings
    estimator: Estimator | DawidSkene
    """The fitted estimator; estimators.trials.influence traces one label with it."""

    @property
    def fitted(self) -> dict[str, Any] | None:
        """The estimator as it is kept beside the labels, for `explain`; None for one of another package."""
        return kept(self.estimator, self.labels.about.made_by, self.findings)

    @property
    def counts(self) -> dict[str, float]:
        """The number of labels."""
        return {"labels": len(self.labels)}

    @property
    def line(self) -> str:
        """A summary in one line."""
        return f"{counted(len(self.labels), 'label')} by {self.estimator.name}"


@checked
def fuse(
    votes: Votes,
    settings: FuseSettings | None = None,
    *,
    utterances: Utterances | None = None,
    quiet: bool = False,
) -> Fused:
    """A label distribution for every utterance that has votes; held-out votes are never seen.

    `utterances` has the speakers (folds are speaker-disjoint) and the gate's columns.
    """
    settings = settings or FuseSettings()
    if settings.method == "dawid_skene":
        from alm_proxies.estimators.counts import refuse_other_utterances

        refuse_other_utterances(votes.frame["utterance_id"].unique().sort(), utterances)
        fused = _dawid_skene(*without_trained_on_votes(votes, utterances, stage="fuse"), settings)
        return replace(fused, labels=fused.labels.cut(settings.ambiguity))
    from alm_proxies.stages.fuse.labels import Fusion

    fusion = Fusion.of([(votes, utterances)], settings, quiet=quiet)
    labels = fusion.labels(votes, utterances).cut(settings.ambiguity)
    return Fused(labels, fusion.trials, Findings.gather(fusion.findings, "fuse"), fusion.estimator)


def _dawid_skene(votes: Votes, left: list[Finding], given: FuseSettings) -> Fused:
    from alm_proxies.ballots import left_out
    from alm_proxies.estimators.account import account_of
    from alm_proxies.estimators.attributes import has_ratings
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.stages.fuse.labels import finished, not_used, of_proxies_alone, rate
    from alm_proxies.stages.fuse.learn import quiet_fits, unsettled

    with quiet_fits():
        estimator = DawidSkene().fit(votes)
    others = ("merge", "columns", "consensus")
    findings = [*not_used(given, others), *left, *estimator.findings_, *unsettled(estimator)]
    labels = estimator.predict(votes)
    if votes.frame.filter(pl.col("source") == "human").is_empty():
        labels, alone = of_proxies_alone(labels)
        findings += alone
    rated = None
    if has_ratings(votes):
        rated, more = rate(votes)
        findings = [*findings, *left_out(votes, answer="rating"), *more]
    settings = FuseSettings(method="dawid_skene")  # it counts votes itself, whatever else was set
    account = account_of(estimator)
    labels = finished(labels, votes, settings, rated, {"votes": votes.content_digest()}, account)
    return Fused(labels, pl.DataFrame(), Findings.gather(findings, "fuse"), estimator)
