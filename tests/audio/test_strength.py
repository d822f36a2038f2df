"""Every effect has a strength, and more strength changes a sound more."""

from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.audio.effects import EFFECTS, apply
from alm_proxies.audio.strength import effect_at
from alm_proxies.errors import SettingsError
from alm_proxies.seeds import generator

RATE = 16_000
MOVES = {"shift": ("seconds", 0.0), "speed": ("factor", 1.0), "pitch": ("semitones", 0.0)}
"""Effects that move samples in time, so that a difference of samples is no measure of them."""


def change(name: str, strength: float) -> float:
    """How much the effect changes noise: the level of the difference, or the distance of its parameter from none."""
    effect, parameters = effect_at(name, strength, generator(1, name))
    if name in MOVES:
        key, none = MOVES[name]
        return abs(parameters[key] - none)
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    return float(np.sqrt(np.mean((apply(effect, sound, RATE, parameters, generator(2)) - sound) ** 2)))


@pytest.mark.parametrize("name", EFFECTS)
def test_more_strength_is_more_change(name: str) -> None:
    changes = [change(name, strength) for strength in (0.05, 0.3, 0.6, 1.0)]
    assert changes == sorted(changes)
    assert changes[-1] > 2 * changes[0]


def test_effects_with_a_direction_go_in_both() -> None:
    drawn = {effect_at("pitch", 0.5, generator(seed))[1]["semitones"] for seed in range(20)}
    assert drawn == {-1.5, 1.5}


def test_an_unknown_effect_and_an_impossible_strength_are_refused() -> None:
    with pytest.raises(SettingsError, match="telephone"):
        effect_at("telefone", 0.5, generator(0))
    for strength in (0.0, 1.5):
        with pytest.raises(SettingsError, match=r"\(0, 1\]"):
            effect_at("gain", strength, generator(0))
