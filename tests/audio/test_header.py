"""The rate and length of a recording from its header are those of libsndfile, for whole, odd and broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_proxies.audio.header import header_of


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM"])
def test_a_wav_file_of_every_subtype(tmp_path: Path, subtype: str, channels: int) -> None:
    path = str(tmp_path / "süß one.wav")
    soundfile.write(path, np.zeros((1_001, channels)), 22_050, subtype=subtype)
    info = soundfile.info(path)
    assert header_of(path) == (info.samplerate, info.frames)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.aiff"])
def test_other_containers_are_left_to_libsndfile(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    soundfile.write(path, np.zeros(900), 16_000)
    assert header_of(path) == (16_000, 900)


@pytest.mark.parametrize("cut", [0, 3, 20, 43, 44, 45, 1_000])
def test_a_broken_file_is_what_libsndfile_says(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(900), 16_000)
    path.write_bytes(path.read_bytes()[:cut])
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:
        with pytest.raises(soundfile.LibsndfileError):
            header_of(str(path))
    else:
        assert header_of(str(path)) == (info.samplerate, info.frames)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(soundfile.LibsndfileError):
        header_of(str(tmp_path / "none.wav"))
