"""A recording that was cut short is reported in every container that is read; other containers are refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile

from alm_proxies.audio.clip import RecordingError, open_clip
from alm_proxies.audio.lengths import CONTAINERS

SAMPLES = (0.3 * np.random.default_rng(0).standard_normal(32_000)).clip(-1, 1).astype(np.float32)
_BREAKS_OFF_WHOLE = {("AIFF", "DWVW_16"), ("AIFF", "DWVW_24")}
"""What libsndfile writes and cannot read to its end."""


def written(folder: Path, container: str, subtype: str) -> bytes | None:
    path = folder / "whole"
    try:
        soundfile.write(str(path), SAMPLES, 16_000, format=container, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError, TypeError):
        return None
    return path.read_bytes()


def kinds() -> list[tuple[str, str]]:
    every = [(name, kind) for name in soundfile.available_formats() for kind in soundfile.available_subtypes(name)]
    likely = [pair for pair in every if pair[0] != "RAW" and pair not in _BREAKS_OFF_WHOLE]
    with TemporaryDirectory() as folder:  # libsndfile lists some that it does not write
        return [pair for pair in likely if written(Path(folder), *pair) is not None]


@pytest.mark.parametrize(("container", "subtype"), kinds())
def test_every_container_says_when_it_is_broken_off_or_is_not_read(
    tmp_path: Path, container: str, subtype: str
) -> None:
    intact = written(tmp_path, container, subtype)
    assert intact is not None
    part = tmp_path / "part"
    part.write_bytes(intact)
    if container not in CONTAINERS:
        with pytest.raises(RecordingError) as caught:
            open_clip(part)
        assert caught.value.kind == "not_audio"
        return
    assert open_clip(part).duration == pytest.approx(2.0, abs=0.05)
    for share in (0.95, 0.5, 0.1):
        part.write_bytes(intact[: int(share * len(intact))])
        with pytest.raises(RecordingError) as caught:
            open_clip(part)
        assert caught.value.kind in ("truncated", "not_audio", "empty")
    part.write_bytes(intact[: int(0.999 * len(intact))])
    try:
        held = open_clip(part).duration
    except RecordingError:
        return
    assert held >= 1.95


def test_a_slice_before_the_break_is_read(tmp_path: Path) -> None:
    part = tmp_path / "part.au"
    intact = written(tmp_path, "AU", "PCM_16")
    assert intact is not None
    part.write_bytes(intact[: len(intact) // 2])
    assert open_clip(part, start=0.1, end=0.5).duration == pytest.approx(0.4)
    with pytest.raises(RecordingError):
        open_clip(part, start=0.5, end=1.5)
