"""What the ledger takes and gives: rows of its tables, and what they come to in total."""

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
    """A request about to be sent: its number, its draws and the most it can cost."""

    number: int
    draws: int
    price: float


class Heard(NamedTuple):
    """Digests of the recording and texts that an annotator was given: a later run sees whether they have changed."""

    annotator: int
    utterance: int
    material: str
    path: str
    size: int
    changed: int
    audio: str


class Trial(NamedTuple):
    """A question that finds out what a server can do: booked at its most before it is sent, settled afterwards."""

    number: int
    annotator: str
    state: str
    """in flight, answered, or the kind of fault it ended with."""
    requests: int
    audio_seconds: float
    tokens_in: float
    tokens_out: float
    price: float
    at: float


class Lost(NamedTuple):
    """Requests that gave no vote and are asked again, such as those in flight when a run was killed."""

    requests: int = 0
    draws: int = 0
    price: float = 0.0
    why: str = ""


class Totals(NamedTuple):
    """What a ledger holds in total: no number of these ever falls, so that a smaller one means that rows are gone."""

    sequence: int = 0
    """Acknowledged writes."""
    answered: int = 0
    """Votes that were answered, those set aside included."""
    price: float = 0.0
    """Everything spent."""

    def or_more(self, other: Totals) -> Totals:
        """The larger of each."""
        return Totals(
            max(self.sequence, other.sequence), max(self.answered, other.answered), max(self.price, other.price)
        )

    def lacks(self, other: Totals) -> Totals:
        """What of `other` is not here; a difference of price below a millionth is rounding."""
        price = other.price - self.price
        price = price if price > 1e-6 * max(1.0, other.price) else 0.0
        return Totals(max(0, other.sequence - self.sequence), max(0, other.answered - self.answered), price)


NOTHING = Totals()


@dataclass(frozen=True, slots=True)
class Written:
    """One acknowledged write: everything of it is kept, or nothing."""

    sending: tuple[Sending, ...] = ()
    heard: tuple[Heard, ...] = ()
    arrived: tuple[int, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    lost: tuple[Lost, ...] = ()
    trials: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, found: dict[str, Any]) -> Written:
        """The same, read back from JSON; whatever is no write raises TypeError, ValueError or KeyError."""
        return cls(
            sending=tuple(Sending(*row) for row in found.get("sending", ())),
            heard=tuple(Heard(*row) for row in found.get("heard", ())),
            arrived=tuple(int(number) for number in found.get("arrived", ())),
            outcomes=tuple(Outcome(*row) for row in found.get("outcomes", ())),
            lost=tuple(Lost(*row) for row in found.get("lost", ())),
            trials=tuple(Trial(*row) for row in found.get("trials", ())),
        )

    def as_json(self) -> dict[str, Any]:
        """What of it is not empty."""
        every = {name: getattr(self, name) for name in self.__slots__}
        return {name: rows for name, rows in every.items() if rows}


class Member(NamedTuple):
    """An annotator that is planned now: its number, name, card as JSON, and votes per utterance."""

    number: int
    name: str
    card: str
    votes: int


Row = tuple[Any, ...]
"""number, draw, status, label, weight, secondary, valence, arousal, dominance, stated."""


def rows_of(
    utterance: int, draw: int, status: str, label: str | None, more: str | None, stated: str | None
) -> list[Row]:
    """The rows of the Votes table that a row of the ledger stands for; several where its weight is shared."""
    head = (utterance, draw, status)
    if more is None:
        return [(*head, label, 1.0, None, None, None, None, stated)]
    found = json.loads(more)
    attributes = found.get("attributes") or (None,) * len(ATTRIBUTES)
    if len(attributes) != len(ATTRIBUTES):
        raise ValueError(f"{len(attributes)} attributes")
    shares = found.get("shares") or [(label, 1.0)]
    return [(*head, one, weight, found.get("secondary"), *attributes, stated) for one, weight in shares]


def share_of(label: str, given: str | None, more: str | None) -> float:
    """The share of a label in a vote as the ledger keeps it."""
    shares: list[tuple[str, float]] | None = json.loads(more).get("shares") if more else None
    return float(dict(shares).get(label, 0.0)) if shares else float(given == label)
