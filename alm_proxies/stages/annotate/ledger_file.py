"""The file of a ledger: its tables, connection, inspection, creation, and upgrade."""

from __future__ import annotations

import json
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alm_proxies.errors import InputError, OutputError
from alm_proxies.files import could_not_read, digest_of, flush
from alm_proxies.machine import on_network
from alm_proxies.stages.annotate.records import NOTHING, Totals

VERSION = 2

_VOTE = """annotator INTEGER, utterance INTEGER, draw INTEGER, status TEXT, kind TEXT, label TEXT, more TEXT,
    stated TEXT, raw TEXT, request TEXT, cell INTEGER, latency REAL, tokens_in REAL, tokens_out REAL, price REAL,
    tries INTEGER, seeded INTEGER, at REAL"""
_TABLES = {
    "about": "(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "annotator": """(id INTEGER PRIMARY KEY, name TEXT, digest TEXT, seed INTEGER, card TEXT,
        UNIQUE (name, digest, seed))""",
    "utterance": "(id INTEGER PRIMARY KEY, name TEXT UNIQUE)",
    "audio": "(path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, digest TEXT) WITHOUT ROWID",
    "material": """(annotator INTEGER, utterance INTEGER, digest TEXT, PRIMARY KEY (annotator, utterance))
        WITHOUT ROWID""",
    "planned_utterance": "(position INTEGER PRIMARY KEY, utterance INTEGER)",
    "planned_annotator": "(annotator INTEGER PRIMARY KEY, votes INTEGER)",
    "vote": f"({_VOTE}, PRIMARY KEY (annotator, utterance, draw)) WITHOUT ROWID",
    "set_aside": f"({_VOTE}, why TEXT)",
    "injection": """(annotator INTEGER, utterance INTEGER, label TEXT, speaker TEXT, told INTEGER,
        control INTEGER, PRIMARY KEY (annotator, utterance)) WITHOUT ROWID""",
    "in_flight": "(id INTEGER PRIMARY KEY, draws INTEGER, price REAL)",
    "lost": "(requests INTEGER, draws INTEGER, price REAL, why TEXT)",
    "trial": """(id INTEGER PRIMARY KEY, annotator TEXT, state TEXT, requests INTEGER, audio_seconds REAL,
        tokens_in REAL, tokens_out REAL, price REAL, at REAL)""",
    "total": """(id INTEGER PRIMARY KEY, ledger TEXT, sequence INTEGER, answered INTEGER, price REAL,
        left_open INTEGER)""",
}
_NEW_IN_2 = frozenset({"trial", "total"})
VOTE_COLUMNS = len(_VOTE.split(","))
_STATUSES = "'ok', 'refused', 'unparsable', 'out_of_vocabulary', 'failed'"
_NUMBER = "typeof({0}) IN ('integer', 'real') AND {0} >= 0 AND {0} < 9e999"
_VALID = " AND ".join(
    [
        "typeof(annotator) = 'integer' AND typeof(utterance) = 'integer'",
        "typeof(draw) = 'integer' AND draw BETWEEN 0 AND 2147483647",
        f"status IN ({_STATUSES})",
        "typeof(kind) = 'text' AND typeof(raw) = 'text' AND typeof(request) = 'text'",
        "typeof(label) IN ('text', 'null') AND typeof(stated) IN ('text', 'null')",
        "(more IS NULL OR (typeof(more) = 'text' AND json_valid(more) AND json_type(more) = 'object'))",
        "typeof(cell) = 'integer' AND typeof(tries) = 'integer' AND typeof(seeded) = 'integer'",
        *(_NUMBER.format(name) for name in ("latency", "tokens_in", "tokens_out", "price", "at")),
    ]
)
"""The condition on every row of `vote` and `set_aside`, because SQLite itself accepts any type in any column."""
_CANNOT_WRITE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
}
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_HEADER = b"SQLite format 3\x00"
_WAITS = 60.0
"""Seconds that a write waits for readers where there is no -wal file, and a reader for a write."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """The state of a ledger file, before anything in it is changed."""

    state: Literal["absent", "empty", "whole", "damaged"]
    reason: str = ""
    """Description of the damage."""
    version: int = 0
    identity: str = ""
    recorded: Totals = NOTHING
    """The totals that are stored in it."""
    held: Totals = NOTHING
    """The totals of its rows."""
    left_open: bool = False
    """Whether the last process that wrote it did not close it."""
    wal: bool = False
    """Whether there is a -wal file with content."""


def connect(path: Path, mode: Literal["rwc", "ro", "immutable"]) -> sqlite3.Connection:
    """A connection without implicit transactions; `immutable` reads the file alone, without its -wal."""
    query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    uri = f"{path.resolve().as_uri()}?{query}"
    return sqlite3.connect(uri, timeout=_WAITS, uri=True, isolation_level=None, check_same_thread=False)


def prepare(sql: sqlite3.Connection, path: Path) -> None:
    """Set the journal mode: every write is fsynced, in a -wal file if the file system supports one."""
    sql.execute(f"PRAGMA journal_mode = {'WAL' if keeps_wal(path) else 'TRUNCATE'}")
    sql.execute("PRAGMA synchronous = FULL")


def keeps_wal(path: Path) -> bool:
    """Whether an open ledger at this path has its newest pages in a -wal file."""
    return not on_network(path)


def wal_of(path: Path) -> Path:
    """The file beside a ledger that holds its newest pages while it is open."""
    return path.with_name(f"{path.name}-wal")


def undo_of(path: Path) -> Path:
    """The file beside a ledger without a -wal file that takes back a write which was not committed."""
    return path.with_name(f"{path.name}-journal")


def take_back(path: Path) -> None:
    """Take back a write that a killed process did not commit, as a connection for reading cannot."""
    undo = undo_of(path)
    if path.is_file() and undo.is_file() and undo.stat().st_size > 0:
        with suppress(sqlite3.DatabaseError), closing(connect(path, "rwc")) as sql:  # inspect reports the error
            sql.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()


def refuse_irregular(path: Path) -> None:
    """Refuse a ledger, or one of its files, that is a pipe, a device or a folder: opening a pipe could block."""
    for file in (path, wal_of(path), undo_of(path), path.with_suffix(".journal"), path.with_suffix(".lock")):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise InputError("is not a regular file", where=str(file), fix="Remove it, or choose another folder.")


def refuse_unreadable(path: Path) -> None:
    """Refuse a ledger that exists and cannot be read, or whose newest pages cannot."""
    for file in (path, wal_of(path), undo_of(path)):
        try:
            file.open("rb").close()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise could_not_read(file, error) from error


def inspect(path: Path) -> Inspected:
    """Read the whole file and describe its state; nothing is changed."""
    refuse_irregular(path)
    wal = wal_of(path)
    there = wal.is_file() and wal.stat().st_size > 0
    if not path.exists():
        return Inspected("absent", wal=there)
    if path.stat().st_size == 0:
        return Inspected("empty", wal=there)
    with path.open("rb") as stream:
        if stream.read(16) != _HEADER:
            return Inspected("damaged", "is not a ledger, or is damaged: file is not a database", wal=there)
    try:
        with closing(connect(path, "ro")) as sql:
            sql.execute("BEGIN")
            return _inspected(sql, there)
    except sqlite3.DatabaseError as error:
        if _code(error) in _CANNOT_WRITE:
            raise
        return Inspected("damaged", f"is not a ledger, or is damaged: {error}", wal=there)
    except (TypeError, ValueError) as error:
        return Inspected("damaged", f"is damaged: {error}", wal=there)


def _inspected(sql: sqlite3.Connection, wal: bool) -> Inspected:
    version = version_of(sql)
    if not 1 <= version <= VERSION:
        return Inspected("whole", version=version, wal=wal)
    if wrong := wrong_tables(sql, version):
        return Inspected("damaged", wrong, version, wal=wal)
    (sound,) = sql.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        return Inspected("damaged", f"is damaged: {' '.join(str(sound).split())}", version, wal=wal)
    answered, price = 0, 0.0
    for table in ("vote", "set_aside"):
        query = f"SELECT TOTAL(status != 'failed'), TOTAL(price), TOTAL(COALESCE(NOT ({_VALID}), 1)) FROM {table}"
        count, sum_, wrong_rows = sql.execute(query).fetchone()
        if wrong_rows:
            key = "SELECT annotator, utterance, draw"
            row = sql.execute(f"{key} FROM {table} WHERE COALESCE(NOT ({_VALID}), 1) LIMIT 1").fetchone()
            place = f"annotator {row[0]!r}, utterance {row[1]!r}, draw {row[2]!r}"
            return Inspected(
                "damaged", f"is damaged: a row of its table {table} cannot be read ({place})", version, wal=wal
            )
        answered, price = answered + int(count), price + sum_
    for table in ("lost", "trial") if version > 1 else ("lost",):
        price += sql.execute(f"SELECT TOTAL(price) FROM {table}").fetchone()[0]
    if version == 1:
        price += _tried_out_in_1(sql)[1]
        held = Totals(0, answered, price)
        return Inspected("whole", "", version, "", held, held, left_open=False, wal=wal)
    row = sql.execute("SELECT ledger, sequence, answered, price, left_open FROM total WHERE id = 1").fetchone()
    stated = sql.execute("SELECT value FROM about WHERE key = 'ledger'").fetchone()
    if row is None or stated is None:
        return Inspected("damaged", "is damaged: its totals are missing", version, wal=wal)
    if str(stated[0]) != str(row[0]):
        reason = "is damaged: its -wal file belongs to another ledger"
        return Inspected("damaged", reason, version, wal=wal)
    recorded = Totals(int(row[1]), int(row[2]), float(row[3]))
    held = Totals(recorded.sequence, answered, price)
    return Inspected("whole", "", version, str(row[0]), recorded, held, left_open=bool(row[4]), wal=wal)


def version_of(sql: sqlite3.Connection) -> int:
    """The version that is stored in a ledger."""
    row = sql.execute("SELECT value FROM about WHERE key = 'version'").fetchone()
    if row is None:
        raise ValueError("its version is missing")
    return int(row[0])


def wrong_tables(sql: sqlite3.Connection, version: int = VERSION) -> str:
    """The first fault of its tables and columns, as a sentence; empty if there is none."""
    for table, columns in _expected(version).items():
        actual = [row[1] for row in sql.execute(f"PRAGMA table_info({table})")]
        if not actual:
            return f"is damaged: its table {table} is missing"
        missing = [name for name in columns if name not in actual]
        if missing:
            return f"is damaged: its table {table} has no column {missing[0]}"
        if actual != columns:
            return f"is damaged: its table {table} has the columns {', '.join(actual)}"
    return ""


def _expected(version: int) -> dict[str, list[str]]:
    """The columns of every table in this version."""
    with closing(sqlite3.connect(":memory:")) as sql:
        for table, columns in _TABLES.items():
            sql.execute(f"CREATE TABLE {table} {columns}")
        every = {table: [str(row[1]) for row in sql.execute(f"PRAGMA table_info({table})")] for table in _TABLES}
    if version == 1:
        every = {table: columns for table, columns in every.items() if table not in _NEW_IN_2}
        every["lost"] = every["lost"][:3]
    return every


def create(sql: sqlite3.Connection, totals: Totals = NOTHING) -> str:
    """Create the tables of a new ledger in one transaction; gives its identity."""
    identity = secrets.token_hex(16)
    sql.execute("BEGIN IMMEDIATE")
    for table, columns in _TABLES.items():
        sql.execute(f"CREATE TABLE {table} {columns}")
    _sign(sql, identity, totals)
    sql.execute("COMMIT")
    return identity


def _sign(sql: sqlite3.Connection, identity: str, totals: Totals) -> None:
    facts = [("version", str(VERSION)), ("ledger", identity)]
    sql.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", facts)
    sql.execute("INSERT INTO total VALUES (1, ?, ?, ?, ?, 0)", (identity, *totals))


def copy_of(path: Path, ending: str) -> Path:
    """Copy a ledger, including its -wal, to a file beside it; the copy appears only when it is complete."""
    target = path.with_name(f"{path.name}.{ending}")
    temporary = target.with_name(f"{target.name}.part")
    temporary.unlink(missing_ok=True)
    with closing(connect(path, "ro")) as source, closing(sqlite3.connect(temporary)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    flush(temporary)
    temporary.replace(target)
    flush(target.parent)
    return target


def upgrade(sql: sqlite3.Connection, held: Totals) -> None:
    """Upgrade a ledger of version 1 to the current version, in one transaction."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        for table in sorted(_NEW_IN_2):
            sql.execute(f"CREATE TABLE {table} {_TABLES[table]}")
        sql.execute("ALTER TABLE lost ADD COLUMN why TEXT")
        first = _first_vote(sql)
        requests, price = _tried_out_in_1(sql)
        if requests or price:
            row = ("", "answered before version 2", requests, 0.0, 0.0, 0.0, price, first[0] if first else time.time())
            sql.execute("INSERT INTO trial VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        sql.execute("DELETE FROM about WHERE key = 'tried_out'")
        _sign(sql, secrets.token_hex(16) if first is None else digest_of(first), held)
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise


def _first_vote(sql: sqlite3.Connection) -> list[Any] | None:
    """Time and content of the first answered vote, which copies of a ledger of version 1 have in common."""
    parts = "at, annotator, utterance, draw, request, raw"
    both = " UNION ALL ".join(f"SELECT {parts} FROM {table} WHERE tries > 0" for table in ("vote", "set_aside"))
    row = sql.execute(f"SELECT * FROM ({both}) ORDER BY {parts} LIMIT 1").fetchone()
    return None if row is None else list(row)


def _tried_out_in_1(sql: sqlite3.Connection) -> tuple[int, float]:
    row = sql.execute("SELECT value FROM about WHERE key = 'tried_out'").fetchone()
    requests, price = json.loads(row[0]) if row is not None else (0, 0.0)
    return int(requests), float(price)


@contextmanager
def reported(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn errors of SQLite into those of alm-proxies; with `reading`, invalid values in rows count as damage."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        if _code(error) in _HELD:
            fix = "Close what else has it open, and run the same command again: acknowledged votes are kept."
            if on_network(path):
                fix += " If nothing has it open, the locks of this network disk do not work: choose a local disk."
            raise OutputError("the ledger is locked by another program", where=str(path), fix=fix) from error
        if _code(error) in _CANNOT_WRITE:
            raise _cannot_write(path, str(error)) from error
        raise damaged(path, f"is not a ledger, or is damaged: {error}") from error
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        if not reading:
            raise
        raise damaged(path, f"is damaged: one of its rows cannot be read ({type(error).__name__}: {error})") from error


def damaged(path: Path, reason: str) -> InputError:
    """The error for a ledger that cannot be read as it is."""
    fix = "Restore it from a copy; or annotate again with --accept-loss, which renames it and restores what it can."
    return InputError(" ".join(reason.split())[:300], where=str(path), fix=fix)


def _cannot_write(path: Path, reason: str) -> OutputError:
    fix = "Free some space or fix its permissions, then run the same command again: acknowledged votes are kept."
    return OutputError(f"the ledger cannot be written: {reason}", where=str(path), fix=fix)


def _code(error: sqlite3.DatabaseError) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
