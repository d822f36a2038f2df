"""An estimate with its confidence interval, as returned by measures and shown in reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval.

    method: percentile, t (under 20 speakers), none (under three: too few for an interval), or given if the ends were
    computed elsewhere; gaps (of ece): from how far resamples change the gaps of its bins. On a learning curve
    percentile from five speakers, none under five.
    """

    estimate: float
    low: float
    high: float
    method: str = "given"
    speakers: int = 0
    per_speaker: tuple[float, ...] = ()

    def within(self, low: float, high: float) -> Interval:
        """The interval without the part where no value of the quantity can be; its estimate stays as it is."""
        if isnan(self.low) or isnan(self.high):
            return self
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))

    @property
    def error(self) -> float:
        """Half the width of the interval."""
        return 0.5 * (self.high - self.low)
