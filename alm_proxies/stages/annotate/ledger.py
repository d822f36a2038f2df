"""The ledger: the outcome of every planned vote, in SQLite; what it has acknowledged survives anything but the disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.errors import InputError, OutputError
from alm_proxies.stages.annotate.lock import OneWriter

VERSION = 1

_VOTE = """annotator INTEGER, utterance INTEGER, draw INTEGER, status TEXT, kind TEXT, label TEXT, more TEXT,
    stated TEXT, raw TEXT, request TEXT, cell INTEGER, latency REAL, tokens_in REAL, tokens_out REAL, price REAL,
    tries INTEGER, seeded INTEGER, at REAL"""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS annotator (id INTEGER PRIMARY KEY, name TEXT, digest TEXT, seed INTEGER, card TEXT,
    UNIQUE (name, digest, seed));
CREATE TABLE IF NOT EXISTS utterance (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS audio (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, digest TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS material (annotator INTEGER, utterance INTEGER, digest TEXT,
    PRIMARY KEY (annotator, utterance)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS planned_utterance (position INTEGER PRIMARY KEY, utterance INTEGER);
CREATE TABLE IF NOT EXISTS planned_annotator (annotator INTEGER PRIMARY KEY, votes INTEGER);
CREATE TABLE IF NOT EXISTS vote ({_VOTE}, PRIMARY KEY (annotator, utterance, draw)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_aside ({_VOTE}, why TEXT);
CREATE TABLE IF NOT EXISTS injection (annotator INTEGER, utterance INTEGER, label TEXT, speaker TEXT, told INTEGER,
    control INTEGER, PRIMARY KEY (annotator, utterance)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS in_flight (id INTEGER PRIMARY KEY, draws INTEGER, price REAL);
CREATE TABLE IF NOT EXISTS lost (requests INTEGER, draws INTEGER, price REAL);
"""
_COLUMNS = len(_VOTE.split(","))


class Outcome(NamedTuple):
    """A row of `vote`, in the order of its columns, so that SQLite takes it as it is."""

    annotator: int
    utterance: int
    draw: int
    status: str
    kind: str
    label: str | None
    more: str | None
    """JSON of what a single label cannot say: shares, secondary, attributes."""
    stated: str | None
    raw: str
    request: str
    """Digest of all that the vote depends on."""
    cell: int
    latency: float
    tokens_in: float
    tokens_out: float
    price: float
    tries: int
    seeded: bool
    at: float


class Sending(NamedTuple):
    """A request about to be sent: its number, its draws and what it should cost."""

    number: int
    draws: int
    price: float


class Heard(NamedTuple):
    """What an annotator heard and read of an utterance: digests that tell a later run whether it has changed."""

    annotator: int
    utterance: int
    material: str
    path: str
    size: int
    changed: int
    audio: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Requests that nothing came of and that are asked again, such as those in flight when a run was killed."""

    requests: int = 0
    draws: int = 0
    price: float = 0.0


class Ledger:
    """A ledger that is open for writing (one process at a time) or for looking."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: OneWriter | None) -> None:
        self.path = path
        self.sql = connection
        self._lock = lock
        self.lost = Lost()

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """The ledger at a path, made if it is not there, locked against other writers; `.lost` is what a kill cost."""
        lock = OneWriter(path.with_suffix(".lock"))
        lock.__enter__()
        sql: sqlite3.Connection | None = None
        try:
            with _saying(path):
                sql = sqlite3.connect(path.resolve().as_uri(), uri=True, isolation_level=None, check_same_thread=False)
                sql.execute("PRAGMA journal_mode = WAL")
                sql.execute("PRAGMA synchronous = FULL")
                sql.executescript(_TABLES)
            ledger = cls(path, sql, lock)
            ledger._check_version()
            ledger.lost = ledger._give_up_in_flight()
            return ledger
        except BaseException:
            if sql is not None:
                sql.close()
            lock.__exit__(None, None, None)
            raise

    @classmethod
    def look(cls, path: Path) -> Ledger:
        """The ledger at a path, to read only; another process may be writing it."""
        if not path.is_file():
            raise InputError("there is no ledger", where=str(path), fix="Name a folder that annotate has written to.")
        with _saying(path):
            sql = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            sql.execute("SELECT COUNT(*) FROM about")
        ledger = cls(path, sql, None)
        ledger._check_version()
        return ledger

    def close(self) -> None:
        """Close the file and let others write."""
        self.sql.close()
        if self._lock is not None:
            self._lock.__exit__(None, None, None)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it is acknowledged when the block ends, or none of it is kept."""
        with _saying(self.path):
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                yield self.sql
                self.sql.execute("COMMIT")
            except BaseException:
                if self.sql.in_transaction:  # a full disk may have ended it already
                    self.sql.execute("ROLLBACK")
                raise

    def write(
        self,
        sending: Sequence[Sending] = (),
        heard: Sequence[Heard] = (),
        arrived: Sequence[int] = (),
        outcomes: Sequence[Outcome] = (),
        lost: Sequence[Lost] = (),
    ) -> None:
        """Acknowledge together: requests about to be sent and what they are about, requests that came back and how."""
        with self.transaction() as sql:
            sql.executemany("INSERT OR REPLACE INTO material VALUES (?, ?, ?)", [one[:3] for one in heard])
            sql.executemany("INSERT OR REPLACE INTO audio VALUES (?, ?, ?, ?)", [one[3:] for one in heard])
            sql.executemany("INSERT INTO in_flight VALUES (?, ?, ?)", sending)
            sql.executemany("DELETE FROM in_flight WHERE id = ?", [(number,) for number in arrived])
            sql.executemany("INSERT INTO lost VALUES (?, ?, ?)", [(one.requests, one.draws, one.price) for one in lost])
            sql.executemany(f"INSERT INTO vote VALUES ({', '.join('?' * _COLUMNS)})", map(_storable, outcomes))

    def annotator_id(self, card: AnnotatorCard, name: str) -> int:
        """The number of an annotator: another digest or seed is another annotator."""
        with self.transaction() as sql:
            found = (name, card.digest, card.seed)
            sql.execute("INSERT OR IGNORE INTO annotator (name, digest, seed) VALUES (?, ?, ?)", found)
            where = "WHERE name = ? AND digest = ? AND seed IS ?"
            sql.execute(f"UPDATE annotator SET card = ? {where}", (card.model_dump_json(), *found))
            (number,) = sql.execute(f"SELECT id FROM annotator {where}", found).fetchone()
        return int(number)

    def utterance_ids(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of utterances, given ones to those that have none."""
        with self.transaction() as sql:
            sql.executemany("INSERT OR IGNORE INTO utterance (name) VALUES (?)", ((name,) for name in names))
            known = dict(sql.execute("SELECT name, id FROM utterance"))
        return np.fromiter((known[name] for name in names), dtype=np.int64, count=len(names))

    def set_plan(self, utterances: Sequence[int], votes: dict[int, int]) -> None:
        """What is planned now: utterances in the order they are asked about, and votes of each annotator."""
        with self.transaction() as sql:
            sql.execute("DELETE FROM planned_utterance")
            sql.execute("DELETE FROM planned_annotator")
            sql.executemany("INSERT INTO planned_utterance VALUES (?, ?)", enumerate(map(int, utterances)))
            sql.executemany("INSERT INTO planned_annotator VALUES (?, ?)", votes.items())

    def set_aside(self, why: str, where: str, values: Sequence[Any] = ()) -> int:
        """Take votes out of the count, keep them apart with the reason, and say how many."""
        with self.transaction() as sql:
            cursor = sql.execute(f"INSERT INTO set_aside SELECT vote.*, ? FROM vote WHERE {where}", (why, *values))
            sql.execute(f"DELETE FROM vote WHERE {where}", values)
        return cursor.rowcount

    def done(self, annotator: int, votes: int) -> NDArray[np.bool_]:
        """Which draws below `votes` have an outcome, by utterance number and draw."""
        (last_number,) = self.sql.execute("SELECT COALESCE(MAX(id), 0) FROM utterance").fetchone()
        rows = int(last_number) + 1
        beginnings = self.sql.execute(
            "SELECT utterance, COUNT(*), MAX(draw) FROM vote WHERE annotator = ? GROUP BY utterance", (annotator,)
        )
        gaps: list[int] = []
        lengths = np.zeros(rows, dtype=np.int64)
        for utterance, count, last in beginnings:
            if count == last + 1:
                lengths[utterance] = count
            else:
                gaps.append(utterance)
        made: NDArray[np.bool_] = np.arange(votes) < lengths[:, None]
        for utterance in gaps:
            found = "SELECT draw FROM vote WHERE annotator = ? AND utterance = ? AND draw < ?"
            for (draw,) in self.sql.execute(found, (annotator, utterance, votes)):
                made[utterance, draw] = True
        return made

    def spent(self) -> float:
        """What everything has cost so far: votes, failures, votes set aside, lost in flight, servers tried out."""
        total = "SELECT COALESCE(SUM(price), 0) FROM "
        paid = sum(self.sql.execute(total + table).fetchone()[0] for table in ("vote", "set_aside", "lost"))
        return float(paid) + self.tried_out()[1]

    def tried_out(self) -> tuple[int, float]:
        """Requests that found out what servers can do, and their price."""
        requests, price = json.loads(self.about("tried_out") or "[0, 0.0]")
        return int(requests), float(price)

    def add_tried_out(self, requests: int, price: float) -> None:
        """Keep what trying a server out took."""
        before = self.tried_out()
        self.keep("tried_out", json.dumps([before[0] + requests, before[1] + price]))

    def spent_on_plan(self) -> float:
        """What the votes planned now have cost, failures and votes set aside included, and those with an injection."""
        told = "SELECT told FROM injection UNION SELECT control FROM injection"
        asked = "v.annotator = p.annotator AND v.draw < p.votes"
        where = f"(EXISTS (SELECT 1 FROM planned_annotator p WHERE {asked}) OR v.annotator IN ({told}))"
        planned = "v.utterance IN (SELECT utterance FROM planned_utterance)"
        total = f"SELECT COALESCE(SUM(v.price), 0) FROM {{}} v WHERE {planned} AND {where}"
        return float(sum(self.sql.execute(total.format(table)).fetchone()[0] for table in ("vote", "set_aside")))

    def about(self, key: str) -> str | None:
        """A fact the ledger keeps about itself."""
        row = self.sql.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep(self, key: str, value: str) -> None:
        """Keep a fact about the ledger itself."""
        with self.transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def _check_version(self) -> None:
        found = self.about("version")
        if found is None and self._lock is not None:
            self.keep("version", str(VERSION))
        elif found != str(VERSION):
            fix = "Read it with the version of alm-proxies that wrote it."
            raise InputError(f"is a ledger of version {found}, not {VERSION}", where=str(self.path), fix=fix)

    def _give_up_in_flight(self) -> Lost:
        with self.transaction() as sql:
            found = sql.execute("SELECT COUNT(*), COALESCE(SUM(draws), 0), COALESCE(SUM(price), 0) FROM in_flight")
            lost = Lost(*found.fetchone())
            if lost.requests:
                sql.execute("INSERT INTO lost VALUES (?, ?, ?)", (lost.requests, lost.draws, lost.price))
                sql.execute("DELETE FROM in_flight")
        return lost


def _storable(outcome: Outcome) -> tuple[Any, ...]:
    """The row with text SQLite can keep: lone surrogates, which a broken reply may hold, become question marks."""
    if outcome.raw.isascii() and (outcome.stated is None or outcome.stated.isascii()):
        return outcome
    return tuple(v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in outcome)


@contextmanager
def _saying(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: full disks, folders one may not write to, files that are no ledger."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        fix = "Free some space or fix its permissions, then run the same command again: what was acknowledged is kept."
        raise OutputError(f"the ledger cannot be written: {error}", where=str(path), fix=fix) from error
    except sqlite3.DatabaseError as error:
        fix = "Move it away and annotate again, or restore it from a copy."
        raise InputError(f"is not a ledger, or is damaged: {error}", where=str(path), fix=fix) from error
