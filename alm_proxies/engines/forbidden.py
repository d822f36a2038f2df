"""HTTP 403, which may be about one clip (a filter before the model) or about the key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from alm_proxies.engines.engine import Failure, Reply
from alm_proxies.printable import counted

_ENOUGH = 8
"""Utterances that are refused in a row, after which the key is taken to be refused."""


@dataclass(slots=True)
class Forbidden:
    """The utterances that a server has refused with 403, and which of the requests between them were answered.

    Refusals are in a row if no request that was begun between them has an answer or waits for one: of many recordings
    in flight at once, those that are refused at once are answered first.
    """

    _begun: int = 0
    _waiting: set[int] = field(default_factory=set)
    _answered: set[int] = field(default_factory=set)
    """Numbers of requests with an answer, from the first on that waits or was refused."""
    _refused: dict[int, str] = field(default_factory=dict)
    """The utterance of every refused request, by its number, since the last answer before all that wait."""

    @contextmanager
    def number(self) -> Iterator[int]:
        """The number of a request, which waits until the end of the block."""
        self._begun += 1
        number = self._begun
        self._waiting.add(number)
        try:
            yield number
        finally:
            self._waiting.discard(number)
            if number < min(self._waiting, default=self._begun + 1):  # the oldest: what it kept apart can be dropped
                self._forget()

    def judged(self, reply: Reply, number: int, utterance_id: str) -> Reply:
        """The reply as it is, or as one to a key that is not accepted, which ends the run."""
        if reply.failure is None:
            self._answered.add(number)
        elif reply.failure.kind == "forbidden":
            self._refused[number] = utterance_id
            self._waiting.discard(number)
            most = self._in_a_row()
            if most >= _ENOUGH:
                utterances = counted(most, "utterance")
                message = f"requests about {utterances} were refused one after another ({reply.failure.message})"
                return replace(reply, failure=Failure("unauthorised", message))
        return reply

    def _in_a_row(self) -> int:
        """The largest number of utterances that were refused in a row."""
        row, most = set[str](), 0
        for number in sorted(self._waiting | self._answered | self._refused.keys()):
            if number in self._refused:
                row.add(self._refused[number])
                most = max(most, len(row))
            else:
                row = set()
        return most

    def _forget(self) -> None:
        """Drop what no later refusal can be in a row with."""
        first = min(self._waiting, default=self._begun + 1)
        last = max((number for number in self._answered if number < first), default=0)
        self._refused = {number: utterance for number, utterance in self._refused.items() if number > last}
        oldest = min(first, min(self._refused, default=first))
        self._answered = {number for number in self._answered if number > oldest}
