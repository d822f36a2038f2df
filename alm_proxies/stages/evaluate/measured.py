"""Measures of evaluate: the comparison, strata from votes that are neither fitted nor scored, recovered ambiguity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.ballots import Array, ballots_of, held_out_without_label, which_count
from alm_proxies.compare import ambiguity as compare_ambiguity
from alm_proxies.compare.ambiguity import Halved, halved_of, recovered_of, rows_of
from alm_proxies.compare.comparison import Comparison, compare
from alm_proxies.compare.strata import strata_table
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import canonical_json
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import Paired
from alm_proxies.measures.hard_labels import paired_with_ties
from alm_proxies.measures.recovered import (
    RiskCoverage,
    confusion_of_shares,
    minor_recall,
    recall_over_votes,
    risk_coverage,
)
from alm_proxies.nearest import did_you_mean
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.tables import Finding, Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on

SHARES = "class shares"
"""The constant prediction: the label shares of the human votes that are not held out."""


@dataclass(frozen=True, slots=True)
class Recovered(compare_ambiguity.Recovered):
    """Measures of one prediction other than its mean log loss."""

    recall_over_votes: Interval
    minor_recall: Interval
    risk: RiskCoverage
    confusion: Array


@dataclass(frozen=True, slots=True)
class Measured:
    """All results of an evaluation."""

    comparison: Comparison
    recovered: dict[str, Recovered]
    halved: Halved
    conditions: dict[str, dict[str, str]]
    """By prediction on the original recordings, then by condition: the same model's prediction on degraded audio."""
    findings: tuple[Finding, ...]
    labels: tuple[str, ...]
    left_out: int
    """Utterances with held-out votes that are not scored."""
    with_ties: dict[tuple[str, str], dict[str, Paired]]
    """By first and second prediction: first minus second in each measure of hard labels that counts ties."""
    without_label: int
    """Utterances with held-out votes of which none is for a label of the taxonomy: only their ratings can be scored."""

    def less_baseline(self, name: str, measure: str) -> Paired | None:
        """A measure of hard labels that counts ties, minus that of the baseline; None for the baseline."""
        baseline = self.comparison.baseline
        return None if name == baseline else self.with_ties[name, baseline][measure]


def measure(
    predictions: Mapping[str, Labels],
    votes: Votes,
    utterances: Utterances,
    settings: EvaluateSettings,
    truth: Labels | None = None,
) -> Measured:
    """Score all predictions against the same held-out human votes."""
    found: list[tuple[str, Finding]] = []
    honest: dict[str, Labels] = {}
    seen: dict[str, pl.Series] = {}
    for name, labels in predictions.items():
        refuse_no_rows(labels.frame, name)
        _refuse_other_ids(name, labels, votes)
        kept, more = without_trained_on(labels, utterances, stage="evaluate")
        found += [(name, finding) for finding in more]
        if more:
            ids = labels.frame["utterance_id"]
            seen[name] = ids.filter(~ids.is_in(kept.frame["utterance_id"].implode()))
        if not len(kept):
            unknown = "Give the utterances' speakers, if they are known. " if _all_unknown(labels, utterances) else ""
            fix = (
                f"{unknown}Predict utterances of speakers that it was not trained on: split by speaker before training."
            )
            message = f"all predictions of {name!r} are for speakers in its training set, or for unknown ones"
            raise InputError(message, where=name, fix=fix)
        honest[name] = kept
    if SHARES in honest:
        raise InputError(
            f"a prediction has the name {SHARES!r}, which is reserved for the baseline", fix="Rename its file."
        )
    baseline = settings.baseline or SHARES
    if baseline not in (*honest, SHARES):
        raise SettingsError(f"there is no prediction {baseline!r}", fix=_a_baseline(baseline, tuple(honest)))
    findings = _once(found, seen)
    compared = {SHARES: _class_shares(votes), **honest}
    strata, more = strata_table(votes, utterances)
    findings += more
    if truth is not None and not truth.frame["utterance_id"].is_in(votes.frame["utterance_id"].implode()).any():
        fix = "Give the truth of the corpus that the votes are of (--truth)."
        raise InputError("the truth has none of the utterances of the votes", where="truth", fix=fix)
    comparison = compare(
        compared, _unseen(votes, list(seen.values())), utterances, baseline=baseline, strata=strata, truth=truth,
        reliability_of=tuple(honest), seed=settings.seed,
    )  # fmt: skip
    findings += comparison.findings
    test = comparison.test
    rows = {name: rows_of(labels, test.ids) for name, labels in compared.items()}
    recovered = {name: _recovered(*rows[name], comparison, settings.seed) for name in compared}
    human = ballots_of(votes, pl.Series("utterance_id", test.ids), "human").counts()
    halved = halved_of({name: shares for name, (shares, _) in rows.items()}, comparison, human)
    held_out = votes.frame.filter(which_count("held_out"))["utterance_id"].n_unique()
    left_out = held_out - len(test)
    return Measured(
        comparison, recovered, halved, _conditions(honest), tuple(findings), votes.taxonomy, left_out,
        _with_ties({name: shares for name, (shares, _) in rows.items()}, comparison, settings.seed),
        held_out_without_label(votes),
    )  # fmt: skip


def pairs_of(comparison: Comparison) -> list[tuple[str, str]]:
    """All pairs of predictions other than the baseline, in their order."""
    return list(combinations((name for name in comparison.methods if name != comparison.baseline), 2))


def _with_ties(
    shares: Mapping[str, Array], comparison: Comparison, seed: int
) -> dict[tuple[str, str], dict[str, Paired]]:
    against = [(name, comparison.baseline) for name in comparison.methods if name != comparison.baseline]
    test = comparison.test
    return {
        (first, second): paired_with_ties(
            shares[first], shares[second], test.counts, test.speakers, weight=test.weight, level=comparison.level,
            seed=seed,
        )
        for first, second in [*against, *pairs_of(comparison)]
    }  # fmt: skip


def _a_baseline(asked: str, names: Sequence[str]) -> str:
    """How to name a prediction as the baseline: by the name that its file or folder was given, not by its path."""
    file = Path(asked).with_suffix("").as_posix()
    near = next((name for name in names if f"/{file}".endswith(f"/{name}") or name.startswith(f"{file}/")), None)
    if near is not None:
        return f"Write --baseline {quote(near)}."
    return f"{did_you_mean(asked, names)} There are: {', '.join([*names, SHARES])}.".strip()


def _refuse_other_ids(name: str, labels: Labels, votes: Votes) -> None:
    """Raise where no utterance of the predictions has a vote, with examples of both: ids are written differently."""
    own, voted = labels.frame["utterance_id"], votes.frame["utterance_id"].unique(maintain_order=True)
    if not len(own) or own.is_in(voted.implode()).any():
        return
    first, second = (", ".join(map(repr, ids.head(2))) for ids in (own, voted))
    message = f"no utterance of {name!r} has a vote: its ids are such as {first}, those of the votes {second}"
    fix = "Predict the utterances table that the votes were read with, or give the votes of these utterances (--votes)."
    raise InputError(message, where=name, fix=fix)


def _all_unknown(labels: Labels, utterances: Utterances) -> bool:
    """Whether no utterance of these predictions has a speaker."""
    known = utterances.frame.filter(pl.col("speaker").is_not_null())["utterance_id"]
    return not labels.frame["utterance_id"].is_in(known.implode()).any()


def _once(found: Sequence[tuple[str, Finding]], seen: Mapping[str, pl.Series]) -> list[Finding]:
    """Findings on what models were trained on, once for all predictions that they are of: counted in utterances."""
    once: dict[tuple[str, str], dict[str, Finding]] = {}
    for name, finding in found:
        once.setdefault((finding.kind, finding.message), {})[name] = finding
    merged = []
    for (kind, _), alike in once.items():
        first, count = next(iter(alike.values())), max(finding.count for finding in alike.values())
        if len(alike) > 1:
            if kind == "trained_on":
                count = pl.concat([seen[name] for name in alike]).n_unique()
            first = replace(first, message=f"{first.message} ({len(alike):,} of the models)")
        merged.append(replace(first, count=count))
    return merged


def _unseen(votes: Votes, seen: list[pl.Series]) -> Votes:
    """The votes without those on utterances that a model was trained on, which a finding has counted already."""
    if not seen:
        return votes
    of_training = pl.col("utterance_id").is_in(pl.concat(seen).unique().implode())
    frame = votes.frame.filter(~of_training)
    if votes.frame["held_out"].any() and not frame["held_out"].any():
        fix = "Split by speaker before training, alike for all models."
        raise InputError("one of the models was trained on the speaker of every utterance with held-out votes", fix=fix)
    return Votes(frame, votes.about)


def _conditions(predictions: Mapping[str, Labels]) -> dict[str, dict[str, str]]:
    """Groups of predictions of one model: on the original recordings and on degraded audio."""
    models: dict[str, dict[str | None, str]] = {}
    for name, labels in predictions.items():
        maker = labels.about.made_by
        if maker is not None and maker.stage == "predict" and "condition" in maker.settings:
            settings: dict[str, Any] = dict(maker.settings)
            condition = settings.pop("condition")
            models.setdefault(canonical_json(settings), {})[condition] = name
    return {
        runs[None]: {condition: name for condition, name in runs.items() if condition is not None}
        for runs in models.values()
        if None in runs and len(runs) > 1
    }


def _class_shares(votes: Votes) -> Labels:
    """The class shares: one distribution for all utterances, from the human votes that are not held out."""
    human = votes.frame.filter(which_count("human"))
    if not human.height:
        fix = "Give the votes of the training utterances too, or name a baseline."
        raise InputError("all human votes are held out, so there are no class shares to compare with", fix=fix)
    counts = dict(human.group_by("label").agg(pl.col("weight").sum()).iter_rows())
    mass = np.array([counts.get(label, 0.0) for label in votes.taxonomy]) + 0.5
    ids = votes.frame["utterance_id"].unique().sort()
    shares = {f"p_{label}": part for label, part in zip(votes.taxonomy, (mass / mass.sum()).tolist(), strict=True)}
    return Labels.of(pl.DataFrame({"utterance_id": ids}).with_columns(**{k: pl.lit(v) for k, v in shares.items()}),
                     taxonomy=votes.taxonomy)  # fmt: skip


def _recovered(shares: Array, strength: Array, comparison: Comparison, seed: int) -> Recovered:
    counts, speakers = comparison.test.counts, comparison.test.speakers
    recovered = recovered_of(shares, strength, comparison)
    return Recovered(
        recovered.strength,
        recovered.ambiguity,
        recall_over_votes(counts, shares, speakers, seed=seed),
        minor_recall(counts, shares, speakers, seed=seed),
        risk_coverage(counts, shares),
        confusion_of_shares(counts, shares),
    )
