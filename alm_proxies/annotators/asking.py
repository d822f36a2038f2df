"""One request of an annotator: what is sent, the draws it answers, and how each reply is read."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Protocol

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.annotators.wording import Asked
from alm_proxies.engines.engine import Audio, Request


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """One request, the draws it answers, and how each of its replies is to be read."""

    request: Request
    draws: tuple[int, ...]
    cells: tuple[int, ...]
    asked: tuple[Asked, ...]


class Asks(Protocol):
    """The part of an annotator that its answers need."""

    @property
    def name(self) -> str:
        """What its votes are signed with."""
        ...

    @property
    def file(self) -> AnnotatorFile:
        """Its settings."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it chooses from."""
        ...

    @property
    def cells(self) -> Sized:
        """Its cells."""
        ...

    @property
    def votes(self) -> int:
        """Votes an utterance."""
        ...

    def askings(
        self, utterance_id: str, draws: Iterable[int], audio: Audio, context: PromptContext, seed: int
    ) -> list[Asking]:
        """The requests for some draws about an utterance."""
        ...
