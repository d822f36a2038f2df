"""The command status: the progress of ledgers, their cost, and how to stop what writes them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.about import Injected
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import refuse_unreadable_folder
from alm_proxies.printable import counted, in_money, in_shell
from alm_proxies.stages.annotate.figures import ready_at
from alm_proxies.stages.annotate.injection import injections
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.lock import owner_of

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
    merged: bool = False
    """Whether it was merged from others: its missing votes are those of its shards."""

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
        if self.waiting and not self.running and self.merged:
            stop = "; complete the shards that it was merged from, and merge again"
        notes = "".join(f"; {note}" for note in self.notes)
        head = f"{self.ledger}: {counted(self.planned, 'vote')} planned, cast: {cast}{aside}"
        return f"{head}; {waiting}{held}{prices}{injected}{stop}{notes}"


def status(folder: str | Path) -> list[Status]:
    """The status of every ledger in a folder; another process may be writing them."""
    return [_status(path) for path in ledgers_in(folder)]


def ledgers_in(folder: str | Path) -> list[Path]:
    """The ledgers in a folder, or an error."""
    fix = "Name a folder that annotate has written to."
    if not Path(folder).is_dir():
        raise InputError("there is no such folder", where=str(folder), fix=fix)
    refuse_unreadable_folder(folder)
    paths = sorted(Path(folder).glob("ledger*.sqlite"))
    if not paths:
        raise InputError("contains no ledger", where=str(folder), fix=fix)
    return paths


SHARD = re.compile(r"ledger\.(\d+)-of-(\d+)\.sqlite")
"""The name of a shard's ledger."""


def refuse_another_division(path: Path, names: Collection[str]) -> None:
    """Raise before a ledger is made in a folder that has votes of these annotators by other shards, or by none: they
    would be requested again. Merged votes are in their shards too.
    """
    if path.exists() or not path.parent.is_dir():
        return
    own = SHARD.fullmatch(path.name)
    for other in sorted(path.parent.glob("ledger*.sqlite")):
        of = SHARD.fullmatch(other.name)
        if of is not None and own is not None and int(of[2]) == int(own[2]):
            continue
        with Ledger.look(other) as ledger:
            count = sum(number for name, number in ledger.held().items() if name in names)
            if not count or (of is None and ledger.about("merged") == "yes"):
                continue
        message = f"has {counted(count, 'vote')} in {other.name}, which would be requested again"
        folder, way = in_shell(path.parent), "leave --shard out"
        if of is not None:
            merged = f"merge them, alm-proxies merge {folder} -o {folder}, and {way}"
            way = merged if own is None else f"keep to shards of {int(of[2])} (--shard I/{int(of[2])})"
        raise InputError(message, where=str(path.parent), fix=f"{way[0].upper()}{way[1:]}, or name another folder.")


def repeated(paths: Iterable[Path]) -> frozenset[Path]:
    """Those of some ledgers whose votes another of them has: shards beside what was merged from them, and copies."""
    paths = list(paths)
    if len(paths) < 2:
        return frozenset()
    known: list[tuple[int, str, Path]] = []
    merged: list[tuple[Path, set[str]]] = []
    for path in paths:
        with suppress(AlmProxiesError), Ledger.look(path) as ledger:  # who reads its votes says what is wrong
            known.append((-sum(ledger.held().values()), ledger.identity(), path))
            merged += [(path, sources)] if (sources := ledger.sources()) else []
    known.sort(key=lambda entry: (entry[0], str(entry[2])))
    found, places = set[Path](), {name: path for _, name, path in known}
    for path, sources in merged:
        if sources <= set(places):
            with Ledger.look(path) as ledger:
                found |= set() if ledger.has_more_than(places[name] for name in sources) else {path}
    known = [entry for entry in known if entry[2] not in found]
    for number, (_, _, path) in enumerate(known):
        if path not in found:
            with Ledger.look(path) as ledger:
                rest = [(name, other) for _, name, other in known[number + 1 :] if other not in found]
                found |= {other for name, other in rest if ledger.repeats(name, other)}
    return frozenset(found)


def _status(path: Path) -> Status:
    with Ledger.look(path) as ledger:
        return status_of(ledger)


def status_of(ledger: Ledger) -> Status:
    """The status of an open ledger."""
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
        currency=ledger.currency(),
        merged=ledger.about("merged") == "yes",
    )
