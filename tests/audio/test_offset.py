"""A constant offset of a recording moves no measured feature, with and without digital silence beside it."""

from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.features import measure

RATE = 16_000


def values(sound: np.ndarray) -> dict[str, float]:
    measured = measure(Clip(sound.astype(np.float32), RATE)).values
    return {name: np.nan if value is None else value for name, value in measured.items()}


@pytest.mark.parametrize("offset", [0.1, -0.1, 0.6])
def test_a_constant_offset_moves_no_feature(offset: float) -> None:
    chance = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    height = 1 + 0.06 * np.repeat(chance.standard_normal(320), RATE // 160)
    sound = 0.2 * height * np.sin(2 * np.pi * 160 * time) + 0.002 * chance.standard_normal(len(time))
    sound[RATE // 2 : RATE] *= 0.05
    without, moved = values(sound), values(sound + offset)
    for name, value in without.items():
        assert moved[name] == pytest.approx(value, rel=0.01, abs=0.01, nan_ok=True), name


@pytest.mark.parametrize("offset", [3e-5, -3e-5, 0.1])
def test_a_constant_offset_moves_no_feature_beside_silence_that_was_added(offset: float) -> None:
    chance = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    sound = 0.2 * np.sin(2 * np.pi * 160 * time) + 0.002 * chance.standard_normal(len(time))
    sound -= sound.mean()
    silence = np.zeros(RATE // 2)
    without = values(np.concatenate([silence, sound, silence]))
    moved = values(np.concatenate([silence, sound + offset, silence]))
    for name, value in without.items():
        assert moved[name] == pytest.approx(value, rel=0.01, abs=0.01, nan_ok=True), name


def test_a_recording_of_nothing_but_digital_silence_is_measured_as_it_is() -> None:
    assert values(np.zeros(RATE)) == pytest.approx(values(np.full(RATE, 1e-7)), nan_ok=True)
