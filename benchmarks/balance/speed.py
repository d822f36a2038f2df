"""Seconds to balance a million utterances, export 250,000, and render copies: python benchmarks/balance/speed.py

Weights: soft shares of 9 labels within 3 levels of ambiguity. Exports: recordings are referred to, not copied, in every
format that does not have to hold them; each row has a recording of its own (a tenth of a second), whose header is read
where the format needs it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.audio.strength import effect_at
from alm_proxies.plugins import plugins
from alm_proxies.stages.balance.settings import BalanceSettings, Copies
from alm_proxies.stages.balance.stage import balance
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import About, Labels, Utterances

LABELS = tuple(f"label{number}" for number in range(9))


def corpus(count: int, root: Path) -> tuple[Labels, Utterances]:
    """Synthetic labels of a skewed corpus, and their utterances."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.array([4, 2, 1.5, 1, 1, 0.7, 0.5, 0.4, 0.4]) * 0.35, count)
    ids = [f"sim/u{number:07d}" for number in range(count)]
    labels = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    speakers = rng.integers(0, 500, count)
    about = pl.DataFrame(
        {
            "utterance_id": ids, "corpus": "sim", "audio": "one.wav", "duration": 1.0,
            "speaker": [f"sim/{speaker}" for speaker in speakers], "gender": np.where(speakers % 2, "female", "male"),
            "split": np.where(speakers < 400, "train", "test"),
        }
    )  # fmt: skip
    soundfile.write(root / "one.wav", np.full(1600, 0.1), 16_000)
    return Labels.of(labels, taxonomy=LABELS), Utterances.of(about, about=About(roots={"sim": str(root)}))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print wall-clock and processor seconds of the block."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    print(
        f"{name}: {time.perf_counter() - wall:.1f} s, of processor {time.process_time() - processor:.1f} s", flush=True
    )


def weights(count: int, root: Path) -> None:
    """The whole stage: soft shares of 9 labels, then also within 3 levels of ambiguity."""
    labels, utterances = corpus(count, root)
    for within in (False, True):
        with timed(f"balance {count:,} within={within}"):
            balanced = balance(labels, utterances, root / "balanced", BalanceSettings(within=within))
        size = balanced.metrics["effective_size"] / balanced.metrics["utterances"]
        met = "met" if balanced.metrics["met"] else f"worst {balanced.metrics['worst_error']:.4f}"
        print(f"    {met}, effective size {size:.1%}", flush=True)


def exports(count: int, root: Path) -> None:
    """Every format that can refer to recordings."""
    labels, utterances = corpus(count, root)
    audio = [f"{number}.wav" for number in range(count)]
    for number, name in enumerate(audio):  # files of their own; a file system allows 65,000 names a file
        if number % 30_000:
            (root / name).hardlink_to(root / f"{number - number % 30_000}.wav")
        else:
            shutil.copyfile(root / "one.wav", root / name)
    frame = utterances.frame.with_columns(audio=pl.Series(audio))
    utterances = Utterances.of(frame, about=utterances.about)
    for place, plugin in enumerate(plugins("exports").values()):
        kind = plugin.load()
        if kind.embeds or kind.beside:
            continue
        with timed(f"export {kind.name}, {count:,} rows"):
            export(labels, utterances, root / f"export{place}", kind.settings(format=kind.name))
        shutil.rmtree(root / f"export{place}")


def rendering(count: int, root: Path, threads: int) -> None:
    """Seconds of audio rendered per second: over equal shares of all default effects, and for each alone."""
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1.5, 6.0, count)
    rows = []
    for number, length in enumerate(seconds.tolist()):
        soundfile.write(root / f"{number}.flac", 0.1 * rng.standard_normal(round(16_000 * length)), 16_000)
        rows.append({"utterance_id": f"sim/{number}", "corpus": "sim", "audio": f"{number}.flac"})
    names = Copies().effects
    for chosen in (names, *((name,) for name in names)):
        items = []
        for number in range(count):
            effect = effect_at(chosen[number % len(chosen)], Copies().strength, np.random.default_rng(number))
            recipe = Recipe(parents=((f"sim/{number}", 1.0),), effects=(effect,), seed=number)
            items.append({"utterance_id": f"sim/{number}#2", "corpus": "sim", "recipe": recipe.written()})
        table = Utterances.of(pl.concat([pl.DataFrame(rows), pl.DataFrame(items)], how="diagonal"),
                              about=About(roots={"sim": str(root)}))  # fmt: skip
        sounds = Sounds(table, stage="balance")
        wall, processor = time.perf_counter(), time.process_time()
        rendered = sum(opened.clip.duration for opened in sounds.ahead([item["utterance_id"] for item in items],
                                                                       threads=threads) if opened.clip)  # fmt: skip
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(
            f"render {' '.join(chosen)}: {rendered / wall:.0f} x real time with {threads} threads, "
            f"{rendered / processor:.0f} x for each second of processor",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("weights", "exports", "rendering"))
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if sizes.only in (None, "rendering"):
            rendering(sizes.clips, root, sizes.threads)
        if sizes.only in (None, "weights"):
            weights(sizes.weights, root)
        if sizes.only in (None, "exports"):
            exports(sizes.rows, root)


if __name__ == "__main__":
    main()
