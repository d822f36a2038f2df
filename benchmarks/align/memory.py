"""Peak memory of what reads votes, on a big made-up corpus: votes of people and of two proxies in two files.

Each of fuse, align, explain (without the estimator that fuse keeps, so that it fits again) and the reading of human
votes by annotate runs in a process of its own, on Parquet files that are sorted by utterance, on shuffled ones, and on
shuffled CSV and JSON-lines files. Equal digests of what is written show that the results are equal.

python benchmarks/align/memory.py [--utterances 250000] [--votes 10] [--shapes sorted unsorted csv jsonl]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import polars as pl

LABELS = ("angry", "happy", "neutral", "sad")
HUMAN, HELD_OUT = 3, 1
SPEAKERS, RATERS = 500, 300
SHAPES = ("sorted", "unsorted", "csv", "jsonl")
VERBS = ("fuse", "align", "explain", "human")


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


def in_shape(folder: Path, shape: str) -> list[Path]:
    """The votes files in a shape, written if they are not there."""
    ending = shape if shape in ("csv", "jsonl") else "parquet"
    paths = []
    for name in ("human", "proxy"):
        plain = folder / f"{name}.parquet"
        paths.append(plain if shape == "sorted" else folder / shape / f"{name}.{ending}")
        if not paths[-1].exists():
            paths[-1].parent.mkdir(exist_ok=True)
            frame = pl.read_parquet(plain)
            frame = frame.select([column.name for column in frame if column.null_count() < len(column)])
            frame = frame.sample(fraction=1.0, shuffle=True, seed=0)
            write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
            write[ending](paths[-1])
    return paths


def measured(folder: str, verb: str, *arguments: str) -> None:
    """One command in this process, its peak memory and time, and a digest of what it wrote."""
    started, before = time.perf_counter(), time.process_time()
    place = Path(folder)
    if verb == "human":
        from alm_proxies.stages.annotate.human_votes import human_votes_in

        human = human_votes_in([Path(path) for path in arguments], ",".join(LABELS), place, quiet=True)
        print(f"  {human.labels.height:,} labels {human.digest}")
    else:
        from alm_proxies.cli.start import main

        with redirect_stdout(io.StringIO()) as output:
            try:
                main([verb, *arguments])
            except SystemExit as ended:
                if ended.code:
                    raise
        if verb == "explain":
            print(f"  what it says {hashlib.sha256(output.getvalue().encode()).hexdigest()[:16]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    files = [path for path in sorted(place.glob("result*")) if path.suffix in {".html", ".json", ".parquet"}]
    for path in files if verb in ("align", "fuse") else ():
        print(f"  {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
    took = f"{time.perf_counter() - started:.0f} s, {time.process_time() - before:.0f} s of the processor"
    print(f"{verb}: peak {peak:.2f} GiB, {took}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=250_000)
    parser.add_argument("--votes", type=int, default=10)
    parser.add_argument("--at-most", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=VERBS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True, parents=True)
        run = [sys.executable, __file__]
        # a process of its own for the files, because a new process starts with the peak of the one that starts it
        writing = [*run, "written", str(folder), str(options.utterances), str(options.votes), *options.shapes]
        subprocess.run(writing, check=True)
        people = ["--utterances", str(folder / "utterances.parquet")]
        labels = str(folder / "labels.parquet")
        for shape in options.shapes:
            files = [str(path) for path in in_shape(folder, shape)]
            named = ["--taxonomy", ",".join(LABELS)]
            given = {
                "fuse": [*files, *people, *named, "--method", "weighted", "-o", str(folder / "result.parquet")],
                "align": [
                    *(labels, "--votes", *files, *people, *named),
                    *("--at-most", str(options.at_most), "-o", str(folder / "result.html")),
                ],
                "explain": [labels, "made_up/speaker_0007_0000007", "--votes", *files, *people],
                "human": files,
            }
            for verb in options.verbs:
                for left in folder.glob("result*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                print(f"{shape}, ", end="", flush=True)
                subprocess.run([*run, "measured", str(folder), verb, *given[verb]], check=True)


def written(folder: Path, utterances: int, votes: int, shapes: Sequence[str]) -> None:
    """Write the files that are not there yet."""
    from alm_proxies.cli.start import main

    if not (folder / "labels.parquet").exists():
        write_corpus(folder, utterances, votes)
        files = [*map(str, in_shape(folder, "sorted")), "--utterances", str(folder / "utterances.parquet")]
        with suppress(SystemExit):
            main(["fuse", *files, "--method", "weighted", "--quiet", "-o", str(folder / "labels.parquet")])
        for fitted in folder.glob("*fitted.json"):
            fitted.unlink()  # so that explain fits again
    for shape in shapes:
        in_shape(folder, shape)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measured"]:
        measured(*sys.argv[2:])
    elif sys.argv[1:2] == ["written"]:
        written(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
    else:
        main()
