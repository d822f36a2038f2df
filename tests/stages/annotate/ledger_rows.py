"""Rows of a ledger, for tests."""

from __future__ import annotations

from alm_proxies.stages.annotate.ledger import Heard, Outcome


def outcome(draw: int = 0, utterance: int = 1, **changes: object) -> Outcome:
    """A vote that was cast."""
    cast = Outcome(1, utterance, draw, "ok", "", "sad", None, None, "A", "", 0, 0.1, 1.0, 1.0, 0.5, 1, True, 0.0)
    return cast._replace(**changes)  # type: ignore[arg-type]


def heard(utterance: int = 1) -> Heard:
    """A recording that was heard."""
    return Heard(1, utterance, "m", f"{utterance}.wav", 1, 1, "d")
