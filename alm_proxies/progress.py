"""Progress on stderr: a live bar on a terminal, one line that overwrites itself in a notebook, a plain line every few
seconds elsewhere, nothing when quiet. Every line also goes to the logger `alm_proxies`, quiet or not.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from alm_proxies.log import LOG
from alm_proxies.printable import printable

_MARKS = 60
"""The shortest recent time, in seconds, from which the time left is estimated."""
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REWRITES = 0.5
_SECONDS_BETWEEN_NOTES = 2.0
_notes: list[_Note] = []
"""The files in which progress is recorded for other processes; the innermost last."""


class _Note:
    """A file with the present task and progress of this process."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}")
        self.facts = {**facts, "pid": os.getpid(), "host": platform.node(), "started": time.time()}
        self.last = 0.0

    def write(self, **more: Any) -> None:
        """Write the file atomically, unless another process has its own there; a full disk, for example, is ignored."""
        self.last = time.monotonic()
        if self._is_anothers():
            return
        with contextlib.suppress(OSError):
            self._part.write_text(json.dumps({**self.facts, "at": time.time(), **more}), encoding="utf-8")
            self._part.replace(self.path)

    def remove(self) -> None:
        """Remove the file, also a half-written one; that of another process stays."""
        self._part.unlink(missing_ok=True)
        if not self._is_anothers():
            self.path.unlink(missing_ok=True)

    def _is_anothers(self) -> bool:
        """Whether the file is that of another process that runs."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            there = json.loads(self.path.read_text(encoding="utf-8"))
            pid, host = int(there["pid"]), str(there["host"])
            return (pid, host) != (self.facts["pid"], self.facts["host"]) and is_running(pid, host)
        return False


def is_running(process: int, host: str) -> bool:
    """Whether a process runs; assumed for one on another machine. A number that no process has does not."""
    if host != platform.node():
        return True
    if process < 1:  # the system would take it for a group of processes
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def noted(path: Path, **facts: Any) -> Iterator[None]:
    """A context in which a file records the task, the process and its progress; it is removed at the end."""
    note = _Note(path, facts)
    _notes.append(note)
    try:
        note.write()
        yield
    finally:
        _notes.remove(note)
        note.remove()


def drop_notes() -> None:
    """Remove the notes of this process, which ends without leaving their contexts."""
    for note in _notes:
        if note.facts["pid"] == os.getpid():
            note.remove()


class Progress:
    """Counts towards a total; `with Progress("reading", total=10) as p: p.advance()`."""

    def __init__(
        self, message: str, total: int | None = None, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self._what = printable(message)
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._done = 0
        self._note = ""
        self._started = 0.0
        self._last_line = 0.0
        self._counted: deque[tuple[float, int]] = deque(maxlen=_MARKS)
        self._notebook = type(self._stream).__module__.startswith("ipykernel")
        self._longest = 0
        self._live: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Live

            # Names are shown unchanged: a label or model may contain what rich would read as markup.
            message, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
            columns = (message, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
            self._live = Live(*columns, console=Console(file=self._stream))
            self._task = self._live.add_task(self._what, total=self._total, note="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif not self._quiet and (kind is not None or self._last_line > self._started):
            self._line("stopped" if kind is not None else "done")
            if self._notebook:
                print(file=self._stream, flush=True)
        LOG.info("%s", self._words("stopped" if kind is not None else "done"))

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count `count` more; `note` is shown after the count."""
        self._done += count
        now = time.monotonic()
        if count and (not self._counted or now - self._counted[-1][0] >= 1.0):
            self._counted.append((now, self._done))
        self._note = printable(note) if note is not None else self._note
        if _notes and now - _notes[-1].last >= _SECONDS_BETWEEN_NOTES:
            _notes[-1].write(message=self._what, done=self._done, total=self._total, seconds_left=self._left())
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(self._task, advance=count, note=self._note)
        elif time.monotonic() - self._last_line >= (
            _SECONDS_BETWEEN_REWRITES if self._notebook else _SECONDS_BETWEEN_LINES
        ):
            self._line("")

    def _line(self, ending: str) -> None:
        self._last_line = time.monotonic()
        words = self._words(ending)
        if self._notebook:  # a shorter line must overwrite the longer one before it
            self._longest = max(self._longest, len(words))
            print(f"\r{words:<{self._longest}}", end="", file=self._stream, flush=True)
        else:
            print(words, file=self._stream, flush=True)

    def _left(self) -> float | None:
        """Seconds left at the recent speed; None until that is known: the first item often waits for imports."""
        if not self._total or not self._counted:
            return None
        now = time.monotonic()
        since, before = self._counted[0]
        if self._done == before or now - since < 1.0:
            return None
        return (now - since) / (self._done - before) * (self._total - self._done)

    def _words(self, ending: str) -> str:
        seconds = time.monotonic() - self._started
        of = f"/{self._total}" if self._total is not None else ""
        seconds_left = self._left()
        left = f", about {seconds_left:.0f} s left" if seconds_left else ""
        parts = [part for part in (self._note, ending) if part]
        tail = f" ({', '.join(parts)})" if parts else ""
        return f"{self._what}: {self._done}{of} after {seconds:.0f} s{left}{tail}"


def say(line: str, *, quiet: bool = False) -> None:
    """One plain line on stderr, and to the logger."""
    line = printable(line)
    LOG.info("%s", line)
    if not quiet:
        print(line, file=sys.stderr, flush=True)
