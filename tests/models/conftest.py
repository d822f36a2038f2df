from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


def sound(number: int, seconds: float = 1.0) -> NDArray[np.float32]:
    """A clip that differs from every other number's: a tone of its own in noise of its own."""
    generator = np.random.default_rng(number)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * generator.uniform(100, 3000) * time)
    return np.asarray(tone + 0.05 * generator.standard_normal(time.size), dtype=np.float32)


@pytest.fixture(scope="session")
def sounds() -> list[NDArray[np.float32]]:
    return [sound(number) for number in range(8)]
