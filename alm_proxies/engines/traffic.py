"""How many requests at once, to which replica, when again.

Every replica has a window of requests in flight. Until the replica first complains every answer adds two, so that the
window trebles in a round trip: few enough to begin with for any server, and all that is allowed after a few round
trips. Afterwards it grows by one a round trip. A complaint (429, 502, 503, 504, no answer in time) halves it, at most
once per round trip. Late answers open it no further: they took a quarter of the time a try has and more than twice as
long as the quickest, so they queue in the server, and with three times as many they would still be in time.
A replica that cannot be reached rests, twice as long each time, while the others go on; so does one that has answered
nothing well since a try was sent that failed, as long as another is well. After its rest one try alone finds out
whether it is back, so that a replica that fails at once does not draw all requests to itself. A failed try is made
again on whichever replica has room, after a wait that doubles and jitters, and not before the server's own Retry-After.
While none of the replicas can be reached that have answered before, tries are not counted: all wait for one of them to
come back. After GIVEN_UP_AFTER seconds they are given up, and what waits is called off; so it is when the run stops.
They are also given up when all of them ask to be left alone for longer than that (Retry-After), and when for as long
no try had a whole answer, whatever its status: a server that only breaks connections, or sends its answers so slowly
that none is ever whole.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_exponential,
    wait_random,
)

from alm_proxies.engines.away import Away
from alm_proxies.engines.engine import ASKED_AGAIN, Failure
from alm_proxies.engines.faults import AWAY, Answer, FaultError, Sent
from alm_proxies.engines.trials import BOOK_AGAIN

_FIRST_WINDOW = 16.0
_FIRST_SHARE = 1 / 8
"""Of the most that is allowed, where that is more than the first window."""
_GROWTH = 2.0
"""By every answer, before the first complaint."""
_LATE = 1 / 4
"""Of the time a try has."""
GIVEN_UP_AFTER = 120.0
"""Seconds that servers which have answered before may all be away, and that a Retry-After may ask for, until they are
given up."""
_NEVER = 1e9
"""Seconds that stand for a wait without end."""
_NO_ANSWER: frozenset[str] = frozenset({"timeout", "cut_body", "reset"})
_TRIES_WITHOUT_ANSWER = 8
"""The number of consecutive tries without a complete answer after which servers are given up."""
_ROUNDS_WITHOUT_ANSWER = 3.0
"""Times the seconds of a try, where that is longer than GIVEN_UP_AFTER."""


@dataclass(slots=True)
class Replica:
    """One address and its window of requests in flight."""

    address: str
    most: float
    window: float
    flying: int = 0
    growing: bool = True
    quickest: float = math.inf
    shrunk_at: float = 0.0
    answered_at: float = 0.0
    rested_at: float = 0.0
    opens_at: float = 0.0
    absences: int = 0

    def room(self, now: float, others_are_well: bool) -> float:
        """How many more requests it may get now; after a rest only one where others can do the work meanwhile."""
        if now < self.opens_at:
            return 0.0
        return (1.0 if self.absences and others_are_well else self.window) - self.flying

    def grow(self, took: float, try_seconds: float, flying: int) -> None:
        """Open the window for an answer that took so long beside `flying` others, unless it queued in the server.

        What is quick when asked alone, such as the questions of the probe, says nothing of how long votes take.
        """
        if 2 * flying >= min(_FIRST_WINDOW, self.most):
            self.quickest = min(self.quickest, took)
        if took <= max(_LATE * try_seconds, 2.0 * self.quickest):
            self.window = min(self.most, self.window + (_GROWTH if self.growing else 1.0 / self.window))


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
        given_up_after: float = GIVEN_UP_AFTER,
    ) -> None:
        each = max(1.0, in_flight / len(addresses))
        first = min(max(_FIRST_WINDOW, _FIRST_SHARE * each), each)
        self.replicas = [Replica(address, each, first) for address in addresses]
        self.counts = Counts()
        self._tries = tries
        self._try_seconds = try_seconds
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._growing_wait = wait_exponential(first_wait, longest_wait) + wait_random(0, first_wait)
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._given_up_after = given_up_after
        self._away_since: float | None = None
        self._away_what = ""
        self._unanswered_since: float | None = None
        self._unanswered = 0
        self._off: Failure | None = None
        self._called_off = asyncio.Event()

    def away(self) -> Away | None:
        """Since when none of the replicas can be reached, which have answered before; None where one is there."""
        if self._away_since is None:
            return None
        now = time.monotonic()
        again = max(0.0, min(replica.opens_at for replica in self.replicas) - now)
        addresses = tuple(replica.address for replica in self.replicas)
        return Away(addresses, now - self._away_since, self._away_what, again)

    def call_off(self, kind: Literal["gone", "called_off"], message: str) -> None:
        """Send nothing more: what waits for room or for another try ends at once; what is in flight may be answered."""
        if self._off is not None:
            return
        self._off = Failure(kind, message)
        self._called_off.set()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_called_off(self._off))

    async def send(
        self,
        one_try: Callable[[str, float], Awaitable[Answer]],
        *,
        seconds: float,
        tries: int = 0,
        most_tries: int | None = None,
    ) -> Sent[Answer]:
        """The answer of `one_try(address, seconds)` and how many tries it took; raises the last FaultError.

        Only kinds that may pass are tried again, and never beyond `seconds` in all; `tries` are made where `serve`
        allows fewer, and no more than `most_tries`. A try after one that may be charged for is booked first.
        """
        until = time.monotonic() + seconds
        most, made, paid, spared = most_tries or max(self._tries, tries), 0, 0, 0
        may_book = BOOK_AGAIN.get()

        def enough(state: RetryCallState) -> bool:
            over = time.monotonic() + state.upcoming_sleep >= until
            if over or self._off is not None or made - spared >= most:
                return True
            error = state.outcome.exception() if state.outcome is not None else None
            charged = isinstance(error, FaultError) and error.paid
            return charged and may_book is not None and not may_book()

        async def once() -> Sent[Answer]:
            nonlocal made, paid, spared
            made += 1
            self.counts.again += made > 1
            try:
                return Sent(await self._once(one_try, until), made, paid + 1)
            except FaultError as fault:
                paid += fault.paid
                spared += fault.failure.kind == "unreachable" and self._away_since is not None
                raise

        failed: list[FaultError] = []

        async def first_as_it_went() -> Sent[Answer]:
            if failed:
                raise failed.pop()
            return await once()

        try:
            try:
                return await once()  # most requests need no second try, and none of its machinery
            except FaultError as fault:
                failed.append(fault)
            again = AsyncRetrying(
                retry=retry_if_exception(_passes), stop=enough, wait=self._wait, sleep=self._sleep, reraise=True
            )
            return await again(first_as_it_went)
        except FaultError as fault:
            last = self._as_left(fault)
            last.tries, last.paid_tries = made, paid
            raise last from None

    def _as_left(self, fault: FaultError) -> FaultError:
        """The fault a request ends with; a request that was called off, or never reached a server, has not failed."""
        if fault.failure.kind not in ASKED_AGAIN:
            return fault
        if self._off is not None:
            return _called_off(self._off)
        if self._away_since is not None and fault.failure.kind in ("unreachable", "timeout") and not fault.paid:
            return _called_off(Failure("called_off", fault.failure.message))
        return fault

    async def _sleep(self, seconds: float) -> None:
        """Wait before another try, no longer than until everything is called off."""
        try:
            async with asyncio.timeout(seconds):
                await self._called_off.wait()
        except TimeoutError:
            pass

    async def _once(self, one_try: Callable[[str, float], Awaitable[Answer]], until: float) -> Answer:
        replica = await self._slot(until)
        started, flying = time.monotonic(), replica.flying
        self.counts.tries += 1
        try:
            answer = await one_try(replica.address, max(0.01, min(self._try_seconds, until - started)))
        except FaultError as fault:
            kind = fault.failure.kind
            self.counts.faults[kind] = self.counts.faults.get(kind, 0) + 1
            self._complained(replica, fault, started)
            raise
        else:
            self._answered(replica)
            replica.grow(time.monotonic() - started, self._try_seconds, flying)
            return answer
        finally:
            self._give_back(replica)

    async def _slot(self, until: float) -> Replica:
        """A replica with room, the one with most of it, given to those who wait in their order."""
        now = time.monotonic()
        if self._off is not None:
            raise _called_off(self._off)
        if now >= until:
            raise _no_room()
        best = None if self._waiting else self._best(now)
        if best is not None:
            best.flying += 1
            return best
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Replica] = loop.create_future()
        self._waiting.append(turn)
        self._wake()
        try:
            async with asyncio.timeout_at(loop.time() + until - now):
                try:
                    return await turn
                except BaseException:
                    if turn.done() and not turn.cancelled() and turn.exception() is None:
                        # given room and cancelled in the same moment
                        self._give_back(turn.result())
                    raise
        except TimeoutError:
            raise _no_room() from None

    def _best(self, now: float) -> Replica | None:
        """One with room that is known to be well if there is any, else one that is back from its rest."""
        well = self._are_well(self.replicas)

        def preferred(replica: Replica) -> tuple[bool, bool, float]:
            room = replica.room(now, well)
            return room >= 1.0, replica.absences == 0, room

        best = max(self.replicas, key=preferred)
        return best if best.room(now, well) >= 1.0 else None

    def _give_back(self, replica: Replica) -> None:
        replica.flying -= 1
        self._wake()

    def _wake(self) -> None:
        """Give the room there is to those who wait; the next one is woken when a resting replica opens."""
        now = time.monotonic()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            best = self._best(now)
            if best is None:
                self._set_alarm(now)
                return
            best.flying += 1
            self._waiting.popleft().set_result(best)

    def _set_alarm(self, now: float) -> None:
        openings = [replica.opens_at for replica in self.replicas if replica.opens_at > now]
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if openings:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(min(openings) - now + 0.001, self._wake)

    def _complained(self, replica: Replica, fault: FaultError, started: float) -> None:
        now, kind = time.monotonic(), fault.failure.kind
        if kind in _NO_ANSWER:
            self._no_answer(now, started, fault.failure.message)
        elif kind != "unreachable":
            self._unanswered_since, self._unanswered = None, 0
        if kind not in ASKED_AGAIN:  # the request is at fault, the replica is well
            self._answered(replica)
            return
        if fault.busy and replica.shrunk_at <= started:
            replica.window = max(1.0, replica.window / 2)
            replica.growing = False
            replica.shrunk_at = now
        if fault.retry_after is not None:
            replica.opens_at = max(replica.opens_at, now + min(fault.retry_after, _NEVER))
            self._refused_for_long(replica, now, fault.retry_after)
        away = kind in AWAY or self._are_well([other for other in self.replicas if other is not replica])
        silent = kind == "unreachable" or (away and replica.answered_at < started)
        if silent and replica.rested_at <= started:
            rest = min(self._longest_wait, self._first_wait * 2.0**replica.absences)
            replica.opens_at = max(replica.opens_at, now + rest)
            replica.rested_at = now
            replica.absences += 1
        if kind == "unreachable":
            self._nobody(now, fault.failure.message)
        elif kind not in AWAY and kind != "timeout":
            self._away_since = None  # a server answered

    def _no_answer(self, now: float, started: float, message: str) -> None:
        """Count tries without a whole answer, and give the servers up when there is nothing else for too long."""
        if self._unanswered_since is None:
            self._unanswered_since = max(started, *(replica.answered_at for replica in self.replicas))
        self._unanswered += 1
        lasted = now - self._unanswered_since
        patience = max(self._given_up_after, _ROUNDS_WITHOUT_ANSWER * self._try_seconds)
        if self._unanswered >= _TRIES_WITHOUT_ANSWER and lasted >= patience:
            tries = f"{self._unanswered} tries in {lasted:.0f} s had no whole answer"
            self.call_off("gone", f"{self._addresses()}: {tries} ({message})")

    def _refused_for_long(self, replica: Replica, now: float, asked: float) -> None:
        """Give the servers up when all of them ask to be left alone for longer than anybody waits."""
        if asked > self._given_up_after and all(other.opens_at - now > self._given_up_after for other in self.replicas):
            wait = f"{asked:,.0f} s" if math.isfinite(asked) else "without end"
            limit = f"at most {self._given_up_after:.0f} s are waited"
            self.call_off("gone", f"{self._addresses()}: asks to wait {wait} (Retry-After), {limit}")

    def _addresses(self) -> str:
        return ", ".join(replica.address for replica in self.replicas)

    def _nobody(self, now: float, message: str) -> None:
        """Record since when no replica that has answered before can be reached; after the limit they are given up."""
        if self._are_well(self.replicas) or not any(replica.answered_at for replica in self.replicas):
            return
        self._away_what = message
        if self._away_since is None:
            self._away_since = now
            asyncio.get_running_loop().call_later(self._given_up_after, self._give_up, now)

    def _give_up(self, since: float) -> None:
        away = self.away()
        if away is not None and self._away_since == since:
            self.call_off("gone", f"{self._addresses()}: no answer for {away.seconds:.0f} s ({away.message})")

    def _are_well(self, replicas: Sequence[Replica]) -> bool:
        return any(replica.absences == 0 for replica in replicas)

    def _answered(self, replica: Replica) -> None:
        replica.absences = 0
        replica.answered_at = time.monotonic()
        self._away_since = None
        self._unanswered_since, self._unanswered = None, 0

    def _wait(self, state: RetryCallState) -> float:
        """How long one request waits before its next try; a replica's rest is kept by the replica."""
        error = state.outcome.exception() if state.outcome is not None else None
        kind = error.failure.kind if isinstance(error, FaultError) else None
        if kind in AWAY and (len(self.replicas) > 1 or self._away_since is not None):
            return 0.0
        asked = (error.retry_after if isinstance(error, FaultError) else None) or 0.0
        if asked > self._given_up_after and len(self.replicas) > 1:
            asked = 0.0  # another one may have room
        return max(self._growing_wait(state), asked)


def _called_off(why: Failure) -> FaultError:
    return FaultError(why.kind, why.message, busy=False, paid=False)


def _no_room() -> FaultError:
    return FaultError("timeout", "no server had room in time", busy=False, paid=False)


def _passes(error: BaseException) -> bool:
    return isinstance(error, FaultError) and error.failure.kind in ASKED_AGAIN
