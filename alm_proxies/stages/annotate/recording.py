"""Recording: requests hand their results to one writer, which acknowledges them together in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from alm_proxies.stages.annotate.ledger import Heard, Ledger, Lost, Outcome, Sending


@dataclass(slots=True)
class _Batch:
    """What goes into one transaction, and those who wait for it."""

    sending: list[Sending] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    arrived: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def answer(self, error: Exception | None = None) -> None:
        """Let all who wait go on, or raise the error in each of them; some may have been cancelled."""
        for one in self.waiting:
            if one.done():
                continue
            if error is None:
                one.set_result(None)
            else:
                one.set_exception(error)
                one.exception()  # seen, even where its caller is called off in this very moment


class Recorder:
    """`await recorder.sending(...)` and `await recorder.arrived(...)` return once the ledger has been fsynced."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next = _Batch()
        self._writer: asyncio.Task[None] | None = None

    async def sending(self, request: Sending, heard: Heard) -> None:
        """Acknowledge a request before it is sent, so that after a kill it is known what was in flight."""
        self._next.sending.append(request)
        self._next.heard.append(heard)
        await self._written()

    async def arrived(self, outcomes: Sequence[Outcome], number: int | None = None, lost: Lost | None = None) -> None:
        """Acknowledge what became of some draws, and that the request they were asked with is in flight no more.

        `lost` is what was paid for draws that nothing came of and that are left to be asked again.
        """
        if lost is not None:
            self._next.lost.append(lost)
        if number is not None:
            self._next.arrived.append(number)
        self._next.outcomes.extend(outcomes)
        await self._written()

    def _written(self) -> asyncio.Future[None]:
        """Done when the batch that is being gathered is fsynced: each caller has its own, as one may be cancelled."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._next.waiting.append(written)
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        return written

    async def _write(self) -> None:
        try:
            while self._next.waiting:
                batch, self._next = self._next, _Batch()
                try:
                    await asyncio.to_thread(
                        self._ledger.write, batch.sending, batch.heard, batch.arrived, batch.outcomes, batch.lost
                    )
                except Exception as error:  # every caller of this batch raises it
                    batch.answer(error)
                else:
                    batch.answer()
        finally:
            self._writer = None
