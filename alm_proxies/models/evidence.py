"""Evidence for a prediction: how it changes when a part or a property of the clip is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.effects import apply
from alm_proxies.seeds import generator

Array = NDArray[np.float64]
WINDOW = 0.5
"""The length of the segments removed for evidence, in seconds."""
_CHANGES: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("pitch 2 semitones lower", "pitch", {"semitones": -2.0}),
    ("pitch 2 semitones higher", "pitch", {"semitones": 2.0}),
    ("tempo 15 % slower", "speed", {"factor": 0.85}),
    ("tempo 15 % faster", "speed", {"factor": 1.15}),
)


@dataclass(frozen=True, slots=True)
class Moved:
    """The change of a prediction when a part or a property of the clip is changed."""

    what: str
    distance: float
    """Total variation: half the sum of absolute differences, 0 to 1."""
    gains: str
    """The label that gains most."""
    loses: str
    """The label that loses most."""

    @classmethod
    def of(cls, name: str, labels: Sequence[str], whole: Array, other: Array) -> Self:
        """The change from one distribution to another."""
        change = other - whole
        return cls(name, float(np.abs(change).sum() / 2), labels[int(change.argmax())], labels[int(change.argmin())])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence for a prediction, the strongest first: the effects of removed segments and of changed prosody."""

    seconds: tuple[Moved, ...]
    prosody: tuple[Moved, ...]

    @classmethod
    def of(cls, seconds: Sequence[Moved], prosody: Sequence[Moved]) -> Self:
        """Both kinds, each with its largest effect first."""
        return cls(_strongest_first(seconds), _strongest_first(prosody))


def changed_prosody(clip: Clip, limits: tuple[float, float]) -> list[tuple[str, Clip]]:
    """The clip with its pitch or tempo changed, by the change; those outside the limits (seconds) are left out."""
    low, high = limits
    usable = []
    for change, effect, how in _CHANGES:
        samples = apply(effect, clip.samples.astype(np.float64), clip.rate, how, generator(0, "evidence"))
        changed = Clip(samples.astype(np.float32), clip.rate)
        if low <= changed.duration <= high:
            usable.append((change, changed))
    return usable


def without_parts(clip: Clip, shortest: float) -> list[tuple[str, Clip]]:
    """The clip with each half second cut out, with that part's name; those shorter than `shortest` seconds left out."""
    wide = round(WINDOW * clip.rate)
    cuts = [(start, min(start + wide, len(clip.samples))) for start in range(0, len(clip.samples), wide)]
    return [
        (
            f"{start / clip.rate:.1f} to {end / clip.rate:.1f} s",
            replace(clip, samples=np.delete(clip.samples, slice(start, end))),
        )
        for start, end in cuts
        if (len(clip.samples) - end + start) / clip.rate >= shortest
    ]


def _strongest_first(moved: Sequence[Moved]) -> tuple[Moved, ...]:
    return tuple(sorted(moved, key=lambda item: -item.distance))
