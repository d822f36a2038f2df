"""What a pipeline file may say, and the runs it stands for.

A section of the file is the settings of one stage, named as the stage is. `[vary]` makes a run for each combination
of its values; a stage that no varied key reaches is done once and shared.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from alm_proxies.columns import did_you_mean
from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_of, read_text, shipped_folder
from alm_proxies.settings import read_toml, settings_of
from alm_proxies.stages.align.stage import AlignSettings
from alm_proxies.stages.annotate.stage import AnnotateSettings
from alm_proxies.stages.fuse.stage import FuseSettings
from alm_proxies.stages.read.stage import HoldOut, Source
from alm_proxies.stages.simulate.stage import SimulateSettings
from alm_proxies.taxonomy import checked_taxonomy, taxonomy_of

STAGES = ("simulate", "read", "annotate", "fuse", "align")
MAX_RUNS = 1000
_LONGEST = 40


class PipelineFile(BaseModel):
    """One run: where its corpora come from, and what each stage is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path
    """Where everything is written, beside the file unless it is absolute; a shipped file's is where you are."""
    taxonomy: Annotated[str | tuple[str, ...], AfterValidator(checked_taxonomy)]
    """The labels: a name such as "msp8", or the labels in order."""
    seed: int = Field(default=0, ge=0, strict=True)
    """Every stage's seed, where it does not name its own."""
    simulate: SimulateSettings | None = None
    """A corpus to synthesise, beside or instead of corpora to read."""
    read: tuple[Source, ...] = ()
    """One block a corpus."""
    hold_out: HoldOut | None = None
    """Which human votes are kept from every fit, for scoring."""
    annotate: AnnotateSettings | None = None
    """Which annotators vote, and what that may cost."""
    fuse: FuseSettings | None = None
    """How human and proxy votes become distributions."""
    align: AlignSettings | None = None
    """A report on how well proxies and fused labels agree with human votes."""

    @model_validator(mode="after")
    def _has_a_corpus(self) -> PipelineFile:
        if self.simulate is None and not self.read:
            raise ValueError("names no corpus: write [[read]] for one you have, or [simulate] for a synthetic one")
        if self.align is not None and self.fuse is None:
            raise ValueError("[align] reports on fused labels: write [fuse] too")
        return self


@dataclass(frozen=True, slots=True)
class Run:
    """One combination of [vary]: its file, and what was chosen for it."""

    file: PipelineFile
    chosen: dict[str, Any]

    @property
    def name(self) -> str:
        """What was chosen, in words; empty when nothing varies."""
        return ",".join(f"{key}={_spelled(value)}" for key, value in self.chosen.items())

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in order."""
        return taxonomy_of(self.file.taxonomy).labels

    def place(self, stage: str) -> Path:
        """The stage's folder: runs that agree in all that reaches a stage share it."""
        reaching = {key: value for key, value in self.chosen.items() if _reaches(key, stage)}
        folder = self.file.folder / stage
        return folder / _short(",".join(f"{key}={_spelled(value)}" for key, value in reaching.items()))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline file read: its path, and the runs it stands for."""

    path: Path
    runs: tuple[Run, ...]

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.runs[0].file.folder


def read_pipeline(path: str | Path, folder: str | Path | None = None) -> Pipeline:
    """Read and check a pipeline file, one of the user's or a shipped one by name ("demo").

    `folder` stands for the file's own folder.
    """
    named = Path(path)
    path = _found(named)
    text = read_text(path)
    values = read_toml(text, str(path))
    if folder is not None:
        values["folder"] = str(folder)
    elif path == named and isinstance(values.get("folder"), str):
        values["folder"] = str(path_in(path.parent, Path(values["folder"]), str(path)))
    vary = values.pop("vary", {})
    if not isinstance(vary, dict):
        raise SettingsError("vary is not a table of lists", where=str(path), fix="Write [vary], then seed = [1, 2, 3].")
    runs = []
    for chosen in _combinations(vary, str(path)):
        changed = copy.deepcopy(values)
        for key, value in chosen.items():
            _put(changed, key, value, str(path))
        runs.append(Run(settings_of(PipelineFile, changed, str(path), text), chosen))
    return Pipeline(path.absolute(), tuple(runs))


def path_in(folder: Path, said: Path, where: str) -> Path:
    """A path that a file in `folder` says: relative to that folder; ~ is the user's home."""
    try:
        return folder / said.expanduser()
    except RuntimeError:
        raise SettingsError(f"nobody knows whose home {said} is in", where=where, fix="Write it in full.") from None


def _found(path: Path) -> Path:
    shipped = shipped_folder("pipelines")
    named = shipped / f"{path}.toml"
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        if named.is_file():
            return named
        known = sorted(p.stem for p in shipped.glob("*.toml"))
        near = did_you_mean(path.name, known)
        raise SettingsError(f"there is no file {path}", fix=f"{near} Shipped: {', '.join(known)}.".strip())
    return path


def _combinations(vary: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    flat = dict(_flattened(vary))
    count = 1
    for key, values in flat.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"vary.{key} is not a list of values", where=where, fix=f'Write "{key}" = [a, b].')
        if key.split(".")[0] == "folder":
            raise SettingsError("the folder cannot be varied", where=where, fix="Each run gets its own place in it.")
        if len({digest_of(value) for value in values}) < len(values):
            raise SettingsError(f"vary.{key} names a value twice", where=where, fix="Name each value once.")
        if len({_spelled(value) for value in values}) < len(values):
            message = f"vary.{key} has values whose folders would have one name"
            raise SettingsError(message, where=where, fix="Write all of them as numbers, or all as text.")
        count *= len(values)
    if count > MAX_RUNS:
        raise SettingsError(f"[vary] stands for {count} runs", where=where, fix=f"Keep it under {MAX_RUNS}.")
    for values in itertools.product(*flat.values()):
        yield dict(zip(flat, values, strict=True))


def _flattened(vary: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in vary.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            yield from _flattened(value, f"{name}.")
        else:
            yield name, value


def _put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    *path, last = key.split(".")
    places: list[Any] = [values]
    for part in path:
        below: list[Any] = []
        for place in places:
            inner = place.setdefault(part, {}) if isinstance(place, dict) else None
            below.extend(inner if isinstance(inner, list) else [inner])
        places = below
    for place in places:
        if not isinstance(place, dict):
            raise SettingsError(f"vary.{key} does not lead to a setting", where=where, fix="Name section.key.")
        place[last] = value


def _reaches(key: str, stage: str) -> bool:
    section = key.split(".")[0]
    if section == "hold_out":
        section = "read"
    if section not in STAGES:  # taxonomy and seed reach everything
        return True
    if section == "simulate" and stage == "simulate":
        return True
    return STAGES.index(section) <= STAGES.index(stage)


def _spelled(value: Any) -> str:
    """A value as part of a folder's name: as it is, or with its digest where that cannot be."""
    if not isinstance(value, str | int | float):
        return digest_of(value)[:8]
    text = str(value)
    spelled = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    return spelled if spelled == text and 0 < len(text) <= _LONGEST else f"{spelled[:_LONGEST]}-{digest_of(value)[:8]}"


def _short(name: str) -> str:
    """A folder's name of at most 200 bytes."""
    if len(name.encode()) <= 200:
        return name
    return f"{name.encode()[:180].decode(errors='ignore')}-{digest_of(name)}"
