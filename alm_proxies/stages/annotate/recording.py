"""Recording of results: one writer stores the results of many requests in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from alm_proxies.stages.annotate.ledger import Heard, Ledger, Lost, Outcome, Sending

_TOGETHER = 0.01
"""Seconds between two transactions: what comes meanwhile is stored together, which takes half the processor time."""


@dataclass(slots=True)
class _Batch:
    """The content of one transaction, and the callers that wait for it."""

    sending: list[Sending] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def answer(self, error: BaseException | None) -> None:
        """Wake all waiting callers, or raise the error in each of them; some may have been cancelled."""
        for caller in self.waiting:
            if caller.done():
                continue
            if error is None:
                caller.set_result(None)
            else:
                caller.set_exception(error)
                caller.exception()  # retrieved here, because the caller may be cancelled before it does


class Recorder:
    """`await recorder.sending(...)` and `await recorder.arrived(...)` return once the ledger has been fsynced."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next = _Batch()
        self._writer: asyncio.Task[None] | None = None

    async def sending(self, request: Sending, heard: Heard) -> None:
        """Record a request before it is sent, so that it is known after a kill what was in flight."""
        self._next.sending.append(request)
        self._next.heard.append(heard)
        await self._written()

    async def arrived(self, outcomes: Sequence[Outcome], number: int | None = None, lost: Lost | None = None) -> None:
        """Record the outcomes of draws, and that their request is no longer in flight.

        `lost` is the cost of draws without an outcome, which will be requested again.
        """
        if lost is not None:
            self._next.lost.append(lost)
        if number is not None:
            self._next.arrived.append(number)
        self._next.outcomes.extend(outcomes)
        await self._written()

    def _written(self) -> asyncio.Future[None]:
        """A future per caller, because one may be cancelled; done when the next batch has been fsynced."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._next.waiting.append(written)
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        return written

    async def _write(self) -> None:
        loop, together = asyncio.get_running_loop(), _TOGETHER
        try:
            while self._next.waiting:
                started = loop.time()
                batch, self._next = self._next, _Batch()
                writing = loop.run_in_executor(
                    None, self._ledger.write, batch.sending, batch.heard, batch.arrived, batch.outcomes, batch.lost
                )
                while not writing.done():
                    try:
                        await asyncio.wait([writing])
                    except asyncio.CancelledError:  # its thread goes on, and what has come since is to be written too
                        together = 0.0
                batch.answer(writing.exception())  # raised by every caller of this batch
                try:
                    await asyncio.sleep(max(0.0, together - (loop.time() - started)))
                except asyncio.CancelledError:
                    together = 0.0  # what has come since is written at once
        finally:
            self._writer = None
