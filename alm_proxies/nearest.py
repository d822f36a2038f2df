"""Suggestions for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' with the nearest known word; empty if none is near."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]!r}?" if near else ""


def known_names(word: str, known: Iterable[str]) -> str:
    """The fix for an unknown name: the nearest known one, if any is near, and all of them."""
    names = list(known)
    return f"{did_you_mean(word, names)} There are: {', '.join(names) or 'none'}.".strip()
