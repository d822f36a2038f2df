"""Recording: requests hand what they did to one writer, which acknowledges all of it in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from alm_proxies.stages.annotate.ledger import Heard, Ledger, Outcome, Sending


class Recorder:
    """`await recorder.sending(...)` and `await recorder.arrived(...)` return once the ledger has it on disk."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sending: list[Sending] = []
        self._heard: list[Heard] = []
        self._arrived: list[int] = []
        self._outcomes: list[Outcome] = []
        self._acknowledged: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def sending(self, request: Sending, heard: Heard) -> None:
        """Acknowledge a request before it is sent, so that a kill can tell what was in flight."""
        self._sending.append(request)
        self._heard.append(heard)
        await self._next_write()

    async def arrived(self, outcomes: Sequence[Outcome], number: int | None = None) -> None:
        """Acknowledge what became of some draws, and that the request they were asked with is in flight no more."""
        self._arrived += [] if number is None else [number]
        self._outcomes.extend(outcomes)
        await self._next_write()

    async def _next_write(self) -> None:
        if self._acknowledged is None:
            self._acknowledged = asyncio.get_running_loop().create_future()
        acknowledged = self._acknowledged
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        # A caller that is cancelled must not take the others' acknowledgement with it.
        await asyncio.shield(acknowledged)

    async def _write(self) -> None:
        while self._acknowledged is not None:
            acknowledged, self._acknowledged = self._acknowledged, None
            batch = (self._sending, self._heard, self._arrived, self._outcomes)
            self._sending, self._heard, self._arrived, self._outcomes = [], [], [], []
            try:
                await asyncio.to_thread(self._ledger.write, *batch)
            except Exception as error:  # every caller of this batch raises it
                acknowledged.set_exception(error)
                acknowledged.exception()  # seen, even where every caller has been cancelled
            else:
                acknowledged.set_result(None)
        self._writer = None
