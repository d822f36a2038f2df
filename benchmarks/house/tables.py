"""Seconds to check, write and read 13 million votes (1 million utterances x 3 human and 10 proxy votes)."""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.tables import Votes

RATERS = ["msp/r1", "msp/r2", "msp/r3"]
LABELS = ["angry", "sad", "happy", "neutral"]


def votes_frame(utterances: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ids = pl.Series([f"msp_podcast/MSP-PODCAST_{i:07d}" for i in range(utterances)])
    annotators = pl.Series(RATERS + ["alm"] * 10)
    column = np.tile(np.arange(13), utterances)
    return pl.DataFrame(
        {
            "utterance_id": ids.gather(np.repeat(np.arange(utterances), 13)),
            "annotator": annotators.gather(column),
            "source": pl.Series(["human"] * 3 + ["proxy"] * 10).gather(column),
            "draw": np.tile(np.array([0, 0, 0, *range(10)], dtype=np.int32), utterances),
            "label": pl.Series(LABELS).gather(rng.integers(0, 4, 13 * utterances)),
        }
    )


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    frame = votes_frame(options.utterances)
    table = Votes.of(frame, taxonomy="msp8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        print(f"{frame.height:,} votes, median of {options.repeats}")
        print(f"check {median_seconds(lambda: Votes.of(frame, taxonomy='msp8'), options.repeats):.2f} s")
        written = median_seconds(lambda: table.write(path), options.repeats)
        print(f"write {written:.2f} s, {path.stat().st_size / 1e6:.0f} MB")
        print(f"read and check {median_seconds(lambda: Votes.read(path), options.repeats):.2f} s")
        print(f"plain polars read {median_seconds(lambda: pl.read_parquet(path), options.repeats):.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
