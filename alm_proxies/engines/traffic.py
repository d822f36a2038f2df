"""How many requests at once, to which replica, when again.

Every replica has a window of requests in flight. It doubles once per round trip until the replica first complains,
afterwards it grows by one; a complaint (429, 503, a timeout) halves it, at most once per round trip. A replica that
cannot be reached rests, twice as long each time, while the others go on. A failed try is made again on whichever
replica has room, after a wait that doubles and jitters, and not before the server's own Retry-After.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from alm_proxies.engines.engine import ASKED_AGAIN, Failure, Trouble

Answer = TypeVar("Answer")

_BUSY: frozenset[str] = frozenset({"rate_limited", "server_error", "timeout"})
_AWAY: frozenset[str] = frozenset({"unreachable", "reset"})
_FIRST_WINDOW = 16.0


class FaultError(Exception):
    """One try went wrong."""

    def __init__(self, kind: Trouble, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.failure = Failure(kind, what)
        self.retry_after = retry_after


@dataclass(slots=True)
class Replica:
    """One address and how much it bears."""

    address: str
    most: float
    window: float
    flying: int = 0
    growing: bool = True
    shrunk_at: float = 0.0
    opens_at: float = 0.0
    absences: int = 0

    def room(self, now: float) -> float:
        """How many more requests it may get now."""
        return self.window - self.flying if now >= self.opens_at else 0.0


@dataclass(slots=True)
class Counts:
    """What happened so far, for progress lines and tests."""

    tries: int = 0
    again: int = 0
    faults: dict[str, int] = field(default_factory=dict)


class Traffic:
    """Sends requests to replicas."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        *,
        in_flight: int,
        tries: int,
        try_seconds: float,
        first_wait: float = 0.5,
        longest_wait: float = 30.0,
    ) -> None:
        each = max(1.0, in_flight / len(addresses))
        self.replicas = [Replica(address, each, min(_FIRST_WINDOW, each)) for address in addresses]
        self.counts = Counts()
        self._tries = tries
        self._try_seconds = try_seconds
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._growing_wait = wait_exponential(first_wait, longest_wait) + wait_random(0, first_wait)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def send(self, one_try: Callable[[str, float], Awaitable[Answer]], *, seconds: float) -> tuple[Answer, int]:
        """The answer of `one_try(address, seconds)` and how many tries it took; raises the last FaultError.

        Only kinds that may pass are tried again, and never beyond `seconds` in all.
        """
        until = time.monotonic() + seconds

        def no_time(state: RetryCallState) -> bool:
            return time.monotonic() + state.upcoming_sleep >= until

        tries = 0
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_passes),
            stop=lambda state: stop_after_attempt(self._tries)(state) or no_time(state),
            wait=self._wait,
            reraise=True,
        ):
            with attempt:
                tries += 1
                self.counts.again += tries > 1
                return await self._once(one_try, until), tries
        raise AssertionError("tenacity returns or raises")  # pragma: no cover

    async def _once(self, one_try: Callable[[str, float], Awaitable[Answer]], until: float) -> Answer:
        replica = await self._slot(until)
        started = time.monotonic()
        self.counts.tries += 1
        try:
            answer = await one_try(replica.address, max(0.01, min(self._try_seconds, until - started)))
        except FaultError as fault:
            kind = fault.failure.kind
            self.counts.faults[kind] = self.counts.faults.get(kind, 0) + 1
            self._complained(replica, kind, fault.retry_after, started)
            raise
        else:
            replica.absences = 0
            replica.window = min(replica.most, replica.window + (1.0 if replica.growing else 1.0 / replica.window))
            return answer
        finally:
            replica.flying -= 1
            self._wake()

    async def _slot(self, until: float) -> Replica:
        """A replica with room, the one with most of it; waits its turn."""
        while True:
            now = time.monotonic()
            best = max(self.replicas, key=lambda replica: replica.room(now))
            if best.room(now) >= 1.0:
                best.flying += 1
                return best
            if now >= until:
                raise FaultError("timeout", "no server had room in time")
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._wake()
            try:
                await asyncio.wait_for(turn, until - now)
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise

    def _wake(self) -> None:
        """Call as many of those who wait as there is room for."""
        now = time.monotonic()
        room = sum(int(max(0.0, replica.room(now))) for replica in self.replicas)
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
        if self._waiting:
            self._set_alarm(now)

    def _set_alarm(self, now: float) -> None:
        """Wake those who wait when the next resting replica opens."""
        openings = [replica.opens_at for replica in self.replicas if replica.opens_at > now]
        if openings and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(min(openings) - now + 0.001, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _complained(self, replica: Replica, kind: str, retry_after: float | None, started: float) -> None:
        now = time.monotonic()
        if kind in _BUSY and replica.shrunk_at <= started:
            replica.window = max(1.0, replica.window / 2)
            replica.growing = False
            replica.shrunk_at = now
        if retry_after is not None:
            replica.opens_at = max(replica.opens_at, now + retry_after)
        if kind in _AWAY and replica.opens_at <= now:
            replica.opens_at = now + min(self._longest_wait, self._first_wait * 2**replica.absences)
            replica.absences += 1

    def _wait(self, state: RetryCallState) -> float:
        """How long one request waits before its next try; a replica's rest is kept by the replica."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, FaultError) and error.failure.kind in _AWAY and len(self.replicas) > 1:
            return 0.0
        asked = error.retry_after if isinstance(error, FaultError) else None
        return max(self._growing_wait(state), asked or 0.0)


def _passes(error: BaseException) -> bool:
    return isinstance(error, FaultError) and error.failure.kind in ASKED_AGAIN
