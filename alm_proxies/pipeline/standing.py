"""The progress of a folder of results: stages done and running, cost, remaining time, result files."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.errors import AlmProxiesError
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.perform import RUNNING
from alm_proxies.pipeline.result_files import MARKER
from alm_proxies.printable import in_money
from alm_proxies.progress import is_running
from alm_proxies.stages.annotate.figures import counted, ready_at
from alm_proxies.stages.annotate.ledgers import Status
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
            _counted(name, value) for name, value in (self.counts or {}).items() if value or name != "price"
        )
        took = f" in {self.seconds:,.0f} s" if self.seconds is not None else ""
        more = "; stopped early, run the same command again to continue" if self.state == "stopped" else ""
        return f"{self.title}: done{took}{f', {counts}' if counts else ''}{more}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a folder of results."""

    folder: Path
    stages: tuple[StageStanding, ...]
    ledgers: tuple[Status, ...]
    results: dict[str, tuple[str, ...]]
    """Paths of the results, by kind: page, labels, votes, utterances."""
    findings: dict[str, int]
    """Number of findings by severity."""
    clips: int
    """Number of utterances with a vote that is not ok or a recording that could not be used."""
    wrong: tuple[str, ...] = ()
    """Files that could not be read."""

    @property
    def paid(self) -> float:
        """Total cost so far."""
        return sum(ledger.price for ledger in self.ledgers)

    @property
    def to_come(self) -> float:
        """Expected cost of the waiting votes."""
        return sum(ledger.price_left for ledger in self.ledgers)

    def lines(self) -> Iterator[str]:
        """The progress as text."""
        yield from map(str, self.stages)
        yield from map(str, self.ledgers)
        if self.ledgers:
            rest = f", about {in_money(self.to_come)} to come" if self.to_come else ""
            yield f"cost: {in_money(self.paid)} spent{rest}"
        for kind, paths in self.results.items():
            yield f"{kind}: {', '.join(paths)}"
        if any(self.findings.values()):
            present = [severity for severity in reversed(SEVERITIES) if self.findings[severity]]
            counts = ", ".join(counted(self.findings[severity], _noun(severity)) for severity in present)
            yield f"findings: {counts}; see them with: alm-proxies findings {self.folder}"
        if self.clips:
            noun = "utterance has" if self.clips == 1 else "utterances have"
            yield f"{self.clips:,} {noun} votes or recordings that failed: alm-proxies findings {self.folder} --clips"
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
            wrong.append(str(error))
    stages = {MARKER: [_done(path) for path in outputs.markers], RUNNING: [_running(path) for path in outputs.running]}
    known = [stage for listed in stages.values() for stage in listed if stage is not None]
    order = list(STAGES)
    known.sort(key=lambda stage: (order.index(verb) if (verb := stage.title.split()[0]) in order else 99, stage.folder))
    severities: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
    clips = 0
    try:
        findings = outputs.findings()
        severities |= dict(findings.group_by("severity").agg(pl.len()).iter_rows())
        clips = outputs.clips()["utterance_id"].n_unique()
    except AlmProxiesError as error:
        wrong.append(str(error))
    models = tuple(marker.parent for marker in outputs.markers if _json(marker).get("stage") == "train")
    results = {
        "pages": outputs.pages,
        "models": models,
        **{kind: outputs.tables[kind] for kind in ("labels", "votes", "utterances")},
    }
    return Standing(
        folder=outputs.folder,
        stages=tuple(known),
        ledgers=tuple(ledgers),
        results={kind: tuple(map(str, paths)) for kind, paths in results.items() if paths},
        findings=severities,
        clips=clips,
        wrong=tuple(wrong),
    )


def _done(marker: Path) -> StageStanding | None:
    record = _json(marker)
    if not {"stage", "name", "seconds", "counts"} <= set(record):
        return None
    varied = marker.parent.name if "=" in marker.parent.name else ""
    return StageStanding(
        title=" ".join(part for part in (record["stage"], record["name"], varied) if part),
        folder=str(marker.parent),
        state="done" if record.get("complete", True) else "stopped",
        seconds=record["seconds"],
        counts=record["counts"],
    )


def _running(path: Path) -> StageStanding | None:
    record = _json(path)
    if not {"stage", "pid", "host", "started", "at"} <= set(record):
        return None
    done, total = record.get("done"), record.get("total")
    of = f"{done:,}" + (f" of {total:,}" if total else "") if done is not None else ""
    message = f"{record.get('message', '')} {of}".strip()
    since = f"since {datetime.fromtimestamp(record['started']):%H:%M}"
    left = record.get("seconds_left")
    return StageStanding(
        title=str(record["stage"]),
        folder=str(path.parent),
        state="running" if is_running(int(record["pid"]), str(record["host"])) else "killed",
        progress=f"{message} ({since})" if message else since,
        minutes_left=None if left is None else max(0.0, left - (datetime.now().timestamp() - record["at"])) / 60,
        process=int(record["pid"]),
        host=str(record["host"]),
    )


def _json(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _counted(name: str, value: float) -> str:
    return f"{in_money(value)} spent" if name == "price" else f"{value:,.6g} {name.replace('_', ' ')}"


def _noun(severity: str) -> str:
    return "note" if severity == SEVERITIES[0] else severity
