"""The rows to balance: labels joined with their utterances, and findings about them."""

from __future__ import annotations

import polars as pl

from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.table_splits import of_any_split, speakers_on_two_sides
from alm_proxies.tables import Finding, Labels, Utterances


def part_of(
    labels: Labels, utterances: Utterances, settings: BalanceSettings
) -> tuple[Labels, pl.DataFrame, list[Finding]]:
    """The labels to balance, the same rows joined with their utterances, and findings."""
    joined, findings = _joined(labels, utterances)
    chosen = _chosen(joined, settings)
    anyone = joined["utterance_id"].is_in(of_any_split(utterances.frame).implode())
    if count := int((chosen & anyone).sum()):
        message = "utterances in no split, whose unknown speakers may be of the test split, keep their weights"
        findings.append(Finding("balance", "unknown_speaker", f"{message}: train leaves them out", count=count))
    chosen = (chosen & ~anyone).rename("chosen")
    rows = joined.filter(chosen)
    if not rows.height:
        known = ", ".join(sorted(joined["split"].drop_nulls().unique())) or "none"
        fix = f"The splits there are: {known}. Write splits = [...] for the ones to balance."
        raise InputError(f"no labelled utterance is in the split {' or '.join(settings.splits)}", fix=fix)
    findings += speakers_on_two_sides(joined["speaker"], chosen, "in the balanced splits and in others")
    if not rows["weight"].sum() > 0:
        raise InputError("all utterances to balance have the weight 0", fix="Give labels with weights above 0.")
    return Labels(rows.select(labels.frame.columns), labels.about), rows, findings


def _joined(labels: Labels, utterances: Utterances) -> tuple[pl.DataFrame, list[Finding]]:
    """Labels joined with their utterances, in the labels' order."""
    refuse_no_rows(labels.frame, "labels")
    refuse_no_rows(utterances.frame, "utterances")
    clash = [name for name in utterances.frame.columns if name in labels.frame.columns and name != "utterance_id"]
    about = utterances.frame.drop(clash)
    joined = labels.frame.join(about, on="utterance_id", how="inner", maintain_order="left")
    findings = []
    if not joined.height:
        first = labels.frame["utterance_id"][0]
        fix = "Give the utterances file of these labels."
        raise InputError(f"no label belongs to one of these utterances ({first})", fix=fix)
    lost = labels.frame.join(about, on="utterance_id", how="anti")
    if lost.height:
        message = f"{counted(lost.height, 'label')} without an utterance in the utterances file, of unchanged weight"
        fix = "Give the utterances file of these labels."
        example = lost["utterance_id"][0]
        findings.append(Finding("balance", "not_described", message, fix, utterance_id=example, count=lost.height))
    without = about.join(labels.frame, on="utterance_id", how="anti")
    if without.height:
        message = f"{counted(without.height, 'utterance')} without a label, so not balanced"
        example = without["utterance_id"][0]
        findings.append(Finding("balance", "without_labels", message, utterance_id=example, count=without.height))
    return joined, findings


def _chosen(joined: pl.DataFrame, settings: BalanceSettings) -> pl.Series:
    return (joined["split"].is_null() | joined["split"].is_in(list(settings.splits))).rename("chosen")
