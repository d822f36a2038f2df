"""Monitoring a run: signals, progress, unreachable servers, and the reasons to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from alm_proxies.engines.away import Away, Reached
from alm_proxies.engines.engine import Engine
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.limits import Halt

_EVERY = 0.5
"""Seconds between two checks."""
_REPORT_AFTER = 5.0
"""Seconds without a reachable server until this is reported."""
_REPORT_AGAIN = 10.0, 30.0
"""Limits of the seconds until it is reported again, which are as long as it has lasted."""
_PATIENCE = 60.0
"""Seconds to wait for requests in flight after a signal."""
_NO_PATIENCE = 1.5
"""The same if no server can be reached, or none has been reached yet."""


class RunMonitor:
    """`async with RunMonitor(halt, progress, quiet) as monitor`: SIGTERM and Ctrl-C stop the run cleanly.

    Requests in flight get a limited time to finish; a second signal cancels them.
    """

    def __init__(self, halt: Halt, progress: Progress, quiet: bool) -> None:
        self.progress = progress
        self.engine: Engine | Reached | None = None
        """The engine in use; None while one is opened."""
        self._halt = halt
        self._quiet = quiet
        self._due = _REPORT_AFTER
        self._before: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._main = asyncio.current_task()
        self.progress.__enter__()
        self._checking = asyncio.create_task(self._check())
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            # The loop's own handlers would leave a moment without a handler when they are removed: a signal would kill.
            self._before = {
                number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._patience is not None:
            self._patience.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._checking is not None:
            self._checking.cancel()
            with suppress(asyncio.CancelledError):
                await self._checking
        self.progress.__exit__(kind, error, trace)

    def interrupt(self) -> None:
        """Stop the run as Ctrl-C does; for the main thread, where the run is in another one."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._interrupted, signal.SIGINT.name)
                return
        except RuntimeError:  # it has just ended
            pass
        self._halt.interrupted = True
        self._halt.because(f"{signal.SIGINT.name} received")

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._interrupted, signal.Signals(number).name)

    def _interrupted(self, name: str) -> None:
        if self._halt.interrupted:
            self._give_up()
            return
        self._halt.interrupted = True
        self._halt.because(f"{name} received")
        patience = _NO_PATIENCE if self.engine is None or self._away() is not None else _PATIENCE
        say(f"{name}: waiting at most {patience:g} s for requests in flight (again to cancel them)", quiet=self._quiet)
        self._call_off()
        self._patience = asyncio.get_running_loop().call_later(patience, self._give_up)

    def _give_up(self) -> None:
        if self._main is not None:
            self._main.cancel()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self.progress.advance(0)
            if self._halt.now:
                self._call_off()
            away = self._away()
            if away is None:
                self._due = _REPORT_AFTER
            elif away.seconds >= self._due:
                self._due = away.seconds + min(max(away.seconds, _REPORT_AGAIN[0]), _REPORT_AGAIN[1])
                say(f"{away}; Ctrl-C stops, run the same command again to continue", quiet=self._quiet)

    def _away(self) -> Away | None:
        return self.engine.away() if isinstance(self.engine, Reached) else None

    def _call_off(self) -> None:
        if isinstance(self.engine, Reached):
            self.engine.call_off("called_off", self._halt.reason or "the run stops")
