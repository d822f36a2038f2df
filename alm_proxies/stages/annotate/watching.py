"""Watching a run from outside: signals, a line every few seconds, servers that are away, and when it has to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from alm_proxies.engines.away import Away, Reached
from alm_proxies.engines.engine import Engine
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.limits import Halt

_EVERY = 0.5
"""Seconds between two looks."""
_SAID_AFTER = 5.0
"""Seconds that all servers are away until it is said."""
_SAID_AGAIN = 10.0, 30.0
"""Seconds until it is said again: as long as it has lasted, but not less and not more than these."""
_PATIENCE = 60.0
"""Seconds that answers in flight are awaited after a signal."""
_NO_PATIENCE = 1.5
"""The same where no server can be reached, or none has been reached yet."""


class Watch:
    """`async with Watch(halt, progress, quiet) as watch`: SIGTERM and Ctrl-C stop cleanly while it lasts.

    What is in flight is awaited, and no longer than it makes sense; a second signal gives it up at once.
    """

    def __init__(self, halt: Halt, progress: Progress, quiet: bool) -> None:
        self.progress = progress
        self.engine: Engine | Reached | None = None
        """What is being asked now; None while it is opened."""
        self._halt = halt
        self._quiet = quiet
        self._due = _SAID_AFTER
        self._before: dict[signal.Signals, Any] = {}
        self._main: asyncio.Task[Any] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._main = asyncio.current_task()
        self.progress.__enter__()
        self._looking = asyncio.create_task(self._look())
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            self._before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
            for one in self._before:
                loop.add_signal_handler(one, self._interrupted, one.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._patience is not None:
            self._patience.cancel()
        for one, handler in self._before.items():
            asyncio.get_running_loop().remove_signal_handler(one)
            signal.signal(one, handler)
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        self.progress.__exit__(kind, error, trace)

    def _interrupted(self, name: str) -> None:
        if self._halt.interrupted:
            self._give_up()
            return
        self._halt.interrupted = True
        self._halt.because(f"{name} received")
        patience = _NO_PATIENCE if self.engine is None or self._away() is not None else _PATIENCE
        say(f"{name}: waiting {patience:g} s at most for what is in flight (again to give it up)", quiet=self._quiet)
        self._call_off()
        self._patience = asyncio.get_running_loop().call_later(patience, self._give_up)

    def _give_up(self) -> None:
        if self._main is not None:
            self._main.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self.progress.advance(0)
            if self._halt.now:
                self._call_off()
            away = self._away()
            if away is None:
                self._due = _SAID_AFTER
            elif away.seconds >= self._due:
                self._due = away.seconds + min(max(away.seconds, _SAID_AGAIN[0]), _SAID_AGAIN[1])
                say(f"{away}; Ctrl-C stops, the same command goes on", quiet=self._quiet)

    def _away(self) -> Away | None:
        return self.engine.away() if isinstance(self.engine, Reached) else None

    def _call_off(self) -> None:
        if isinstance(self.engine, Reached):
            self.engine.call_off("called_off", self._halt.reason or "the run stops")
