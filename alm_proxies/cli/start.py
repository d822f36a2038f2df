"""Start and end of the command line: Ctrl-C and SIGTERM end it with one sentence and exit code 130 at any time.

Nothing heavy is imported before the signal handlers are set. While modules are imported, and after the command is
done, there is nothing to clean up and the process ends at once. In between KeyboardInterrupt is raised; code that
swallows it (a library that catches everything, a destructor) cannot change the exit code 130. While the interpreter
itself is taken down, when no handler can run any more, signals are ignored: everything is written and printed.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import Any

from alm_proxies.cli.ending import DEFECT, INTERRUPTED, SENTENCE, defect, drop_notes, end_now, refuse


class _Interruption:
    """The present effect of a signal, and whether one was received."""

    def __init__(self) -> None:
        self.received = False
        self.working = False

    def install(self) -> None:
        """Handle Ctrl-C and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        atexit.register(_ignore_signals)  # the first one registered runs last
        sys.unraisablehook = self._lost

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received or not self.working or _is_importing(frame):
            end_now()
        self.received = True
        raise KeyboardInterrupt

    def _lost(self, lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):  # raised in a destructor, where it cannot be caught
            end_now()
        sys.__unraisablehook__(lost)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its exit code."""
    interruption = _Interruption()
    interruption.install()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a character that the terminal cannot encode is not a reason to fail
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code, reported = DEFECT, False
    try:
        run = import_module("alm_proxies.cli.app").run
        interruption.working = True
        code = run(given)
        reported = code == INTERRUPTED
    except BaseException as error:
        if not interruption.received and not isinstance(error, KeyboardInterrupt):
            interruption.working = False
            code = defect(error, debug="--debug" in given)
    interruption.working = False
    if interruption.received:
        drop_notes()
        if not reported:
            refuse(SENTENCE)
    _flush()
    sys.exit(INTERRUPTED if interruption.received else code)


def _ignore_signals() -> None:
    """Python gives handlers back to the system before it frees its modules: a signal would then kill without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _flush() -> None:
    """Flush the output; the reader of a pipe may be gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if stream is sys.stdout else 2)
