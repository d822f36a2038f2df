"""The commands status and merge: the progress of ledgers, and the merging of shards."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.about import Injected, MadeBy
from alm_proxies.errors import InputError
from alm_proxies.printable import counted, in_money, one_currency
from alm_proxies.stages.annotate.figures import ready_at
from alm_proxies.stages.annotate.injection import injection_findings, injections
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.lock import owner_of
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.reporting import findings_of
from alm_proxies.stages.annotate.votes_table import write_votes
from alm_proxies.tables import Finding, Findings, Votes

_RECENT = 600.0
"""Seconds over which the rate is measured."""


@dataclass(frozen=True, slots=True)
class AnnotatorStatus:
    """The progress of one planned annotator."""

    name: str
    planned: int
    cast: dict[str, int]
    """Planned votes with an outcome, by status."""
    price: float
    """Cost of its planned votes, including failures and votes set aside."""
    price_per_vote: float | None
    """Measured price; None before the first answered vote."""

    @property
    def waiting(self) -> int:
        """Planned votes without an outcome."""
        return self.planned - sum(self.cast.values())


@dataclass(frozen=True, slots=True)
class Status:
    """The progress of one ledger, its cost, when it will be complete, and how to stop the process that writes it."""

    ledger: str
    planned: int
    cast: dict[str, int]
    """Planned votes with an outcome, by status."""
    set_aside: int
    in_flight: int
    price: float
    rate: float
    """Recent votes per minute; 0 if there were none."""
    price_planned: float
    """Cost of the planned votes."""
    annotators: dict[str, int]
    """Number of votes in the ledger by annotator, planned or not."""
    injected: dict[str, dict[str, float | None]]
    """The effect of injected transcripts on the votes of each annotator, if measured."""
    panel: tuple[AnnotatorStatus, ...] = ()
    """The planned annotators."""
    tried_out: tuple[int, float] = (0, 0.0)
    """Number and price of the requests that probed servers."""
    running: str | None = None
    """The process that is annotating, such as "process 123 on host", or None."""
    notes: tuple[str, ...] = ()
    """Problems of the ledger."""
    currency: str = ""
    """The currency that its annotators state; empty = none."""

    @property
    def waiting(self) -> int:
        """Planned votes without an outcome."""
        return self.planned - sum(self.cast.values())

    @property
    def minutes_left(self) -> float | None:
        """Minutes until the ledger is complete at this rate; None without recent votes."""
        return self.waiting / self.rate if self.rate else None

    @property
    def price_left(self) -> float:
        """Expected cost of the waiting votes at the measured price of each annotator."""
        return sum(member.waiting * (member.price_per_vote or 0.0) for member in self.panel)

    @property
    def how_to_stop(self) -> str | None:
        """How to stop the annotating process without loss, or None if there is none."""
        if self.running is None:
            return None
        number = self.running.split()[1] if self.running.startswith("process ") else ""
        return f"kill -TERM {number}" if number.isdecimal() else "Ctrl-C where it runs"

    def __str__(self) -> str:
        cast = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(self.cast.items())) or "none"
        left = ""
        if self.minutes_left and self.running:
            when = f", ready at {ready_at(self.minutes_left)}"
            left = f", about {self.minutes_left:.0f} min left at {self.rate:.0f} a minute{when}"
        cost = f"; {in_money(self.price, self.currency)} spent" if self.price else ""
        if self.price and self.waiting:
            unknown = sum(member.waiting for member in self.panel if member.price_per_vote is None)
            known = f", about {in_money(self.price_left, self.currency)} to come" if unknown < self.waiting else ""
            cost += (
                f"{known}, the price of {counted(unknown, 'waiting vote')} is not measured yet" if unknown else known
            )
        flying = f", {counted(self.in_flight, 'request')} in flight" if self.in_flight else ""
        if self.in_flight and not self.running:
            flying = f", {counted(self.in_flight, 'request')} in flight when it stopped"
        aside = f", {self.set_aside} set aside" if self.set_aside else ""
        waiting = f"{self.waiting} waiting{flying}{left}{cost}"
        injected = "".join(f"; {name}: {Injected.model_validate(effect)}" for name, effect in self.injected.items())
        held = ", ".join(f"{count:,} of {name}" for name, count in self.annotators.items())
        held = f"; votes in the ledger: {held}" if held else ""
        prices = ", ".join(
            f"{member.name} {in_money(member.price_per_vote, self.currency)}"
            for member in self.panel
            if member.price_per_vote is not None
        )
        prices = f"; price of a vote: {prices}" if prices and self.price else ""
        stop = f"; {self.running} is annotating, stop it with: {self.how_to_stop}" if self.running else ""
        if self.waiting and not self.running:
            stop = "; nothing is running: run the same command again to continue"
        notes = "".join(f"; {note}" for note in self.notes)
        head = f"{self.ledger}: {counted(self.planned, 'vote')} planned, cast: {cast}{aside}"
        return f"{head}; {waiting}{held}{prices}{injected}{stop}{notes}"


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of merging ledgers."""

    votes: Votes
    findings: Findings


def status(folder: str | Path) -> list[Status]:
    """The status of every ledger in a folder; another process may be writing them."""
    return [_status(path) for path in ledgers_in(folder)]


def ledgers_in(folder: str | Path) -> list[Path]:
    """The ledgers in a folder, or an error."""
    paths = sorted(Path(folder).glob("ledger*.sqlite"))
    if not paths:
        raise InputError("contains no ledger", where=str(folder), fix="Name a folder that annotate has written to.")
    return paths


def merge(folders: Sequence[str | Path], folder: str | Path) -> Merged:
    """Merge the ledgers of shards into one, with its Votes and Findings; their annotators must be the same."""
    target, table = Path(folder) / "ledger.sqlite", Path(folder) / "votes.parquet"
    sources = [path for shard in folders for path in ledgers_in(shard) if path.resolve() != target.resolve()]
    taxonomy, findings = _common_taxonomy(sources), list[Finding]()
    _remove_earlier_merge(target, table)
    with Ledger.open(target) as ledger:
        ledger.keep("merged", "yes")
        ledger.keep("taxonomy", json.dumps(taxonomy))
        twice = max(ledger.take(path) for path in sources)
        if twice:
            were = "vote was" if twice == 1 else "votes were"
            message = f"{twice:,} {were} in several ledgers; one of each is kept, an ok one where there is one"
            findings.append(Finding(STAGE, "cast_twice", message, count=twice))
        now = _status_of(ledger)
        if now.waiting:
            fix = "Run the shards that are not complete again, then merge again."
            message = f"{counted(now.waiting, 'planned vote')} not cast yet"
            findings.append(Finding(STAGE, "not_cast", message, fix, count=now.waiting))
        write_votes(ledger, table, taxonomy, MadeBy(stage=STAGE))
        gathered = Findings.gather([*findings, *findings_of(ledger), *injection_findings(ledger)])
    gathered.write(Path(folder) / "findings.parquet")
    return Merged(Votes.read(table), gathered)


def _remove_earlier_merge(target: Path, table: Path) -> None:
    """Remove the result of an earlier merge; a folder with a ledger of its own votes is refused."""
    if target.is_file():
        with Ledger.look(target) as ledger:
            merged = ledger.about("merged") == "yes"
        if not merged:
            fix = "Choose another folder for the merged ledger."
            raise InputError("contains votes that were cast here, not merged", where=str(target), fix=fix)
        endings = ("", "-wal", "-shm")
        for path in (*(target.with_name(f"{target.name}{end}") for end in endings), target.with_suffix(".journal")):
            path.unlink(missing_ok=True)
        table.unlink(missing_ok=True)


def _status(path: Path) -> Status:
    with Ledger.look(path) as ledger:
        return _status_of(ledger)


def _status_of(ledger: Ledger) -> Status:
    panel, cast = [], Counter[str]()
    recent, first = 0, time.time()
    for member in ledger.progress(_RECENT):
        per_vote = member.price / member.answered if member.answered else None
        panel.append(AnnotatorStatus(member.annotator, member.planned, member.by_status, member.price, per_vote))
        cast.update(member.by_status)
        recent += member.recent
        first = min(first, member.first_recent) if member.recent else first
    spread = max(time.time() - first, 1.0) if recent else 1.0
    return Status(
        ledger=str(ledger.path),
        planned=sum(member.planned for member in panel),
        cast=dict(cast),
        set_aside=ledger.set_aside_so_far(),
        in_flight=ledger.in_flight()[0],
        price=ledger.spent(),
        rate=60.0 * recent / spread,
        price_planned=ledger.spent_on_plan(),
        annotators=ledger.held(),
        injected={name: effect.model_dump() for name, effect in injections(ledger).items()},
        panel=tuple(panel),
        tried_out=ledger.tried_out(),
        running=owner_of(ledger.path.with_suffix(".lock")),
        notes=tuple(message for _, message in ledger.notes),
        currency=one_currency(card.currency for card in ledger.cards().values()),
    )


def _common_taxonomy(sources: Sequence[Path]) -> tuple[str, ...]:
    """The labels of the ledgers; refuses ledgers with different labels, annotators or losses."""
    known: dict[str, tuple[str, Path]] = {}
    taxonomies: dict[tuple[str, ...], Path] = {}
    for path in sources:
        with Ledger.look(path) as ledger:
            for kind, note in ledger.notes:
                if kind == "ledger_loss":
                    raise InputError(f"{note[0].upper()}{note[1:]}", where=str(path), fix="Run this shard again first.")
            taxonomies.setdefault(ledger.taxonomy(), path)
            for name, identity in ledger.identities().items():
                before = known.setdefault(name, (identity, path))
                if before[0] != identity:
                    raise InputError(
                        f"the annotator {name!r} is not the same in {before[1]}",
                        where=str(path),
                        fix="Annotate the shards with one annotator file and one seed.",
                    )
    if len(taxonomies) != 1:
        raise InputError(
            "there is nothing to merge" if not taxonomies else "the ledgers have different labels",
            where=", ".join(map(str, taxonomies.values())) or None,
            fix="Name the folders of the shards of one corpus.",
        )
    return next(iter(taxonomies))
