"""The stages of a pipeline as the markers in its folder state them: what is read back then names keys of its file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import read_text
from alm_proxies.pipeline.graph import Node, Run, Section
from alm_proxies.pipeline.keys import findings_in_file, in_file
from alm_proxies.pipeline.perform import Task
from alm_proxies.pipeline.result_files import MARKER
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.tables import Findings


class RecordedTask(BaseModel):
    """The task of a stage that was done."""

    settings: dict[str, Any]


class RecordedStage(BaseModel):
    """The record of a stage, as far as it is read back."""

    task: RecordedTask


class RecordedRun(BaseModel):
    """The folders of the stages of one run."""

    stages: list[str]


class Manifest(BaseModel):
    """The runs of a pipeline's folder, and the record of every stage by its folder there."""

    runs: list[RecordedRun] = Field(min_length=1)
    stages: dict[str, RecordedStage]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if any(not place or place not in self.stages for run in self.runs for place in run.stages):
            raise ValueError("a run has a stage without a record")
        return self

    @classmethod
    def of(cls, path: Path | None, markers: Iterable[Path], folder: Path) -> Self:
        """The manifest of a folder. Where there is none of ours, as in an unfinished run: the runs of the stages that
        have left a marker; damaged markers are passed over.
        """
        if path is not None:
            try:
                return cls.model_validate(json.loads(read_text(path)))
            except ValidationError:
                pass  # of something else
            except ValueError as error:
                fix = "Run the pipeline file again."
                raise InputError(f"is not JSON: {error}", where=str(path), fix=fix) from None
        records = {}
        for marker in markers:
            with suppress(ValueError, InputError):
                record = RecordedStage.model_validate(json.loads(read_text(marker)))
                place = marker.parent.relative_to(folder) if marker.is_relative_to(folder) else marker.parent
                records[str(place)] = record
        return cls(runs=_runs(list(records)), stages=records)

    def settings(self, place: str) -> dict[str, Any]:
        """The settings of the stage in a folder."""
        return self.stages[place].task.settings


def _runs(places: Sequence[str]) -> list[RecordedRun]:
    """The runs that have stages in these folders; those of [vary] are named by the values that reach a stage."""
    values = {place: frozenset(Path(place).name.split(",") if "=" in Path(place).name else ()) for place in places}
    chosen = [own for own in dict.fromkeys(values.values()) if not any(own < other for other in values.values())]
    runs = [RecordedRun(stages=[place for place in places if values[place] <= own]) for own in chosen]
    return runs or [RecordedRun(stages=[])]


class Recorded:
    """Sentences that stages have written, with keys of the pipeline file in place of flags.

    Those of single commands, whose folders no pipeline has marked, stay as they are.
    """

    def __init__(self) -> None:
        self._runs: dict[Path, Run] = {}

    def findings(self, findings: Findings, folder: Path) -> Findings:
        """The findings of the stage of a folder."""
        frame = findings.frame
        if not any("--" in text for name in ("message", "fix") for text in frame[name].drop_nulls()):
            return findings
        known = self._of(folder)
        return findings if known is None else findings_in_file(findings, *known)

    def text(self, text: str, folder: Path) -> str:
        """A sentence about the stage of a folder."""
        known = self._of(folder) if "--" in text else None
        return text if known is None else in_file(text, *known)

    def _of(self, folder: Path) -> tuple[Node, Run] | None:
        """The stage of a folder and its run; None where no pipeline wrote it."""
        own = _section(folder / MARKER)
        verbs = list(STAGES) if own is None else [own.stage.verb]
        place = next((place for place in (folder, *folder.parents) if place.name in verbs), None)
        if place is None:
            return None
        run = self._run(place.parent)
        if own is None:
            if not run.sections:
                return None
            stage = stage_of(place.name)  # it has not ended, so it has no marker yet
            own = Section(stage, "", stage.settings.model_construct())
        return Node(own, own.name, folder), run

    def _run(self, folder: Path) -> Run:
        if folder not in self._runs:
            sections: dict[str, tuple[Section, ...]] = {}
            for marker in sorted((*folder.glob(f"*/{MARKER}"), *folder.glob(f"*/*/{MARKER}"))):
                verb = marker.relative_to(folder).parts[0]  # stage, or stage/block
                if (section := _section(marker)) is not None and section.stage.verb == verb:
                    sections[verb] = (*sections.get(verb, ()), section)
            self._runs[folder] = Run(folder, (), sections, {}, folder)
        return self._runs[folder]


def _section(marker: Path) -> Section | None:
    """The section that a marker states; None without one, or with one that cannot be read here."""
    try:
        task = Task(**json.loads(marker.read_bytes())["task"])
        settings, blocks = task.typed()
        return Section(stage_of(task.stage), task.name, settings, blocks)
    except (OSError, ValueError, KeyError, TypeError, ValidationError, AlmProxiesError):
        return None  # the flags stay: they name the same settings
