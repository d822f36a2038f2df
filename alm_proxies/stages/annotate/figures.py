"""Formatting of times in messages."""

from __future__ import annotations

from datetime import datetime, timedelta


def ready_at(minutes: float, now: datetime | None = None) -> str:
    """The time after this number of minutes, e.g. 14:05; with the date if that is another day."""
    now = now or datetime.now()
    then = now + timedelta(minutes=minutes)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"
