"""A source-filter synthesiser: pulses and noise filtered by a vocal tract with moving formants, as 16-bit speech at 16
kHz.

Source: pulses g'(u) = 2u - 3u^2 for u = phase / open quotient < 1, else 0 (made at 32 kHz, then halved), each period
jittered and shimmered, with breath in the open part. Tract: an all-pole filter of eight resonances and a nasal
pole-zero pair, renewed every 10 ms and overlap-added; the noise of consonants is filtered separately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_proxies.stages.simulate.cues import Array
from alm_proxies.stages.simulate.speakers import Speaker
from alm_proxies.stages.simulate.timeline import FRAMES_PER_SECOND, Tracks, tracks_of
from alm_proxies.stages.simulate.words import Clauses

SAMPLE_RATE = 16000
_PER_FRAME = SAMPLE_RATE // FRAMES_PER_SECOND
_HOP = 2 * _PER_FRAME
_FFT = 5 * _HOP
_PEAK = 0.89
_AT_ONCE = 64
"""Rows of a filter whose spectra are computed together: few enough that they stay in the processor's cache."""

Samples = NDArray[np.int16]
Rows = NDArray[np.int64]
Response = Callable[[Rows], NDArray[np.complex128] | Array]
"""The response of a filter at some of its rows."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Synthesised speech: samples at 16 kHz and the measured cues."""

    samples: Samples
    cues: Array


def speak(clauses: Clauses, who: Speaker, wanted: Array, chance: np.random.Generator) -> Spoken:
    """Synthesise clauses in a speaker's voice with the wanted cues (relative to the speaker's norm)."""
    return sounded(tracks_of(clauses, who, wanted, chance), who, wanted, chance)


def sounded(tracks: Tracks, who: Speaker, wanted: Array, chance: np.random.Generator) -> Spoken:
    """Synthesise control tracks, whose random numbers `chance` has given, at the wanted level."""
    sound = render(tracks, who, chance)
    level = who.level + float(wanted[3])
    loud = sound[np.repeat(tracks.spoken, _PER_FRAME)]
    sound = sound * (10 ** (level / 20) / np.sqrt(np.mean(loud**2)))
    sound *= min(1.0, _PEAK / float(np.abs(sound).max()))
    sound += chance.normal(0.0, 10 ** (who.floor / 20), len(sound))
    samples = np.rint(np.clip(sound, -1.0, 1.0) * 32767).astype(np.int16)
    return Spoken(samples, with_energy(tracks, samples, who))


def with_energy(tracks: Tracks, samples: Samples, who: Speaker) -> Array:
    """The cues of the tracks with the measured energy of the samples."""
    loud = samples[np.repeat(tracks.spoken, _PER_FRAME)].astype(np.float64) / 32768
    cues = tracks.cues.copy()
    cues[3] = 10 * np.log10(np.mean(loud**2)) - who.level
    return cues


def render(tracks: Tracks, who: Speaker, chance: np.random.Generator) -> Array:
    """The sound of control tracks, not normalised in level."""
    roughness, breathiness, tilt = float(tracks.cues[6]), float(tracks.cues[7]), float(tracks.cues[5])
    length = len(tracks.hertz) * _PER_FRAME
    gain = 10 ** (tracks.loudness / 20)
    pulses, open_part = _pulses(tracks, who, roughness, breathiness, tilt, chance)
    white = chance.normal(0.0, 1.0, length)
    breath = 10 ** ((who.breath + breathiness) / 20)
    air = (white - 0.6 * np.concatenate([[0.0], white[:-1]])) * (0.25 + open_part)
    voice = pulses * _at_samples(tracks.voicing * gain)
    voice += air * _at_samples((breath * tracks.voicing + 0.35 * tracks.aspiration) * gain)
    rows = len(tracks.formants[::2])
    through_tract = _filtered(voice, rows, _tract(tracks, who, breathiness, _slope(who.tilt + tilt)))
    hiss = white * _at_samples(tracks.frication * gain)
    return through_tract + _hiss_level(tilt) * _filtered(hiss, rows, _hiss_shape(tracks))


def _pulses(
    tracks: Tracks, who: Speaker, roughness: float, breathiness: float, tilt: float, chance: np.random.Generator
) -> tuple[Array, Array]:
    """Derivative of the glottal flow at 16 kHz, and how open the glottis is (0..1)."""
    length = 2 * len(tracks.hertz) * _PER_FRAME
    hertz = np.interp(np.arange(length), (np.arange(len(tracks.hertz)) + 0.5) * 2 * _PER_FRAME, tracks.hertz)
    phase = np.cumsum(hertz) / (2 * SAMPLE_RATE)
    cycles = int(phase[-1]) + 3
    jitter = min(0.06, who.jitter * 2**roughness)
    shifts = chance.normal(0.0, jitter, cycles)
    frame_of = np.searchsorted(phase, np.arange(cycles)).clip(0, length - 1) // (2 * _PER_FRAME)
    shifts += 0.16 * tracks.creak[frame_of] * (-1.0) ** np.arange(cycles)
    warped = np.interp(phase, np.arange(cycles) + shifts, np.arange(cycles))
    number = warped.astype(np.int64)
    shimmer = 10 ** (chance.normal(0.0, 30 * jitter, cycles) / 20)
    quotient = float(np.clip(who.open_quotient + 0.015 * breathiness - 0.05 * tilt, 0.35, 0.9))
    u = (warped - number) / quotient
    pulse = np.where(u < 1.0, u * (2.0 - 3.0 * u), 0.0) * shimmer[number.clip(0, cycles - 1)]
    opening = np.where(u < 1.0, 4.0 * u * (1.0 - u), 0.0).clip(0.0, 1.0)
    return _halved(pulse), opening[::2]


def _halved(signal: Array) -> Array:
    """A signal at half its rate, low-pass filtered against aliasing."""
    reach = 24
    n = np.arange(-reach, reach + 1)
    kernel = np.sinc(n * 0.47) * 0.47 * np.hamming(len(n))
    return np.convolve(signal, kernel, mode="same")[::2]


def _tract(tracks: Tracks, who: Speaker, breathiness: float, slope: Array) -> Response:
    """The response of the tract, a row every 10 ms: 1 / product of resonators, times the nasal zero and a slope."""
    formants = tracks.formants[::2]
    rows = len(formants)
    first, second, third = (formants[:, k] for k in range(3))
    higher = np.array([3500.0, 4500.0, 5400.0, 6400.0, 7300.0]) * who.tract
    soft = 2 ** (max(0.0, breathiness) / 12)
    poles = [(first, (45 + 0.06 * first) * soft), (second, 60 + 0.025 * second), (third, 80 + 0.03 * third)]
    poles += [(np.full(rows, f), np.full(rows, 60 + 0.05 * f)) for f in higher[higher < 7700]]
    nasal = tracks.nasal[::2]
    still = np.full(rows, 270.0 * who.tract)
    poles.append((still, 90 + 60 * nasal))
    zero = _resonator(still + 260 * nasal, 90 + 40 * nasal)
    denominator = np.ones((rows, 1))
    for frequency, width in poles:
        denominator = _times(denominator, _resonator(frequency, width))
    scale = denominator.sum(axis=1, keepdims=True) / zero.sum(axis=1, keepdims=True)

    def response(part: Rows) -> NDArray[np.complex128]:
        above, below = (np.fft.rfft(polynomial[part], _FFT, axis=1) for polynomial in (zero, denominator))
        return np.asarray(scale[part] * above / below * slope)

    return response


def _resonator(frequency: Array, width: Array) -> Array:
    """Second-order coefficients 1, -2 r cos(theta), r^2 for each row."""
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    angle = 2 * np.pi * frequency / SAMPLE_RATE
    return np.stack([np.ones_like(radius), -2 * radius * np.cos(angle), radius**2], axis=1)


def _times(left: Array, right: Array) -> Array:
    """Products of polynomials, row by row."""
    out = np.zeros((len(left), left.shape[1] + right.shape[1] - 1))
    for k in range(right.shape[1]):
        out[:, k : k + left.shape[1]] += right[:, k : k + 1] * left
    return out


def _slope(decibels_per_octave: float) -> Array:
    """A spectral slope above 500 Hz, level below."""
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    return np.asarray(10 ** (decibels_per_octave * np.log2(np.maximum(frequency, 500) / 500) / 20))


def _hiss_level(tilt: float) -> float:
    return 0.30 * 10 ** (1.2 * tilt / 20)


def _hiss_shape(tracks: Tracks) -> Response:
    """The magnitude of consonant noise, a row every 10 ms: a Gaussian around its centre on a low floor."""
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    centres, widths = tracks.noise_centre[::2, None], tracks.noise_width[::2, None]
    rising = np.clip(frequency / 1500, 0.0, 1.0)

    def response(part: Rows) -> Array:
        apart = (frequency - centres[part]) / (0.6 * widths[part])
        return np.asarray((np.exp(-0.5 * apart**2) + 0.06) * rising)

    return response


def _filtered(signal: Array, rows: int, response: Response) -> Array:
    """A signal through a filter renewed every hop, by Hann-weighted overlap-add; silent rows stay silent."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(2 * _HOP) + 0.5) / (2 * _HOP))
    padded = np.concatenate([np.zeros(_HOP // 2), signal, np.zeros(rows * _HOP + 2 * _HOP - len(signal))])
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * _HOP)[::_HOP][:rows]
    shaped = np.zeros((rows, _FFT))
    heard = np.flatnonzero(blocks.any(axis=1))
    for start in range(0, len(heard), _AT_ONCE):
        part = heard[start : start + _AT_ONCE]
        spectra = np.fft.rfft(blocks[part] * window, _FFT, axis=1)
        shaped[part] = np.fft.irfft(spectra * response(part), _FFT, axis=1)
    parts = shaped.reshape(rows, 5, _HOP)
    out = np.zeros((rows + 4, _HOP))
    for k in range(5):
        out[k : k + rows] += parts[:, k]
    return out.ravel()[_HOP // 2 : _HOP // 2 + len(signal)]


def _at_samples(track: Array) -> Array:
    """A track at the sample rate, linearly interpolated."""
    places = (np.arange(len(track)) + 0.5) * _PER_FRAME
    return np.asarray(np.interp(np.arange(len(track) * _PER_FRAME), places, track))
