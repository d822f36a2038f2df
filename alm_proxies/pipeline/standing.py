"""The progress of a folder of results: stages done and running, cost, remaining time, result files."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import could_not_read
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.recorded import Recorded
from alm_proxies.printable import counted, in_money, in_shell, one_currency
from alm_proxies.progress import is_running
from alm_proxies.stages.annotate.figures import ready_at
from alm_proxies.stages.annotate.ledgers import Status, repeated
from alm_proxies.stages.annotate.ledgers import status as status_of_ledgers
from alm_proxies.stages.registry import STAGES


@dataclass(frozen=True, slots=True)
class StageStanding:
    """The progress of one stage."""

    title: str
    folder: str
    state: str
    """done, running, stopped (it can be continued) or killed."""
    seconds: float | None = None
    """Duration."""
    counts: dict[str, float] | None = None
    progress: str = ""
    """Progress, current or last."""
    minutes_left: float | None = None
    process: int | None = None
    host: str = ""
    currency: str = ""
    """The currency of its price; empty = not stated."""

    @property
    def how_to_stop(self) -> str | None:
        """How to stop it without loss; None if it does not run."""
        if self.state != "running":
            return None
        here = self.host == platform.node()
        return f"kill -TERM {self.process}" if here else f"kill -TERM {self.process} on {self.host}"

    def __str__(self) -> str:
        if self.state == "running":
            left = self.minutes_left
            when = f", ready at {ready_at(left)}" if left is not None else ""
            progress = f": {self.progress}" if self.progress else ""
            return f"{self.title}: running{progress}{when}; stop it with: {self.how_to_stop}"
        if self.state == "killed":
            was = f" ({self.progress})" if self.progress else ""
            return f"{self.title}: its process ended before it was done{was}; run the same command again to continue"
        counts = ", ".join(
            _counted(name, value, self.currency)
            for name, value in (self.counts or {}).items()
            if value or name != "price"
        )
        took = f" in {self.seconds:,.0f} s" if self.seconds is not None else ""
        more = "; stopped early, run the same command again to continue" if self.state == "stopped" else ""
        return f"{self.title}: done{took}{f', {counts}' if counts else ''}{more}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a folder of results."""

    folder: Path
    place: Path
    """The folder or the file that was named."""
    stages: tuple[StageStanding, ...]
    ledgers: tuple[Status, ...]
    results: dict[str, tuple[str, ...]]
    """Paths of the results, by kind: page, labels, votes, utterances."""
    findings: dict[str, int]
    """Number of findings by severity; what several stages or runs found alike counts once."""
    clips: int
    """Number of utterances with a vote that is not ok or a recording that could not be used."""
    wrong: tuple[str, ...] = ()
    """Files that could not be read."""
    twice: frozenset[str] = frozenset()
    """Ledgers whose votes another one has: shards beside what was merged from them, and copies."""

    @property
    def paid(self) -> float:
        """Total cost so far."""
        return sum(ledger.price for ledger in self._once)

    @property
    def to_come(self) -> float:
        """Expected cost of the waiting votes."""
        return sum(ledger.price_left for ledger in self._once)

    @property
    def _once(self) -> list[Status]:
        return [ledger for ledger in self.ledgers if ledger.ledger not in self.twice]

    def lines(self) -> Iterator[str]:
        """The progress as text."""
        yield from map(str, self.stages)
        yield from map(str, self.ledgers)
        if self.ledgers:
            currency = one_currency(ledger.currency for ledger in self.ledgers)
            rest = f", about {in_money(self.to_come, currency)} to come" if self.to_come else ""
            once = " (votes that two ledgers have count once)" if self.twice else ""
            yield f"cost: {in_money(self.paid, currency)} spent{rest}{once}"
        for kind, paths in self.results.items():
            yield f"{kind}: {', '.join(paths)}"
        if any(self.findings.values()):
            present = [severity for severity in reversed(SEVERITIES) if self.findings[severity]]
            counts = ", ".join(counted(self.findings[severity], _noun(severity)) for severity in present)
            yield f"findings: {counts}; see them with: alm-proxies findings {in_shell(self.place)}"
        if self.clips:
            noun = "utterance has" if self.clips == 1 else "utterances have"
            command = f"alm-proxies findings {in_shell(self.place)} --clips"
            yield f"{self.clips:,} {noun} votes or recordings that could not be used: {command}"
        yield from (f"wrong: {text}" for text in self.wrong)

    def data(self) -> dict[str, Any]:
        """The progress as data."""
        return {
            "folder": str(self.folder),
            "stages": [{**asdict(stage), "how_to_stop": stage.how_to_stop} for stage in self.stages],
            "ledgers": [
                {**asdict(ledger), "waiting": ledger.waiting, "minutes_left": ledger.minutes_left}
                for ledger in self.ledgers
            ],
            "twice": sorted(self.twice),
            "paid": self.paid,
            "to_come": self.to_come,
            "results": {kind: list(paths) for kind, paths in self.results.items()},
            "findings": self.findings,
            "clips": self.clips,
            "wrong": list(self.wrong),
        }


def standing_of(place: str | Path) -> Standing:
    """The progress of the folder of a pipeline or a command; other processes may be writing it."""
    outputs = Outputs.of(place)
    wrong: list[str] = []
    ledgers: list[Status] = []
    for folder in dict.fromkeys(path.parent for path in outputs.ledgers):
        try:
            ledgers += status_of_ledgers(folder)
        except AlmProxiesError as error:
            wrong.append(Recorded().text(str(error), folder))
    markers = list(_read(outputs.markers, _Marker, wrong))
    currencies = {Path(ledger.ledger).parent: ledger.currency for ledger in ledgers}
    known = [_done(path, record, currencies.get(path.parent, "")) for path, record in markers]
    known += [_running(path, note) for path, note in _read(outputs.running, _Note, wrong)]
    order = list(STAGES)
    known.sort(
        key=lambda stage: (order.index(verb) if (verb := stage.title.partition(" ")[0]) in order else 99, stage.folder)
    )
    severities: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
    clips = 0
    try:
        findings = outputs.distinct_findings()
        severities |= dict(findings.group_by("severity").agg(pl.len()).iter_rows())
        clips = outputs.clips()["utterance_id"].n_unique()
    except AlmProxiesError as error:
        wrong.append(str(error))
    models = tuple(path.parent for path, record in markers if record.stage == "train")
    results = {
        "pages": outputs.pages,
        "models": models,
        **{kind: outputs.tables[kind] for kind in ("labels", "votes", "utterances")},
    }
    return Standing(
        folder=outputs.folder,
        place=outputs.place,
        stages=tuple(known),
        ledgers=tuple(ledgers),
        results={kind: tuple(map(str, paths)) for kind, paths in results.items() if paths},
        findings=severities,
        clips=clips,
        wrong=tuple(dict.fromkeys(wrong)),
        twice=frozenset(map(str, repeated(outputs.ledgers))),
    )


class _Marker(BaseModel):
    """What is shown of the record of a finished stage."""

    model_config = ConfigDict(allow_inf_nan=False)
    stage: str
    name: str = ""
    seconds: float | None = None
    counts: dict[str, int | float] = Field(default_factory=dict)
    complete: bool = True


class _Note(BaseModel):
    """The note of a stage that runs, or ran when its process was killed."""

    model_config = ConfigDict(allow_inf_nan=False)
    stage: str
    pid: int = Field(gt=0, lt=2**31)
    host: str
    started: float = Field(ge=0, lt=2**32)
    at: float
    message: str = ""
    done: int | None = None
    total: int | None = None
    seconds_left: float | None = None


_Read = TypeVar("_Read", bound=BaseModel)


def _read(paths: Iterable[Path], kind: type[_Read], wrong: list[str]) -> Iterator[tuple[Path, _Read]]:
    """The files that are whole, with their content; the others are named."""
    for path in paths:
        try:
            yield path, kind.model_validate_json(path.read_bytes())
        except FileNotFoundError:  # the stage has ended since
            continue
        except OSError as error:
            wrong.append(str(could_not_read(path, error)))
        except ValidationError:
            wrong.append(f"{path}: is damaged, so what it states is not shown. {_FIXES[kind]}")


_FIXES = {
    _Marker: "Run the same command again: the stage runs anew.",
    _Note: "Delete it, unless the stage is running: then it will be written again.",
}


def _done(marker: Path, record: _Marker, currency: str) -> StageStanding:
    varied = marker.parent.name if "=" in marker.parent.name else ""
    return StageStanding(
        title=" ".join(part for part in (record.stage, record.name, varied) if part),
        folder=str(marker.parent),
        state="done" if record.complete else "stopped",
        seconds=record.seconds,
        counts=dict(record.counts),
        currency=currency,
    )


def _running(path: Path, note: _Note) -> StageStanding:
    of = f"{note.done:,}" + (f" of {note.total:,}" if note.total else "") if note.done is not None else ""
    message = f"{note.message} {of}".strip()
    since = f"since {datetime.fromtimestamp(note.started):%H:%M}"
    left = note.seconds_left
    return StageStanding(
        title=note.stage,
        folder=str(path.parent),
        state="running" if is_running(note.pid, note.host) else "killed",
        progress=f"{message} ({since})" if message else since,
        minutes_left=None if left is None else max(0.0, left - (datetime.now().timestamp() - note.at)) / 60,
        process=note.pid,
        host=note.host,
    )


def _counted(name: str, value: float, currency: str) -> str:
    return f"{in_money(value, currency)} spent" if name == "price" else f"{value:,.6g} {name.replace('_', ' ')}"


def _noun(severity: str) -> str:
    return "note" if severity == SEVERITIES[0] else severity
