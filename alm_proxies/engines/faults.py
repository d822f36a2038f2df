"""Faults: a failed try, and an answer with the number of its tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from alm_proxies.engines.engine import MAY_BE_PAID, NOT_REPORTED, Failure, Reported, Trouble

Answer = TypeVar("Answer")

BUSY: frozenset[str] = frozenset({"rate_limited", "timeout"})
AWAY: frozenset[str] = frozenset({"unreachable", "reset"})


class FaultError(Exception):
    """A failed try: `busy` if the server is overloaded, `paid` if the server may charge for the try.

    When `Traffic.send` raises it, `tries`, `paid_tries` and `reported` are of all tries of the request.
    """

    def __init__(
        self,
        kind: Trouble,
        message: str,
        retry_after: float | None = None,
        *,
        busy: bool | None = None,
        paid: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)
        self.retry_after = retry_after
        self.busy = kind in BUSY if busy is None else busy
        self.paid = kind in MAY_BE_PAID if paid is None else paid
        self.tries = 0
        self.paid_tries = 0
        self.reported = NOT_REPORTED


@dataclass(frozen=True, slots=True)
class Sent(Generic[Answer]):
    """An answer with the number of its tries, and of those that may be charged for, including the last.

    `reported` has what the server reported of the tries before it.
    """

    answer: Answer
    tries: int
    paid_tries: int
    reported: Reported = NOT_REPORTED
