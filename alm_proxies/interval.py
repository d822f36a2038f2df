"""An estimate with its confidence interval, as returned by measures and shown in reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval.

    method: percentile, t (under 20 speakers), none (under two), or given if the ends were computed elsewhere.
    """

    estimate: float
    low: float
    high: float
    method: str = "given"
    speakers: int = 0
    per_speaker: tuple[float, ...] = ()

    @property
    def error(self) -> float:
        """Half the width of the interval."""
        return 0.5 * (self.high - self.low)
