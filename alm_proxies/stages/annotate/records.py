"""Rows of the ledger's tables, and their totals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from alm_proxies.tables import ATTRIBUTES


class Outcome(NamedTuple):
    """A row of `vote`, in the order of its columns."""

    annotator: int
    utterance: int
    draw: int
    status: str
    kind: str
    label: str | None
    more: str | None
    """JSON of what a single label cannot hold: shares, secondary, attributes."""
    stated: str | None
    raw: str
    request: str
    """Digest of everything that the vote depends on."""
    cell: int
    latency: float
    tokens_in: float
    tokens_out: float
    price: float
    tries: int
    seeded: bool
    at: float


class Sending(NamedTuple):
    """A request before it is sent: its number, its draws and its maximum cost."""

    number: int
    draws: int
    price: float


class Heard(NamedTuple):
    """Digests of the recording and texts given to an annotator, so that a later run detects changes."""

    annotator: int
    utterance: int
    material: str
    path: str
    size: int
    changed: int
    audio: str


class Trial(NamedTuple):
    """A request that probes a server: booked at its maximum cost before it is sent, corrected afterwards."""

    number: int
    annotator: str
    state: str
    """in flight, answered, or the kind of its fault."""
    requests: int
    audio_seconds: float
    tokens_in: float
    tokens_out: float
    price: float
    at: float


class Lost(NamedTuple):
    """Requests without a vote that are sent again, such as those in flight when a run was killed."""

    requests: int = 0
    draws: int = 0
    price: float = 0.0
    why: str = ""


class Totals(NamedTuple):
    """Totals of a ledger. They never decrease, so a smaller total means lost rows."""

    sequence: int = 0
    """Acknowledged writes."""
    answered: int = 0
    """Votes that were answered, those set aside included."""
    price: float = 0.0
    """Everything spent."""

    def or_more(self, other: Totals) -> Totals:
        """The larger of each total."""
        return Totals(
            max(self.sequence, other.sequence), max(self.answered, other.answered), max(self.price, other.price)
        )

    def lacks(self, other: Totals) -> Totals:
        """By how much `other` is larger; a relative difference of price below a millionth is rounding."""
        price = other.price - self.price
        price = price if price > 1e-6 * max(1.0, other.price) else 0.0
        return Totals(max(0, other.sequence - self.sequence), max(0, other.answered - self.answered), price)


NOTHING = Totals()


@dataclass(frozen=True, slots=True)
class Written:
    """One acknowledged write: it is stored completely or not at all."""

    sending: tuple[Sending, ...] = ()
    heard: tuple[Heard, ...] = ()
    arrived: tuple[int, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    lost: tuple[Lost, ...] = ()
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, content: dict[str, Any]) -> Written:
        """Read a write from JSON; invalid content raises TypeError, ValueError or KeyError."""
        return cls(
            sending=tuple(Sending(*row) for row in content.get("sending", ())),
            heard=tuple(Heard(*row) for row in content.get("heard", ())),
            arrived=tuple(int(number) for number in content.get("arrived", ())),
            outcomes=tuple(Outcome(*row) for row in content.get("outcomes", ())),
            lost=tuple(Lost(*row) for row in content.get("lost", ())),
            trials=tuple(Trial(*row) for row in content.get("trials", ())),
        )

    def as_json(self) -> dict[str, Any]:
        """The parts that are not empty."""
        every = {name: getattr(self, name) for name in self.__slots__}
        return {name: rows for name, rows in every.items() if rows}


class Member(NamedTuple):
    """A planned annotator: its number, name, card as JSON, and votes per utterance."""

    number: int
    name: str
    card: str
    votes: int


class Failure(NamedTuple):
    """Votes of one annotator that are not ok in the same way, with one utterance and reply as an example."""

    annotator: str
    status: str
    kind: str
    votes: int
    example: str
    raw: str


class Compared(NamedTuple):
    """Shares of the injected label in one vote: without a sentence, with it, and with the control sentence."""

    utterance: str
    speaker: str
    plain: float
    injected: float
    control: float


class Cast(NamedTuple):
    """The progress of one planned annotator."""

    annotator: str
    planned: int
    by_status: dict[str, int]
    answered: int
    """Requested votes of this plan with an answer."""
    price: float
    """What the planned votes have cost, failures and votes set aside included."""
    recent: int
    """Votes of the last minutes."""
    first_recent: float
    """When the first of them came."""


Row = tuple[Any, ...]
"""number, draw, status, label, weight, secondary, valence, arousal, dominance, stated."""


def rows_of(
    utterance: int, draw: int, status: str, label: str | None, more: str | None, stated: str | None
) -> list[Row]:
    """The rows of the Votes table for a row of the ledger; several if its weight is shared among labels."""
    head = (utterance, draw, status)
    if more is None:
        return [(*head, label, 1.0, None, None, None, None, stated)]
    content = json.loads(more)
    attributes = content.get("attributes") or (None,) * len(ATTRIBUTES)
    if len(attributes) != len(ATTRIBUTES):
        raise ValueError(f"{len(attributes)} attributes")
    shares = content.get("shares") or [(label, 1.0)]
    return [(*head, name, weight, content.get("secondary"), *attributes, stated) for name, weight in shares]


def share_of(label: str, given: str | None, more: str | None) -> float:
    """The share of a label in a vote of the ledger."""
    shares: list[tuple[str, float]] | None = json.loads(more).get("shares") if more else None
    return float(dict(shares).get(label, 0.0)) if shares else float(given == label)
