"""Questions as conversations for a model: roles, texts and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alm_proxies.engines.engine import Question
from alm_proxies.errors import InputError

if TYPE_CHECKING:
    from alm_proxies.models.chat_inputs import Conversation


def conversation_of(question: Question, rate: int) -> Conversation:
    """The turns of a question, clips as samples; they must be at the model's rate."""
    turns = []
    for turn in question.turns:
        for part in turn.parts:
            if not isinstance(part, str) and part.rate != rate:
                raise InputError(f"a clip is at {part.rate} Hz, the model hears {rate} Hz", fix="Resample it first.")
        turns.append((turn.role, [part if isinstance(part, str) else part.samples for part in turn.parts]))
    return turns
