from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.audio.clip import open_clip
from alm_proxies.audio.effects import EFFECTS, apply, level_of, mix, parameters_of
from alm_proxies.audio.prosody import pitch_of, track
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.seeds import generator

RATE = 16000
EVERY: dict[str, dict[str, Any]] = {
    "gain": {"decibels": -6.0},
    "noise": {"snr": 15.0},
    "room": {"seconds": 0.3},
    "telephone": {},
    "speed": {"factor": 1.1},
    "pitch": {"semitones": 1.0},
    "shift": {"seconds": 0.1},
    "mask_time": {"seconds": 0.2},
    "mask_frequency": {"octaves": 0.5},
}


def voice(seconds: float = 1.5, hertz: float = 150.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * time))) / rate
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 16))
    return 0.1 * harmonics * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time))


def after(name: str, sound: np.ndarray, seed: int = 1, **parameters: Any) -> np.ndarray:
    return apply(name, sound, RATE, parameters, generator(seed, "test"))


def decibels(ratio: float) -> float:
    return 20 * float(np.log10(ratio))


def band_power(sound: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    return float(power[(hertz >= low) & (hertz < high)].sum())


def test_this_file_knows_every_effect() -> None:
    assert set(EVERY) == set(EFFECTS)


@pytest.mark.parametrize("name", EVERY)
def test_an_effect_depends_on_its_arguments_alone_and_changes_none(name: str) -> None:
    sound = voice()
    before = sound.copy()
    first, second = after(name, sound, **EVERY[name]), after(name, sound, **EVERY[name])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(sound, before)
    assert first.dtype == np.float64
    assert not np.array_equal(first, sound)
    other = after(name, sound, seed=2, **EVERY[name])
    random = name in ("noise", "room", "mask_time", "mask_frequency")
    assert np.array_equal(first, other) != random


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("count", [1, 2, 17, 400])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_an_effect_takes_the_shortest_sounds_and_any_rate(name: str, count: int, rate: int) -> None:
    sound = np.linspace(-0.3, 0.5, count)
    changed = apply(name, sound, rate, EVERY[name], generator(1))
    assert np.isfinite(changed).all()
    assert abs(len(changed) - (count / 1.1 if name == "speed" else count)) <= 1


@pytest.mark.parametrize("name", EVERY)
def test_an_effect_takes_silence_and_refuses_no_samples(name: str) -> None:
    assert np.isfinite(apply(name, np.zeros(3000), RATE, EVERY[name], generator(1))).all()
    with pytest.raises(InputError):
        apply(name, np.zeros(0), RATE, EVERY[name], generator(1))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("speed", "pitch")])
def test_a_tiny_change_of_the_input_makes_a_tiny_change_of_the_output(name: str) -> None:
    sound = voice()
    nearly = sound + 1e-7 * np.random.default_rng(0).uniform(-1, 1, len(sound))
    np.testing.assert_allclose(after(name, sound, **EVERY[name]), after(name, nearly, **EVERY[name]), atol=1e-6)


@given(db=st.floats(-40, 40))
def test_gain_changes_the_level_by_its_decibels(db: float) -> None:
    sound = voice(0.5)
    assert decibels(level_of(after("gain", sound, decibels=db), RATE) / level_of(sound, RATE)) == pytest.approx(db)


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_lies_its_ratio_below_the_sound(colour: str, snr: float) -> None:
    sound = voice()
    added = after("noise", sound, snr=snr, colour=colour) - sound
    assert decibels(level_of(sound, RATE) / np.sqrt(np.mean(added**2))) == pytest.approx(snr, abs=1e-6)


def test_pauses_do_not_make_noise_softer() -> None:
    sound = voice()
    with_pause = np.concatenate([sound, np.zeros(len(sound))])
    assert level_of(with_pause, RATE) == pytest.approx(level_of(sound, RATE), rel=0.01)


def test_white_noise_is_even_over_hertz_and_pink_over_octaves() -> None:
    sound = voice(4.0)
    white = after("noise", sound, snr=0, colour="white") - sound
    pink = after("noise", sound, snr=0, colour="pink") - sound
    assert decibels(band_power(white, 2000, 4000) / band_power(white, 4000, 6000)) == pytest.approx(0, abs=1.0)
    assert decibels(band_power(pink, 500, 1000) / band_power(pink, 4000, 8000)) == pytest.approx(0, abs=1.5)


def test_noise_10_db_below_loud_speech_has_the_stated_ratio_to_the_whole_clip(test_data: Path) -> None:
    ratios = []
    for path in sorted((test_data / "emodb" / "wav").glob("*.wav"))[::25]:
        sound = open_clip(path).samples.astype(np.float64)
        added = after("noise", sound, snr=10) - sound
        ratios.append(decibels(np.sqrt(np.mean(sound**2) / np.mean(added**2))))
    assert np.mean(ratios) == pytest.approx(4, abs=1)


@pytest.mark.parametrize("seconds", [1.0, 8.0])
def test_pink_noise_can_be_heard_at_its_ratio_however_long_the_clip(seconds: float) -> None:
    sound = voice(seconds)
    added = after("noise", sound, snr=10, colour="pink") - sound
    heard = band_power(added, 50, 8000) / (band_power(added, 0, 50) + band_power(added, 50, 8000))
    assert heard == pytest.approx(np.log2(8000 / 50) / np.log2(8000 / 20), abs=0.1)


def test_a_room_decays_by_60_db_in_its_time_at_its_ratio() -> None:
    click = np.zeros(RATE)
    click[0] = 1.0
    response = after("room", click, seconds=0.4, direct=3.0)
    tail = response[1:] / response[0]
    assert decibels(1 / np.sqrt(np.sum(tail**2))) == pytest.approx(3.0, abs=1e-6)
    early = np.mean(tail[800:1600] ** 2)
    late = np.mean(tail[800 + 3200 : 1600 + 3200] ** 2)
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=2)


def test_a_room_and_a_telephone_keep_the_level_and_the_place() -> None:
    sound = voice()
    for name in ("room", "telephone"):
        changed = after(name, sound, **EVERY[name])
        assert level_of(changed, RATE) == pytest.approx(level_of(sound, RATE))
        lag = np.argmax(np.correlate(changed, sound[400:-400], mode="valid")) - 400
        assert abs(lag) <= 1


def test_a_telephone_passes_its_band_only() -> None:
    hiss = np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE)
    filtered = after("telephone", hiss)
    inside = band_power(filtered, 500, 3000) / 2500
    assert 10 * np.log10(inside / (band_power(filtered, 20, 150) / 130)) > 30
    assert 10 * np.log10(inside / (band_power(filtered, 4000, 7900) / 3900)) > 40


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.05, 1.2])
def test_speed_changes_the_length_and_not_the_pitch(factor: float) -> None:
    sound = voice(2.0)
    faster = after("speed", sound, factor=factor)
    assert len(faster) == round(len(sound) / factor)
    level = pitch_of(track(sound.astype(np.float32)))["pitch_level"]
    assert pitch_of(track(faster.astype(np.float32)))["pitch_level"] == pytest.approx(level, abs=0.1)


@pytest.mark.parametrize("semitones", [-3.0, -1.0, 0.5, 2.0])
def test_pitch_changes_the_pitch_and_not_the_length(semitones: float) -> None:
    sound = voice(2.0)
    shifted = after("pitch", sound, semitones=semitones)
    assert len(shifted) == len(sound)
    level = pitch_of(track(sound.astype(np.float32)))["pitch_level"]
    assert pitch_of(track(shifted.astype(np.float32)))["pitch_level"] == pytest.approx(level + semitones, abs=0.15)


def test_no_change_of_speed_or_pitch_gives_the_sound_back() -> None:
    sound = voice()
    np.testing.assert_allclose(after("speed", sound, factor=1.0), sound, atol=1e-9)
    np.testing.assert_allclose(after("pitch", sound, semitones=0.0), sound, atol=1e-9)


@given(seconds=st.floats(-2, 2))
@settings(max_examples=50)
def test_shift_moves_the_sound_and_lets_silence_in(seconds: float) -> None:
    sound = voice(1.0) + 1.0
    shifted = after("shift", sound, seconds=seconds)
    by = round(seconds * RATE)
    kept = max(len(sound) - abs(by), 0)
    assert len(shifted) == len(sound)
    assert np.count_nonzero(shifted) == kept
    if kept:
        np.testing.assert_array_equal(shifted[max(by, 0) :][:kept], sound[max(-by, 0) :][:kept])


@given(seconds=st.floats(0.01, 2), seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_a_time_mask_silences_its_seconds_and_never_more_than_half(seconds: float, seed: int) -> None:
    sound = np.ones(RATE)
    masked = after("mask_time", sound, seed=seed, seconds=seconds)
    touched = np.flatnonzero(masked < 1)
    count = min(round(seconds * RATE), RATE // 2)
    assert count - 2 <= len(touched) <= count
    assert np.array_equal(touched, np.arange(touched[0], touched[-1] + 1))
    assert 0 <= np.count_nonzero(masked == 0) <= count


@pytest.mark.parametrize("seed", range(5))
def test_a_frequency_mask_takes_a_band_out_and_leaves_the_rest(seed: int) -> None:
    hiss = np.random.default_rng(0).uniform(-0.1, 0.1, 4 * RATE)
    masked = after("mask_frequency", hiss, seed=seed, octaves=1.0)
    edges = 100 * 2.0 ** (np.arange(0, 26) / 4)
    change = [10 * np.log10(band_power(masked, a, b) / band_power(hiss, a, b)) for a, b in pairwise(edges)]
    assert min(change) < -30
    assert np.median(change) == pytest.approx(0, abs=0.1)


@given(share=st.floats(0.05, 0.95), louder=st.floats(-20, 20))
@settings(max_examples=30)
def test_a_mix_matches_loudness_before_shares(share: float, louder: float) -> None:
    first, other = voice(1.0, 120.0), voice(1.3, 210.0)
    mixed = mix([first, other], [share, 1 - share], RATE)
    again = mix([first, other * 10 ** (louder / 20)], [share, 1 - share], RATE)
    np.testing.assert_allclose(mixed, again, atol=1e-9)
    assert len(mixed) == len(first)
    assert level_of(mixed, RATE) == pytest.approx(level_of(first, RATE))


def test_a_mix_with_itself_is_itself() -> None:
    sound = voice()
    np.testing.assert_allclose(mix([sound, sound], [0.3, 0.7], RATE), sound, atol=1e-12)


def test_an_unknown_effect_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'telephone'"):
        parameters_of("telefone", {})


def test_an_unknown_parameter_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'decibels'"):
        parameters_of("gain", {"decibel": 3})


@pytest.mark.parametrize(
    ("name", "given_", "message"),
    [
        ("gain", {"decibels": 100}, "decibels = 100"),
        ("gain", {"decibels": float("nan")}, "decibels = nan"),
        ("gain", {"decibels": "loud"}, "decibels = 'loud'"),
        ("gain", {}, "decibels"),
        ("noise", {"snr": 10, "colour": "brown"}, "colour = 'brown'"),
        ("speed", {"factor": 3.0}, "factor = 3.0"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_its_name(name: str, given_: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parameters_of(name, given_)
