"""An estimate with its confidence interval, as returned by measures and shown in reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, isnan

FEWEST_TO_TEST = 6
"""With fewer speakers no sign-flip p-value can be below 0.05: the lowest is 2^(1 - S), .0625 for five."""


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
    def can_be_judged(self) -> bool:
        """Whether there are ends and speakers enough for a verdict: the one rule of pages, metrics and findings."""
        return isfinite(self.low) and isfinite(self.high) and self.speakers >= FEWEST_TO_TEST

    @property
    def is_below_zero(self) -> bool:
        """Whether a difference can be judged and is below zero with its whole interval."""
        return self.can_be_judged and self.high < 0

    @property
    def is_above_zero(self) -> bool:
        """Whether a difference can be judged and is above zero with its whole interval."""
        return self.can_be_judged and self.low > 0

    @property
    def error(self) -> float:
        """Half the width of the interval."""
        return 0.5 * (self.high - self.low)
