"""Unreachable servers: their report, and how waiting requests are cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from alm_proxies.engines.bill import TriedOut


@dataclass(frozen=True, slots=True)
class Away:
    """Servers that answered before and cannot be reached now."""

    addresses: tuple[str, ...]
    seconds: float
    """Seconds since the last answer."""
    message: str
    """The error of the last try."""
    again: float
    """Seconds until the next try."""

    def __str__(self) -> str:
        verb = "has" if len(self.addresses) == 1 else "have"
        message = f"{', '.join(self.addresses)} {verb} not answered for {self.seconds:.0f} s"
        again = f"in {self.again:.0f} s" if self.again >= 0.5 else "now"
        return f"{message} ({self.message}); trying again {again}"


@runtime_checkable
class Reached(Protocol):
    """An engine that asks servers: they are probed first, and may become unreachable later."""

    @property
    def tried_out(self) -> TriedOut:
        """The cost of probing their abilities."""
        ...

    def away(self) -> Away | None:
        """The servers' absence, if none of them can be reached; otherwise None."""
        ...

    def call_off(self, kind: Literal["gone", "called_off"], message: str) -> None:
        """Stop sending: requests that wait for a slot or a retry end at once."""
        ...
