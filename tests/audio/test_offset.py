"""A constant offset of a recording moves no measured feature."""

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
