"""The page of a training: learning curves, the curriculum, calibration, and findings."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from alm_proxies import __version__
from alm_proxies.files import canonical_json
from alm_proxies.models.trained import TrainedFile
from alm_proxies.printable import counted, in_speakers
from alm_proxies.report.charts import Curves, Line, Series
from alm_proxies.report.findings import findings_table
from alm_proxies.report.page import Cell, Chart, Figure, Page, Section, Table
from alm_proxies.tables import Finding
from alm_proxies.training.curriculum import STRATA, curriculum_table
from alm_proxies.training.features import PASSES
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets

_ROLES = ("human", "fused", "proxy")


def page_of(
    epochs: pl.DataFrame,
    unit: str,
    file: TrainedFile,
    targets: Targets,
    settings: TrainSettings,
    findings: Sequence[Finding],
) -> Page:
    """The page of a finished training."""
    chosen = int(epochs["score"].arg_min() or 0)
    if "attribute_loss" in epochs.columns:  # which is part of the score, in another unit
        epochs = epochs.with_columns(score=pl.coalesce("nll_per_vote", "cross_entropy"))
    best = epochs.row(chosen, named=True)
    judged = "human vote" if best.get("nll_per_vote") is not None else "label"
    headline = f"{file.name}: {best['score']:.3f} nats a {judged} on the development speakers"
    people = targets.people_in(targets.train)
    unknown = people.filter(pl.col("speaker").is_null())["row"].n_unique()
    speakers = in_speakers(people["speaker"].drop_nulls().n_unique(), unknown)
    summary = (
        f"{counted(len(targets.train), 'utterance')} of {speakers} were trained on; {len(targets.development):,} "
        f"of other speakers chose {unit} {best['epoch']} of {len(epochs)}{_of_settings(unit, settings)} and the "
        "calibration, so their scores are slightly too good."
    )
    calibration = file.calibration
    figures = (
        Figure(f"{best['score']:.3f}", f"nats a {judged}", "development, before calibration"),
        Figure(str(best["epoch"]), f"best {unit}", f"of {len(epochs)}"),
        Figure(calibration.method, "calibration", f"learned from {counted(calibration.votes, 'vote')}"),
    )
    sections = [Section("Learning", "Lower is better.", (_learning(epochs, judged, unit),))]
    if settings.curriculum.kind != "none":
        sections.append(_curriculum(targets, settings, len(epochs)))
    if calibration.loss:
        rows: list[list[Cell]] = [[name, value] for name, value in calibration.loss.items()]
        table = Table.of(["Calibration", "Log loss a vote"], rows)
        lead = "Each was fitted to other development speakers than it is scored on; the best is used."
        sections.append(Section("Calibration", lead, (table,)))
    if findings:
        table = findings_table(findings, utterances=True)
        sections.append(Section("Findings", "What was left out or changed.", (table,)))
    provenance = {"alm-proxies": __version__, "settings": canonical_json(settings.model_dump(mode="json"))}
    return Page("Training", headline, summary, figures, tuple(sections), provenance)


def _of_settings(unit: str, settings: TrainSettings) -> str:
    """How passes are counted, which the setting `epochs` does not show."""
    return f" ({PASSES} for each of epochs = {settings.epochs})" if unit == "pass" else ""


def _learning(epochs: pl.DataFrame, judged: str, unit: str) -> Chart:
    at = tuple(float(epoch) for epoch in epochs["epoch"])
    scores = Line(Series.of(f"development, a {judged}", "human", epochs["score"].to_list()), at)
    losses = epochs.filter(pl.col("loss").is_not_null())
    lines = [scores]
    if len(losses):
        own = Series.of("loss in training", "fused", losses["loss"].to_list())
        lines.append(Line(own, tuple(float(epoch) for epoch in losses["epoch"])))
    if "attribute_loss" in epochs.columns:
        lines.append(Line(Series.of("development, attributes", "proxy", epochs["attribute_loss"].to_list()), at))
    values = [float(score) for score in epochs["score"]]
    alt = f"The development score begins at {values[0]:.3f} and is {min(values):.3f} nats at best."
    note = "The lines are different quantities and cannot be compared." if len(lines) > 1 else ""
    return Curves("learning", f"Loss and development score by {unit}", unit, "nats", lines, alt=alt, note=note)


def _curriculum(targets: Targets, settings: TrainSettings, done: int) -> Section:
    table = curriculum_table(targets.shares[targets.train], settings.curriculum, settings.epochs)
    table = table.filter(pl.col("epoch") <= done)  # not those after an early stop
    lines = []
    for stratum, role in zip(STRATA, _ROLES, strict=True):
        part = table.filter(pl.col("stratum") == stratum)
        if len(part):
            series = Series.of(f"{stratum} entropy", role, part["weight"].to_list())
            lines.append(Line(series, tuple(float(epoch) for epoch in part["epoch"])))
    first = table.filter(pl.col("epoch") == 1)
    weights_text = ", ".join(f"{row['stratum']} {row['weight']:.2f}" for row in first.iter_rows(named=True))
    chart = Curves(
        "curriculum",
        "Mean weight of a training utterance by entropy of its target",
        "epoch",
        "mean weight",
        lines,
        alt=f"In the first epoch the mean weights are: {weights_text}.",
        digits=2,
    )
    lead = f"The curriculum is {settings.curriculum.kind.replace('_', ' ')}; 0 = left out in that epoch."
    if "filter" in settings.curriculum.kind:
        kept = float((first["kept"] * first["utterances"]).sum()) / max(int(first["utterances"].sum()), 1)
        lead += (
            f" {kept:.0%} of the utterances were used in the first epoch, for the share "
            f"{settings.curriculum.shares[0]:g}; those of equal entropy stay or go together."
        )
    return Section("Curriculum", lead, (chart,))
