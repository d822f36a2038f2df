"""The journal: a second record of acknowledged writes, in a small text file next to the ledger.

Each line is a checksum and JSON: the totals after a write and, since the last checkpoint, the write itself. If the
ledger lacks its newest pages (a lost -wal file, an older copy), the journal shows how much is missing, and the writes
can be applied again. Reading ends at the first incomplete or damaged line.
"""

from __future__ import annotations

import json
import os
import stat
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from alm_proxies.files import flush
from alm_proxies.stages.annotate.records import Totals, Written

LARGEST = 4 * 2**20
"""Bytes after which the ledger is checkpointed and the journal is restarted."""
_READ_AT_MOST = 64 * 2**20
_FSYNC_EVERY = 1.0
"""Seconds. kill -9 loses nothing that was written; a power cut may lose the last second of the journal."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The contents of a journal."""

    ledger: str
    """The identity of the ledger it belongs to."""
    totals: Totals
    """Totals after the last line."""
    writes: dict[int, Written] = field(default_factory=dict)
    """Writes by sequence number."""
    torn: bool = False
    """Whether the rest cannot be read."""


class Journal:
    """The journal of a ledger that is open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._size = 0
        self._flushed = 0.0

    @property
    def full(self) -> bool:
        """Whether the ledger should be checkpointed and the journal restarted."""
        return self._size > LARGEST

    def begin(self, ledger: str, totals: Totals) -> None:
        """Restart the journal atomically, with the totals only."""
        self.close()
        temporary = self.path.with_name(f"{self.path.name}.part")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND, 0o666)
        try:
            line = _line({"ledger": ledger, "totals": totals})
            _write(handle, line)
            os.fsync(handle)
            temporary.replace(self.path)
            flush(self.path.parent)
        except BaseException:
            os.close(handle)
            raise
        self._handle, self._size, self._flushed = handle, len(line), time.monotonic()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def cut(self, size: int) -> None:
        """Remove the lines added since, because the ledger did not commit them."""
        if self._handle is not None and size < self._size:
            os.ftruncate(self._handle, size)
            self._size = size

    def add(self, totals: Totals, written: Written) -> None:
        """Add a write, just before the ledger acknowledges it."""
        if self._handle is None:
            return
        line = _line({"totals": totals, **written.as_json()})
        try:
            _write(self._handle, line)
        except OSError:
            os.ftruncate(self._handle, self._size)  # half a line would make the following ones unreadable
            raise
        self._size += len(line)
        if time.monotonic() - self._flushed > _FSYNC_EVERY:
            self.flush()

    def flush(self) -> None:
        """fsync what was written."""
        if self._handle is not None:
            os.fdatasync(self._handle)
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


def read_journal(path: Path) -> Recorded | None:
    """Read a journal up to the first damaged line; None if there is none or nothing can be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        lines = stream.read(_READ_AT_MOST).splitlines(keepends=True)
    identity, totals, torn = "", Totals(), False
    writes: dict[int, Written] = {}
    for number, line in enumerate(lines):
        try:
            content = _parsed(line)
            totals = Totals(int(content["totals"][0]), int(content["totals"][1]), float(content["totals"][2]))
            if number == 0:
                identity = str(content["ledger"])
            else:
                writes[totals.sequence] = Written.of(content)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            torn = True
            break
    return Recorded(identity, totals, writes, torn) if identity else None


def _line(value: dict[str, object]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode("ascii")
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> dict[str, list[float]]:
    if not line.endswith(b"\n") or line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:-1]):
        raise ValueError("a line is incomplete")
    content: dict[str, list[float]] = json.loads(line[9:-1])
    return content


def _write(handle: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(handle, view) :]
