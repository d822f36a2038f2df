"""Sending requests to the replicas of a server: which replica, which tries again, and when to give up.

A request goes to the replica with the most room (see replica.py), in the order of arrival. A failed try is repeated on
any replica with room, after a wait that doubles, with jitter, and not before the server's own Retry-After. A replica
rests if it cannot be reached, or if it has not answered since the failed try was sent while another replica is well.

While none of the replicas that have answered before can be reached, tries are not counted: all requests wait. Servers
are given up, and the waiting requests called off,

- after GIVEN_UP_AFTER seconds of that,
- when all of them ask for a longer wait than that (Retry-After),
- when no try had a complete response for as long, because the server breaks connections or sends too slowly.

Waiting requests are also called off when the run stops.
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
from alm_proxies.engines.engine import ASKED_AGAIN, NOT_REPORTED, Failure
from alm_proxies.engines.faults import AWAY, Answer, FaultError, Sent
from alm_proxies.engines.replica import Replica
from alm_proxies.engines.trials import BOOK_AGAIN

GIVEN_UP_AFTER = 120.0
"""Seconds until servers are given up that cannot be reached any more; also the longest accepted Retry-After."""
_NEVER = 1e9
"""Seconds that stand for an endless wait."""
_NO_ANSWER: frozenset[str] = frozenset({"timeout", "cut_body", "reset"})
_TRIES_WITHOUT_ANSWER = 8
"""The number of consecutive tries without a complete answer after which servers are given up."""
_ROUNDS_WITHOUT_ANSWER = 3.0
"""The same as a multiple of the timeout of a try, if that is longer than GIVEN_UP_AFTER."""


@dataclass(slots=True)
class Counts:
    """Numbers of tries, repeated tries, and faults by kind, for progress lines and tests."""

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
        self.replicas = [Replica.at(address, each) for address in addresses]
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
        self._away_message = ""
        self._unanswered_since: float | None = None
        self._unanswered = 0
        self._off: Failure | None = None
        self._called_off = asyncio.Event()

    def open_to(self, window: float | None) -> None:
        """Begin with at least this many requests to each replica, which it has taken before."""
        for replica in self.replicas:
            replica.window = min(replica.most, max(replica.window, window or 0.0))

    @property
    def window(self) -> float | None:
        """The number of requests that the most cautious replica takes now; None if one of them has not answered."""
        answered = all(replica.answered_at for replica in self.replicas)
        return min(replica.window for replica in self.replicas) if answered else None

    def away(self) -> Away | None:
        """The servers' absence, if none that has answered before can be reached; otherwise None."""
        if self._away_since is None:
            return None
        now = time.monotonic()
        again = max(0.0, min(replica.opens_at for replica in self.replicas) - now)
        addresses = tuple(replica.address for replica in self.replicas)
        return Away(addresses, now - self._away_since, self._away_message, again)

    def call_off(self, kind: Literal["gone", "called_off"], message: str) -> None:
        """Stop sending: requests that wait for room or a retry end at once; those in flight may still be answered."""
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
        """The answer of `one_try(address, seconds)` with the number of its tries; raises the last FaultError.

        Only passing faults are tried again, and never beyond `seconds` in total; the time in which a server has no room
        does not count, because one that no longer answers is given up. `tries` is the minimum number of tries if
        `serve` allows fewer, `most_tries` the maximum. The try after one that may be charged for is booked.
        """
        until = time.monotonic() + seconds
        most, tried, paid, spared = most_tries or max(self._tries, tries), 0, 0, 0
        reported = NOT_REPORTED
        may_book = BOOK_AGAIN.get()

        def enough(state: RetryCallState) -> bool:
            over = time.monotonic() + state.upcoming_sleep >= until
            if over or self._off is not None or tried - spared >= most:
                return True
            error = state.outcome.exception() if state.outcome is not None else None
            charged = isinstance(error, FaultError) and error.paid
            return charged and may_book is not None and not may_book()

        async def once() -> Sent[Answer]:
            nonlocal until, tried, paid, spared, reported
            tried += 1
            self.counts.again += tried > 1
            try:
                waits_since = time.monotonic()
                if waits_since >= until:
                    raise _too_late()
                replica = await self._slot()
                until += time.monotonic() - waits_since
                return Sent(await self._once(one_try, replica, until), tried, paid + 1, reported)
            except FaultError as fault:
                paid += fault.paid
                reported = reported.and_(fault.reported) if fault.paid else reported
                spared += fault.failure.kind == "unreachable" and self._away_since is not None
                raise

        failed: list[FaultError] = []

        async def first_is_made() -> Sent[Answer]:
            if failed:
                raise failed.pop()
            return await once()

        try:
            try:
                return await once()  # most requests need no second try, so tenacity is not started for them
            except FaultError as fault:
                failed.append(fault)
            again = AsyncRetrying(
                retry=retry_if_exception(_passes), stop=enough, wait=self._wait, sleep=self._sleep, reraise=True
            )
            return await again(first_is_made)
        except FaultError as fault:
            last = self._as_left(fault)
            last.tries, last.paid_tries, last.reported = tried, paid, reported
            raise last from None

    def _as_left(self, fault: FaultError) -> FaultError:
        """The final fault of a request; one that was called off, or never reached a server, has not failed."""
        if fault.failure.kind not in ASKED_AGAIN:
            return fault
        if self._off is not None:
            return _called_off(self._off)
        if self._away_since is not None and fault.failure.kind in ("unreachable", "timeout") and not fault.paid:
            return _called_off(Failure("called_off", fault.failure.message))
        return fault

    async def _sleep(self, seconds: float) -> None:
        """Wait before another try, or until everything is called off."""
        try:
            async with asyncio.timeout(seconds):
                await self._called_off.wait()
        except TimeoutError:
            pass

    async def _once(self, one_try: Callable[[str, float], Awaitable[Answer]], replica: Replica, until: float) -> Answer:
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

    async def _slot(self) -> Replica:
        """The replica with the most room; requests that have to wait get one in their order."""
        now = time.monotonic()
        if self._off is not None:
            raise _called_off(self._off)
        best = None if self._waiting else self._best(now)
        if best is not None:
            best.flying += 1
            return best
        turn: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake()
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(turn.result())  # cancelled at the moment when it was given a replica
            raise

    def _best(self, now: float) -> Replica | None:
        """A replica with room, preferably one that is well, otherwise one whose rest is over."""
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
        """Give the room there is to waiting requests; the alarm wakes the next when a resting replica opens."""
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
        if fault.busy:
            replica.shrink(now, started)
        if fault.retry_after is not None:
            replica.opens_at = max(replica.opens_at, now + min(fault.retry_after, _NEVER))
            self._refused_for_long(replica, now, fault.retry_after)
        away = kind in AWAY or self._are_well([other for other in self.replicas if other is not replica])
        if kind == "unreachable" or (away and replica.answered_at < started):
            replica.rest(now, started, self._first_wait, self._longest_wait)
        if kind == "unreachable":
            self._nobody(now, fault.failure.message)
        elif kind not in AWAY and kind != "timeout":
            self._away_since = None  # a server answered

    def _no_answer(self, now: float, started: float, message: str) -> None:
        """Count tries without a complete response, and give the servers up after too many of them."""
        if self._unanswered_since is None:
            self._unanswered_since = max(started, *(replica.answered_at for replica in self.replicas))
        self._unanswered += 1
        lasted = now - self._unanswered_since
        patience = max(self._given_up_after, _ROUNDS_WITHOUT_ANSWER * self._try_seconds)
        if self._unanswered >= _TRIES_WITHOUT_ANSWER and lasted >= patience:
            tries = f"{self._unanswered} tries in {lasted:.0f} s had no whole answer"
            self.call_off("gone", f"{self._addresses()}: {tries} ({message})")

    def _refused_for_long(self, replica: Replica, now: float, asked: float) -> None:
        """Give the servers up when all of them ask for a longer wait than GIVEN_UP_AFTER."""
        if asked > self._given_up_after and all(other.opens_at - now > self._given_up_after for other in self.replicas):
            wait = f"{asked:,.0f} s" if math.isfinite(asked) else "without end"
            limit = f"at most {self._given_up_after:.0f} s are waited"
            self.call_off("gone", f"{self._addresses()}: asks to wait {wait} (Retry-After), {limit}")

    def _addresses(self) -> str:
        return ", ".join(replica.address for replica in self.replicas)

    def _nobody(self, now: float, message: str) -> None:
        """Note that no replica can be reached any more, and give the servers up when this lasts too long."""
        if self._are_well(self.replicas) or not any(replica.answered_at for replica in self.replicas):
            return
        self._away_message = message
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
        replica.answered(time.monotonic())
        self._away_since = None
        self._unanswered_since, self._unanswered = None, 0

    def _wait(self, state: RetryCallState) -> float:
        """Seconds that a request waits before its next try; the rest of a replica comes on top."""
        error = state.outcome.exception() if state.outcome is not None else None
        kind = error.failure.kind if isinstance(error, FaultError) else None
        if kind in AWAY and (len(self.replicas) > 1 or self._away_since is not None):
            return 0.0
        asked = (error.retry_after if isinstance(error, FaultError) else None) or 0.0
        if asked > self._given_up_after and len(self.replicas) > 1:
            asked = 0.0  # another replica may have room
        return max(self._growing_wait(state), asked)


def _called_off(why: Failure) -> FaultError:
    return FaultError(why.kind, why.message, busy=False, paid=False)


def _too_late() -> FaultError:
    return FaultError("timeout", "no time was left for this request", busy=False, paid=False)


def _passes(error: BaseException) -> bool:
    return isinstance(error, FaultError) and error.failure.kind in ASKED_AGAIN
