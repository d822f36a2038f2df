"""The ledger: the outcome of every planned vote, in SQLite; acknowledged outcomes survive any crash.

SQL is only in the files named ledger*.py, behind named queries and writes. Acknowledged writes are recorded a second
time: in a journal beside the file, and in the votes table. When a ledger is opened, it is compared with both. Missing
votes are restored if possible; otherwise opening is refused, unless the user accepts the loss.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.annotators.prompts import CONTEXT_FIELDS
from alm_proxies.errors import InputError
from alm_proxies.stages.annotate import ledger_file
from alm_proxies.stages.annotate.journal import Journal, Recorded, read_journal
from alm_proxies.stages.annotate.ledger_file import VERSION, damaged, reported
from alm_proxies.stages.annotate.ledger_opening import (
    lost_in_words,
    open_file,
    refuse_other_version,
    to_read,
    upgraded_copy,
)
from alm_proxies.stages.annotate.ledger_questions import Questions
from alm_proxies.stages.annotate.ledger_writes import (
    HAS,
    LACKED,
    apply,
    move_aside,
    recounted,
    sequences,
    storable,
    take_lost,
    take_statements,
)
from alm_proxies.stages.annotate.ledger_writes import annotator_id as annotator_number
from alm_proxies.stages.annotate.lock import OneWriter, owner_of
from alm_proxies.stages.annotate.records import Heard, Lost, Outcome, Sending, Totals, Trial, Written
from alm_proxies.stages.annotate.restoring import TableState

__all__ = ["LACKING", "VERSION", "Heard", "Ledger", "Lost", "Outcome", "Sending", "Totals", "Trial", "Written"]

_AT_ONCE = 20_000
LACKING = tuple(f"no_{name}" for name in CONTEXT_FIELDS)
"""Kinds of failed votes without what their prompt requires."""


class Ledger(Questions):
    """A ledger, open for writing (one process at a time) or read only."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: OneWriter | None) -> None:
        self.path = path
        self._sql = connection
        self._lock = lock
        self._alone = threading.RLock()
        self._journal = Journal(path.with_suffix(".journal"))
        self._identity = ""
        self._totals = Totals()
        self._copied: tempfile.TemporaryDirectory[str] | None = None
        self.lost = Lost()
        """Requests in flight when an earlier run was killed."""
        self.notes: list[tuple[str, str]] = []
        """Notes on opening: kind and sentence."""

    @classmethod
    def open(
        cls, path: Path, *, table: Path | None = None, accept_loss: bool = False, lock: OneWriter | None = None
    ) -> Ledger:
        """Open or create a ledger, locked against other writers and compared with its journal and the votes table.

        `table` is the votes table beside it. Missing votes that cannot be restored are an error unless `accept_loss`.
        A `lock` that the caller holds already is released with the ledger.
        """
        ledger_file.refuse_irregular(path)
        lock = OneWriter(path.with_suffix(".lock")).__enter__() if lock is None else lock
        ledger: Ledger | None = None
        try:
            journal = Journal(path.with_suffix(".journal"))
            with reported(path):
                opened = open_file(path, journal, table, accept_loss)
            ledger = cls(path, opened.sql, lock)
            ledger._journal, ledger._identity, ledger._totals = journal, opened.identity, opened.totals
            ledger.notes = opened.notes
            ledger._record_lost_in_flight()
            ledger._mark_open()
            return ledger
        except BaseException:
            if ledger is not None:
                ledger._sql.close()
                ledger._journal.close()
            lock.__exit__(None, None, None)
            raise

    @classmethod
    def look(cls, path: Path) -> Ledger:
        """Open a ledger for reading; another process may be writing it.

        A ledger of an earlier version is read from an upgraded copy in memory.
        """
        if not path.exists():
            raise InputError("there is no ledger", where=str(path), fix="Name a folder that annotate has written to.")
        ledger_file.refuse_irregular(path)
        ledger_file.refuse_unreadable(path)
        journal = read_journal(path.with_suffix(".journal"))
        if path.stat().st_size == 0:
            raise damaged(path, "is empty: its content is lost")
        with reported(path, reading=True):
            sql, copied = to_read(path)
            ledger = cls(path, sql, None)
            ledger._copied = copied
            try:
                version = ledger_file.version_of(sql)
                refuse_other_version(path, version)
                if wrong := ledger_file.wrong_tables(sql, version):
                    raise damaged(path, wrong)
                if version < VERSION:
                    ledger._sql = upgraded_copy(sql)
                    sql.close()
                ledger._compare(journal)
            except BaseException:
                ledger.close()
                raise
        return ledger

    def close(self) -> None:
        """Close the file and let others write."""
        try:
            if self._lock is not None:
                with contextlib.suppress(sqlite3.Error, OSError):
                    self._sql.execute("UPDATE total SET left_open = 0 WHERE id = 1")
                    self._checkpoint()
            self._sql.close()
            self._journal.close()
            if self._copied is not None:
                self._copied.cleanup()
        finally:
            if self._lock is not None:
                self._lock.__exit__(None, None, None)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, committed at the end of the block and rolled back on an error."""
        with self._alone, reported(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:  # a full disk may have ended it already
                    self._sql.execute("ROLLBACK")
                raise

    def write(
        self,
        sending: Sequence[Sending] = (),
        heard: Sequence[Heard] = (),
        arrived: Sequence[int] = (),
        outcomes: Sequence[Outcome] = (),
        lost: Sequence[Lost] = (),
        trials: Sequence[Trial] = (),
    ) -> None:
        """Record requests before they are sent, and the outcomes of those with a reply, in one transaction."""
        written = Written(
            tuple(sending), tuple(heard), tuple(arrived), tuple(map(storable, outcomes)), tuple(lost), tuple(trials)
        )
        with self._alone, reported(self.path):  # locked throughout, because each write continues the totals of the last
            before = self._journal.size
            try:
                with self._transaction() as sql:
                    after = apply(sql, self._totals, written)
                    self._journal.add(after, written)  # before the commit, so that it has everything acknowledged
            except BaseException:
                self._journal.cut(before)
                raise
            self._totals = after
            if self._journal.full:
                self._checkpoint()

    def checkpoint(self) -> None:
        """Write everything into the file itself and restart the journal."""
        with self._alone, reported(self.path):
            self._checkpoint()

    def _checkpoint(self) -> None:
        busy, pages, written = self._sql.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and pages == written:  # otherwise another process is reading: the next checkpoint will do it
            self._journal.begin(self._identity, self._totals)

    def annotator_id(self, card: AnnotatorCard, name: str) -> int:
        """The number of the annotator with this name and the digest and seed of the card."""
        with self._transaction() as sql:
            return annotator_number(sql, card, name)

    def utterance_ids(self, names: Iterable[str] | pl.Series) -> NDArray[np.int64]:
        """The numbers of utterances; new ones get a number."""
        wanted = names if isinstance(names, pl.Series) else pl.Series("name", list(names), dtype=pl.String)
        with self._transaction() as sql:
            for start in range(0, len(wanted), _AT_ONCE):
                batch = wanted[start : start + _AT_ONCE].to_list()
                sql.executemany("INSERT OR IGNORE INTO utterance (name) VALUES (?)", ((name,) for name in batch))
        return self.numbers(wanted).to_numpy().astype(np.int64)

    def set_plan(self, utterances: NDArray[np.int64], votes: Mapping[int, int]) -> None:
        """Store the plan: utterances in their order, and the number of votes of each annotator."""
        with self._transaction() as sql:
            sql.execute("DELETE FROM planned_utterance")
            sql.execute("DELETE FROM planned_annotator")
            rows = ((place, int(number)) for place, number in enumerate(utterances))
            sql.executemany("INSERT INTO planned_utterance VALUES (?, ?)", rows)
            sql.executemany("INSERT INTO planned_annotator VALUES (?, ?)", votes.items())

    def set_injections(self, rows: Iterable[tuple[int, int, str, str | None, int, int]]) -> None:
        """Store the votes with an injected sentence: annotator, utterance, label, speaker, both annotator numbers."""
        with self._transaction() as sql:
            sql.execute("DELETE FROM injection")
            sql.executemany("INSERT INTO injection VALUES (?, ?, ?, ?, ?, ?)", rows)

    def set_aside_failed(
        self, still_gone: Sequence[int], lacking: Sequence[tuple[int, int]] = (), *, injected: bool = False
    ) -> int:
        """Set failed planned votes aside, so that they are requested again; gives their number.

        Votes of the utterances in `still_gone` stay failed if their recording was missing, and those of annotators and
        utterances in `lacking` if they were without what the prompt requires.
        """
        which = "SELECT annotator FROM planned_annotator"
        if injected:
            which = "SELECT told FROM injection UNION SELECT control FROM injection"
        gone = "SELECT value FROM json_each(?)"
        pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
        where = f"""status = 'failed' AND annotator IN ({which}) AND utterance IN (SELECT utterance FROM
            planned_utterance) AND NOT (kind = 'missing' AND utterance IN ({gone}))
            AND NOT (kind IN ({", ".join(map(repr, LACKING))}) AND (annotator, utterance) IN ({pairs}))"""
        return self._set_aside("failed, asked again", where, (json.dumps(list(still_gone)), json.dumps(lacking)))

    def set_aside_changed(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Set votes on changed material aside, by annotator and utterance; gives their number."""
        with self._transaction() as sql:
            sql.execute("CREATE TEMP TABLE changed (annotator INTEGER, utterance INTEGER)")
            sql.executemany("INSERT INTO changed VALUES (?, ?)", pairs)
            count = move_aside(
                sql,
                "its recording or text has changed",
                "(annotator, utterance) IN (SELECT annotator, utterance FROM changed)",
                (),
            )
            sql.execute("DROP TABLE temp.changed")
        return count

    def _set_aside(self, why: str, where: str, values: Sequence[Any] = ()) -> int:
        with self._transaction() as sql:
            return move_aside(sql, why, where, values)

    def keep(self, key: str, value: str) -> None:
        """Store a value about the ledger itself."""
        with self._transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def note_table(self, table: Path) -> None:
        """Store size, time and digest of the votes table that was written from this ledger."""
        state = TableState.of(table)
        if state is not None:
            self.keep("votes_table", state.as_json())

    def take(self, other: Path) -> int:
        """Copy the content of another ledger; gives the number of votes that both have. Both stay paid.

        What a copy of the other ledger, or a ledger that was merged from it, has brought already is not taken again.
        """
        with self._attached(other) as source, self._transaction() as sql:
            known, brought = self._identities_taken(), source._identities_taken()
            for statement in take_statements(again=bool(known & brought)):
                sql.execute(statement)
            before, there = sequences(sql, "main"), sequences(sql, "other")
            take_lost(sql, before, there, again=bool(known & brought))
            after = before | {name: max(number, before.get(name, 0)) for name, number in there.items()}
            facts = [("taken", json.dumps(sorted(known | brought))), ("sequences", json.dumps(after))]
            sql.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", facts)
            (twice,) = sql.execute("SELECT COUNT(*) FROM set_aside WHERE why = 'cast twice'").fetchone()
            self._totals = recounted(sql, self._totals)
        self.checkpoint()
        return int(twice)

    def lacks(self, other: Path) -> int:
        """The number of votes that another ledger has and this one has not; failed ones, and those that this one has
        set aside, do not count.
        """
        with self._attached(other):
            return int(self._sql.execute(LACKED).fetchone()[0])

    def lacks_ledgers(self, other: Path) -> bool:
        """Whether another ledger was merged from some that this one was not merged from."""
        with Ledger.look(other) as source:
            taken = set(json.loads(source.about("taken") or "[]")) - {source.about("ledger")}
        return not taken <= self._identities_taken()

    def identity(self) -> str:
        """What a copy of this ledger has too, and no other ledger; empty if nothing was written into it yet."""
        row = self._sql.execute("SELECT ledger FROM total WHERE id = 1").fetchone()
        return "" if row is None else str(row[0])

    def sources(self) -> set[str]:
        """The identities of the ledgers that were copied into this one."""
        return self._identities_taken() - {self.identity()}

    def has_more_than(self, others: Iterable[Path]) -> bool:
        """Whether this ledger has an answered vote that none of the others has, or has set aside."""
        with reported(self.path, reading=True):
            answered = "SELECT annotator, utterance, draw, at FROM main.vote WHERE status != 'failed'"
            self._sql.execute(f"CREATE TEMP TABLE rest AS {answered}")
            try:
                for other in others:
                    with self._attached(other):
                        self._sql.execute(HAS)
                return bool(self._sql.execute("SELECT EXISTS (SELECT 1 FROM temp.rest)").fetchone()[0])
            finally:
                self._sql.execute("DROP TABLE temp.rest")

    def _identities_taken(self) -> set[str]:
        """The identities of this ledger and of those that were copied into it."""
        return {*json.loads(self.about("taken") or "[]"), self.identity()} - {""}

    def repeats(self, identity: str, other: Path) -> bool:
        """Whether the ledger with an identity was copied into this one, or is a copy, and has no vote that is new."""
        return identity in self._identities_taken() and not self.lacks(other)

    @contextmanager
    def _attached(self, other: Path) -> Iterator[Ledger]:
        """Another ledger, whose content the block sees as the database `other`."""
        with Ledger.look(other) as source, tempfile.TemporaryDirectory(prefix="alm-proxies-") as folder:
            copy = Path(folder) / "ledger.sqlite"
            with contextlib.closing(sqlite3.connect(copy)) as target:
                source._sql.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
            with reported(other):
                self._sql.execute("ATTACH DATABASE ? AS other", (f"{copy.as_uri()}?mode=ro",))
                try:
                    yield source
                finally:
                    self._sql.execute("DETACH DATABASE other")

    def _compare(self, journal: Recorded | None, looks: int = 40) -> None:
        """Note votes and spending that the journal has and this ledger, opened for reading, has not: the journal has a
        write first, so one that is missing may be about to be committed by the process that holds the lock.
        """
        row = self._sql.execute("SELECT ledger, sequence, answered, price FROM total WHERE id = 1").fetchone()
        if row is None or journal is None:
            return
        if str(row[0]) != journal.ledger:
            self.notes.append(("ledger_loss", "its journal belongs to another ledger"))
            return
        gap = Totals(int(row[1]), int(row[2]), float(row[3])).lacks(journal.totals)
        if gap.sequence == 1 and owner_of(self.path.with_suffix(".lock")) is not None:
            return
        if gap.sequence == 1 and looks:  # its process may have ended by now, or the system names no holder
            time.sleep(0.05)
            self._compare(read_journal(self._journal.path), looks - 1)
        elif gap.sequence and (gap.answered or gap.price):
            self.notes.append(("ledger_loss", f"it has lost {lost_in_words(gap)}; annotate again to restore it"))

    def _record_lost_in_flight(self) -> None:
        with self._alone, reported(self.path, reading=True):
            query = "SELECT COUNT(*), COALESCE(SUM(draws), 0), TOTAL(price) FROM in_flight"
            requests, draws, price = self._sql.execute(query).fetchone()
            numbers = [int(number) for (number,) in self._sql.execute("SELECT id FROM in_flight")]
            trials = [
                Trial(*row)._replace(state="killed")
                for row in self._sql.execute("SELECT * FROM trial WHERE state = 'in flight'")
            ]
        self.lost = Lost(int(requests), int(draws), float(price), "in flight when a run was killed")
        if numbers or trials:
            self.write(arrived=numbers, lost=[self.lost] if numbers else [], trials=trials)

    def _mark_open(self) -> None:
        """Mark the ledger as open, so that a copy without its -wal and journal is known to be incomplete."""
        with self._alone, reported(self.path):
            self._checkpoint()
            self._sql.execute("UPDATE total SET left_open = 1 WHERE id = 1")
            self._checkpoint()
