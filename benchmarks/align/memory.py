"""Peak memory of align on a big made-up corpus: votes of people and of two proxies in two files.

python benchmarks/align/memory.py [--utterances 250000] [--votes 10]
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

LABELS = ("angry", "happy", "neutral", "sad")
HUMAN, HELD_OUT = 3, 1
SPEAKERS, RATERS = 500, 300


def write_corpus(folder: Path, utterances: int, votes: int) -> None:
    """Utterances, human votes (of them one held out) and proxy votes, drawn from a Dirichlet distribution a row."""
    from alm_proxies.tables import Utterances, Votes

    rng = np.random.default_rng(0)
    ids = pl.Series([f"made_up/speaker_{i % SPEAKERS:04d}_{i:07d}" for i in range(utterances)])
    truth = rng.dirichlet(np.full(len(LABELS), 0.5), utterances)
    speaker = np.arange(utterances) % SPEAKERS
    about = {
        "utterance_id": ids,
        "corpus": "made_up",
        "speaker": pl.Series([f"made_up/{number:04d}" for number in range(SPEAKERS)]).gather(speaker),
        "gender": pl.Series(["female", "male"]).gather(speaker % 2),
        "transcript": [f"This is sentence {i:07d} of the corpus." for i in range(utterances)],
    }
    Utterances.of(pl.DataFrame(about), taxonomy=LABELS).write(folder / "utterances.parquet")

    def drawn(count: int) -> pl.Series:
        below = truth.cumsum(1)[:, None, :3] < rng.random((utterances, count, 1))
        return pl.Series(LABELS).gather(below.sum(2).ravel())

    people, proxies = HUMAN + HELD_OUT, votes - HUMAN - HELD_OUT
    first = rng.integers(0, RATERS, utterances)
    who = (first[:, None] + 7 * np.arange(people)) % RATERS
    human = {
        "utterance_id": ids.gather(np.repeat(np.arange(utterances), people)),
        "annotator": pl.Series([f"made_up/rater_{number:03d}" for number in range(RATERS)]).gather(who.ravel()),
        "label": drawn(people),
        "held_out": np.tile(np.arange(people) >= HUMAN, utterances),
    }
    Votes.of(pl.DataFrame(human), taxonomy=LABELS).write(folder / "human.parquet")
    names = pl.Series(["proxy-a", "proxy-b"]).gather(np.tile(np.arange(proxies) % 2, utterances))
    proxy = {
        "utterance_id": ids.gather(np.repeat(np.arange(utterances), proxies)),
        "annotator": names,
        "draw": np.tile(np.arange(proxies, dtype=np.int32) // 2, utterances),
        "source": "proxy",
        "label": drawn(proxies),
    }
    Votes.of(pl.DataFrame(proxy), taxonomy=LABELS).write(folder / "proxy.parquet")


def measured(folder: str, verb: str, *arguments: str) -> None:
    """One command in this process, its peak memory, and a digest of what it wrote."""
    from alm_proxies.cli.app import main

    try:
        main([verb, *arguments])
    except SystemExit as ended:
        if ended.code:
            raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    files = [path for path in sorted(Path(folder).glob("report*")) if path.suffix in {".html", ".json", ".parquet"}]
    for path in files:
        print(f"  {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
    print(f"{verb}: peak {peak:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=250_000)
    parser.add_argument("--votes", type=int, default=10)
    parser.add_argument("--at-most", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        run = [sys.executable, __file__, "measured", str(folder)]
        files = [str(folder / "human.parquet"), str(folder / "proxy.parquet")]
        people = ["--utterances", str(folder / "utterances.parquet")]
        if not (folder / "labels.parquet").exists():
            folder.mkdir(exist_ok=True, parents=True)
            write_corpus(folder, options.utterances, options.votes)
            labels = ["--method", "weighted", "-o", str(folder / "labels.parquet")]
            subprocess.run([*run, "fuse", *files, *people, *labels], check=True)
        report = ["--at-most", str(options.at_most), "-o", str(folder / "report.html")]
        labels = [str(folder / "labels.parquet")]
        subprocess.run([*run, "align", *labels, "--votes", *files, *people, *report], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measured"]:
        measured(*sys.argv[2:])
    else:
        main()
