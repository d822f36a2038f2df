"""Audio effects: each is a pure function (samples, rate, parameters, generator) -> samples, in double precision.

Random numbers are uniform draws only, and filters are convolutions: the result depends only on the arguments. Levels
are energy-weighted (`level_of`), so that pauses do not count and no threshold causes a discontinuity. All effects but
speed and pitch are also continuous: a change of 1e-7 in the input changes the output as little. Those two search for
the best overlap, which may differ if the input was decoded or resampled differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.imported import imported
from alm_proxies.nearest import known_names

Samples = NDArray[np.float64]

_TINY = 1e-20
_AUDIBLE = 20.0  # Hz; pink noise has as much power in every octave below, which nobody hears


class Parameters(BaseModel):
    """Parameters of an effect."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Gain(Parameters):
    """Louder or softer."""

    decibels: float = Field(ge=-40, le=40)
    """Gain."""


class Noise(Parameters):
    """Background noise."""

    snr: float = Field(ge=-10, le=80)
    """Signal-to-noise ratio in dB, of the energy-weighted level; over the whole clip the ratio is 4 to 7 dB lower."""
    colour: Literal["white", "pink"] = "pink"
    """White noise has equal power in every Hz, pink noise in every octave above 20 Hz."""


class Room(Parameters):
    """A synthetic room: exponentially decaying noise after the direct sound."""

    seconds: float = Field(ge=0.05, le=3)
    """The reverberation time: the time of a decay by 60 dB."""
    direct: float = Field(default=6, ge=-10, le=40)
    """Direct-to-reverberant ratio in dB."""


class Telephone(Parameters):
    """A band-pass filter."""

    low: float = Field(default=300, ge=50, le=1000)
    """The lower cut-off frequency in Hz."""
    high: float = Field(default=3400, ge=1500, le=8000)
    """The upper cut-off frequency in Hz."""


class Speed(Parameters):
    """Faster or slower at the same pitch."""

    factor: float = Field(ge=0.6, le=1.6)
    """The factor of speed."""


class Pitch(Parameters):
    """Higher or lower at the same speed; the formants move along."""

    semitones: float = Field(ge=-6, le=6)
    """The shift of pitch."""


class Shift(Parameters):
    """A shift in time: silence is added at one end, the length stays the same."""

    seconds: float = Field(ge=-2, le=2)
    """The shift in time; negative values shift to earlier."""


class MaskTime(Parameters):
    """A stretch of silence at a random place."""

    seconds: float = Field(ge=0.01, le=2)
    """Duration; at most half of the clip."""


class MaskFrequency(Parameters):
    """A band-stop filter with a random centre between 200 Hz and 4 kHz."""

    octaves: float = Field(ge=0.1, le=2)
    """How wide."""


def gain(samples: Samples, rate: int, parameters: Gain, generator: np.random.Generator) -> Samples:
    """The sound `decibels` louder."""
    return samples * 10 ** (parameters.decibels / 20)


def noise(samples: Samples, rate: int, parameters: Noise, generator: np.random.Generator) -> Samples:
    """The sound with noise `snr` dB below its level."""
    drawn = _uniform(len(samples), generator)
    if parameters.colour == "pink":
        fft = imported("scipy.fft")

        size = fft.next_fast_len(len(drawn), real=True)
        hertz = fft.rfftfreq(size, 1 / rate)
        shape = np.where(hertz >= _AUDIBLE, 1 / np.sqrt(np.maximum(hertz, _AUDIBLE)), 0.0)
        drawn = fft.irfft(fft.rfft(drawn, size) * shape, size)[: len(drawn)]
    power = level_of(samples, rate) ** 2 / 10 ** (parameters.snr / 10)
    quieter: Samples = samples + drawn * np.sqrt(power / max(float(np.mean(drawn**2)), _TINY))
    return quieter


def room(samples: Samples, rate: int, parameters: Room, generator: np.random.Generator) -> Samples:
    """The sound in a room, as loud and as long as before."""
    count = max(int(parameters.seconds * rate), 2)
    time = np.arange(count) / rate
    response = _uniform(count, generator) * np.exp(-np.log(1000) * time / parameters.seconds)
    response[: int(0.0025 * rate)] = 0.0
    energy = 10 ** (-parameters.direct / 10)
    response *= np.sqrt(energy / max(float(np.sum(response**2)), _TINY))
    response[0] = 1.0
    return _as_loud(_convolved(samples, response)[: len(samples)], samples, rate)


def telephone(samples: Samples, rate: int, parameters: Telephone, generator: np.random.Generator) -> Samples:
    """The sound between `low` and `high` Hz, at its level before."""
    passed = _band(samples, rate, parameters.low, parameters.high, 0.016)
    return _as_loud(passed, samples, rate)


def speed(samples: Samples, rate: int, parameters: Speed, generator: np.random.Generator) -> Samples:
    """The sound `factor` times faster at the same pitch (waveform-similarity overlap-add)."""
    return _stretched(samples, rate, 1 / parameters.factor)


def pitch(samples: Samples, rate: int, parameters: Pitch, generator: np.random.Generator) -> Samples:
    """The sound `semitones` higher at the same speed: stretched, then played faster."""
    higher = Fraction(2 ** (parameters.semitones / 12)).limit_denominator(200)
    stretched = _stretched(samples, rate, float(higher))
    shifted = imported("scipy.signal").resample_poly(
        stretched, higher.denominator, higher.numerator, window=("kaiser", 8.0)
    )
    return _of_length(shifted, len(samples))


def shift(samples: Samples, rate: int, parameters: Shift, generator: np.random.Generator) -> Samples:
    """The sound `seconds` later, silence before it, as long as before."""
    by = max(-len(samples), min(len(samples), round(parameters.seconds * rate)))
    shifted = np.zeros_like(samples)
    if by >= 0:
        shifted[by:] = samples[: len(samples) - by]
    else:
        shifted[:by] = samples[-by:]
    return shifted


def mask_time(samples: Samples, rate: int, parameters: MaskTime, generator: np.random.Generator) -> Samples:
    """The sound with `seconds` of silence at a random place, faded over 5 ms."""
    count = min(round(parameters.seconds * rate), len(samples) // 2)
    first = int(generator.random() * (len(samples) - count))
    ramp = min(round(0.005 * rate), count // 2)
    rise = (1 - np.cos(np.pi * np.arange(ramp) / max(ramp, 1))) / 2
    hole = np.concatenate([1 - rise, np.zeros(count - 2 * ramp), rise])
    masked = samples.copy()
    masked[first : first + count] *= hole
    return masked


def mask_frequency(samples: Samples, rate: int, parameters: MaskFrequency, generator: np.random.Generator) -> Samples:
    """The sound without a band `octaves` wide at a random place."""
    centre = 200 * 20 ** generator.random()
    half = 2 ** (parameters.octaves / 2)
    return samples - _band(samples, rate, centre / half, centre * half, 0.032)


def mix(sounds: Sequence[Samples], shares: Sequence[float], rate: int) -> Samples:
    """sum_i share_i x_i g_i with gains g_i that make all as loud as the first, cut to the shortest, as loud as it."""
    length = min(len(sound) for sound in sounds)
    first = sounds[0][:length]
    loud = level_of(first, rate)
    matched = [sound[:length] * (loud / max(level_of(sound[:length], rate), _TINY)) for sound in sounds]
    mixed = np.sum([share * sound for share, sound in zip(shares, matched, strict=True)], axis=0)
    return _as_loud(mixed, first, rate)


def level_of(samples: Samples, rate: int) -> float:
    """The energy-weighted level: the root of sum p^2 / sum p over the power p of 20 ms frames."""
    step = max(round(0.02 * rate), 1)
    padded = np.pad(samples, (0, -len(samples) % step))
    power = np.mean(padded.reshape(-1, step) ** 2, axis=1)
    total = float(power.sum())
    return float(np.sqrt(np.sum(power**2) / total)) if total > _TINY else 0.0


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect: its parameters and its function."""

    parameters: type[Parameters]
    function: Callable[[Samples, int, Any, np.random.Generator], Samples]


EFFECTS: dict[str, Effect] = {
    "gain": Effect(Gain, gain),
    "noise": Effect(Noise, noise),
    "room": Effect(Room, room),
    "telephone": Effect(Telephone, telephone),
    "speed": Effect(Speed, speed),
    "pitch": Effect(Pitch, pitch),
    "shift": Effect(Shift, shift),
    "mask_time": Effect(MaskTime, mask_time),
    "mask_frequency": Effect(MaskFrequency, mask_frequency),
}


def parameters_of(name: str, given: Mapping[str, Any], where: str | None = None) -> Parameters:
    """The checked parameters of an effect, its defaults filled in."""
    if name not in EFFECTS:
        fix = known_names(name, EFFECTS)
        raise SettingsError(f"there is no effect {name!r}", where=where, fix=fix)
    model = EFFECTS[name].parameters
    known = list(model.model_fields)
    for word in given:
        if word not in known:
            fix = known_names(str(word), known)
            raise SettingsError(f"the effect {name!r} has no parameter {word!r}", where=where, fix=fix)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise SettingsError(f"the effect {name!r} needs {field}", where=where, fix=f"Give {field}.") from None
        wrong = f"{field} = {first['input']!r}"
        fix = f"{first['msg'].replace('Input should be', 'It should be')}."
        raise SettingsError(f"the effect {name!r} cannot take {wrong}", where=where, fix=fix) from None


def refuse_ranges(name: str, between: Mapping[str, tuple[float, float]], where: str) -> None:
    """Raise if an effect cannot take both ends of the ranges that its parameters are drawn from."""
    for parameter, (low, high) in between.items():
        if low > high:
            message = f"{parameter} of the effect {name!r} is drawn between {low:g} and {high:g}"
            raise SettingsError(message, where=where, fix="Write the lower end first.")
    for end in (0, 1):
        parameters_of(name, {parameter: ends[end] for parameter, ends in between.items()}, where)


def apply(
    name: str, samples: Samples, rate: int, parameters: Mapping[str, Any], generator: np.random.Generator
) -> Samples:
    """The samples after one effect, by name."""
    checked = parameters_of(name, parameters)
    if not len(samples):
        raise InputError("there are no samples to change", where=f"effect {name}", fix="Leave this clip out.")
    return EFFECTS[name].function(samples, rate, checked, generator)


def _uniform(count: int, generator: np.random.Generator) -> Samples:
    return generator.random(count) * 2 - 1


def _as_loud(samples: Samples, model: Samples, rate: int) -> Samples:
    now = level_of(samples, rate)
    return samples * (level_of(model, rate) / now) if now > 0 else samples


def _of_length(samples: Samples, length: int) -> Samples:
    return np.pad(samples, (0, max(length - len(samples), 0)))[:length]


def _convolved(samples: Samples, response: Samples) -> Samples:
    convolved: Samples = imported("scipy.signal").fftconvolve(samples, response)
    return convolved


def _band(samples: Samples, rate: int, low: float, high: float, half: float) -> Samples:
    """The band between low and high Hz, by a symmetric filter of `half` seconds to either side, without delay."""
    reach = round(half * rate)
    high = min(high, 0.48 * rate)
    filter_ = imported("scipy.signal").firwin(2 * reach + 1, [min(low, 0.9 * high), high], pass_zero=False, fs=rate)
    return _convolved(samples, filter_)[reach : reach + len(samples)]


def _stretched(samples: Samples, rate: int, factor: float) -> Samples:
    """The sound `factor` times longer: 24 ms pieces overlapped where they correlate best, within 10 ms."""
    hop, search = round(0.012 * rate), round(0.010 * rate)
    width = 2 * hop
    length = round(len(samples) * factor)
    padded = np.pad(samples, (search + width, search + 3 * width))
    energy = np.concatenate([[0.0], np.cumsum(padded**2)])
    window = (1 - np.cos(2 * np.pi * np.arange(width) / width)) / 2
    lags = np.arange(-search, search + 1)
    # A slight slope over the lags breaks ties, so that rounding never does.
    slope = 1e-7 * (np.abs(lags) + lags / 4)
    output = np.zeros(length + 2 * width)
    begin = search + width - hop
    at = begin
    for place in range(0, length + hop, hop):
        if place:
            nominal = begin + min(round(place / factor), len(samples))
            first = nominal - search
            wanted = padded[at + hop : at + hop + width]
            fit = np.correlate(padded[first : nominal + search + width], wanted, mode="valid")
            power = energy[first + width : first + width + len(lags)] - energy[first : first + len(lags)]
            norm = np.sqrt(np.maximum(power, 0.0) * float(np.sum(wanted**2))) + 1e-9
            at = nominal + int(lags[np.argmax(fit / norm - slope)])
        output[place : place + width] += padded[at : at + width] * window
    return output[hop : hop + length]
