"""Opening a ledger: inspection, upgrade, comparison with its journal and votes table, and restoring lost votes."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.errors import InputError
from alm_proxies.files import flush
from alm_proxies.printable import counted, in_money
from alm_proxies.stages.annotate import ledger_file
from alm_proxies.stages.annotate.journal import Journal, Recorded, read_journal
from alm_proxies.stages.annotate.ledger_file import VERSION, Inspected, connect, damaged, undo_of, wal_of
from alm_proxies.stages.annotate.ledger_writes import annotator_id, apply, recounted
from alm_proxies.stages.annotate.records import Totals, Written
from alm_proxies.stages.annotate.restoring import KeptVote, KeptVotes, TableState

_NO_ROOM_BESIDE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}
"""What SQLite answers where it cannot make the -shm file that it needs to read."""


@dataclass(slots=True)
class Opened:
    """A ledger file that is ready for writing."""

    sql: sqlite3.Connection
    identity: str
    totals: Totals
    notes: list[tuple[str, str]]
    """Notes on opening: kind of finding and sentence."""


def open_file(path: Path, journal: Journal, table: Path | None, accept_loss: bool) -> Opened:
    """Open the file; create, upgrade or restore it if needed. The caller holds its lock."""
    ledger_file.take_back(path)
    inspected, recorded = ledger_file.inspect(path), read_journal(journal.path)
    notes: list[tuple[str, str]] = []
    if inspected.state == "whole":
        refuse_other_version(path, inspected.version)
    if inspected.state == "damaged":
        if not accept_loss:
            raise damaged(path, inspected.reason)
        _refuse_human_votes(table)
        notes.append(
            ("ledger_loss", f"the ledger {inspected.reason}; it is kept as {_put_aside(path, 'damaged').name}")
        )
        inspected = Inspected("absent")
    anew = inspected.state != "whole"
    place = path.with_name(f"{path.name}.new") if anew else path
    if anew:
        for name in (place, wal_of(place), place.with_name(f"{place.name}-shm")):
            name.unlink(missing_ok=True)
    elif inspected.version < VERSION:
        copy = ledger_file.copy_of(path, f"version-{inspected.version}")
        versions = f"from version {inspected.version} to {VERSION}"
        message = f"the ledger is upgraded {versions}; {copy.name} is a copy of the old one"
        notes.append(("ledger_upgraded", message))
    sql = connect(place, "rwc")
    try:
        if anew:
            ledger_file.create(sql)
        else:
            ledger_file.prepare(sql, path)
            if inspected.version < VERSION:
                ledger_file.upgrade(sql, inspected.held)
        row = sql.execute("SELECT ledger, sequence, answered, price FROM total WHERE id = 1").fetchone()
        opened = Opened(sql, str(row[0]), Totals(int(row[1]), int(row[2]), float(row[3])), notes)
        _reconcile(opened, path, inspected, recorded, table, accept_loss)
        journal.begin(opened.identity, opened.totals)
        if anew:
            sql.close()
            flush(place)
            if wal_of(path).exists() or undo_of(path).exists():
                _put_aside(path, "lost")
            place.replace(path)
            flush(path.parent)
            opened.sql = connect(path, "rwc")
            ledger_file.prepare(opened.sql, path)
        return opened
    except BaseException:
        sql.close()
        if anew:
            place.unlink(missing_ok=True)
        raise


def _reconcile(
    opened: Opened, path: Path, inspected: Inspected, journal: Recorded | None, table: Path | None, accept_loss: bool
) -> None:
    """Compare the ledger with its journal and the votes table, restore lost votes, and refuse losses that remain."""
    sql, recorded, anew = opened.sql, opened.totals, inspected.state != "whole"
    own = journal if journal is not None and (anew or journal.ledger == opened.identity) else None
    doubt = _doubt(path, inspected, recorded, journal, own)
    known = recorded if own is None else recorded.or_more(own.totals)
    sql.execute("BEGIN IMMEDIATE")
    try:
        replayed = 0 if anew or own is None else _replay(sql, recorded, own)
        gap = recounted(sql, known).lacks(known)
        state = None if table is None else TableState.of(table)
        noted = sql.execute("SELECT value FROM about WHERE key = 'votes_table'").fetchone()
        unchanged = state is not None and state.is_that(noted[0] if noted else None)
        restored = 0
        if table is not None and state is not None and not (unchanged and not gap.answered and not doubt):
            kept = KeptVotes.read(table)
            restored = _restore(sql, kept) if kept is not None else 0
            if anew and own is None and restored:
                doubt = "there is neither a ledger nor its journal, so that the spending is unknown"
        price = _price_of_restored(sql, restored, gap)
        missing = max(0, gap.answered - restored)
        if (missing or doubt) and not accept_loss:
            raise _refused(path, gap, restored, doubt)
        if price:
            row = (0, restored, price, "spent on votes that the ledger had lost")
            sql.execute("INSERT INTO lost VALUES (?, ?, ?, ?)", row)
        opened.totals = recounted(sql, known)
        if state is not None:
            sql.execute("INSERT OR REPLACE INTO about VALUES ('votes_table', ?)", (state.as_json(),))
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise
    unsettled = inspected.wal or not ledger_file.keeps_wal(path)
    if replayed and not (unsettled and replayed == 1):  # otherwise it was killed between the journal and its commit
        message = f"the newest {counted(replayed, 'write')} of the ledger had been lost with its -wal file"
        opened.notes.append(("ledger_restored", f"{message}; they were restored from its journal"))
    if restored and table is not None:
        were, spending = "was" if restored == 1 else "were", f", with {in_money(price)} of spending" if price else ""
        message = f"{counted(restored, 'vote')} that the ledger had lost {were} restored from {table.name}{spending}"
        opened.notes.append(("ledger_restored", f"{message}; their replies are lost"))
    elif price:
        opened.notes.append(("ledger_restored", f"{in_money(price)} of spending that the ledger had lost is counted"))
    if missing or doubt:
        message = doubt or f"the ledger has lost {lost_in_words(Totals(0, missing, 0.0))}"
        opened.notes.append(("ledger_loss", f"{message}; missing votes are requested, and paid, again"))


def _doubt(path: Path, inspected: Inspected, recorded: Totals, journal: Recorded | None, own: Recorded | None) -> str:
    """Why an unknown number of votes may be missing; empty if there is no reason to think so."""
    if journal is not None and own is None and inspected.version == VERSION:
        return "the ledger and its journal belong to different folders"
    if not inspected.left_open or inspected.wal or not ledger_file.keeps_wal(path):
        return ""
    if own is None or own.torn or own.totals.sequence < recorded.sequence:
        return "it was not closed, and its -wal file and its journal are missing or incomplete"
    return ""


def _refuse_human_votes(table: Path | None) -> None:
    if table is not None:
        KeptVotes.read(table)


def _replay(sql: sqlite3.Connection, recorded: Totals, journal: Recorded) -> int:
    """Apply the writes that only the journal has, up to the first gap; gives their number."""
    totals, replayed = recorded, 0
    while (written := journal.writes.get(totals.sequence + 1)) is not None and _is_known(sql, written):
        totals = apply(sql, totals, written, again=True)
        replayed += 1
    return replayed


def _is_known(sql: sqlite3.Connection, written: Written) -> bool:
    """Whether the ledger has every annotator and utterance of a write; otherwise its numbers could mean others."""
    query = "SELECT COUNT(*) FROM json_each(?) WHERE value NOT IN (SELECT id FROM {})"
    rows = [*written.outcomes, *written.heard]
    for table, numbers in (("annotator", {row[0] for row in rows}), ("utterance", {row[1] for row in rows})):
        if sql.execute(query.format(table), (json.dumps(sorted(numbers)),)).fetchone()[0]:
            return False
    return True


def _restore(sql: sqlite3.Connection, kept: KeptVotes) -> int:
    """Insert the votes of a table that the ledger has neither counted nor set aside; gives their number."""
    inserted = 0
    for name in kept.names:
        card = kept.cards[name].model_copy(update={"injected": None})
        number = annotator_id(sql, card, name)
        sql.executemany(
            "INSERT OR IGNORE INTO utterance (name) VALUES (?)", ((vote.utterance,) for vote in kept.of(name))
        )
        before = sql.total_changes
        sql.executemany(
            """INSERT OR IGNORE INTO vote SELECT :annotator, u.id, :draw, :status, 'restored', :label, :more, :stated,
            '', '', -1, 0.0, 0.0, 0.0, 0.0, 1, 1, 0.0 FROM utterance u WHERE u.name = :utterance AND NOT EXISTS
            (SELECT 1 FROM set_aside s WHERE s.annotator = :annotator AND s.utterance = u.id AND s.draw = :draw
            AND s.status != 'failed')""",
            (
                {"annotator": number} | {field: getattr(vote, field) for field in KeptVote.__slots__}
                for vote in kept.of(name)
            ),
        )
        inserted += sql.total_changes - before
    if kept.taxonomy:
        row = ("taxonomy", json.dumps(kept.taxonomy))
        sql.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", row)
    return inserted


def _price_of_restored(sql: sqlite3.Connection, restored: int, gap: Totals) -> float:
    """The spending to book for lost votes: from the journal, otherwise the mean price of an answered vote for each."""
    if gap.price or not restored:
        return gap.price
    query = "SELECT AVG(price) FROM vote WHERE kind != 'restored' AND status != 'failed' AND tries > 0"
    (mean,) = sql.execute(query).fetchone()
    return float(mean or 0.0) * max(0, restored - gap.answered)


def to_read(path: Path) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """A connection for reading; to a temporary copy if the folder is read-only, its disk full, or if a killed process
    has left a write that has to be taken back.
    """
    sql = connect(path, "ro")
    try:
        sql.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        return sql, None
    except sqlite3.Error as error:
        sql.close()
        if error.sqlite_errorcode & 0xFF not in _NO_ROOM_BESIDE:
            raise
    folder = tempfile.TemporaryDirectory(prefix="alm-proxies-")
    copy = Path(folder.name) / path.name
    copy.write_bytes(path.read_bytes())
    for beside in (wal_of, undo_of):
        if beside(path).is_file():
            beside(copy).write_bytes(beside(path).read_bytes())
    return connect(copy, "rwc"), folder


def upgraded_copy(sql: sqlite3.Connection) -> sqlite3.Connection:
    """A temporary copy, upgraded to the current version."""
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    sql.backup(copy)
    answered = sum(
        copy.execute(f"SELECT TOTAL(status != 'failed') FROM {table}").fetchone()[0] for table in ("vote", "set_aside")
    )
    ledger_file.upgrade(copy, Totals(0, int(answered), 0.0))
    recounted(copy, Totals())
    return copy


def _put_aside(path: Path, ending: str) -> Path:
    """Rename the files of a ledger without overwriting others; gives the new name."""
    number = 0
    while True:
        target = path.with_name(f"{path.name}.{ending}{f'-{number}' if number else ''}")
        if not any(file.exists() for file in (target, wal_of(target), undo_of(target))):
            break
        number += 1
    for file, aside in ((path, target), (wal_of(path), wal_of(target)), (undo_of(path), undo_of(target))):
        if file.exists():
            file.replace(aside)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    flush(path.parent)
    return target


def refuse_other_version(path: Path, version: int) -> None:
    """Refuse a ledger that was written by a later version."""
    if not 1 <= version <= VERSION:
        fix = "Read it with the version of alm-proxies that wrote it."
        raise InputError(f"is a ledger of version {version}, not {VERSION}", where=str(path), fix=fix)


def _refused(path: Path, gap: Totals, restored: int, doubt: str) -> InputError:
    lost = f"has lost {lost_in_words(gap)}" if gap.answered or gap.price else "may have lost votes"
    restorable = f", of which {restored:,} can be restored from votes.parquet" if restored else ""
    fix = "Put its -wal and .journal files back beside it; or continue with --accept-loss and pay missing votes again."
    return InputError(f"{lost}{restorable}{f' ({doubt})' if doubt else ''}", where=str(path), fix=fix)


def lost_in_words(gap: Totals) -> str:
    """The lost votes and spending in words."""
    parts = [counted(gap.answered, "vote")] if gap.answered or not gap.price else []
    return " and ".join([*parts, *([f"{in_money(gap.price)} of spending"] if gap.price else [])])
