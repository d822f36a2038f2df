"""Figures in words: prices and counts as a run says them."""

from __future__ import annotations

import math


def in_money(price: float) -> str:
    """A price in words: two decimals, and of a small one its first two digits: 12.30, 0.05, 0.00042."""
    if price == 0.0 or abs(price) >= 0.1:
        return f"{price:.2f}"
    return f"{price:.{1 - math.floor(math.log10(abs(price)))}f}"


def counted(count: int, noun: str) -> str:
    """A count and what is counted: 1 vote, 4,800 votes."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
