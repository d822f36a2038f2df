"""Prosody of a clip: a pitch track by autocorrelation, and measures of pitch, energy, rhythm, balance and voice.

Pitch: the normalised autocorrelation of 48 ms Hann frames every 10 ms (Boersma 1993), searched twice: over 65-600 Hz,
then over the speaker's own range in this clip, 0.75 x the lower to 2.2 x the upper quartile of the first track, which
removes octave errors without a path search. Harmonicity comes from the same autocorrelation. Compared with
librosa.pyin, which takes a hundred times as long, on every eleventh clip of EMO-DB: 98 % of the frames that both call
voiced agree within 20 %; the two disagree on what is voiced in 17 % of the frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alm_proxies.imported import imported

RATE = 16_000
Array = NDArray[np.floating]

_FRAME, _HOP, _TRANSFORM = 768, 160, 1024
_STEP = _HOP / RATE
_RUMBLE = 3  # bins (below 40 Hz) with a recording's offset and no voice
_LOWEST, _HIGHEST = 65.0, 600.0
_LAGS = (int(RATE / _HIGHEST), int(np.ceil(RATE / _LOWEST)) + 1)
_OCTAVE_COST = 0.01  # prefers the shorter of two equally good periods
_VOICED, _SURE = 0.45, 0.65  # autocorrelation at the period
_ACTIVE = 30.0  # dB below the loud frames (95 %) that still are speech
_LONE = 3  # voiced frames that make a run
_FLOOR = 1e-12  # power, of full scale
_VOWELS = 40.0  # dB below the loudest vowel that still count
_SMOOTH = 3  # frames to either side over which vowels are smoothed
_PAUSE = 0.15  # seconds of silence that make a pause
_LEAST = 5  # voiced frames that pitch needs


class NotMeasurable(ValueError):  # noqa: N818 - it is a reason, not a defect
    """A feature has no value for this clip; `kind` is the kind of the finding."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Every 10 ms: pitch in Hz (0: unvoiced), harmonicity 0..1, level in dB of full scale, whether it is speech."""

    samples: NDArray[np.float32]
    power: Array
    pitch: Array
    harmonicity: Array
    level: Array
    active: NDArray[np.bool_]

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """The mask of voiced frames."""
        return self.pitch > 0


def track(samples: NDArray[np.float32]) -> Track:
    """The pitch track of a clip at 16 kHz that is at least one frame (48 ms) long."""
    fft = imported("scipy.fft")
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    of_window = fft.irfft(np.abs(fft.rfft(window, _TRANSFORM)) ** 2)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    spectrum = fft.rfft(frames * window, _TRANSFORM, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    power[:, :_RUMBLE] = 0.0
    correlation = fft.irfft(power, axis=1)[:, : _LAGS[1] + 2]
    level = 10 * np.log10(np.maximum(correlation[:, 0] / of_window[0], _FLOOR))
    active = level > max(float(np.percentile(level, 95)) - _ACTIVE, -80.0)
    norm = of_window[: _LAGS[1] + 2] / of_window[0]
    correlation = correlation / np.maximum(correlation[:, :1], _FLOOR) / norm.astype(np.float32)
    pitch, harmonicity = _search(correlation, active)
    return Track(samples, power, pitch, harmonicity, level, active)


def _search(correlation: Array, active: NDArray[np.bool_]) -> tuple[Array, Array]:
    middle = correlation[:, 1:-1]
    peaks = (middle > correlation[:, :-2]) & (middle >= correlation[:, 2:])
    lags = np.arange(1, middle.shape[1] + 1)
    scores = np.where(peaks, middle - _OCTAVE_COST * np.log2(lags), -np.inf)
    pitch, harmonicity = _best(correlation, scores, _LAGS)
    sure = pitch[active & (harmonicity > _SURE)]
    if len(sure) >= _LEAST:
        low, high = np.percentile(sure, [25, 75])
        longest, shortest = RATE / max(0.75 * low, _LOWEST), RATE / min(2.2 * high, _HIGHEST)
        pitch, harmonicity = _best(correlation, scores, (int(shortest), int(np.ceil(longest))))
    voiced = active & (harmonicity > _VOICED)
    voiced &= _runs_of(voiced, _LONE)
    smooth = _running_median(np.where(voiced, pitch, np.nan))
    with np.errstate(invalid="ignore"):
        voiced &= np.abs(np.log2(np.where(voiced, pitch, 1.0) / smooth)) < 0.35
    voiced &= _runs_of(voiced, _LONE)
    return np.where(voiced, pitch, 0.0), harmonicity


def _best(correlation: Array, scores: Array, lags: tuple[int, int]) -> tuple[Array, Array]:
    low, high = max(lags[0], 2), min(lags[1], scores.shape[1] - 1)
    rows = np.arange(len(scores))
    lag = np.argmax(scores[:, low - 1 : high], axis=1) + low
    left, here, right = correlation[rows, lag - 1], correlation[rows, lag], correlation[rows, lag + 1]
    bend = left - 2 * here + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend < 0, np.clip((left - right) / (2 * bend), -0.5, 0.5), 0.0)
    finite = np.isfinite(scores[rows, lag - 1])
    pitch = np.where(finite, RATE / (lag + shift), 0.0)
    height = np.where(finite, np.clip(here - (left - right) * shift / 4, 0.0, 1.0), 0.0)
    return pitch, height


def _runs_of(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """The mask without its runs shorter than `least`."""
    kept = np.zeros_like(mask)
    for first, behind in runs(mask):
        kept[first:behind] = behind - first >= least
    return kept


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where the mask is true: (first, behind the last) of each run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(behind)) for first, behind in zip(edges[::2], edges[1::2], strict=True)]


def _running_median(values: Array, half: int = 4) -> Array:
    """The median of the nine frames around each, of those that are numbers; nan where none is."""
    padded = np.pad(values, half, constant_values=np.nan)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    count = np.isfinite(around).sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, 2 * half)
    median: Array = (around[rows, low] + around[rows, high]) / 2
    return median


def pitch_of(track: Track) -> dict[str, float]:
    """Level, spread, range and contour of the pitch, in semitones above 100 Hz."""
    voiced = track.voiced
    if np.count_nonzero(voiced) < _LEAST:
        raise NotMeasurable("unvoiced", "less than 50 ms of it is voiced")
    place: NDArray[np.intp] = np.flatnonzero(voiced)
    tones = 12 * np.log2(track.pitch[place] / 100)
    low, high = np.percentile(tones, [5, 95])
    time = place * _STEP
    slope = np.polyfit(time - time.mean(), tones, 1)[0]
    through = (place - place[0]) / max(place[-1] - place[0], 1)
    arch = tones[(through > 0.25) & (through < 0.75)]
    rims = tones[(through <= 0.25) | (through >= 0.75)]
    steps = np.abs(np.diff(tones))[np.diff(place) == 1]
    return {
        "pitch_level": float(np.median(tones)),
        "pitch_sd": float(tones.std()),
        "pitch_range": float(high - low),
        "pitch_slope": float(slope),
        "pitch_arch": float(arch.mean() - rims.mean()) if len(arch) else np.nan,
        "pitch_end": float(tones[through >= 0.8].mean() - np.median(tones)),
        "pitch_movement": float(steps.mean() / _STEP),
        "voiced_share": len(place) / max(int(np.count_nonzero(track.active)), 1),
    }


def energy_of(track: Track) -> dict[str, float]:
    """Level, spread, range and slope of the loudness of what is speech."""
    place = np.flatnonzero(track.active)
    if len(place) < _LEAST:
        raise NotMeasurable("too_quiet", "less than 50 ms of it are louder than -80 dB of full scale")
    level = track.level[place]
    low, high = np.percentile(level, [5, 95])
    time = place * _STEP
    return {
        "energy_level": float(10 * np.log10(np.mean(10 ** (level / 10)))),
        "energy_sd": float(level.std()),
        "energy_range": float(high - low),
        "energy_slope": float(np.polyfit(time - time.mean(), level, 1)[0]),
    }


def rhythm_of(track: Track) -> dict[str, float]:
    """Syllable nuclei a second, with and without pauses, and the pauses between the first and the last sound."""
    place = np.flatnonzero(track.active)
    if len(place) < _LEAST:
        raise NotMeasurable("too_quiet", "less than 50 ms of it are louder than -80 dB of full scale")
    first, behind = int(place[0]), int(place[-1]) + 1
    span = (behind - first) * _STEP
    silent = [(b - a) * _STEP for a, b in runs(~track.active[first:behind])]
    pauses = [seconds for seconds in silent if seconds >= _PAUSE]
    vowels = track.power[:, _bin(300) : _bin(3000)].sum(axis=1)
    level = 10 * np.log10(np.maximum(vowels, _FLOOR))
    level = np.pad(np.maximum(level - level.max(), -_VOWELS), _SMOOTH, constant_values=-_VOWELS)
    shape = np.hanning(2 * _SMOOTH + 3)[1:-1]
    contour = np.convolve(level, shape / shape.sum(), mode="valid")
    tops, _ = imported("scipy.signal").find_peaks(
        np.pad(contour, 1, constant_values=-_VOWELS), prominence=2.0, distance=8
    )
    tops = tops - 1
    nuclei = int(np.count_nonzero(track.voiced[tops]))
    return {
        "speaking_rate": nuclei / span,
        "articulation_rate": nuclei / max(span - sum(pauses), _STEP),
        "pause_share": sum(pauses) / span,
        "pause_rate": len(pauses) / span,
        "pause_longest": max(pauses, default=0.0),
    }


def balance_of(track: Track) -> dict[str, float]:
    """Tilt and balance of the mean spectrum of what is voiced, in dB."""
    if np.count_nonzero(track.voiced) < _LEAST:
        raise NotMeasurable("unvoiced", "less than 50 ms of it is voiced")
    mean = track.power[track.voiced].mean(axis=0, dtype=np.float64) + _FLOOR
    decibels = 10 * np.log10(mean)
    edges = 100 * 2.0 ** (np.arange(18) / 3)  # thirds of an octave, 100 Hz to 5080 Hz
    octaves = np.log2(edges[:-1])
    bins = np.round(edges * _TRANSFORM / RATE).astype(int)
    thirds = [10 * np.log10(mean[a : max(b, a + 1)].mean()) for a, b in pairwise(bins)]
    low, high = mean[_bin(50) : _bin(1000)].sum(), mean[_bin(1000) : _bin(5000)].sum()
    return {
        "spectral_tilt": float(np.polyfit(octaves - octaves.mean(), thirds, 1)[0]),
        "alpha_ratio": float(10 * np.log10(high / low)),
        "hammarberg": float(decibels[: _bin(2000)].max() - decibels[_bin(2000) : _bin(5000)].max()),
    }


def voice_of(track: Track) -> dict[str, float]:
    """Harmonics-to-noise ratio of what is voiced, in dB."""
    if np.count_nonzero(track.voiced) < _LEAST:
        raise NotMeasurable("unvoiced", "less than 50 ms of it is voiced")
    share = np.clip(track.harmonicity[track.voiced], 1e-4, 1 - 1e-4)
    return {"harmonicity": float(np.mean(10 * np.log10(share / (1 - share))))}


def cycles_of(track: Track) -> dict[str, float]:
    """How much neighbouring glottal cycles differ in length (jitter) and in height (shimmer), in % of the mean."""
    if np.count_nonzero(track.voiced) < _LEAST:
        raise NotMeasurable("unvoiced", "less than 50 ms of it is voiced")
    lengths: list[float] = []
    heights: list[float] = []
    differ: list[tuple[float, float]] = []
    for first, behind in runs(track.voiced):
        places, tops = _marks(track, first, behind)
        periods = np.diff(places)
        alike = np.maximum(periods[1:], periods[:-1]) < 1.3 * np.minimum(periods[1:], periods[:-1])
        step = np.abs(np.diff(periods))[alike]
        rise = np.abs(np.diff(tops))[1:][alike]
        lengths.extend(periods)
        heights.extend(tops)
        differ.extend(zip(step, rise, strict=True))
    if len(differ) < _LEAST:
        raise NotMeasurable("no_cycles", "fewer than five pairs of glottal cycles can be followed")
    step_mean, rise_mean = np.mean(differ, axis=0)
    return {
        "jitter": float(100 * step_mean / np.mean(lengths)),
        "shimmer": float(100 * rise_mean / np.mean(heights)),
    }


def _marks(track: Track, first: int, behind: int) -> tuple[Array, Array]:
    """One mark a cycle of a voiced run, at its highest peak: places in samples and heights, between the samples."""
    begin, end = first * _HOP + _FRAME // 2, (behind - 1) * _HOP + _FRAME // 2
    sound = track.samples[begin:end].astype(np.float64)
    if len(sound) and -sound.min() > sound.max():
        sound = -sound
    period = RATE / track.pitch[first:behind]
    places: list[float] = []
    heights: list[float] = []
    at = int(np.argmax(sound[: int(1.2 * period[0])])) if len(sound) else 0
    while 1 <= at < len(sound) - 1:
        left, here, right = sound[at - 1], sound[at], sound[at + 1]
        bend = left - 2 * here + right
        shift = (left - right) / (2 * bend) if bend < 0 else 0.0
        places.append(at + min(max(shift, -0.5), 0.5))
        heights.append(here - (left - right) * shift / 4)
        length = period[min(at // _HOP, len(period) - 1)]
        low, high = at + int(0.8 * length), at + int(1.2 * length) + 1
        if high > len(sound):
            break
        at = low + int(np.argmax(sound[low:high]))
    return np.asarray(places), np.asarray(heights)


def _bin(hertz: float) -> int:
    return round(hertz * _TRANSFORM / RATE)


PARTS: dict[str, Callable[[Track], dict[str, float]]] = {
    "pitch": pitch_of,
    "energy": energy_of,
    "rhythm": rhythm_of,
    "balance": balance_of,
    "voice": voice_of,
    "cycles": cycles_of,
}
