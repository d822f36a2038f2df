"""Utterances a second of acoustic features on EMO-DB: librosa's functions one by one in a loop against measure_all.

The loop opens each file with librosa.load and calls librosa for mean and deviation of 13 MFCC, 12 chroma, 7 spectral
contrasts, zero crossings, roll-off, centroid and RMS at 16 kHz. The rounds of all ways are interleaved.

ALM_PROXIES_TEST_DATA=folder python benchmarks/audio/features.py [files] [repeats]
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from alm_proxies.audio.clip import Source, open_source
from alm_proxies.audio.features import measure_all


def main(files: int = 200, repeats: int = 7) -> None:
    folder = Path(os.environ["ALM_PROXIES_TEST_DATA"], "emodb", "wav")
    paths = sorted(folder.glob("*.wav"))
    paths = paths[:: max(len(paths) // files, 1)][:files]
    compare(paths)
    ways: dict[str, Callable[[], object]] = {
        "librosa loop": lambda: loop(paths),
        "spectral, 1 thread": lambda: ours(paths, ["spectral"], 1),
        "spectral, 2 threads": lambda: ours(paths, ["spectral"], 2),
        "everything, 1 thread": lambda: ours(paths, ["spectral", "prosody", "voice"], 1),
        "everything, 2 threads": lambda: ours(paths, ["spectral", "prosody", "voice"], 2),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):  # the first round warms the caches and does not count
        for name, way in ways.items():
            begun, worked = time.perf_counter(), time.process_time()
            way()
            wall[name].append(time.perf_counter() - begun)
            work[name].append(time.process_time() - worked)
    slow, heavy = (statistics.median(seconds["librosa loop"][1:]) for seconds in (wall, work))
    print(f"{len(paths)} files, medians of {repeats} rounds; load of the machine {os.getloadavg()[0]:.1f}")
    for name in ways:
        seconds, busy = statistics.median(wall[name][1:]), statistics.median(work[name][1:])
        rate = len(paths) / seconds
        print(f"{name:22} {rate:6.0f} utterances/s  {slow / seconds:5.2f} x   (processor time {heavy / busy:5.2f} x)")


def loop(paths: Sequence[Path]) -> list[list[float]]:
    import librosa
    from librosa import feature

    rows = []
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y, rate = librosa.load(path, sr=16_000)
        y = y - y.mean(dtype=np.float64).astype(np.float32)
        tables = (
            feature.mfcc(y=y, sr=rate, n_mfcc=13),
            feature.chroma_stft(y=y, sr=rate),
            feature.spectral_contrast(y=y, sr=rate),
            feature.zero_crossing_rate(y),
            feature.spectral_rolloff(y=y, sr=rate),
            feature.spectral_centroid(y=y, sr=rate),
            feature.rms(y=y),
        )
        rows.append([float(x) for table in tables for row in table for x in (row.mean(), row.std())])
    return rows


def ours(paths: Sequence[Path], groups: Sequence[str], threads: int) -> np.ndarray:
    sources = [Source(path.name, path) for path in paths]
    opener = partial(open_source, stage="benchmark")
    measured = measure_all(sources, opener, stage="benchmark", groups=groups, threads=threads)
    return measured.frame.drop("utterance_id").to_numpy()


def compare(paths: Sequence[Path]) -> None:
    expected, computed = np.asarray(loop(paths)), ours(paths, ["spectral"], 1)
    apart = np.abs(computed - expected)
    fits = apart <= 1e-5 + 1e-5 * np.abs(expected)
    print(f"{fits.sum()} of {fits.size} values equal librosa's to 1e-5; greatest difference {apart.max():.1e}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
