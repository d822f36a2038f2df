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
    """Numbers of requests with an answer, without most of those that keep no refusals apart."""
    _refused: dict[int, str] = field(default_factory=dict)
    """The utterance of every refused request, by its number, without most of those in a row that cannot grow."""
    _most: int = 64
    """The number of requests with a reply that are kept until those are dropped."""

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
            if len(self._answered) + len(self._refused) > self._most:
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
        """Drop what no later reply can change: one request may wait for minutes while thousands are answered.

        Of the replies between two requests that wait, the refusals next to either are kept, and one answer.
        """
        answered, refused, row = set[int](), dict[int, str](), dict[int, str]()
        grows = False  # whether a request before the present row waits
        for number in sorted(self._waiting | self._answered | self._refused.keys()):
            if number in self._refused:
                row[number] = self._refused[number]
                continue
            if number in self._waiting:
                refused |= row
                grows = True
            elif grows:
                refused |= row
                answered.add(number)
                grows = False
            row = {}
        self._answered, self._refused = answered, refused | row
        self._most = 64 + 2 * (len(self._waiting) + len(self._answered) + len(self._refused))
