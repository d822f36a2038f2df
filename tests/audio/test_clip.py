from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.audio.clip import (
    Opened,
    RecordingError,
    Source,
    open_clip,
    open_source,
)

FULL = 1.0 / 32768


def tone(seconds: float, rate: int, *, hertz: float = 220.0, level: float = 0.4) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * hertz * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))


def opened(path: Path, **slice_: float) -> Opened:
    return open_source(Source("c/u", path, **slice_), stage="annotate")


def kind_of(path: Path, **slice_: float) -> str:
    result = opened(path, **slice_)
    assert result.clip is None
    (finding,) = result.findings
    assert finding.utterance_id == "c/u"
    assert finding.stage == "annotate"
    assert finding.where == str(path)
    assert finding.message
    assert finding.fix
    with pytest.raises(RecordingError) as raised:
        open_clip(path, **slice_)
    assert raised.value.kind == finding.kind
    return finding.kind


@pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        ("wav", "PCM_U8"),
        ("wav", "PCM_16"),
        ("wav", "PCM_24"),
        ("wav", "PCM_32"),
        ("wav", "FLOAT"),
        ("wav", "DOUBLE"),
        ("flac", "PCM_S8"),
        ("flac", "PCM_16"),
        ("flac", "PCM_24"),
    ],
)
def test_every_width_rate_and_channel_count_gives_what_librosa_gives(
    tmp_path: Path, rate: int, channels: int, suffix: str, subtype: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    sound = np.stack([tone(0.4, rate, hertz=150 + 60 * c) for c in range(channels)], axis=1)
    soundfile.write(path, sound, rate, subtype=subtype)
    clip = open_clip(path)
    expected, _ = librosa.load(path, sr=16000)
    assert clip.rate == 16000
    assert clip.samples.dtype == np.float32
    assert abs(len(clip.samples) - len(expected)) <= 1
    shorter = min(len(clip.samples), len(expected))
    np.testing.assert_allclose(clip.samples[:shorter], expected[:shorter], atol=2e-6)


@pytest.mark.parametrize(("suffix", "rate"), [("ogg", 44100), ("ogg", 16000), ("mp3", 44100), ("mp3", 22050)])
@pytest.mark.parametrize("channels", [1, 2])
def test_ogg_and_mp3_sound_like_what_was_written(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    path = tmp_path / f"a.{suffix}"
    sound = tone(2.0, rate)
    soundfile.write(path, np.stack([sound] * channels, axis=1), rate)
    clip = open_clip(path, rate=rate)
    assert len(clip.samples) == len(sound)
    assert np.corrcoef(clip.samples, sound)[0, 1] > 0.99
    assert opened(path).findings == ()


def test_a_long_mp3_is_decoded_in_one_piece(tmp_path: Path) -> None:
    path, rate = tmp_path / "a.mp3", 48_000
    time = np.arange(12 * rate) / rate
    bursts = (np.sin(2 * np.pi * 4 * time) > 0.3) * (0.05 + np.abs(np.sin(2 * np.pi * 0.7 * time)))
    soundfile.write(path, 0.3 * np.random.default_rng(3).standard_normal(len(time)) * bursts, rate)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(open_clip(path, rate=rate).samples, whole, atol=1e-6)
    slice_ = open_clip(path, rate=rate, start=3.0, end=9.0).samples
    np.testing.assert_allclose(slice_, whole[3 * rate : 9 * rate], atol=1e-6)


def test_opus_in_ogg_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    soundfile.write(path, tone(1.0, 48000), 48000, format="OGG", subtype="OPUS")
    assert opened(path).findings == ()
    assert open_clip(path).duration == pytest.approx(1.0, abs=0.01)


def test_a_file_at_the_wanted_rate_is_given_sample_for_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sound = np.round(tone(0.5, 16000) / FULL) * FULL
    soundfile.write(path, sound, 16000)
    np.testing.assert_array_equal(open_clip(path).samples, sound.astype(np.float32))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@settings(max_examples=15, deadline=None)
@given(start=st.floats(0, 2.5), length=st.floats(0.05, 0.5))
def test_a_slice_is_what_the_whole_file_holds_there(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, start: float, length: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"slices.{suffix}"
    if not path.exists():
        soundfile.write(path, tone(3.0, 22050), 22050)
    whole = open_clip(path, rate=22050).samples
    part = open_clip(path, start=start, end=start + length, rate=22050).samples
    first, last = round(start * 22050), round((start + length) * 22050)
    np.testing.assert_allclose(part, whole[first:last], atol=1e-6)


def test_a_slice_without_an_end_goes_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(2.0, 16000), 16000)
    assert open_clip(path, start=1.5).duration == pytest.approx(0.5)
    assert open_clip(path, end=0.5).duration == pytest.approx(0.5)


def test_an_end_a_few_milliseconds_behind_the_file_is_cut_and_no_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    assert opened(path, start=0.5, end=1.02).findings == ()
    assert open_clip(path, start=0.5, end=1.02).duration == pytest.approx(0.5)


@pytest.mark.parametrize(("start", "end"), [(0.5, 2.0), (1.5, 2.0), (3.0, None)])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_slice_outside_the_file_is_a_finding(tmp_path: Path, suffix: str, start: float, end: float | None) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(1.0, 22050), 22050)
    assert kind_of(path, start=start, end=end) == "slice_outside"


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.8, 0.5), (-0.1, 0.5), (None, 0.0)])
def test_a_slice_that_is_none_is_a_finding(tmp_path: Path, start: float | None, end: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    assert kind_of(path, start=start, end=end) == "slice_wrong"


def test_missing_files_and_folders_are_findings(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "none.wav") == "missing"
    (tmp_path / "a.txt").write_text("no folder")
    assert kind_of(tmp_path / "a.txt" / "b.wav") == "missing"
    assert kind_of(tmp_path) == "unreadable"


def test_a_file_that_the_system_does_not_open_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.symlink_to(path)
    assert kind_of(path) == "unreadable"


def test_empty_files_are_findings(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert kind_of(tmp_path / "a.wav") == "empty"
    for suffix in ("wav", "flac"):
        path = tmp_path / f"no_samples.{suffix}"
        soundfile.write(path, np.zeros(0), 16000)
        assert kind_of(path) == "empty"


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_file_cut_short_is_a_finding(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * 44100)
    soundfile.write(path, noise, 44100)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert kind_of(path) == "truncated"


def test_a_slice_that_a_short_wav_still_holds_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(2.0, 16000), 16000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert open_clip(path, start=0.1, end=0.6).duration == pytest.approx(0.5)
    assert kind_of(path, start=0.1, end=1.5) == "truncated"


def test_a_streamed_wav_that_does_not_know_its_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    place = content.find(b"data")
    content[place + 4 : place + 8] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert open_clip(path).duration == pytest.approx(1.0)


def test_a_flac_that_does_not_say_its_length_needs_a_slice(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(2.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert kind_of(path) == "length_unknown"
    assert open_clip(path, start=0.5, end=1.5).duration == pytest.approx(1.0)


@pytest.mark.parametrize("level", [0.0, 2 * FULL])
def test_a_silent_file_is_a_finding(tmp_path: Path, level: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.5, 16000, level=level) + 0.01, 16000)
    assert kind_of(path) == "silent"


def test_a_quiet_file_is_not_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.5, 16000, level=0.001), 16000)
    assert opened(path).clip is not None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers_are_a_finding(tmp_path: Path, wrong: float, channels: int) -> None:
    path = tmp_path / "a.wav"
    sound = np.stack([tone(0.5, 44100)] * channels, axis=1)
    sound[1000, 0] = wrong
    soundfile.write(path, sound, 44100, subtype="FLOAT")
    assert kind_of(path) == "not_finite"


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.au", "a.raw", "a.vox", "a.gsm", "a"])
def test_what_is_no_sound_is_a_finding_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("<html>404 not found</html>\n" * 100)
    assert kind_of(path) == "not_audio"


@pytest.mark.parametrize(
    ("name", "container"), [("a.mp3", "WAV"), ("a.wav", "FLAC"), ("a.m4a", "WAV"), ("a.wav", "OGG"), ("a.flac", "MP3")]
)
def test_a_wrongly_named_file_is_decoded_with_a_finding(tmp_path: Path, name: str, container: str) -> None:
    path = tmp_path / name
    soundfile.write(path, tone(0.5, 22050), 22050, format=container)
    result = opened(path)
    assert result.clip is not None
    assert [f.kind for f in result.findings] == ["wrongly_named"]
    assert container in result.findings[0].message


@pytest.fixture(scope="module")
def two_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav of two hours at 44.1 kHz stereo, 1.2 GB of holes on disk, with sound from 3600 s to 3610 s."""
    path = tmp_path_factory.mktemp("long") / "dialogue.wav"
    frames, width = 7200 * 44100, 4
    with path.open("wb") as stream:
        riff = struct.pack("<4sI4s", b"RIFF", 36 + frames * width, b"WAVE")
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44100, 44100 * width, width, 16)
        stream.write(riff + form + struct.pack("<4sI", b"data", frames * width))
        stream.seek(44 + 3600 * 44100 * width)
        sound = np.round(tone(10.0, 44100) / FULL).astype("<i2")
        stream.write(np.repeat(sound, 2).tobytes())
        stream.truncate(44 + frames * width)
    return path


def test_two_hours_without_a_slice_are_a_finding_and_no_memory(two_hours: Path) -> None:
    tracemalloc.start()
    assert kind_of(two_hours) == "too_long"
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_of_two_hours_only_the_slice_is_decoded(two_hours: Path) -> None:
    tracemalloc.start()
    clip = open_clip(two_hours, start=3600.0, end=3605.0)
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()
    assert clip.duration == pytest.approx(5.0)
    expected = librosa.resample(tone(10.0, 44100).astype(np.float32), orig_sr=44100, target_sr=16000)
    np.testing.assert_allclose(clip.samples[200:-200], expected[200 : len(clip.samples) - 200], atol=1e-3)


def test_the_limit_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(310.0, 8000), 8000)
    assert kind_of(path) == "too_long"
    assert open_clip(path, rate=8000, longest=400.0).duration == pytest.approx(310.0)
