"""Seconds to read a table of two million votes from CSV, and to hold votes out, beside polars reading the bare file."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.stage import HoldOut, ReadSettings, read

WORDS = ["Happiness", "Sadness", "Anger", "Neutral", "Excited"]
VOTES_EACH = 10
KEPT = HoldOut(keep=3, splits=("test",))


def write_table(path: Path, utterances: int, *, quoted: bool) -> None:
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(utterances), VOTES_EACH)
    rater = (row * 7 + np.tile(np.arange(VOTES_EACH), utterances) * 13) % 2000
    frame = pl.DataFrame(
        {
            "clip": pl.Series([f"clip_{n:07d}.wav" for n in range(utterances)]).gather(row),
            "who": pl.Series([f"speaker{n % 500:03d}" for n in range(utterances)]).gather(row),
            "rater": pl.Series([f"rater{n:04d}" for n in range(2000)]).gather(rater),
            "heard": pl.Series(WORDS).gather(rng.integers(0, len(WORDS), len(row))),
            "felt": rng.integers(1, 8, len(row)),
        }
    )
    frame.write_csv(path, quote_style="always" if quoted else "necessary")


def median_seconds(work: Callable[[], object], repeats: int) -> str:
    clock, processor = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return f"{statistics.median(clock):.2f} s, {statistics.median(processor):.2f} s of processor time"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.csv"
        columns = {"utterance_id": "clip", "speaker": "who", "annotator": "rater", "label": "heard", "valence": "felt"}
        source = TableSource(
            corpus="c", source=path, columns=columns, map={"Excited": "happy"},
            scales={"valence": (1, 7)}, split="speakers:.7,.1,.2",
        )  # fmt: skip
        settings = ReadSettings(taxonomy="iemocap4")
        print(f"{options.utterances * VOTES_EACH:,} votes, medians of {options.repeats}")
        for quoted in (False, True):
            write_table(path, options.utterances, quoted=quoted)
            name = "quoted" if quoted else "plain"
            print(f"{name} file: read table {median_seconds(lambda: read(source, settings), options.repeats)}")
        print(f"polars reads the bare file {median_seconds(lambda: pl.read_csv(path), options.repeats)}")
        corpus = read(source, settings)
        held = median_seconds(lambda: hold_out(corpus.votes, corpus.utterances, KEPT, 0), options.repeats)
        print(f"hold votes out {held}")


if __name__ == "__main__":
    main()
