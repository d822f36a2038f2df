"""The rate and length of a recording from its header are those of libsndfile; a broken file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_proxies.audio.clip import LONGEST, RecordingError
from alm_proxies.audio.header import header_of, header_of_usable


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM"])
def test_a_wav_file_of_every_subtype(tmp_path: Path, subtype: str, channels: int) -> None:
    path = str(tmp_path / "süß one.wav")
    soundfile.write(path, np.zeros((1_001, channels)), 22_050, subtype=subtype)
    info = soundfile.info(path)
    assert header_of(path) == (info.frames / info.samplerate, info.samplerate, info.frames)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.aiff"])
def test_other_containers_are_left_to_libsndfile(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    soundfile.write(path, np.zeros(900), 16_000)
    assert header_of(path) == (900 / 16_000, 16_000, 900)
    assert header_of(path, 0.01, 0.02) == (0.01, 16_000, 900)


@pytest.mark.parametrize(("cut", "kind"), [(0, "empty"), (3, "not_audio"), *((n, "truncated") for n in (20, 44, 999))])
def test_a_broken_file_is_refused_as_it_is_where_it_is_opened(tmp_path: Path, cut: int, kind: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(9_000), 16_000)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RecordingError) as refused:
        header_of(str(path))
    assert refused.value.kind == kind


@pytest.mark.parametrize(("start", "end"), [(-0.1, 0.2), (0.3, 0.3), (0.3, 0.2), (0.3, 0.300001)])
def test_a_slice_without_samples_is_refused(tmp_path: Path, start: float, end: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    with pytest.raises(RecordingError) as refused:
        header_of(str(path), start, end)
    assert refused.value.kind == "slice_wrong"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        header_of(str(tmp_path / "none.wav"))


def test_a_long_recording_is_silent_only_if_every_piece_of_it_is(tmp_path: Path) -> None:
    samples = np.zeros(int(2.5 * LONGEST * 100))
    path = str(tmp_path / "long.wav")
    soundfile.write(path, samples, 100)
    with pytest.raises(RecordingError, match="never louder") as error:
        header_of_usable(path)
    assert error.value.kind == "silent"
    samples[-50:] = np.linspace(-0.5, 0.5, 50)
    soundfile.write(path, samples, 100)
    assert header_of_usable(path) == header_of(path)
    with pytest.raises(RecordingError, match="never louder"):
        header_of_usable(path, 1.0, 2 * LONGEST)
    samples[int(1.5 * LONGEST * 100)] = np.inf
    soundfile.write(path, samples, 100, subtype="FLOAT")
    with pytest.raises(RecordingError, match="not finite"):
        header_of_usable(path)
