"""Labels from a survey and a fit: for all votes at once, or part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from alm_proxies.errors import InputError
from alm_proxies.estimators.attributes import Attributes
from alm_proxies.estimators.blocks import Layout
from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.estimator import Estimator, labels_of, nothing_to_learn
from alm_proxies.estimators.supervised import too_sparse
from alm_proxies.plugins import plugin
from alm_proxies.stages.fuse.learn import learn, quiet_fits, unsettled_attributes
from alm_proxies.stages.fuse.survey import Part, Survey, survey
from alm_proxies.tables import Finding, Labels, MadeBy, Utterances, Votes
from alm_proxies.trained_on import without_trained_on_votes

if TYPE_CHECKING:
    from alm_proxies.stages.fuse.settings import FuseSettings

_OF_METHODS = ("classes", "penalty")
"""Settings of fuse that some methods take."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """The learned state from which labels are computed."""

    settings: FuseSettings
    estimator: Estimator
    layout: Layout
    rated: Attributes | None
    """The fitted model of the ratings; None if there are none."""
    trials: pl.DataFrame
    findings: tuple[Finding, ...]
    inputs: dict[str, str]
    """A digest of the tables' content, by need."""
    account: dict[str, Any]
    """The account of the fit, as plain values."""
    people: bool
    """Whether any utterance has a human vote; otherwise utterances without proxy votes have no label."""

    @classmethod
    def of(
        cls, parts: Iterable[Part], settings: FuseSettings, *, quiet: bool = False, described: str | None = None
    ) -> Fusion:
        """Look at every part, then learn from a sample of the utterances."""
        seen = survey(parts, settings, described=described)
        if not seen.utterances:
            raise InputError("there are no label votes to fuse", where="votes", fix="Give a Votes file with labels.")
        if seen.counts is None:
            sparse = settings.method == "supervised" and seen.without_human < seen.utterances
            raise too_sparse(0) if sparse else nothing_to_learn(settings.method, seen.not_fitted)
        learnt = learn(seen.counts, settings, quiet=quiet)
        rated, more = rate(seen.ratings) if seen.ratings is not None else (None, [])
        findings = [*not_used(settings), *seen.findings, *learnt.findings, *more]
        findings += _without_human(seen)
        return cls(
            settings, learnt.estimator, seen.layout, rated, learnt.trials, tuple(findings), seen.inputs, learnt.account,
            bool(seen.counts.human.any()),
        )  # fmt: skip

    def labels(self, votes: Votes, utterances: Utterances | None) -> Labels:
        """A label for every utterance of these votes."""
        settings = self.settings
        votes, _ = without_trained_on_votes(votes, utterances, stage="fuse")
        counts = counts_of(
            votes, merge=settings.merge, utterances=utterances, columns=settings.columns, consensus=settings.consensus,
            layout=self.layout,
        )  # fmt: skip
        labels = labels_of(self.estimator, counts, votes.about)
        if not self.people:
            labels, _ = of_proxies_alone(labels)
        return finished(labels, votes, settings, self.rated, self.inputs, self.account)


def not_used(settings: FuseSettings, others: tuple[str, ...] = ()) -> list[Finding]:
    """The settings of methods, and `others`, that were set and that this method does not take."""
    taken = _taken(settings.method)
    fields = type(settings).model_fields
    names = [
        name
        for name in (*_OF_METHODS, "folds", *others)
        if name not in taken and getattr(settings, name) != fields[name].default
    ]
    if not names:
        return []
    message = f"the method {settings.method} does not use {' and '.join(names)}"
    return [Finding.of("setting_not_used", message, "Leave it out, or choose a method that takes it.", where=names[0])]


def _taken(method: str) -> tuple[str, ...]:
    """The settings that the estimator of a method takes."""
    taken: tuple[str, ...] = getattr(plugin("estimators", method).load(), "takes", ())
    return taken


def of_proxies_alone(labels: Labels) -> tuple[Labels, list[Finding]]:
    """The labels where no utterance has a human vote: those of utterances with proxy votes, and what is to be known."""
    frame = labels.frame.filter(pl.col("proxy_votes") > 0)
    return replace(labels, frame=frame), without_people(frame.height, len(labels) - frame.height)


def without_people(labelled: int, bare: int) -> list[Finding]:
    """The findings where no utterance has a human vote, and some have no vote at all."""
    message = "no utterance has a human vote: labels are what proxies say, and nothing shows how near that is to people"
    fix = "Have some utterances rated, and fuse again: then it is learned how far to trust each proxy."
    findings = [Finding("fuse", "no_human_votes", message, fix, count=labelled)]
    if bare:
        message = "utterances without any vote to fuse have no label"
        findings.append(Finding("fuse", "without_labels", message, count=bare))
    return findings


def _without_human(seen: Survey) -> list[Finding]:
    """Findings for utterances whose labels no human vote has formed; votes that are held out are so on purpose."""
    if seen.without_human == seen.utterances and not seen.held_out_only:
        return without_people(seen.utterances - seen.without_votes, seen.without_votes)
    depend = "their labels depend on proxies and corpus shares only"
    reasons = {
        "only_held_out": (seen.held_out_only, f"utterances with held-out human votes only: {depend}"),
        "no_human_votes": (seen.without_human - seen.held_out_only, f"utterances without a human vote: {depend}"),
    }
    return [Finding("fuse", kind, message, count=count) for kind, (count, message) in reasons.items() if count]


def rate(votes: Votes) -> tuple[Attributes, list[Finding]]:
    """Fit the model of attribute ratings."""
    with quiet_fits():
        rated = Attributes().fit(votes)
    return rated, unsettled_attributes(rated)


def finished(
    labels: Labels,
    votes: Votes,
    settings: FuseSettings,
    rated: Attributes | None,
    inputs: Mapping[str, str],
    account: Mapping[str, Any],
) -> Labels:
    """The labels with their attributes, and the settings, inputs and fit in their metadata.

    Settings that the method does not take are omitted: `auto` has its own classes and penalties.
    """
    frame = labels.frame
    if rated is not None:
        predicted = rated.predict(votes)
        frame = frame.drop(name for name in predicted.columns if name != "utterance_id" and name in frame.columns)
        frame = frame.join(predicted, on="utterance_id", how="left", maintain_order="left")
    taken = _taken(settings.method)
    settings_given = settings.model_dump(mode="json", exclude={name for name in _OF_METHODS if name not in taken})
    made_by = MadeBy.of("fuse", settings_given, {need: [digest] for need, digest in inputs.items()})
    made_by = made_by.model_copy(update={"fitted": dict(account)})
    return Labels.of(frame, about=labels.about.with_(made_by=made_by), where="labels")
