"""Accounts for requests: trials of a server are booked before they are sent, and so are further tries of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from alm_proxies.engines.engine import ASKED_AGAIN
from alm_proxies.engines.faults import FaultError


@dataclass(frozen=True, slots=True)
class TrialQuestion:
    """The maximum use of one try of a trial, a request that probes a server."""

    audio_seconds: float
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class TrialUse:
    """The actual use of a trial."""

    state: str
    """answered, or the kind of its fault."""
    tries: int
    paid_tries: int
    """Tries that may be charged for."""
    counted: int
    """Of the paid tries, those whose tokens the server reported."""
    tokens_in: int
    tokens_out: int


class TrialAccount(Protocol):
    """The account that trials are charged to."""

    async def book(self, question: TrialQuestion) -> int:
        """Book one try at its maximum cost, or raise OverBudgetError; gives its number."""
        ...

    def book_again(self, number: int) -> bool:
        """Book another try of it if the budget allows it."""
        ...

    async def settle(self, number: int, use: TrialUse) -> None:
        """Replace the booked amount by the actual one."""
        ...


@contextmanager
def showing(show: Callable[[str], None]) -> Iterator[None]:
    """A context in which `show` is called with the current request to a server before any votes, and then with ""."""
    token = _SHOWN.set(show)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def asking(text: str) -> Iterator[None]:
    """A context in which this text describes the current request."""
    show, before = _SHOWN.get(), _ASKED.get()
    if show is None:
        yield
        return
    token = _ASKED.set(text)
    show(text)
    try:
        yield
    finally:
        _ASKED.reset(token)
        show(before)


@contextmanager
def showing_faults() -> Iterator[None]:
    """A context in which the last fault that is tried again is shown beside the current request."""
    try:
        yield
    except FaultError as fault:
        show = _SHOWN.get()
        if show is not None and fault.failure.kind in ASKED_AGAIN:
            show(f"{_ASKED.get()}; tried again after: {fault.failure.message}")
        raise


class OverBudgetError(Exception):
    """A trial could exceed the budget, so that it was not sent."""


ACCOUNT: ContextVar[TrialAccount | None] = ContextVar("ACCOUNT", default=None)
"""The budget that trials of an engine being opened are charged to; None = they are not counted."""
_SHOWN: ContextVar[Callable[[str], None] | None] = ContextVar("_SHOWN", default=None)
_ASKED: ContextVar[str] = ContextVar("_ASKED", default="")
BOOK_AGAIN: ContextVar[Callable[[], bool] | None] = ContextVar("BOOK_AGAIN", default=None)
"""Books one more try of the current request, after one that may be charged for; None = always allowed."""
