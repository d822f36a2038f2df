"""Plain WAV files are read as libsndfile reads them, sample by sample; anything else is left to libsndfile."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_proxies.audio.clip import RecordingError, open_clip
from alm_proxies.audio.plain_wav import PlainWav
from alm_proxies.engines.engine import Audio


def write(path: Path, channels: int = 1, rate: int = 16_000, frames: int = 1_600, **more: str) -> Path:
    chance = np.random.default_rng(channels * frames)
    samples = chance.integers(-32_768, 32_768, (frames, channels), dtype=np.int16)
    soundfile.write(path, samples, rate, **({"subtype": "PCM_16"} | more))
    return path


def opened(path: Path) -> PlainWav | None:
    handle = os.open(path, os.O_RDONLY)
    try:
        return PlainWav.of(handle)
    finally:
        os.close(handle)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("start", "end"), [(None, None), (0.0125, None), (None, 0.05), (0.03, 0.0700625)])
def test_the_samples_are_those_of_libsndfile(
    tmp_path: Path, channels: int, start: float | None, end: float | None
) -> None:
    path = write(tmp_path / "a.wav", channels)
    assert opened(path) is not None
    expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
    expected = expected[round((start or 0) * rate) : None if end is None else round(end * rate)]
    expected = expected[:, 0] if channels == 1 else expected.mean(axis=1, dtype=np.float32)
    clip = open_clip(path, start=start, end=end)
    np.testing.assert_array_equal(clip.samples, expected)
    assert clip.samples.dtype == np.float32
    assert (clip.rate, clip.container) == (16_000, "WAV")


def test_its_own_bytes_are_sent_where_they_are_the_samples(tmp_path: Path) -> None:
    clip = open_clip(write(tmp_path / "a.wav"), start=0.01, end=0.05)
    assert clip.pcm is not None
    as_held, as_samples = Audio(clip.pcm, clip.rate), Audio(clip.samples, clip.rate)
    assert as_held.wav == as_samples.wav
    assert as_held.seconds == as_samples.seconds
    assert np.array_equal(as_held.samples, as_samples.samples)
    assert open_clip(write(tmp_path / "b.wav", channels=2)).pcm is None
    assert open_clip(write(tmp_path / "c.wav", rate=8_000)).pcm is None


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_U8", "FLOAT", "ULAW", "MS_ADPCM"])
def test_other_codings_are_left_to_libsndfile(tmp_path: Path, subtype: str) -> None:
    assert opened(write(tmp_path / "a.wav", subtype=subtype)) is None


@pytest.mark.parametrize("form", ["WAVEX", "RF64", "FLAC", "AIFF"])
def test_other_containers_are_left_to_libsndfile(tmp_path: Path, form: str) -> None:
    assert opened(write(tmp_path / "a.wav", format=form)) is None


@pytest.mark.parametrize("place", range(44))
def test_a_header_that_differs_in_one_byte_is_left_to_libsndfile(tmp_path: Path, place: int) -> None:
    path = write(tmp_path / "a.wav", channels=2)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    assert opened(path) is None


def test_a_file_that_is_broken_off_or_longer_than_it_says_is_left_to_libsndfile(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    intact = path.read_bytes()
    for content in (intact[:-2], intact[:-1], intact + b"\0\0", intact[:44], intact[:20], b""):
        path.write_bytes(content)
        assert opened(path) is None
    path.write_bytes(intact[:-2000])
    with pytest.raises(RecordingError) as caught:
        open_clip(path)
    assert caught.value.kind == "truncated"


def test_a_file_that_is_broken_off_while_it_is_read_is_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    handle = os.open(path, os.O_RDONLY)
    try:
        sound = PlainWav.of(handle)
        assert sound is not None
        os.truncate(path, 44 + 2 * 100 + 1)
        assert sound.read(1_600, "float32", True).shape == (100, 1)
    finally:
        os.close(handle)


def test_rates_that_do_not_fit_the_width_are_left_to_libsndfile(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    content[24:32] = struct.pack("<II", 0, 0)
    path.write_bytes(bytes(content))
    assert opened(path) is None
