"""Spectral features of a clip, equal to librosa's: one short-time spectrum shared by all, filter banks computed once.

librosa's functions each compute the spectrum again and sort or multiply more than needed. Here frames are rows (so that
sums, sorts and products are contiguous in memory), the banks of each tuning are kept, and every mel filter is
multiplied with its own part of the spectrum only. Transforms are computed in double precision like librosa's: in single
precision roll-off and tuning sometimes jump to a neighbouring bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from alm_proxies.errors import need
from alm_proxies.imported import imported

RATE = 16_000
FRAME = 2048
HOP = 512
MFCC, CHROMA, CONTRAST = 13, 12, 7

Array = NDArray[np.floating]

_BLOCK = 32  # frames transformed at once: they stay in the processor's cache
_TINY = float(np.finfo(np.float32).tiny)
_MEL_BANDS, _MEL_PARTS = 128, 4
_OCTAVES = 200.0 * 2.0 ** np.arange(CONTRAST)
_PITCH_LOW, _PITCH_HIGH, _PITCH_SHARE = 150.0, 4000.0, 0.1
_TUNINGS = np.linspace(-0.5, 0.5, 101)


@dataclass(frozen=True, slots=True)
class Banks:
    """Constants that do not depend on the clip: window, frequencies, mel filters in parts, cosines, contrast bands."""

    window: NDArray[np.float64]
    hertz: NDArray[np.float64]
    mel: tuple[tuple[int, int, NDArray[np.float32]], ...]
    cosines: NDArray[np.float32]
    bands: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=1)
def banks() -> Banks:
    """The filter banks, computed on the first call; they need the extra `audio`."""
    librosa, of_librosa = need("librosa", "audio"), need("librosa.filters", "audio")
    hertz = librosa.fft_frequencies(sr=RATE, n_fft=FRAME)
    filters = of_librosa.mel(sr=RATE, n_fft=FRAME, n_mels=_MEL_BANDS).T
    parts = []
    for columns in np.array_split(np.arange(_MEL_BANDS), _MEL_PARTS):
        rows = np.flatnonzero(filters[:, columns].any(axis=1))
        low, high = int(rows[0]), int(rows[-1]) + 1
        parts.append((low, high, np.ascontiguousarray(filters[low:high, columns])))
    cosines = imported("scipy.fft").dct(np.eye(_MEL_BANDS), axis=0, norm="ortho")[:MFCC].T
    return Banks(
        window=of_librosa.get_window("hann", FRAME, fftbins=True),
        hertz=hertz,
        mel=tuple(parts),
        cosines=np.ascontiguousarray(cosines, dtype=np.float32),
        bands=tuple(_contrast_bands(hertz)),
    )


def spectral(samples: NDArray[np.float32]) -> dict[str, Array]:
    """Per frame, as rows: mfcc (13), chroma (12), contrast (7, dB), zcr, rolloff (Hz), centroid (Hz), rms."""
    constants = banks()
    padded = np.pad(samples, FRAME // 2)
    magnitude = _magnitude(np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP], constants)
    power = magnitude * magnitude
    count = len(magnitude)
    return {
        "mfcc": _mfcc(power, constants),
        "chroma": _chroma(power),
        "contrast": _contrast(magnitude, constants),
        "zcr": _crossings(samples, count),
        "rolloff": _rolloff(magnitude, constants),
        "centroid": _centroid(magnitude, constants),
        "rms": _rms(padded, count),
    }


def _magnitude(frames: Array, constants: Banks) -> Array:
    rfft = imported("scipy.fft").rfft
    magnitude = np.empty((len(frames), FRAME // 2 + 1), dtype=np.float32)
    for first in range(0, len(frames), _BLOCK):
        spectrum = rfft(frames[first : first + _BLOCK] * constants.window, axis=1, overwrite_x=True)
        np.abs(spectrum.astype(np.complex64), out=magnitude[first : first + _BLOCK])
    return magnitude


def _mfcc(power: Array, constants: Banks) -> Array:
    mel = np.concatenate([power[:, low:high] @ bank for low, high, bank in constants.mel], axis=1)
    cepstrum: Array = _decibels(mel) @ constants.cosines
    return cepstrum


def _chroma(power: Array) -> Array:
    raw = power @ _chroma_bank(_tuning(power))
    loudest = np.abs(raw).max(axis=1, keepdims=True)
    loudest[loudest < _TINY] = 1.0
    chroma: Array = raw / loudest
    return chroma


@lru_cache(maxsize=len(_TUNINGS))
def _chroma_bank(tuning: float) -> NDArray[np.float32]:
    chroma = need("librosa.filters", "audio").chroma
    return np.ascontiguousarray(chroma(sr=RATE, n_fft=FRAME, tuning=tuning).T)


def _tuning(power: Array) -> float:
    """librosa.estimate_tuning of a power spectrum, limited to the bins of possible pitches."""
    hz_to_octs = need("librosa", "audio").hz_to_octs
    hertz = banks().hertz
    low, high = int(np.argmax(hertz >= _PITCH_LOW)), int(np.argmax(hertz >= _PITCH_HIGH))
    middle, before, after = power[:, low:high], power[:, low - 1 : high - 1], power[:, low + 1 : high + 1]
    loud = middle > np.float32(_PITCH_SHARE) * power.max(axis=1, keepdims=True)
    tops = np.flatnonzero(loud & (middle > before) & (middle >= after))
    if not len(tops):
        return 0.0
    rows, columns = np.divmod(tops, high - low)
    places = rows * power.shape[1] + columns + low
    here, left, right = power.take(places), power.take(places - 1), power.take(places + 1)
    bend, slope = left + right - 2 * here, (right - left) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(np.abs(slope) >= np.abs(bend), np.float32(0), -slope / bend)
    height = here + np.float32(0.5) * slope * shift
    pitch = ((columns + low + shift) * float(RATE) / FRAME).astype(np.float32)
    strong = pitch[(height >= np.median(height)) & (pitch > 0)]
    residual = np.mod(CHROMA * hz_to_octs(strong), 1.0)
    residual[residual >= 0.5] -= 1.0
    counts, _ = np.histogram(residual, _TUNINGS)
    return float(_TUNINGS[np.argmax(counts)])


def _contrast_bands(hertz: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """First bin, bin after the last, and the number of bins of a peak or a valley (2 %), for each octave band."""
    edges = np.concatenate([[0.0], _OCTAVES])
    bands = []
    for number in range(CONTRAST):
        inside = np.flatnonzero((hertz >= edges[number]) & (hertz <= edges[number + 1]))
        first, behind = int(inside[0]) - (number > 0), int(inside[-1]) + 1
        behind = len(hertz) if number == CONTRAST - 1 else behind
        quantile = max(round(0.02 * (behind - first)), 1)
        bands.append((first, behind - (number < CONTRAST - 1), quantile))
    return bands


def _contrast(magnitude: Array, constants: Banks) -> Array:
    valley = np.empty((len(magnitude), CONTRAST))
    peak = np.empty_like(valley)
    narrow = [first for first, _, quantile in constants.bands if quantile == 1]
    end = constants.bands[len(narrow) - 1][1]
    valley[:, : len(narrow)] = np.minimum.reduceat(magnitude[:, :end], narrow, axis=1)
    peak[:, : len(narrow)] = np.maximum.reduceat(magnitude[:, :end], narrow, axis=1)
    for number, (first, behind, quantile) in enumerate(constants.bands[len(narrow) :], start=len(narrow)):
        ordered = np.sort(magnitude[:, first:behind], axis=1)
        valley[:, number] = ordered[:, :quantile].mean(axis=1)
        peak[:, number] = ordered[:, -quantile:].mean(axis=1)
    contrast: Array = _decibels(peak) - _decibels(valley)
    return contrast


def _decibels(power: Array) -> Array:
    """librosa.power_to_db: floored at 1e-10 and at 80 dB below the loudest."""
    level = 10.0 * np.log10(np.maximum(1e-10, power))
    floored: Array = np.maximum(level, level.max() - 80.0)
    return floored


def _crossings(samples: NDArray[np.float32], count: int) -> Array:
    # Crossing i lies between samples i - 1 and i; a frame holds those of its hops, less the one it ends with.
    below = samples < -1e-10
    hops = FRAME // HOP
    crossed = np.zeros((count + hops, HOP), dtype=bool)
    flat = crossed.reshape(-1)[FRAME // 2 - 1 :]
    np.not_equal(below[1:], below[:-1], out=flat[1 : len(samples)])
    in_hop = np.count_nonzero(crossed, axis=1)
    share: Array = (sum(in_hop[k : k + count] for k in range(hops)) - crossed[hops - 1 : hops - 1 + count, -1]) / FRAME
    return share


def _rolloff(magnitude: Array, constants: Banks) -> Array:
    reached = np.cumsum(magnitude, axis=1)
    hertz: Array = constants.hertz[np.argmax(reached >= np.float32(0.85) * reached[:, -1:], axis=1)]
    return hertz


def _centroid(magnitude: Array, constants: Banks) -> Array:
    total = magnitude.sum(axis=1)
    total[total < _TINY] = 1.0
    hertz: Array = (magnitude @ constants.hertz.astype(np.float32)) / total
    return hertz


def _rms(padded: NDArray[np.float32], count: int) -> Array:
    per_frame = FRAME // HOP
    steps = np.square(padded[: (count + per_frame - 1) * HOP], dtype=np.float64).reshape(-1, HOP).sum(axis=1)
    sums = np.convolve(steps, np.ones(per_frame), mode="valid")
    root: Array = np.sqrt(sums / FRAME)
    return root
