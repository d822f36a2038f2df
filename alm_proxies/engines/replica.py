"""One replica of a server: how many requests it gets at once, and how long it rests.

The window of a replica is the maximum number of its requests in flight:

- It starts small enough for any server. Until the first complaint every answer adds two, so that the window triples in
  a round trip and reaches its maximum after a few. After the first complaint it grows by one per round trip.
- A complaint (429, 502, 503, 504, or a timeout) halves it, at most once per round trip.
- A late answer does not open it. An answer is late if it took more than a quarter of the timeout of a try and more than
  twice as long as the quickest: the server then queues requests, and even three times as many would still be in time.

A replica that cannot be reached rests, twice as long each time. After its rest it gets a single request, which shows
whether it is back: a replica that fails at once must not attract all requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_FIRST_WINDOW = 16.0
_FIRST_SHARE = 1 / 8
"""Share of the maximum at which the window starts, if that is more than the first window."""
_GROWTH = 2.0
"""Growth of the window per answer before the first complaint."""
_LATE = 1 / 4
"""Share of the timeout after which an answer can be late."""


@dataclass(slots=True)
class Replica:
    """One address, its window, and its requests in flight; times are those of time.monotonic()."""

    address: str
    most: float
    """Maximum of the window."""
    window: float
    flying: int = 0
    """Requests in flight."""
    growing: bool = True
    """Whether it has never complained."""
    quickest: float = math.inf
    """Seconds of the quickest answer."""
    shrunk_at: float = 0.0
    answered_at: float = 0.0
    rested_at: float = 0.0
    """When its last rest began."""
    opens_at: float = 0.0
    """When it takes requests again."""
    absences: int = 0
    """Rests since its last answer."""

    @classmethod
    def at(cls, address: str, most: float) -> Replica:
        """A replica with its first window."""
        return cls(address, most, min(max(_FIRST_WINDOW, _FIRST_SHARE * most), most))

    def room(self, now: float, others_are_well: bool) -> float:
        """Number of further requests it may get now; after a rest only one, as long as another replica is well."""
        if now < self.opens_at:
            return 0.0
        return (1.0 if self.absences and others_are_well else self.window) - self.flying

    def grow(self, took: float, try_seconds: float, flying: int) -> None:
        """Open the window after an answer that took this long beside `flying` others, unless it was late.

        The quickest answer is measured only under load: small requests, such as those of the probe, are quicker than
        votes.
        """
        if 2 * flying >= min(_FIRST_WINDOW, self.most):
            self.quickest = min(self.quickest, took)
        if took <= max(_LATE * try_seconds, 2.0 * self.quickest):
            self.window = min(self.most, self.window + (_GROWTH if self.growing else 1.0 / self.window))

    def shrink(self, now: float, started: float) -> None:
        """Halve the window after a complaint about a try that started then, at most once per round trip."""
        if self.shrunk_at <= started:
            self.window = max(1.0, self.window / 2)
            self.growing = False
            self.shrunk_at = now

    def rest(self, now: float, started: float, first: float, longest: float) -> None:
        """Take no requests for a while after a failed try that started then, twice as long each time."""
        if self.rested_at <= started:
            self.opens_at = max(self.opens_at, now + min(longest, first * 2.0**self.absences))
            self.rested_at = now
            self.absences += 1

    def answered(self, now: float) -> None:
        """Note that it is well."""
        self.absences = 0
        self.answered_at = now
