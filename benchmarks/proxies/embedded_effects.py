"""Effects on mel cells: what pitch, pace, room, noise, telephone, microphone and level would do; and masks."""

from __future__ import annotations

import math

import numpy as np
from embedded_speech import BANDS, BINS, FLOOR, Array, Floats
from scipy.signal import lfilter

_DECIBELS = 40.0  # a level change in dB to one of mel cells: log10 of power, over 4
_HZ = 8000.0
_CONTRAST = 0.2
"""Deviation of the logarithm of a recording's contrast: a quieter room and a gate give more, a compressor less."""


LEVEL = 8.0
"""Standard deviation of the level in dB: the gain of a microphone says nothing of a feeling."""


def changed(
    mel: Floats, taught: Floats | None, rng: np.random.Generator, *, real: bool
) -> tuple[Floats, Floats | None]:
    """Change the cells of one clip as effects would: pitch and formants, pace, another recording; then mask parts.
    Synthetic speech keeps its pitch and pace.
    """
    if real:
        if rng.random() < 0.5:
            mel = mel @ _scaled(float(np.round(rng.uniform(0.92, 1.08), 2)))
        if rng.random() < 0.4:
            pace = rng.uniform(0.9, 1.12)
            mel, taught = _paced(mel, pace), None if taught is None else _paced(taught, pace)
    mel = _recorded_elsewhere(mel, rng, often=1.0 if real else 0.3)
    mel = np.maximum(mel, mel.max() - FLOOR).astype(np.float32)
    mean = mel.mean()
    for axis, widest in ((0, 20), (1, 12)) * (2 if real else 1):
        width = int(rng.integers(0, widest + 1))
        start = int(rng.integers(0, max(1, mel.shape[axis] - width + 1)))
        mel[(slice(start, start + width), slice(None))[:: 1 if axis == 0 else -1]] = mean
    return mel, taught


def _recorded_elsewhere(mel: Floats, rng: np.random.Generator, often: float) -> Floats:
    """The cells in another room, with noise, on a telephone, by another microphone, with more or
    less contrast, at another level."""
    if rng.random() < 0.35 * often:
        mel = _in_room(mel, rng)
    if rng.random() < 0.8 * often:
        mel = mel + _coloured(rng)
    if rng.random() < 0.4 * often:
        level = float(mel.max()) - rng.uniform(0.4, 1.6) + _coloured(rng)
        power = 10 ** (4 * mel) + 10 ** (4 * level) * rng.exponential(size=mel.shape)
        mel = np.log10(power) / 4
    if rng.random() < 0.06 * often:
        mel = mel - _TELEPHONE
    if rng.random() < 0.5 * often:
        mel = mel.max() - (mel.max() - mel) * np.exp(rng.normal(0.0, _CONTRAST))
    return np.asarray(mel + rng.normal(0, LEVEL * often) / _DECIBELS, dtype=np.float32)


def _coloured(rng: np.random.Generator) -> Array:
    """A microphone's gain in every band: a tilt, and a smooth curve through random points."""
    points = rng.normal(0, 4.0, 8)
    places = np.linspace(0, len(points) - 1, BANDS)
    tilt = np.linspace(-1, 1, BANDS) * rng.normal(0, 4.0)
    return (np.interp(places, np.arange(len(points)), points) + tilt) / _DECIBELS


def _in_room(mel: Floats, rng: np.random.Generator) -> Floats:
    """The cells with an exponential decay after each frame, as in a room."""
    decay = 10 ** (-6 * 0.01 / rng.uniform(0.1, 0.7))
    share = 10 ** (-rng.uniform(0, 14) / 10) * (1 - decay) / decay
    power = 10 ** (4 * mel.astype(np.float64))
    later = lfilter([0.0, share], [1.0, -decay], power, axis=0)
    return np.asarray(np.log10(power + later) / 4, dtype=np.float32)


def _paced(rows: Floats, pace: float) -> Floats:
    """The frames `pace` times faster."""
    places = np.arange(0, len(rows) - 1, pace)
    first = places.astype(int)
    part = (places - first)[:, None]
    return np.asarray(rows[first] * (1 - part) + rows[first + 1] * part, dtype=np.float32)


_SCALED: dict[float, Floats] = {}


def _scaled(factor: float) -> Floats:
    """The matrix that moves every frequency up by a factor, by linear interpolation between bands."""
    if factor not in _SCALED:
        hertz = _centres()
        places = np.interp(hertz / factor, hertz, np.arange(len(hertz)))[:BANDS].clip(0, BANDS - 1.001)
        first = places.astype(int)
        matrix = np.zeros((BANDS, BANDS), dtype=np.float32)
        matrix[first, np.arange(BANDS)] = 1 - (places - first)
        matrix[first + 1, np.arange(BANDS)] += (places - first).astype(np.float32)
        _SCALED[factor] = matrix
    return _SCALED[factor]


def _centres() -> Array:
    """The centres of the mel bands (Slaney's scale), in Hz."""
    highest = 15 + 27 * math.log(_HZ / 1000) / math.log(6.4)
    mel = np.linspace(0, highest, BINS + 2)[1:-1]
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


_TELEPHONE = np.where((_centres()[:BANDS] < 300) | (_centres()[:BANDS] > 3400), 1.0, 0.0).astype(np.float32)
"""40 dB less outside a telephone's band."""
