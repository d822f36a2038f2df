"""Clips a second of the loader against torch's DataLoader with soundfile, with librosa.load, and lhotse's
DynamicBucketingSampler, with as many workers.

    ALM_PROXIES_TEST_DATA=DATA OMP_NUM_THREADS=1 python benchmarks/training/loader.py [--clips 1200] [--workers 2]

"ours, kept" keeps decoded clips in memory, as training does from its second epoch on (keep_decoded).
Each gives padded batches of 32 waves at 16 kHz. Files: CREMA-D as it is (Ogg Vorbis, 11,025 Hz, 2.5 s), and the same
clips as 16 kHz wav and flac. Epochs alternate between the loaders; the first of each is not counted (workers start).
Padded room counts too: `useful` is samples of sound over samples of the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from alm_proxies.audio.clip import Source, open_source
from alm_proxies.models.encoder import Inputs
from alm_proxies.training.batches import KeptClips, Loader, plan_epoch

RATE = 16_000


class Files(torch.utils.data.Dataset[NDArray[np.float32]]):
    """One waveform per file, as in a plain training script."""

    def __init__(self, paths: list[Path], how: str) -> None:
        self.paths, self.how = paths, how

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> NDArray[np.float32]:
        if self.how == "librosa":
            import librosa

            return librosa.load(self.paths[place], sr=RATE)[0]
        samples, rate = soundfile.read(self.paths[place], dtype="float32")
        return samples if rate == RATE else soxr.resample(samples, rate, RATE).astype(np.float32)


def padded(clips: list[NDArray[np.float32]]) -> Inputs:
    lengths = torch.tensor([len(clip) for clip in clips])
    values = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = torch.from_numpy(clip)
    return Inputs(values, lengths)


def of_torch(paths: list[Path], how: str, workers: int) -> Callable[[int], Iterator[Inputs]]:
    loader = torch.utils.data.DataLoader(
        Files(paths, how), batch_size=32, shuffle=True, num_workers=workers, collate_fn=padded, persistent_workers=True
    )
    return lambda epoch: iter(loader)


def of_ours(paths: list[Path], workers: int, kept: float) -> Callable[[int], Iterator[Inputs]]:
    sources = {str(path): Source(str(path), path) for path in paths}
    seconds = np.array([soundfile.info(path).duration for path in sources])
    loader = Loader(
        lambda name: open_source(sources[name], stage="bench"),
        padded,
        list(sources),
        shortest=0.1,
        longest=30.0,
        padding=0.15,
        threads=workers,
        kept=KeptClips(kept),
    )

    def epoch_of(epoch: int) -> Iterator[Inputs]:
        for step in loader.steps(plan_epoch(np.arange(len(sources)), seconds, batch=32, seed=0, epoch=epoch)):
            for part in step.parts:
                yield part.inputs

    return epoch_of


class Cuts(torch.utils.data.Dataset[Inputs]):
    """Batches of lhotse's cuts."""

    def __getitem__(self, cuts: Any) -> Inputs:
        from lhotse.dataset.collation import collate_audio

        values, lengths = collate_audio(cuts)
        return Inputs(values, lengths.long())


def of_lhotse(paths: list[Path], workers: int) -> Callable[[int], Iterator[Inputs]]:
    """Batches of at most 32 cuts of like length, in ten buckets, by workers of torch's DataLoader."""
    from lhotse import CutSet, Recording
    from lhotse.dataset import DynamicBucketingSampler

    cuts = CutSet.from_cuts(Recording.from_file(path).to_cut() for path in paths).to_eager()
    if next(iter(cuts)).sampling_rate != RATE:
        cuts = cuts.resample(RATE).to_eager()
    sampler = DynamicBucketingSampler(cuts, max_duration=10_000, max_cuts=32, shuffle=True, num_buckets=10)
    loader = torch.utils.data.DataLoader(
        Cuts(), sampler=sampler, batch_size=None, num_workers=workers, persistent_workers=True
    )

    def epoch_of(epoch: int) -> Iterator[Inputs]:
        sampler.set_epoch(epoch)
        return iter(loader)

    return epoch_of


def measured(loaders: dict[str, Callable[[int], Iterator[Inputs]]], epochs: int) -> dict[str, dict[str, float]]:
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    useful: dict[str, float] = {}
    for epoch in range(epochs + 1):
        for name, epoch_of in loaders.items():
            started, clips, sound, room = time.perf_counter(), 0, 0, 0
            for inputs in epoch_of(epoch):
                clips += len(inputs.lengths)
                sound += int(inputs.lengths.sum())
                room += inputs.values.numel()
            if epoch:
                speeds[name].append(clips / (time.perf_counter() - started))
            useful[name] = sound / room
    return {
        name: {"clips_per_second": round(statistics.median(rates), 1), "useful": round(useful[name], 3)}
        for name, rates in speeds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    wavs = sorted((Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d/AudioWAV").glob("*.ogg"))[: given.clips]
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, list[Path]] = {"ogg 11 kHz": wavs, "wav 16 kHz": [], "flac 16 kHz": []}
        for path in wavs:
            samples, rate = soundfile.read(path, dtype="float32")
            for kind in ("wav", "flac"):
                converted = Path(folder) / f"{path.stem}.{kind}"
                soundfile.write(converted, soxr.resample(samples, rate, RATE), RATE)
                kinds[f"{kind} 16 kHz"].append(converted)
        for kind, paths in kinds.items():
            loaders = {
                "ours": of_ours(paths, given.workers, 0),
                "ours, kept": of_ours(paths, given.workers, 2**30),
                "torch": of_torch(paths, "soundfile", given.workers),
                "lhotse": of_lhotse(paths, given.workers),
            }
            if kind == "ogg 11 kHz":
                loaders["torch, librosa.load"] = of_torch(paths, "librosa", given.workers)
            rates = measured(loaders, given.epochs)
            ratios = {
                f"{name}/{base}": round(rates[name]["clips_per_second"] / rates[base]["clips_per_second"], 2)
                for name in ("ours", "ours, kept")
                for base in ("torch", "lhotse")
            }
            print(json.dumps({"files": kind, **rates, **ratios}), flush=True)


if __name__ == "__main__":
    main()
