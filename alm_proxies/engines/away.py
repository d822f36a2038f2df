"""Unreachable servers: how they are reported, and how waiting requests are called off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from alm_proxies.engines.bill import TriedOut


@dataclass(frozen=True, slots=True)
class Away:
    """Servers that have answered before and cannot be reached now."""

    addresses: tuple[str, ...]
    seconds: float
    """For how long."""
    message: str
    """What the last try met."""
    again: float
    """Seconds until the next try."""

    def __str__(self) -> str:
        one = len(self.addresses) == 1
        message = f"{', '.join(self.addresses)} {'answers' if one else 'answer'} nothing since {self.seconds:.0f} s"
        again = f"in {self.again:.0f} s" if self.again >= 0.5 else "now"
        return f"{message} ({self.message}); trying again {again}"


@runtime_checkable
class Reached(Protocol):
    """An engine that asks servers: they are probed first, and may become unreachable later."""

    @property
    def tried_out(self) -> TriedOut:
        """What it took to find out what they can do."""
        ...

    def away(self) -> Away | None:
        """Since when none of its servers can be reached, or None."""
        ...

    def call_off(self, kind: Literal["gone", "called_off"], message: str) -> None:
        """Send nothing more: what waits for room or for another try ends at once."""
        ...
