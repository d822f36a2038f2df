"""Formatting of prices, counts and times in messages."""

from __future__ import annotations

import math
from datetime import datetime, timedelta


def in_money(price: float) -> str:
    """A price as text: two decimals, or two significant digits if it is small: 12.30, 0.05, 0.00042."""
    if price == 0.0 or abs(price) >= 0.1:
        return f"{price:.2f}"
    return f"{price:.{1 - math.floor(math.log10(abs(price)))}f}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 vote, 4,800 votes."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ready_at(minutes: float, now: datetime | None = None) -> str:
    """When something is done that takes this long: 14:05, or with its date where that is another day."""
    now = now or datetime.now()
    then = now + timedelta(minutes=minutes)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"
