"""Perform a task in any process: load its inputs, call the stage's function, write its outputs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from alm_proxies.about import about_of
from alm_proxies.alone import WAIT, alone_beside
from alm_proxies.audio.folder import recordings_in
from alm_proxies.audio.places import State, changed_meanwhile, states_of
from alm_proxies.errors import TableError
from alm_proxies.files import canonical_json, folder_to_fill, read_text, whole, write_json
from alm_proxies.progress import noted
from alm_proxies.remembered import REMEMBERED
from alm_proxies.remote.at_hand import at_hand, refuse_elsewhere
from alm_proxies.stage import Need, Stage, load
from alm_proxies.stages.registry import stage_of
from alm_proxies.tables import Findings, Labels, Utterances, Votes, combine

FINDINGS = "findings.parquet"
RUNNING = "running.json"
"""File in the folder of a running stage: its process and its progress."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task: a stage with its inputs and settings as plain data, which can be sent to another process as JSON."""

    stage: str
    folder: str
    settings: dict[str, Any]
    blocks: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[str, list[str]] = field(default_factory=dict)
    """The files for each need."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """The name of each file, if a stage compares several."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Files outside the folder, by their names in the stage."""
    labels: list[str] = field(default_factory=list)
    """The labels in order, if the run defines them."""
    taxonomy: str | None = None
    """The labels of tables that do not state them."""
    name: str = ""
    """Name of the block."""
    beside: str = ""
    """Folder of the file that names the paths; only used in messages."""

    def json(self) -> str:
        """The task as one line."""
        return canonical_json(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Task:
        """The task from its line."""
        return cls(**json.loads(text))

    @property
    def title(self) -> str:
        """The name, e.g. fuse or train wavlm-fused."""
        return f"{self.stage} {self.name}".strip()

    @property
    def declared(self) -> Stage:
        """The declaration of the stage."""
        return stage_of(self.stage)

    def output(self, name: str) -> Path:
        """The path of an output."""
        files = {**self.declared.writes, **self.declared.may_write, "findings": FINDINGS}
        return Path(self.outputs[name]) if name in self.outputs else Path(self.folder) / files[name]

    def typed(self) -> tuple[BaseModel, tuple[BaseModel, ...]]:
        """The settings and the blocks."""
        stage = self.declared
        if stage.blocks == "combined":
            blocks = tuple(stage.settings_for(block).model_validate(block) for block in self.blocks)
            return stage.settings.model_validate(self.settings), blocks
        return stage.settings_for(self.settings).model_validate(self.settings), ()


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a task: findings, counts, and whether it is complete."""

    findings: Findings
    counts: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    """False if there is more to do (for example, a budget was reached), so that the next run continues the stage."""
    line: str = ""
    """The result as text."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The result as data."""
    written: tuple[str, ...] = ()
    """The existing outputs."""


def perform(task: Task, *, quiet: bool = False, workers: int | None = None) -> Done:
    """Perform a task: read its tables, call the stage's function, and write the outputs."""
    tables = [path for need, paths in task.inputs.items() if need != task.declared.blocks_as for path in paths]
    folders = [need.name for need in task.declared.needs if need.table == "folder"]
    refuse_elsewhere(path for name in folders for path in task.inputs.get(name, ()))
    alone = alone_beside(Path(task.folder), task.stage, WAIT) if task.declared.replaces else nullcontext()
    with alone, folder_to_fill(task.folder), at_hand(tables) as hand:
        inputs = {
            need: paths if need == task.declared.blocks_as else [str(hand.path(path)) for path in paths]
            for need, paths in task.inputs.items()
        }
        return _performed(replace(task, inputs=inputs), quiet, workers)


def _performed(task: Task, quiet: bool, workers: int | None) -> Done:
    stage = task.declared
    settings, blocks = task.typed()
    if stage.by_files:
        function = load(stage.by_files)
        given: dict[str, Any] = {"output": task.output(next(iter(stage.writes))), "taxonomy": task.taxonomy}
        given |= {need.name: _paths(need, task) for need in stage.needs if task.inputs.get(need.name)}
    else:
        function = load(stage.function)
        given = _tables(stage, task, quiet)
        given |= {"folder": Path(task.folder)} if stage.into_folder else {}
    if stage.blocks_as:
        given[stage.blocks_as] = list(blocks)
    given |= {name: load(target)(settings) for name, target in stage.made.items()}
    given["settings"] = settings
    runtime = {"quiet": quiet, "workers": workers}
    takes = inspect.signature(function).parameters
    more = {name: value for name, value in runtime.items() if name in takes}
    recordings = _recordings(task, given["utterances"], settings) if stage.hears else {}
    with nullcontext() if task.outputs else noted(Path(task.folder) / RUNNING, stage=task.title):
        result = function(**given, **more)
    if getattr(result, "interrupted", False):
        raise KeyboardInterrupt
    changed = Findings.gather(changed_meanwhile(recordings), task.stage)
    findings = stamped(result.findings if not len(changed) else combine(result.findings, changed), task.stage)
    with _all_or_none() as files:
        if not stage.into_folder:
            files += [task.output(next(iter(stage.writes)))] if stage.by_files else []
            _write(stage, task, result, files)
        findings.write(task.output("findings"))
    written = tuple(name for name in (*stage.writes, *stage.may_write, "findings") if task.output(name).exists())
    return Done(
        findings=findings,
        counts=_counts(result),
        complete=getattr(result, "complete", True),
        line=getattr(result, "line", ""),
        data=dict(getattr(result, "data", {})),
        written=written,
    )


def _recordings(task: Task, utterances: Utterances, settings: BaseModel) -> dict[str, State]:
    """The states of the recordings, with what is remembered of their content beside the table."""
    own = Path(task.inputs["utterances"][0]).parent / REMEMBERED
    return states_of(utterances, own=own, cards=getattr(settings, "cards", None))


def _counts(result: Any) -> dict[str, float]:
    """The counts of a result, with the numbers of recordings and of those left out where it has these beside them."""
    beside = {name: getattr(result, name, None) for name in ("recordings", "left_out")}
    counts = dict(getattr(result, "counts", {}))
    return counts if beside["recordings"] is None else counts | {k: v for k, v in beside.items() if v is not None}


def stamped(findings: Findings, stage: str) -> Findings:
    """The findings with the name of the stage."""
    return Findings(findings.frame.with_columns(stage=pl.lit(stage)), findings.about)


def _paths(need: Need, task: Task) -> Path | list[Path]:
    paths = [Path(path) for path in task.inputs[need.name]]
    return paths if need.every else paths[0]


def _tables(stage: Stage, task: Task, quiet: bool) -> dict[str, Any]:
    """Read the inputs of each need; a table that does not state its labels gets those of the others."""
    met = [need for need in stage.needs if task.inputs.get(need.name) and need.name != stage.blocks_as]
    loaded: dict[str, Any] = {}
    taxonomy: Any = task.taxonomy
    # utterances last, because they need not state the labels
    for need in sorted(met, key=lambda need: need.table == "utterances"):
        loaded[need.name] = _loaded(need, task, taxonomy, quiet)
        taxonomy = taxonomy or next((table.taxonomy for table in _each(loaded[need.name]) if table.taxonomy), None)
    return loaded


def _each(value: Any) -> Iterator[Any]:
    yield from (
        table for table in (value.values() if isinstance(value, dict) else [value]) if hasattr(table, "taxonomy")
    )


def _loaded(need: Need, task: Task, taxonomy: Any, quiet: bool) -> Any:
    paths = [Path(path) for path in task.inputs[need.name]]
    if need.by_files:
        return load(need.by_files)(paths, task.taxonomy, Path(task.folder), quiet=quiet)
    if need.table == "votes":
        return combine(*(Votes.read(path, taxonomy=task.taxonomy) for path in paths))
    if need.table == "json":
        read = [json.loads(read_text(path)) for path in paths]
        return dict(zip(_names(need, task), read, strict=True)) if need.every else read[0]
    if need.table == "utterances":
        table = combine(*(_people(path, task.taxonomy) for path in paths))
        known = table.taxonomy or not taxonomy
        return table if known else Utterances.of(table.frame, taxonomy=taxonomy, about=table.about)
    if need.table == "labels":
        tables = [Labels.read(path, taxonomy=task.taxonomy) for path in paths]
        return dict(zip(_names(need, task), tables, strict=True)) if need.every else tables[0]
    return dict(zip(_names(need, task), paths, strict=True)) if need.every else paths[0]


def _people(path: Path, taxonomy: str | None) -> Utterances:
    """The utterances of a file or of a folder of recordings; a file's own labels are those asked for, if any are."""
    return recordings_in(path) if path.is_dir() else Utterances.read(path, taxonomy=taxonomy)


def _names(need: Need, task: Task) -> list[str]:
    """A name for each file of a need: from the run, otherwise the shortest distinct end of its path."""
    if task.names.get(need.name):
        return task.names[need.name]
    paths = [Path(path).absolute() for path in task.inputs[need.name]]
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.with_suffix("").parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number} {path.stem}" for number, path in enumerate(paths, 1)]


@contextmanager
def _all_or_none() -> Iterator[list[Path]]:
    """A list for the files of a result that are written; they are removed if a later one cannot be."""
    files: list[Path] = []
    try:
        yield files
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise


def _write(stage: Stage, task: Task, result: Any, files: list[Path]) -> None:
    """Write the outputs that the result has; those written are added to `files`."""
    for name in (*stage.writes, *stage.may_write):
        value = getattr(result, name, None)
        path = task.output(name)
        if isinstance(value, pl.DataFrame):
            with whole(path) as temporary:
                value.write_parquet(temporary)
        elif isinstance(value, Mapping | list):
            write_json(path, value)
        elif (write := getattr(value, "write", None)) is not None:
            write(path)
        else:
            if name in stage.may_write and _is_of(stage, path):
                path.unlink()  # left by an earlier run
            continue
        files.append(path)


def _is_of(stage: Stage, path: Path) -> bool:
    """Whether a file is there that this stage wrote: another stage's table is not."""
    if not path.is_file() or path.suffix != ".parquet":
        return path.is_file()
    try:
        made_by = about_of(path).made_by
    except TableError:
        return False
    return made_by is not None and made_by.stage == stage.verb
