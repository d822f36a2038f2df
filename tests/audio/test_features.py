from __future__ import annotations

from functools import partial
from pathlib import Path

import librosa
import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.audio.clip import Clip, Source, open_clip, open_source
from alm_proxies.audio.features import FEATURES, Features, measure, measure_all, names_of
from alm_proxies.audio.store import Store
from alm_proxies.errors import InputError, SettingsError

RATE = 16000


def voice(
    seconds: float = 2.0, hertz: float = 150.0, *, jitter: float = 0.0, breath: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Glottal pulses through two formants, each cycle's length off by `jitter` (standard deviation, a share)."""
    draws = np.random.default_rng(seed)
    pulses = np.zeros(round(seconds * RATE) + 400)
    at = 10.0
    while at < len(pulses) - 10:
        whole, part = int(at), at % 1
        pulses[whole : whole + 2] += (1 - part, part)
        at += RATE / hertz * (1 + jitter * draws.standard_normal())
    time = np.arange(400) / RATE
    tract = np.exp(-300 * time) * (np.sin(2 * np.pi * 600 * time) + 0.5 * np.sin(2 * np.pi * 1500 * time))
    sound = np.convolve(pulses, tract)[: round(seconds * RATE)]
    return 0.2 * sound + breath * draws.standard_normal(len(sound))


def clip(sound: np.ndarray) -> Clip:
    return Clip(sound.astype(np.float32), RATE)


def value(sound: np.ndarray, name: str) -> float:
    feature = measure(clip(sound)).values[name]
    assert feature is not None
    return feature


def librosa_way(y: np.ndarray) -> dict[str, float]:
    """The spectral features by librosa's own functions, one after the other."""
    feature = librosa.feature
    tables = {
        "mfcc_": feature.mfcc(y=y, sr=RATE, n_mfcc=13),
        "chroma_": feature.chroma_stft(y=y, sr=RATE),
        "contrast_": feature.spectral_contrast(y=y, sr=RATE),
        "zcr": feature.zero_crossing_rate(y),
        "rolloff": feature.spectral_rolloff(y=y, sr=RATE),
        "centroid": feature.spectral_centroid(y=y, sr=RATE),
        "rms": feature.rms(y=y),
    }
    statistics = {}
    for name, table in tables.items():
        for number, row in enumerate(table, start=1):
            width = 2 if len(table) > 9 else 1
            label = f"{name}{number:0{width}d}" if name.endswith("_") else name
            statistics[f"{label}_mean"] = float(row.mean())
            statistics[f"{label}_sd"] = float(row.std())
    return statistics


def without_offset(y: np.ndarray) -> np.ndarray:
    """Samples less the mean of 0.1 s or more, but for stretches of 10 ms without any sound, looked for one by one."""
    recorded, first = np.ones(len(y), dtype=bool), 0
    for place in range(len(y) + 1):
        if place == len(y) or abs(y[place]) > 1e-6:
            recorded[first:place] &= place - first < 160
            first = place + 1
    mean = y[recorded].mean(dtype=np.float64).astype(np.float32) if sum(recorded) >= 1600 else np.float32(0.0)
    return np.where(recorded, y - mean, np.float32(0.0))


def assert_equal_to_librosa(y: np.ndarray) -> None:
    expected = librosa_way(without_offset(y))
    values = measure(Clip(y, RATE), ["spectral"]).values
    assert list(values) == list(names_of(["spectral"]))
    assert set(values) == set(expected)
    for name, wanted in expected.items():
        assert values[name] == pytest.approx(wanted, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize(
    "sound",
    [
        voice(2.0),
        voice(0.15, 300),
        np.concatenate([np.zeros(8000), voice(1.0), np.zeros(8000)]),
        np.random.default_rng(0).uniform(-1, 1, 20000),
        np.sin(2 * np.pi * 452 * np.arange(32000) / RATE),
        np.eye(1, 5000, 2500)[0],
        voice(1.0) + 0.1,
        np.concatenate([np.zeros(8000), voice(1.0) - 0.1]),
    ],
    ids=["voice", "short", "silence around", "noise", "out of tune", "click", "offset", "offset beside silence"],
)
def test_spectral_features_equal_librosas(sound: np.ndarray) -> None:
    assert_equal_to_librosa(sound.astype(np.float32))


def test_spectral_features_equal_librosas_on_emodb(test_data: Path) -> None:
    paths = sorted((test_data / "emodb" / "wav").glob("*.wav"))
    assert len(paths) == 535
    for path in paths[::5]:
        assert_equal_to_librosa(open_clip(path).samples)


def test_anger_is_higher_and_brighter_than_sadness_on_emodb(test_data: Path) -> None:
    paths = sorted((test_data / "emodb" / "wav").glob("*.wav"))
    medians = {}
    for letter in "WT":
        rows = [measure(open_clip(path), ["prosody"]).values for path in paths if path.stem[5] == letter]
        medians[letter] = pl.DataFrame(rows).median().row(0, named=True)
    anger, sadness = medians["W"], medians["T"]
    assert anger["pitch_level"] > sadness["pitch_level"] + 6
    assert anger["speaking_rate"] > sadness["speaking_rate"] + 1
    assert anger["alpha_ratio"] > sadness["alpha_ratio"] + 6


def test_every_feature_is_listed_once_with_unit_and_meaning() -> None:
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)
    assert all(feature.meaning for feature in FEATURES)
    assert [feature.name for feature in FEATURES] == list(names_of())
    assert list(measure(clip(voice())).values) == list(names_of())


@pytest.mark.parametrize("hertz", [75, 110, 160, 240, 350, 500])
@pytest.mark.parametrize("breath", [0.0, 0.01])
def test_pitch_level_is_the_pitch_of_the_voice(hertz: float, breath: float) -> None:
    assert value(voice(1.0, hertz, breath=breath), "pitch_level") == pytest.approx(12 * np.log2(hertz / 100), abs=0.1)


@pytest.mark.parametrize("slope", [-12.0, 0.0, 9.0])
def test_pitch_slope_range_and_end_follow_a_glide(slope: float) -> None:
    time = np.arange(RATE) / RATE
    phase = 2 * np.pi * np.cumsum(200 * 2 ** (slope * (time - 0.5) / 12)) / RATE
    sound = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))
    values = measure(clip(sound)).values
    assert values["pitch_slope"] == pytest.approx(slope, abs=0.2)
    assert values["pitch_range"] == pytest.approx(0.9 * abs(slope), abs=0.6)
    assert values["pitch_end"] == pytest.approx(0.4 * slope, abs=0.4)
    assert values["pitch_level"] == pytest.approx(12, abs=0.1)


def test_an_arch_of_pitch_is_positive_and_a_hollow_negative() -> None:
    time = np.arange(RATE) / RATE
    for sign in (1, -1):
        phase = 2 * np.pi * np.cumsum(200 * 2 ** (sign * 4 * np.sin(np.pi * time) / 12)) / RATE
        sound = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))
        assert sign * value(sound, "pitch_arch") > 1.5


@given(decibels=st.floats(-30, 6))
@settings(max_examples=10, deadline=None)
def test_gain_moves_the_energy_level_and_no_other_prosody(decibels: float) -> None:
    sound = voice(1.0, breath=0.003)
    plain = measure(clip(sound), ["prosody", "voice"]).values
    louder = measure(clip(sound * 10 ** (decibels / 20)), ["prosody", "voice"]).values
    assert louder.pop("energy_level") == pytest.approx(plain.pop("energy_level") + decibels, abs=0.01)
    for name, wanted in plain.items():
        assert louder[name] == pytest.approx(wanted, rel=0.02, abs=0.02), name


def test_energy_level_is_the_level_of_the_speech_alone() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    assert value(tone, "energy_level") == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    with_pause = np.concatenate([tone, np.zeros(RATE), tone])
    assert value(with_pause, "energy_level") == pytest.approx(value(tone, "energy_level"), abs=0.3)


@pytest.mark.parametrize("rate", [2.0, 4.0, 6.0])
def test_speaking_rate_counts_the_syllables(rate: float) -> None:
    sound = voice(3.0) * np.maximum(np.sin(np.pi * rate * np.arange(3 * RATE) / RATE) ** 2, 0.05)
    assert value(sound, "speaking_rate") == pytest.approx(rate, rel=0.12)


def test_pauses_are_counted_and_timed_between_the_first_and_the_last_sound() -> None:
    silence = np.zeros(round(0.5 * RATE))
    sound = np.concatenate([silence, voice(1.0), silence, voice(0.6), np.zeros(800), voice(0.4), silence])
    values = measure(clip(sound)).values
    span = 1.0 + 0.5 + 0.6 + 0.05 + 0.4
    assert values["pause_longest"] == pytest.approx(0.5, abs=0.06)
    assert values["pause_rate"] == pytest.approx(1 / span, rel=0.05)
    assert values["pause_share"] == pytest.approx(0.5 / span, abs=0.03)
    assert measure(clip(voice(1.0))).values["pause_share"] == 0.0


def test_breath_lowers_harmonicity_and_raises_shimmer() -> None:
    clear, breathy = voice(1.0, breath=0.0005), voice(1.0, breath=0.03)
    assert value(clear, "harmonicity") > value(breathy, "harmonicity") + 6
    assert value(breathy, "shimmer") > value(clear, "shimmer") + 2


def test_jitter_rises_with_the_irregularity_of_the_cycles() -> None:
    jitters = [value(voice(2.0, 120, jitter=jitter), "jitter") for jitter in (0.0, 0.01, 0.02, 0.04)]
    assert jitters == sorted(jitters)
    assert jitters[0] < 0.2
    # neighbouring lengths differ by 2 / sqrt(pi) standard deviations on average
    assert jitters[1] == pytest.approx(100 * 0.01 * 2 / np.sqrt(np.pi), rel=0.25)


def test_a_duller_voice_has_a_steeper_tilt_and_less_above_1_khz() -> None:
    bright = voice(1.0)
    dull = np.convolve(bright, np.ones(12) / 12, mode="same")
    assert value(dull, "spectral_tilt") < value(bright, "spectral_tilt") - 1
    assert value(dull, "alpha_ratio") < value(bright, "alpha_ratio") - 3
    assert value(dull, "hammarberg") > value(bright, "hammarberg") + 3


def failed(sound: np.ndarray) -> dict[str, tuple[str, ...]]:
    measured = measure(clip(sound))
    named = [name for failure in measured.failures for name in failure.names]
    assert sorted(named) == sorted(name for name, number in measured.values.items() if number is None)
    return {failure.kind: failure.names for failure in measured.failures}


def test_what_has_no_pitch_is_null_and_named() -> None:
    hiss = np.random.default_rng(0).uniform(-0.3, 0.3, RATE)
    kinds = failed(hiss)
    assert set(kinds) == {"unvoiced"}
    assert {"pitch_level", "spectral_tilt", "harmonicity", "jitter"} <= set(kinds["unvoiced"])
    assert "energy_level" not in kinds["unvoiced"]
    assert "mfcc_01_mean" not in kinds["unvoiced"]


def test_what_is_too_short_or_too_quiet_is_null_and_named() -> None:
    assert failed(voice(0.05)) == {"too_short": names_of()}
    click = np.zeros(RATE)
    click[8000] = 0.0002
    assert "too_quiet" in failed(click)


@given(st.integers(1, 6000), st.sampled_from(["noise", "click", "step", "tone", "voice"]), st.floats(1e-4, 1.0))
@settings(max_examples=60, deadline=None)
def test_whatever_the_sound_features_are_finite_or_null_and_named(count: int, kind: str, level: float) -> None:
    time = np.arange(count) / RATE
    sound = {
        "noise": np.random.default_rng(count).uniform(-1, 1, count),
        "click": (np.arange(count) == count // 2).astype(float),
        "step": (np.arange(count) > count // 2).astype(float),
        "tone": np.sin(2 * np.pi * 440 * time),
        "voice": voice(count / RATE)[:count],
    }[kind]
    failed(level * sound)
    assert all(v is None or np.isfinite(v) for v in measure(clip(level * sound)).values.values())


def test_an_unknown_group_and_another_rate_are_refused() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'prosody'"):
        measure(clip(voice()), ["prosodie"])
    with pytest.raises(InputError, match="8000 Hz"):
        measure(Clip(voice().astype(np.float32), 8000))


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    recordings = []
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, voice(0.5, 120 + 20 * number), RATE)
        recordings.append(Source(f"c/{number}", path))
    soundfile.write(tmp_path / "hiss.wav", np.random.default_rng(0).uniform(-0.3, 0.3, RATE), RATE)
    (tmp_path / "bad.wav").write_text("no sound")
    return [
        *recordings[:3],
        Source("c/hiss", tmp_path / "hiss.wav"),
        Source("c/bad", tmp_path / "bad.wav"),
        *recordings[3:],
    ]


def measured(sources: list[Source], **given_: object) -> Features:
    return measure_all(sources, partial(open_source, stage="balance"), stage="balance", **given_)


def test_a_table_of_features_keeps_the_order_and_names_what_failed(sources: list[Source]) -> None:
    table = measured(sources, threads=3)
    assert table.frame.columns == ["utterance_id", *names_of()]
    assert table.frame["utterance_id"].to_list() == [source.utterance_id for source in sources]
    assert set(table.frame.dtypes[1:]) == {pl.Float64()}
    kinds = [(finding.utterance_id, finding.kind) for finding in table.findings]
    assert kinds == [("c/hiss", "unvoiced"), ("c/bad", "not_audio")]
    bad = table.frame.filter(utterance_id="c/bad").drop("utterance_id").row(0)
    assert set(bad) == {None}
    assert table.frame["energy_level"].null_count() == 1
    assert table.frame["pitch_level"].null_count() == 2
    assert measured([]).frame.columns == ["utterance_id", *names_of()]


def test_the_number_of_threads_changes_nothing(sources: list[Source]) -> None:
    assert measured(sources, threads=1).frame.equals(measured(sources, threads=4).frame)


def cached(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))])


def test_a_clip_measured_before_is_taken_from_the_cache_wherever_it_lies(sources: list[Source], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = measured(sources, cache=folder)
    rows = cached(folder)
    assert rows.height == 7
    (path,) = folder.rglob("*.parquet")
    values = rows["vector"].to_numpy().copy()
    values[:, names_of().index("pitch_level")] = 99.0
    path.unlink()
    store = Store(path.parent.name, len(names_of()), folder, pl.Float64)
    for key, text, row in zip(rows["key"], rows["text"], values, strict=True):
        store.add(key, None, (row, text))
    store.flush()
    moved = [Source(f"d/{n}", source.path.rename(tmp_path / f"moved{n}.wav")) for n, source in enumerate(sources)]
    second = measured(moved, cache=folder)
    there = second.frame.filter(pl.col("utterance_id") != "d/4")
    assert set(there["pitch_level"]) == {99.0}
    unmarked = [name for name in first.frame.columns if name not in ("pitch_level", "utterance_id")]
    assert second.frame.select(unmarked).equals(first.frame.select(unmarked))
    assert [f.kind for f in second.findings] == [f.kind for f in first.findings]
    assert cached(folder).height == 7


def test_changed_sounds_and_other_groups_are_measured_anew(sources: list[Source], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    measured(sources, cache=folder)
    soundfile.write(sources[0].path, voice(0.5, 400), RATE)
    again = measured(sources, cache=folder)
    assert again.frame["pitch_level"][0] == pytest.approx(24, abs=0.1)
    assert cached(folder).height == 8
    voices = measured(sources, cache=folder, groups=["voice"])
    assert voices.frame.columns == ["utterance_id", *names_of(["voice"])]
    assert voices.frame.equals(again.frame.select(voices.frame.columns))


def test_a_broken_cache_is_a_finding_and_is_measured_anew(sources: list[Source], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = measured(sources, cache=folder)
    (path,) = folder.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    second = measured(sources, cache=folder)
    assert second.findings[0].kind == "cache_unreadable"
    assert second.findings[0].where == str(path)
    assert second.findings[0].fix == "The file has been replaced, so nothing has to be done."
    assert second.frame.equals(first.frame)
    assert measured(sources, cache=folder).findings == first.findings
    content, found = path.read_bytes(), 0
    for place in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        changed = measured(sources, cache=folder)
        assert changed.frame.equals(first.frame)
        found += [finding.kind for finding in changed.findings][:1] == ["cache_unreadable"]
    assert found > 30, "but for keys that still can be read, but are others"
