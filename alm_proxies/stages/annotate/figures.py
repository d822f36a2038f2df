"""Formatting of counts and times in messages."""

from __future__ import annotations

from datetime import datetime, timedelta


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 vote, 4,800 votes."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ready_at(minutes: float, now: datetime | None = None) -> str:
    """The time after this number of minutes, e.g. 14:05; with the date if that is another day."""
    now = now or datetime.now()
    then = now + timedelta(minutes=minutes)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"
