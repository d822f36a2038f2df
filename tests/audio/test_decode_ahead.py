"""Clips decoded ahead in threads: in order, no more than asked for, and no thread left behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_proxies.audio.clip import (
    Clip,
    Source,
    decode_ahead,
    open_clip,
    open_source,
)
from alm_proxies.errors import SettingsError


def tone(seconds: float, rate: int, *, hertz: float = 220.0, level: float = 0.4) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * hertz * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))


def test_decode_ahead_keeps_the_order_and_goes_on_after_bad_recordings(tmp_path: Path) -> None:
    sources = []
    for number in range(30):
        path = tmp_path / f"{number}.wav"
        if number % 7 == 3:
            path.write_bytes(b"no sound")
        elif number % 7 != 5:
            soundfile.write(path, tone(0.1 + 0.3 * (number % 3), 44100), 44100)
        sources.append(Source(f"c/{number}", path))
    results = list(decode_ahead(sources, lambda s: open_source(s, stage="train"), threads=3, ahead=5))
    assert [r.utterance_id for r in results] == [s.utterance_id for s in sources]
    kinds = [r.findings[0].kind if r.findings else None for r in results]
    assert kinds == [{3: "not_audio", 5: "missing"}.get(n % 7) for n in range(30)]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_ahead_are_opened_and_not_yet_taken(ahead: int) -> None:
    opened_now: list[int] = []
    lock = threading.Lock()

    def open_one(number: int) -> int:
        with lock:
            opened_now.append(number)
        return number

    for taken, number in enumerate(decode_ahead(range(40), open_one, threads=4, ahead=ahead), start=1):
        assert number == taken - 1
        with lock:
            assert len(opened_now) - taken <= ahead


def test_items_are_taken_from_an_endless_stream_as_needed() -> None:
    asked: list[int] = []

    def endless() -> object:
        number = 0
        while True:
            asked.append(number)
            yield number
            number += 1

    stream = decode_ahead(endless(), lambda n: n, threads=2, ahead=4)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    stream.close()
    assert len(asked) <= 7


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("decode-ahead")]


def test_threads_end_when_the_consumer_stops_early() -> None:
    stream = decode_ahead(range(1000), lambda n: n, threads=3, ahead=6)
    assert next(stream) == 0
    assert decoding_threads()
    stream.close()
    assert decoding_threads() == []

    for number in decode_ahead(range(1000), lambda n: n):
        if number == 5:
            break
    gc.collect()
    assert decoding_threads() == []


def test_threads_end_and_the_error_is_told_when_opening_has_a_defect() -> None:
    def open_one(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number

    stream = decode_ahead(range(10), open_one)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert decoding_threads() == []


@pytest.mark.parametrize(("threads", "ahead"), [(0, 8), (2, 0)])
def test_impossible_settings_are_refused_at_once(threads: int, ahead: int) -> None:
    with pytest.raises(SettingsError):
        decode_ahead([], lambda n: n, threads=threads, ahead=ahead)


def test_decoding_ahead_gives_the_same_clips_as_opening_one_by_one(tmp_path: Path) -> None:
    sources = []
    for number, suffix in enumerate(["wav", "flac", "ogg", "mp3"] * 3):
        path = tmp_path / f"{number}.{suffix}"
        soundfile.write(path, tone(0.5, 44100, hertz=100 + 20 * number), 44100)
        sources.append(Source(f"c/{number}", path))
    alone = [open_clip(s.path) for s in sources]
    ahead = list(decode_ahead(sources, lambda s: open_source(s, stage="train"), threads=4, ahead=6))
    for clip, other in zip(alone, ahead, strict=True):
        assert isinstance(other.clip, Clip)
        np.testing.assert_array_equal(clip.samples, other.clip.samples)
