"""Effects by strength: the parameters of every effect at a strength from 0 (hardly audible) to 1 (clearly audible)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from alm_proxies.audio.effects import EFFECTS, parameters_of
from alm_proxies.errors import SettingsError
from alm_proxies.nearest import known_names

Parameters = Callable[[float, float], dict[str, Any]]
"""Strength and a sign (-1 or 1) -> the parameters."""

_AT: dict[str, Parameters] = {
    "gain": lambda strength, sign: {"decibels": sign * 12 * strength},
    "noise": lambda strength, sign: {"snr": 40 - 30 * strength},
    "room": lambda strength, sign: {"seconds": 0.1 + 0.7 * strength, "direct": 16 - 12 * strength},
    "telephone": lambda strength, sign: {"low": 50 + 350 * strength, "high": 8000 - 5000 * strength},
    "speed": lambda strength, sign: {"factor": 1 + sign * 0.2 * strength},
    "pitch": lambda strength, sign: {"semitones": sign * 3 * strength},
    "shift": lambda strength, sign: {"seconds": sign * 0.3 * strength},
    "mask_time": lambda strength, sign: {"seconds": 0.02 + 0.48 * strength},
    "mask_frequency": lambda strength, sign: {"octaves": 0.1 + 1.4 * strength},
}

EMOTIONAL: dict[str, str] = {"gain": "loudness", "pitch": "pitch", "speed": "rate"}
"""The effects that change a cue of emotion, and this cue. They move the simulator's truth; benchmarks/README.md states
how far, and how far they move a listener on CREMA-D's votes."""


WITHOUT_CHANCE = frozenset({"gain", "telephone", "speed", "pitch", "shift"})
"""The effects that draw no random numbers: with the same parameters they give the same sound."""


def effect_at(name: str, strength: float, generator: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """The effect at a strength, in the form of recipes; its direction, if any, is drawn by the generator."""
    if name not in _AT:
        fix = known_names(name, EFFECTS)
        raise SettingsError(f"there is no effect {name!r}", fix=fix)
    if not 0 < strength <= 1:
        raise SettingsError(f"strength = {strength:g} is outside (0, 1]", fix="Write a number above 0, at most 1.")
    sign = 1.0 if generator.random() < 0.5 else -1.0
    return name, parameters_of(name, _AT[name](strength, sign)).model_dump(mode="json")
