"""One request of an annotator: what is sent, the draws it answers, and how each reply is read."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Protocol

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.annotators.wording import AnswerFormat
from alm_proxies.engines.engine import Audio, Request


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One request, the draws it answers, and the format of each reply."""

    request: Request
    draws: tuple[int, ...]
    cells: tuple[int, ...]
    asked: tuple[AnswerFormat, ...]


class Asks(Protocol):
    """The part of an annotator that reading its answers needs."""

    @property
    def name(self) -> str:
        """The annotator's name, written on each of its votes."""
        ...

    @property
    def file(self) -> AnnotatorFile:
        """The annotator's settings."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels to choose from."""
        ...

    @property
    def cells(self) -> Sized:
        """The annotator's cells."""
        ...

    @property
    def votes(self) -> int:
        """Number of votes per utterance."""
        ...

    def askings(
        self, utterance_id: str, draws: Iterable[int], audio: Audio, context: PromptContext, seed: int
    ) -> list[Asking]:
        """The requests for the given draws on an utterance."""
        ...
