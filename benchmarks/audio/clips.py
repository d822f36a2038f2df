"""Clips a second: decoding ahead on two threads against librosa.load in a loop, 5 s of 44.1 kHz to 16 kHz.

python benchmarks/audio/clips.py [clips] [repeats]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from alm_proxies.audio.clip import Opened, Source, decode_ahead, open_source


def main(clips: int = 80, repeats: int = 7) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "mp3"):
            paths = [write(Path(folder) / f"{number}.{suffix}", number) for number in range(clips)]
            report(suffix, paths, repeats)


def write(path: Path, number: int) -> Path:
    draws = np.random.default_rng(number)
    time_ = np.arange(5 * 44_100) / 44_100
    pitch = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.7 * time_)) / 44_100
    voice = sum(np.sin(k * pitch + draws.uniform(0, 6)) / k for k in range(1, 20))
    sound = 0.1 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_)) + 0.003 * draws.standard_normal(len(time_))
    soundfile.write(path, sound, 44_100)
    return path


def report(suffix: str, paths: list[Path], repeats: int) -> None:
    ways: dict[str, Callable[[], int]] = {
        "librosa.load loop": lambda: loaded(paths),
        "open_source loop": lambda: sum(len_of(open_one(source(path))) for path in paths),
        "decode_ahead, 2 threads": lambda: sum(
            len_of(opened) for opened in decode_ahead(map(source, paths), open_one, threads=2, ahead=8)
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):  # the first round warms the caches and does not count
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    base = statistics.median(seconds["librosa.load loop"][1:])
    for name, taken in seconds.items():
        median = statistics.median(taken[1:])
        print(f"{suffix:5} {name:24} {len(paths) / median:7.0f} clips/s  {base / median:5.2f} x")


open_one = partial(open_source, stage="benchmark")


def source(path: Path) -> Source:
    return Source(path.name, path)


def len_of(opened: Opened) -> int:
    return len(opened.clip.samples) if opened.clip else 0


def loaded(paths: list[Path]) -> int:
    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(len(librosa.load(path, sr=16_000)[0]) for path in paths)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
