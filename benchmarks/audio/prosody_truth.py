"""Errors of the measured prosody on made-up voices whose pitch, cycles, noise, level and syllables are known.

Every voice is made of single glottal pulses at 88.2 or 96 kHz, is brought to 8, 16 or 44.1 kHz, gets noise, an offset
and a level, and is opened as a recording is. Each row is a family of voices, the figures are errors of the features
that the family is about.

python benchmarks/audio/prosody_truth.py [a family's first letters ...]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

from alm_proxies.audio import prosody
from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.audio.features import measure

Array = NDArray[np.float64]
PITCHES = (75, 90, 110, 135, 160, 190, 220, 260, 300, 350, 400, 450, 500, 560, 597)
"""Hz, from low men's to high women's and children's voices."""
FORMANTS = {
    "a": ((730, 90), (1090, 110), (2440, 170), (3400, 250)),
    "i": ((270, 60), (2290, 200), (3010, 300), (3700, 350)),
    "u": ((300, 65), (870, 110), (2240, 170), (3300, 250)),
}


@dataclass(frozen=True)
class Voice:
    """A sound of a family, its rate, and the values that are true of it."""

    sound: Array
    rate: int
    truth: dict[str, float] = field(default_factory=dict)
    pitch: float = 0.0


def pulses(
    hertz: float | Array,
    seconds: float,
    rate: int,
    chance: np.random.Generator,
    jitter: float = 0.0,
    shimmer: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Pulses between samples, and the true lengths and heights of the cycles."""
    count = round(seconds * rate)
    sound, places, heights = np.zeros(count + 2), [], []
    track = np.broadcast_to(np.asarray(hertz, dtype=np.float64), count)
    at = 0.3 * rate / track[0]
    while at < count:
        height = max(1 + shimmer * chance.standard_normal(), 0.1)
        whole, part = int(at), at % 1
        sound[whole : whole + 2] += (height * (1 - part), height * part)
        places.append(at)
        heights.append(height)
        at += rate / track[whole] * max(1 + jitter * chance.standard_normal(), 0.5)
    return sound[:count], np.diff(places), np.asarray(heights)


def tract(sound: Array, rate: int, vowel: str, tilt: float) -> Array:
    """The pulses through a low pass (one pole at `tilt` Hz, 6 dB an octave) and the formants of a vowel."""
    pole = np.exp(-2 * np.pi * tilt / rate)
    sound = lfilter([1 - pole], [1, -pole], sound)
    for hertz, width in FORMANTS[vowel]:
        radius = np.exp(-np.pi * width / rate)
        steer = -2 * radius * np.cos(2 * np.pi * hertz / rate)
        sound = lfilter([1 + steer + radius**2], [1, steer, radius**2], sound)
    return np.asarray(sound)


def noise(count: int, kind: str, chance: np.random.Generator) -> Array:
    """White or pink noise with power 1."""
    spectrum = np.fft.rfft(chance.standard_normal(count))
    if kind == "pink":
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0
    sound = np.fft.irfft(spectrum, count)
    return np.asarray(sound / np.sqrt(np.mean(sound**2)))


def spoken(
    hertz: float | Array,
    rate: int = 16_000,
    *,
    seconds: float = 1.5,
    jitter: float = 0.0,
    shimmer: float = 0.0,
    vowel: str = "a",
    tilt: float = 300.0,
    seed: int = 0,
) -> tuple[Array, dict[str, float]]:
    """A vowel at a rate, its peak 0.3 of full scale, and the jitter and shimmer of its cycles in %."""
    chance = np.random.default_rng(seed)
    high = 88_200 if rate == 44_100 else 96_000
    source, lengths, heights = pulses(hertz, seconds, high, chance, jitter, shimmer)
    sound = resample_poly(tract(source, high, vowel, tilt), rate, high)
    truth = {
        "jitter": 100 * float(np.abs(np.diff(lengths)).mean() / lengths.mean()),
        "shimmer": 100 * float(np.abs(np.diff(heights)).mean() / heights.mean()),
    }
    return 0.3 * sound / np.abs(sound).max(), truth


def bright(hertz: float, rate: int, *, power: float = 1.0, seconds: float = 0.5) -> Array:
    """All harmonics below half the rate, the k-th of height 1 / k to a power."""
    time = np.arange(round(seconds * rate)) / rate
    sound = np.zeros(len(time))
    for k in range(1, int(0.47 * rate / hertz) + 1):
        sound += np.sin(2 * np.pi * k * hertz * time) / k**power
    return 0.3 * sound / np.abs(sound).max()


def tones(hertz: float) -> float:
    """Semitones above 100 Hz."""
    return float(12 * np.log2(hertz / 100))


def family_bright() -> Iterator[Voice]:
    """Harmonics 1 / k, 70 to 597 Hz."""
    for rate in (8_000, 16_000, 44_100):
        for hertz in np.geomspace(70, 597, 141):
            yield Voice(bright(hertz, rate), rate, {"pitch_level": tones(hertz), "pitch_sd": 0.0}, hertz)


def family_dark() -> Iterator[Voice]:
    """Harmonics 1 / k^3, 70 to 597 Hz."""
    for hertz in np.geomspace(70, 597, 141):
        yield Voice(bright(hertz, 16_000, power=3), 16_000, {"pitch_level": tones(hertz), "pitch_sd": 0.0}, hertz)


def family_vowels() -> Iterator[Voice]:
    """Vowels with bright and dark sources at three rates."""
    for rate in (8_000, 16_000, 44_100):
        for hertz in PITCHES:
            for vowel in FORMANTS:
                for tilt in (100.0, 2000.0):
                    sound, truth = spoken(hertz, rate, vowel=vowel, tilt=tilt, seconds=0.8)
                    yield Voice(sound, rate, truth | {"pitch_level": tones(hertz), "pitch_sd": 0.0}, hertz)


def family_levels() -> Iterator[Voice]:
    """Vowels from 0 to 60 dB below."""
    for hertz in (90, 150, 220, 350):
        sound, truth = spoken(hertz, jitter=0.01, shimmer=0.05, seed=hertz)
        for down in (0, 20, 40, 60):
            quiet = sound * 10 ** (-down / 20)
            level = 10 * np.log10(np.mean(quiet**2))
            yield Voice(quiet, 16_000, truth | {"pitch_level": tones(hertz), "energy_level": level}, hertz)


def family_offset() -> Iterator[Voice]:
    """Jitter 1.1 % and shimmer 6.2 %, offsets of 0 to .6 of full scale, of both signs."""
    for hertz in (90, 150, 220, 350):
        for offset in (0.0, 0.02, 0.1, 0.3, 0.6, -0.1, -0.6):
            sound, truth = spoken(hertz, jitter=0.01, shimmer=0.055, seed=hertz)
            yield Voice(sound + offset, 16_000, truth | {"pitch_level": tones(hertz)}, hertz)


def family_jitter() -> Iterator[Voice]:
    """Jitter of 0 to 4 %."""
    for hertz in (90, 130, 180, 220, 300):
        for jitter in (0.0, 0.005, 0.01, 0.02, 0.035):
            sound, truth = spoken(hertz, jitter=jitter, seed=hertz)
            yield Voice(sound, 16_000, truth | {"pitch_level": tones(hertz)}, hertz)


def family_shimmer() -> Iterator[Voice]:
    """Shimmer of 0 to 22 %, bright and dark."""
    for hertz in (90, 130, 180, 220, 300, 400):
        for shimmer in (0.0, 0.04, 0.08, 0.12, 0.16, 0.2):
            for tilt in (100.0, 2000.0):
                sound, truth = spoken(hertz, shimmer=shimmer, tilt=tilt, seed=hertz)
                yield Voice(sound, 16_000, truth | {"pitch_level": tones(hertz), "pitch_sd": 0.0}, hertz)


def family_hoarse() -> Iterator[Voice]:
    """Bare pulses with shimmer of 9 to 22 %."""
    for hertz in (110, 150, 200, 260, 330):
        for shimmer in (0.08, 0.12, 0.16, 0.2):
            chance = np.random.default_rng(hertz)
            source, _, heights = pulses(hertz, 1.5, 96_000, chance, 0.0, shimmer)
            sound = resample_poly(source, 16_000, 96_000)
            true = 100 * float(np.abs(np.diff(heights)).mean() / heights.mean())
            truth = {"shimmer": true, "pitch_level": tones(hertz), "pitch_sd": 0.0}
            yield Voice(0.3 * sound / np.abs(sound).max(), 16_000, truth, hertz)


def family_breath() -> Iterator[Voice]:
    """White noise in the voice, harmonics-to-noise ratio of 5 to 30 dB."""
    for hertz in (90, 150, 220, 350):
        for ratio in (5, 10, 15, 20, 30):
            sound, _ = spoken(hertz)
            hiss = noise(len(sound), "white", np.random.default_rng(hertz + ratio))
            sound = sound + hiss * np.sqrt(np.mean(sound**2)) * 10 ** (-ratio / 20)
            truth = {"harmonicity": float(ratio), "pitch_level": tones(hertz)}
            yield Voice(sound, 16_000, truth, hertz)


def _monotone(kind: str) -> Iterator[Voice]:
    for hertz in (90, 130, 180, 220, 300, 400):
        for ratio in (0, 5, 10, 20):
            for tilt in (100.0, 2000.0):
                sound, _ = spoken(hertz, tilt=tilt, seconds=2.0)
                hiss = noise(len(sound), kind, np.random.default_rng(hertz + ratio))
                sound = sound + hiss * np.sqrt(np.mean(sound**2)) * 10 ** (-ratio / 20)
                yield Voice(sound, 16_000, {"pitch_level": tones(hertz), "pitch_sd": 0.0, "pitch_range": 0.0}, hertz)


def family_monotone_in_white() -> Iterator[Voice]:
    """One pitch in white noise, 0 to 20 dB."""
    yield from _monotone("white")


def family_monotone_in_pink() -> Iterator[Voice]:
    """One pitch in pink noise, 0 to 20 dB."""
    yield from _monotone("pink")


def family_syllables() -> Iterator[Voice]:
    """Moving pitch, two to six syllables a second, half a second of silence inside, noise 30 dB below."""
    for hertz in (100, 150, 220, 300):
        for rate in (2, 3, 4, 5, 6):
            time = np.arange(round(2.0 * 96_000)) / 96_000
            moving = hertz * 2 ** (3 * np.sin(2 * np.pi * 0.8 * time) / 12)
            sound, _ = spoken(moving, seconds=2.0)
            beat = np.arange(len(sound)) / 16_000
            sound *= np.maximum(np.sin(np.pi * rate * beat) ** 2, 0.03)
            sound = np.concatenate([sound[: len(sound) // 2], np.zeros(8000), sound[len(sound) // 2 :]])
            hiss = noise(len(sound), "white", np.random.default_rng(rate))
            sound = sound + hiss * np.sqrt(np.mean(sound**2)) * 10 ** (-30 / 20)
            semitones = 12 * np.log2(moving / 100)
            truth = {
                "pitch_level": float(np.median(semitones)),
                "pitch_sd": float(semitones.std()),
                "speaking_rate": 2 * rate / 2.5,
                "pause_share": 0.5 / 2.5,
            }
            yield Voice(sound, 16_000, truth)


FAMILIES = {name.removeprefix("family_"): made for name, made in list(globals().items()) if name.startswith("family_")}


def main(*begin: str) -> None:
    print("median absolute error, 90th percentile; off: more than 5 % from the pitch")
    for name, made in FAMILIES.items():
        if begin and not name.startswith(begin):
            continue
        show(name, list(made()), str(made.__doc__))


def opened(voice: Voice) -> Clip:
    """The sound after a way through a file, as any recording."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, voice.sound, voice.rate, subtype="FLOAT")
        return open_clip(file.name)


def show(name: str, voices: list[Voice], what: str) -> None:
    errors: dict[str, list[float]] = {}
    missing: dict[str, int] = {}
    wrong, off, voiced = 0, [], []
    for voice in voices:
        clip = opened(voice)
        values = measure(clip, ["prosody", "voice"]).values
        for feature, true in voice.truth.items():
            value = values[feature]
            if value is None:
                missing[feature] = missing.get(feature, 0) + 1
            else:
                errors.setdefault(feature, []).append(value - true)
        if voice.pitch:
            track = prosody.track(clip.samples - clip.samples.mean())
            pitch = track.pitch[track.voiced]
            voiced.append(len(pitch) / max(int(track.active.sum()), 1))
            off.append(float(np.mean(np.abs(pitch / voice.pitch - 1) > 0.05)) if len(pitch) else 0.0)
            wrong += len(pitch) > 0 and abs(np.median(pitch) / voice.pitch - 1) > 0.05
    print(f"\n{name}: {what} {len(voices)} voices")
    if voiced:
        print(f"  pitch off in {wrong} voices, in {np.mean(off):.1%} of voiced frames; {np.mean(voiced):.1%} voiced")
    for feature, listed in errors.items():
        size = np.abs(listed)
        print(
            f"  {feature:14} {np.median(size):8.3f} {np.percentile(size, 90):8.3f}   mean error {np.mean(listed):+.3f}"
            + (f"   {missing[feature]} without" if feature in missing else "")
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
