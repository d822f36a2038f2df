"""Who pays for what is sent: trials of a server, each booked before it is sent, and further tries of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TrialQuestion:
    """The most that one try of a question can use which finds out what a server can do."""

    audio_seconds: float
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class TrialUse:
    """What a question used."""

    state: str
    """answered, or the kind of fault it ended with."""
    tries: int
    paid_tries: int
    """Tries that may be charged for."""
    counted: int
    """Of the paid tries, those whose tokens the server reported."""
    tokens_in: int
    tokens_out: int


class TrialAccount(Protocol):
    """Who pays for trials."""

    async def book(self, question: TrialQuestion) -> int:
        """Book one try of a question at the most it can cost, or raise OverBudgetError; gives its number."""
        ...

    def book_again(self, number: int) -> bool:
        """Book another try of it, if there is enough left."""
        ...

    async def settle(self, number: int, use: TrialUse) -> None:
        """Replace what was booked by what was used."""
        ...


@contextmanager
def showing(show: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, `show` is called with what a server is being asked before any votes, and with "" afterwards."""
    token = _SHOWN.set(show)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def asking(question: str) -> Iterator[None]:
    """While it lasts, this is what the server is being asked."""
    show, before = _SHOWN.get(), _ASKED.get()
    if show is None:
        yield
        return
    token = _ASKED.set(question)
    show(question)
    try:
        yield
    finally:
        _ASKED.reset(token)
        show(before)


class OverBudgetError(Exception):
    """A trial could exceed the budget, so that it was not sent."""


ACCOUNT: ContextVar[TrialAccount | None] = ContextVar("ACCOUNT", default=None)
"""The budget that trials of an engine being opened are charged to; None = they are not counted."""
_SHOWN: ContextVar[Callable[[str], None] | None] = ContextVar("_SHOWN", default=None)
_ASKED: ContextVar[str] = ContextVar("_ASKED", default="")
BOOK_AGAIN: ContextVar[Callable[[], bool] | None] = ContextVar("BOOK_AGAIN", default=None)
"""Books one more try of the request that is being asked, after one that may be charged for; None = always allowed."""
