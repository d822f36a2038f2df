"""Speed of `fuse` with its default settings, from file to file: 3 human and 10 proxy votes an utterance, 8 labels.

Each size runs in a process of its own and reports wall seconds, processor seconds of all threads (which other work on
the machine lengthens less), and the peak of its memory.

    python benchmarks/fusion/speed.py [--sizes 10000,100000,1000000] [--threads 2] [--sample]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from alm_proxies.tables import Votes

LABELS = 8
HUMAN, PROXY = 3, 10
STEP = 500_000


def write_votes(folder: Path, utterances: int) -> None:
    """Votes of listeners who differ, and of two proxy annotators with their own confusions."""
    import polars as pl

    from alm_proxies.tables import Utterances, metadata_of

    (folder / "parts").mkdir()
    for first in range(0, utterances, STEP):
        votes = some_votes(first, min(STEP, utterances - first))
        votes.write(folder / "parts" / f"{first:09d}.parquet")
        about = votes.about
    parts = pl.scan_parquet(folder / "parts" / "*.parquet")
    parts.sink_parquet(folder / "votes.parquet", metadata=metadata_of(about))
    shutil.rmtree(folder / "parts")
    speakers = [f"s{i % 200:03d}" for i in range(utterances)]
    Utterances.of(pl.DataFrame({"utterance_id": ids(0, utterances), "speaker": speakers})).write(
        folder / "utterances.parquet"
    )


def ids(first: int, count: int) -> NDArray[np.str_]:
    return np.char.add("corpus/", np.char.zfill(np.arange(first, first + count).astype(str), 8))


def some_votes(first: int, utterances: int) -> Votes:
    import polars as pl

    from alm_proxies.tables import Votes

    rng = np.random.default_rng([11, first])
    names = [f"l{j}" for j in range(LABELS)]
    centre = rng.choice(LABELS, size=utterances, p=np.array([6, 5, 4, 3, 2, 2, 1, 1]) / 24)
    truth = rng.standard_gamma(0.15 + 2.5 * np.eye(LABELS)[centre])
    truth /= truth.sum(1, keepdims=True)
    heard = [0.8 * truth + 0.2 / LABELS, 0.5 * truth + 0.5 * np.roll(truth, 1, axis=1)]
    parts = []
    for annotator, source, votes, p in (
        ("corpus/crowd", "human", HUMAN, truth),
        ("listener-a", "proxy", PROXY // 2, heard[0]),
        ("listener-b", "proxy", PROXY // 2, heard[1]),
    ):
        cut = p.cumsum(1)
        label = (rng.random((votes, utterances, 1)) > cut[None]).sum(2).clip(max=LABELS - 1)
        parts.append(
            pl.DataFrame(
                {
                    "utterance_id": np.tile(ids(first, utterances), votes),
                    "annotator": annotator,
                    "source": source,
                    "draw": np.repeat(np.arange(votes, dtype=np.int32), utterances),
                    "label": np.array(names)[label.ravel()],
                }
            )
        )
    return Votes.of(pl.concat(parts), taxonomy=names)


def fuse_file(folder: Path) -> dict[str, float]:
    """Fuse from file to file; its seconds and the peak of memory."""
    from alm_proxies.stages.fuse.files import fuse_files

    started = time.perf_counter()
    fused = fuse_files([folder / "votes.parquet"], folder / "labels.parquet", utterances=folder / "utterances.parquet")
    return {
        "utterances": fused.labels,
        "wall": time.perf_counter() - started,
        "cpu": time.process_time(),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def sample_moves(folder: Path) -> dict[str, float]:
    """Log loss of held-out votes of other utterances for fits to 10,000, 40,000 (the default) and 160,000 others."""
    from alm_proxies.estimators.counts import counts_of
    from alm_proxies.estimators.gated import Gated
    from alm_proxies.estimators.trials import score
    from alm_proxies.tables import Votes

    counts = counts_of(Votes.read(folder / "votes.parquet"))
    order = np.random.default_rng(0).permutation(len(counts))
    test, train = np.sort(order[:20_000]), np.sort(order[20_000:])
    part = counts.rows(test)
    left = part.left_one_out()
    figures = {}
    for rows in (10_000, 40_000, 160_000):
        started = time.perf_counter()
        fit = Gated(16, 0.001, rows=rows).fit(counts.rows(train))
        figures[f"nll_{rows}"] = score(fit, left.beside(part), left, len(part)).mean
        figures[f"seconds_{rows}"] = time.perf_counter() - started
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", action="store_true", help="what fitting on a sample costs, at the last size")
    parser.add_argument("--child", choices=["write", "fuse", "sample"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        size = int(arguments.sizes)
        figures = {"write": lambda f: write_votes(f, size), "fuse": fuse_file, "sample": sample_moves}[arguments.child](
            arguments.folder
        )
        print(json.dumps(figures))
        return
    threads = str(arguments.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "POLARS_MAX_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }

    def child(message: str, size: str, folder: Path) -> dict[str, float]:
        command = [sys.executable, __file__, "--child", message, "--sizes", size, "--folder", str(folder)]
        out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        figures: dict[str, float] = json.loads(out.splitlines()[-1])
        return figures

    print("| utterances | wall, s | processor, s | peak, GiB |\n|---|---|---|---|")
    for size in arguments.sizes.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            child("write", size, folder)
            figures = child("fuse", size, folder)
            cells = [f"{figures[key]:.1f}" for key in ("wall", "cpu", "peak_gib")]
            print(f"| {figures['utterances']:,} | " + " | ".join(cells) + " |", flush=True)
            if arguments.sample and size == arguments.sizes.split(",")[-1]:
                print(json.dumps(child("sample", size, folder), indent=1))


if __name__ == "__main__":
    main()
