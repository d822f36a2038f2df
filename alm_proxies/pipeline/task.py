"""Run one stage of a pipeline, or skip it if nothing it depends on has changed; a marker is written last."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from alm_proxies.audio.places import recordings_digest
from alm_proxies.errors import OutputError
from alm_proxies.files import canonical_json, digest_file, digest_of, folder_to_fill, remove, weights_digest, write_json
from alm_proxies.pipeline.perform import Task, perform
from alm_proxies.pipeline.places import MOVED, digest_without_origin, places_of
from alm_proxies.pipeline.result_files import MARKER, Compared, compared, digest_of_files, files_of
from alm_proxies.plugins import plugin
from alm_proxies.progress import say
from alm_proxies.remembered import REMEMBERED
from alm_proxies.settings import deciding
from alm_proxies.stage import Ahead, load
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.tables import Utterances


class State:
    """Everything that a task's result depends on: the stage's revision, settings, input content, plug-ins."""

    def __init__(self, task: Task, *, quiet: bool = True) -> None:
        self.task = task
        self._quiet = quiet

    @cached_property
    def depends(self) -> dict[str, Any]:
        """The dependencies in words: settings and digests of content by name."""
        task, stage = self.task, self.task.declared
        settings, blocks = task.typed()
        identity: dict[str, Any] = {"stage": task.stage, "revision": stage.revision, "settings": deciding(settings)}
        if blocks:
            identity["blocks"] = [deciding(block) for block in blocks]
        if task.names:
            identity["names"] = task.names
        paths = [Path(path) for name, paths in task.inputs.items() if name != stage.blocks_as for path in paths]
        inputs = {name: content_of(path) for path, name in _distinct_ends(paths).items()}
        if stage.hears:
            table, cards = Path(task.inputs["utterances"][0]), getattr(settings, "cards", None)
            own = table.parent / REMEMBERED
            inputs["recordings"] = recordings_digest(Utterances.read(table), own=own, cards=cards, quiet=self._quiet)
        if stage.depends:
            inputs |= load(stage.depends)(ahead_of(task))
        identity["inputs"] = inputs
        if origins := _origins(task):
            identity["plugins"] = origins
        return json.loads(canonical_json(identity))  # type: ignore[no-any-return]  # as it is read from a marker

    @cached_property
    def digest(self) -> str:
        """A digest of the dependencies, without the names and paths of inputs."""
        return _digest_of(self.depends)


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a task, in the marker of its folder and in the run's manifest."""

    stage: str
    name: str
    folder: str
    digest: str
    depends: dict[str, Any]
    task: dict[str, Any]
    outputs: dict[str, str]
    counts: dict[str, float]
    findings: dict[str, int]
    seconds: float
    complete: bool = True
    skipped: bool = False
    because: str = ""
    files: dict[str, list[Any]] = field(default_factory=dict)
    """The files of the result besides its outputs: size, time and digest by path in the folder."""
    places: dict[str, str] = field(default_factory=dict)
    """Where the recordings are, if the result states it; no part of the digest."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task runs."""

    text: str
    same_content: bool = False
    """Whether all that its result depends on is as before, so that later stages see no change."""

    def __str__(self) -> str:
        return self.text


def ahead_of(task: Task, **more: Any) -> Ahead:
    """A task in the form that `foresee` and `depends` take."""
    settings, blocks = task.typed()
    return Ahead(
        settings=settings,
        blocks=blocks,
        folder=Path(task.folder),
        labels=tuple(task.labels),
        inputs={name: tuple(Path(path) for path in paths) for name, paths in task.inputs.items()},
        beside=Path(task.beside),
        **more,
    )


def do(task: Task, *, quiet: bool = False) -> Record:
    """Perform a task, or skip it if its marker shows the same task and its files are unchanged."""
    folder, state = Path(task.folder), State(task, quiet=quiet)
    before = _marker(folder)
    files = compared(folder, before.files if before is not None else {}, task.declared.resumes_from)
    because = _why(state, before, files)
    if because is None and before is not None:
        say(f"{task.title}: unchanged, skipped ({folder})", quiet=quiet)
        _keep_times(folder, before, files)
        now = {"task": asdict(task), "folder": task.folder, "skipped": True, "because": "unchanged"}
        return Record(**{**asdict(before), **now})
    say(f"{task.title}: {because} ({folder})", quiet=quiet)
    started = time.monotonic()
    if before is not None:
        _forget(task, files, everything=before.digest != state.digest)
    with folder_to_fill(folder):
        remove(folder / MARKER)
        depends = state.depends  # before anything is read: what changes meanwhile is noticed by the next run
        done = perform(task, quiet=quiet)
    result = files_of(task.declared, folder)
    outputs = [task.output(name) for name in done.written]
    if "changed_meanwhile" in done.findings.counts():  # recordings may be as before again, and were not when read
        depends = {**depends, "inputs": {**depends["inputs"], "recordings": "changed while being read"}}
    record = Record(
        stage=task.stage,
        name=task.name,
        folder=task.folder,
        digest=_digest_of(depends),
        depends=depends,
        task=asdict(task),
        outputs={
            path.relative_to(folder).as_posix(): digest_of_files(result) if path == folder else digest_file(path)
            for path in outputs
        },
        counts=dict(done.counts),
        findings=done.findings.counts(),
        seconds=round(time.monotonic() - started, 3),
        complete=done.complete,
        because=str(because or ""),
        files=result,
        places=places_of(task),
    )
    write_json(folder / MARKER, asdict(record))
    return record


def _distinct_ends(paths: Iterable[Path]) -> dict[Path, str]:
    """The end of each path by which it is named: folder and file, and as many folders more as make it distinct."""
    ends = {path: "/".join(path.parts[-2:]) for path in paths}
    for length in range(3, max((len(path.parts) for path in ends), default=0) + 1):
        alike = Counter(ends.values())
        ends = {path: "/".join(path.parts[-length:]) if alike[end] > 1 else end for path, end in ends.items()}
    return ends


def _digest_of(depends: dict[str, Any]) -> str:
    return digest_of({**depends, "inputs": list(depends["inputs"].values())})


def will_run(task: Task, *, quiet: bool = True) -> Reason | None:
    """The reason why a task would run again, or None if it would be skipped."""
    folder = Path(task.folder)
    before = _marker(folder)
    recorded = before.files if before is not None else {}
    return _why(State(task, quiet=quiet), before, compared(folder, recorded, task.declared.resumes_from))


def content_of(path: Path) -> str:
    """A digest of 16 hexadecimal digits of the content of a file, of a stage's result, or of a model's folder."""
    if not path.is_dir():
        return digest_without_origin(path)
    before = _marker(path)
    if before is not None and before.files:
        resumes_from = stage_of(before.stage).resumes_from if before.stage in STAGES else ()
        return digest_of_files(compared(path, before.files, resumes_from).now)
    return weights_digest(path, "**/*")


def _keep_times(folder: Path, before: Record, files: Compared) -> None:
    """Record the times of files that were copied or touched, so that they need not be read again."""
    if files.now != before.files:
        with suppress(OutputError):  # a folder that may not be written: they are read the next time too
            write_json(folder / MARKER, asdict(replace(before, files=files.now)))


def _forget(task: Task, files: Compared, *, everything: bool) -> None:
    """Remove what the stage would go on from although it is no longer its own: changed files, or all of another result.

    A changed file of a result that is one folder is left: export refuses to overwrite it.
    """
    folder = Path(task.folder)
    for name in task.declared.resumes_from:
        if everything or any(Path(lost).is_relative_to(name) for lost in files.unresumable):
            shutil.rmtree(folder / name, ignore_errors=True)
    for name in files.changed if task.declared.contains else ():
        remove(folder / name)


def _origins(task: Task) -> dict[str, str]:
    """Third-party distributions that take part in the task, with their versions."""
    stage = task.declared
    named: list[tuple[str, str]] = []
    if stage.choice is not None:
        own = [task.settings] if stage.blocks != "combined" else task.blocks
        named += [(stage.choice.kind, values[stage.choice.key]) for values in own if stage.choice.key in values]
    named += [(kind, task.settings[key]) for key, kind in stage.plugins.items() if task.settings.get(key)]
    used = (plugin(kind, name) for kind, name in dict.fromkeys(named))
    return {f"{plug_in.kind} {plug_in.name}": plug_in.state for plug_in in used if plug_in.origin}


def _marker(folder: Path) -> Record | None:
    try:
        return Record(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _why(state: State, before: Record | None, files: Compared) -> Reason | None:
    folder = Path(state.task.folder)
    if before is None:
        return Reason("runs for the first time" if not folder.exists() else "was not finished, runs again")
    if not before.complete:
        return Reason("continues where it stopped")
    if before.digest != state.digest:
        changed = _changes(before.depends, state.depends)
        return Reason(f"runs again because {', '.join(changed[:4])}{' and more' if len(changed) > 4 else ''}")
    for name, digest in before.outputs.items():
        path = folder / name
        if not path.exists():
            return Reason(f"runs again because {name} is missing", same_content=True)
        if path != folder and digest_file(path) != digest:
            return Reason(f"runs again because {name} has changed", same_content=True)
    if files.lost:
        return Reason(f"runs again because {files.reason}", same_content=True)
    return Reason(MOVED, same_content=True) if before.places != places_of(state.task) else None


def _changes(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*new, *(name for name in old if name not in new)]
        return [
            change for name in names for change in _changes(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
        ]
    if old == new:
        return []
    name = path.removeprefix("settings.")
    if name.startswith("inputs."):  # digests are of no use to readers
        became = "is new" if old is None else "is gone" if new is None else "has changed"
        return [f"{name.removeprefix('inputs.')} {became}"]
    return [f"{name} has changed ({_short(old)} -> {_short(new)})"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
