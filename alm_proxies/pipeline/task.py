"""One stage of one run: skipped when nothing it depends on has changed, else done, with a marker written last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alm_proxies import __version__
from alm_proxies.files import canonical_json, digest_file, digest_of, make_folder, remove, write_json
from alm_proxies.progress import say
from alm_proxies.tables import Findings

MARKER = "stage.json"


@dataclass(frozen=True, slots=True)
class Done:
    """What a stage's work gives back: what was left out or corrected, and how much of what there is."""

    findings: Findings
    counts: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    """False: there is more to do (a budget was reached, say), so the stage is gone on with next time."""


@dataclass(frozen=True, slots=True)
class Task:
    """A stage to be done: everything that changes its result, its files, and the work itself."""

    stage: str
    folder: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    work: Callable[[Path], Done]

    @property
    def digest(self) -> str:
        """Changes when settings, inputs or the version of alm-proxies change."""
        return digest_of(self._depends())

    def _depends(self) -> dict[str, Any]:
        settings = json.loads(canonical_json(dict(self.settings)))
        return {"version": __version__, "stage": self.stage, "settings": settings, "inputs": dict(self.inputs)}


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a task: in the marker of its folder, and in the run's manifest."""

    stage: str
    folder: str
    digest: str
    depends: dict[str, Any]
    outputs: dict[str, str]
    counts: dict[str, float]
    findings: dict[str, int]
    seconds: float
    complete: bool = True
    skipped: bool = False
    because: str = ""


def do(task: Task, *, quiet: bool = False) -> Record:
    """Do a task, or skip it when its marker says that the same was done and its files are as they were left."""
    before = _marker(task.folder)
    because = _why(task, before)
    if because is None and before is not None:
        say(f"{task.stage}: unchanged, skipped ({task.folder})", quiet=quiet)
        return Record(**{**asdict(before), "skipped": True, "because": "unchanged"})
    say(f"{task.stage}: {because} ({task.folder})", quiet=quiet)
    make_folder(task.folder)
    remove(task.folder / MARKER)
    started = time.monotonic()
    done = task.work(task.folder)
    done.findings.write(task.folder / "findings.parquet")
    outputs = {name: digest_file(task.folder / name) for name in (*task.outputs, "findings.parquet")}
    record = Record(
        stage=task.stage,
        folder=str(task.folder),
        digest=task.digest,
        depends=task._depends(),
        outputs=outputs,
        counts=dict(done.counts),
        findings=done.findings.counts(),
        seconds=round(time.monotonic() - started, 3),
        complete=done.complete,
        because=because or "",
    )
    write_json(task.folder / MARKER, asdict(record))
    return record


def will_run(task: Task) -> str | None:
    """Why a task would be done again, or None if it would be skipped."""
    return _why(task, _marker(task.folder))


def _marker(folder: Path) -> Record | None:
    try:
        return Record(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _why(task: Task, before: Record | None) -> str | None:
    if before is None:
        return "runs for the first time" if not task.folder.exists() else "was not finished, runs again"
    if not before.complete:
        return "goes on where it stopped"
    if before.digest != task.digest:
        changed = _changes(before.depends, task._depends())
        return f"runs again because {', '.join(changed[:4])}{' and more' if len(changed) > 4 else ''}"
    for name, digest in before.outputs.items():
        path = task.folder / name
        if not path.exists():
            return f"runs again because {name} is gone"
        if digest_file(path) != digest:
            return f"runs again because {name} was changed since"
    return None


def _changes(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [
            change for name in names for change in _changes(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
        ]
    if old == new:
        return []
    name = path.removeprefix("settings.")
    for kind, called in (("inputs.", ""), ("panel.", "annotator ")):
        if name.startswith(kind):  # digests say nothing to people
            became = "is new" if old is None else "is gone" if new is None else "has changed"
            return [f"{called}{name.removeprefix(kind)} {became}"]
    return [f"{name} has changed ({_short(old)} -> {_short(new)})"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
