"""Peak memory and time of `listen` beside a frozen encoder on a big made-up corpus, with the features already kept.

The vectors are made up (a few directions that tell the labels, and noise) and lie in the cache as if the encoder had
made them, so that the figures are those of everything after encoding. Each size runs in a process of its own; equal
digests of the votes show that two versions of the code give the same.

python benchmarks/listen/memory.py --model WHISPER_TINY_FOLDER [--clips 20000 100000] [--layers 1 2 3 4] [--epochs 30]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import polars as pl

LABELS = ("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised", "contempt")
SPEAKERS, VOTES = 1000, 3


def write_corpus(folder: Path, clips: int) -> None:
    """Short recordings that all differ, and three votes on each."""
    from alm_proxies.tables import Utterances, Votes

    rng = np.random.default_rng(0)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    paths = [folder / "clips" / f"{number:07d}.wav" for number in range(clips)]
    for number, path in enumerate(paths):
        samples = np.full(900, 1000, dtype="<i2")
        samples[:2] = number >> 15, number & 32767
        with wave.open(str(path), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(samples.tobytes())
    ids = pl.Series([f"made_up/{number:07d}" for number in range(clips)])
    speakers = pl.Series([f"made_up/{number % SPEAKERS:04d}" for number in range(clips)])
    table = {"utterance_id": ids, "corpus": "made_up", "speaker": speakers, "audio": [str(path) for path in paths]}
    Utterances.of(pl.DataFrame(table), taxonomy=LABELS).write(folder / "utterances.parquet")
    truth = rng.dirichlet(np.full(len(LABELS), 0.3), clips)
    drawn = (truth.cumsum(1)[:, None, :-1] < rng.random((clips, VOTES, 1))).sum(2)
    votes = {
        "utterance_id": ids.gather(np.repeat(np.arange(clips), VOTES)),
        "annotator": pl.Series([f"made_up/rater_{number}" for number in range(VOTES)]).gather(
            np.tile(np.arange(VOTES), clips)
        ),
        "label": pl.Series(LABELS).gather(drawn.ravel()),
    }
    Votes.of(pl.DataFrame(votes), taxonomy=LABELS).write(folder / "votes.parquet")
    np.save(folder / "truth.npy", truth)


def keep_vectors(folder: Path, model: str, layers: tuple[int, ...]) -> None:
    """Made-up vectors in the cache, under the digest of the encoder's."""
    from alm_proxies.audio.recipe import Sounds
    from alm_proxies.audio.vectors import vectors_of
    from alm_proxies.models.pooled import Pooling
    from alm_proxies.tables import Utterances

    utterances = Utterances.read(folder / "utterances.parquet")
    truth = np.load(folder / "truth.npy")
    pooling = Pooling(model, stage="listen", layers=layers or None)
    directions = np.random.default_rng(1).standard_normal((len(LABELS), pooling.width)).astype(np.float32)

    def compute(clip: object, utterance_id: str) -> tuple[np.ndarray, tuple[()]]:
        number = int(utterance_id[-7:])
        noise = np.random.default_rng(number).standard_normal(pooling.width, dtype=np.float32)
        return truth[number].astype(np.float32) @ directions + 4 * noise, ()

    ids = utterances.frame["utterance_id"].to_list()
    sounds = Sounds(utterances, stage="listen")
    vectors_of(ids, sounds, compute, width=pooling.width, digest=pooling.exact, folder=folder / "features")


def measured(folder: Path, model: str, layers: tuple[int, ...], epochs: int) -> None:
    """`listen` in this process, its peak memory and time, and a digest of its votes."""
    import hashlib

    from alm_proxies.stages.listen.settings import ListenSettings
    from alm_proxies.stages.listen.stage import listen
    from alm_proxies.tables import Utterances, Votes

    started, before = time.perf_counter(), time.process_time()
    settings = ListenSettings(recipe="encoder", model=model, layers=layers or None, head={"epochs": epochs})
    utterances = Utterances.read(folder / "utterances.parquet")
    listened = listen(utterances, Votes.read(folder / "votes.parquet"), folder / "listen", settings, quiet=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    votes = hashlib.sha256(listened.votes.frame["weight"].to_numpy().tobytes()).hexdigest()[:16]
    wall, processor = time.perf_counter() - started, time.process_time() - before
    print(f"{len(utterances):,} clips: peak {peak:.2f} GiB, {wall:.0f} s, {processor:.0f} s of the processor, ", end="")
    print(f"gain {listened.gain:.4f}, votes {votes}", flush=True)


def main() -> None:
    """One process for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clips", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--layers", type=int, nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=30, help="fewer take less time and the same memory")
    parser.add_argument("--folder", type=Path, help="where the corpus is written, and kept")
    parser.add_argument("--in", dest="inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    layers = tuple(given.layers)
    if given.inside is not None:
        measured(given.inside, given.model, layers, given.epochs)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for clips in given.clips:
            folder = (given.folder or Path(temporary)) / str(clips)
            os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
            if not (folder / "truth.npy").exists():
                write_corpus(folder, clips)
            words = ["--model", given.model, "--layers", *map(str, layers), "--epochs", str(given.epochs)]
            fill = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import pathlib, memory; "
            fill += f"memory.keep_vectors(pathlib.Path({str(folder)!r}), {given.model!r}, {layers!r})"
            subprocess.run([sys.executable, "-c", fill], check=True)
            subprocess.run([sys.executable, __file__, *words, "--in", str(folder)], check=True)


if __name__ == "__main__":
    main()
