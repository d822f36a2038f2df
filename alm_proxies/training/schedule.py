"""Learning rates over a training: warm-up, cosine, NewBob."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


def rate_of(step: int, warm: int, steps: int, schedule: Literal["cosine", "newbob"], newbob: float = 1.0) -> float:
    """The share of the highest rate at a step from 0: a linear rise, then half a cosine down to 0, or NewBob's."""
    if step < warm:
        return (step + 1) / warm
    if schedule == "newbob":
        return newbob
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


@dataclass(frozen=True, slots=True)
class NewBob:
    """The rate is multiplied by `factor` after an epoch in which the score fell by less than `threshold` of the one
    before.
    """

    factor: float
    threshold: float

    def after(self, scores: Sequence[float], rate: float) -> float:
        """The share of the highest rate after the last of these epochs; a lower score is better."""
        if len(scores) < 2:
            return rate
        before, last = scores[-2:]
        improved = (before - last) / abs(before) if before else before - last
        return rate * self.factor if improved < self.threshold else rate
