"""Samples a second of fine-tuning against a plain loop with the same model, and what each part of the gain is.

    ALM_PROXIES_TEST_DATA=DATA OMP_NUM_THREADS=1 python benchmarks/training/plain_loop.py --model WHISPER_TINY_FOLDER

Forward, backward and AdamW on every weight, batches of 32 recordings of CREMA-D (Ogg Vorbis, 11,025 Hz, 2.5 s), each
variant on the same clips, three epochs in turn, medians; the loader with kept clips is read after its first epoch.
30 s: what transformers' own extractor gives Whisper. plain: librosa.load a clip at a time, random batches padded to
their longest. + ahead: decoded and prepared ahead by two threads. + buckets: batches of similar length.
+ kept: decoded clips stay in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from alm_proxies.audio.clip import Source, open_source
from alm_proxies.models.encoder import Encoder, Inputs
from alm_proxies.models.speech_model import Shape, SpeechModel
from alm_proxies.training.batches import KeptClips, Loader, plan_epoch
from alm_proxies.training.losses import kld

RATE, BATCH, LABELS = 16_000, 32, 6


def plain(paths: list[str], encoder: Encoder, epoch: int, *, seconds: float | None = None) -> Iterator[Inputs]:
    import librosa

    order = np.random.default_rng(epoch).permutation(len(paths))
    for start in range(0, len(order), BATCH):
        clips = [librosa.load(paths[place], sr=RATE)[0] for place in order[start : start + BATCH]]
        if seconds is not None:
            clips = [np.pad(clip, (0, max(0, int(seconds * RATE) - len(clip)))) for clip in clips]
        yield encoder.prepare(clips)


def ahead(loader: Loader, lengths: np.ndarray, epoch: int) -> Iterator[Inputs]:
    for step in loader.steps(plan_epoch(np.arange(len(lengths)), lengths, batch=BATCH, seed=0, epoch=epoch)):
        for part in step.parts:
            yield part.inputs


def trained(model: SpeechModel, batches: Iterator[Inputs]) -> tuple[float, int]:
    """Samples a second of one epoch; every clip's target is the same, which changes no speed."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6)
    started, clips = time.perf_counter(), 0
    for inputs in batches:
        count = len(inputs.lengths)
        loss = kld(model(inputs.values, inputs.lengths).logits, torch.full((count, LABELS), 1 / LABELS)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clips += count
    return clips / (time.perf_counter() - started), clips


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder.load(given.model, device="cpu")
    model = SpeechModel(encoder, Shape(width=encoder.width, layers=tuple(range(encoder.layers + 1)), labels=LABELS))
    wavs = sorted((Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d/AudioWAV").glob("*.ogg"))
    paths = [str(path) for path in wavs[:: max(1, len(wavs) // given.clips)][: given.clips]]
    lengths = np.array([soundfile.info(path).duration for path in paths])

    def loader(padding: float, kept: float) -> Loader:
        return Loader(
            lambda name: open_source(Source(name, Path(name)), stage="bench"),
            encoder.prepare,
            paths,
            shortest=0.1,
            longest=30.0,
            padding=padding,
            kept=KeptClips(kept),
        )

    random_order, buckets, kept = loader(0.99, 0), loader(0.15, 0), loader(0.15, 2**30)
    unknown = np.full(len(paths), np.nan)
    variants: dict[str, Callable[[int], Iterator[Inputs]]] = {
        "plain": lambda epoch: plain(paths, encoder, epoch),
        "+ ahead": lambda epoch: ahead(random_order, unknown, epoch),
        "+ buckets": lambda epoch: ahead(buckets, lengths, epoch),
        "+ kept": lambda epoch: ahead(kept, lengths, epoch),
    }
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    list(ahead(kept, lengths, 0))
    for epoch in range(given.epochs):
        for name, batches in variants.items():
            speeds[name].append(trained(model, batches(epoch))[0])
    rates = {name: round(statistics.median(values), 2) for name, values in speeds.items()}
    few = paths[:BATCH]
    rates["30 s"] = round(trained(model, plain(few, encoder, 0, seconds=30.0))[0], 2)
    print(json.dumps({"samples_per_second": rates, "gain": round(rates["+ kept"] / rates["plain"], 2)}))


if __name__ == "__main__":
    main()
