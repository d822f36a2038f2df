"""Reading MSP-Podcast in its real size: 1.5 million answers of workers in each shape, and 250,000 recordings.

Every run is a process of its own and reports wall seconds, processor seconds and the peak of its memory. polars reading
the bare CSV of the same answers stands beside it.

    python benchmarks/house/corpora.py [--answers 1500000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral", "Other-hopeful")
EACH = 6
SHAPES = ("2.0", "1.11", "json", "txt")


def write(root: Path, answers: int, shape: str) -> None:
    """A synthetic release: EACH answers per clip, and an empty file for every recording."""
    rng = np.random.default_rng(0)
    labels = root / "Labels"
    labels.mkdir(parents=True)
    clips = [f"MSP-PODCAST_{number // 1000:04d}_{number % 1000:04d}.wav" for number in range(answers // EACH)]
    words = rng.choice(WORDS, (len(clips), EACH), p=[0.1, 0.1, 0.2, 0.05, 0.05, 0.05, 0.05, 0.35, 0.05])
    workers, ratings = rng.integers(0, 14000, words.shape), rng.integers(1, 8, (*words.shape, 3))
    rows = (
        (clip, f"WORKER{workers[i, j]:08d}", words[i, j], f"{words[i, j]},Amused", *ratings[i, j].tolist())
        for i, clip in enumerate(clips)
        for j in range(EACH)
    )
    if shape == "json":
        by_worker: dict[str, dict[str, dict[str, str]]] = {}
        for clip, worker, major, second, a, v, d in rows:
            answer = {"EmoClass_Major": major, "EmoClass_Second": second, "EmoAct": f"{a}"}
            by_worker.setdefault(clip, {})[worker] = {**answer, "EmoVal": f"{v}", "EmoDom": f"{d}"}
        (labels / "labels_detailed.json").write_text(json.dumps(by_worker))
    else:
        name = "labels.txt" if shape == "txt" else "labels_detailed.csv"
        with (labels / name).open("w") as stream:
            if shape == "2.0":
                stream.write("FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n")
                stream.writelines(f'{c},{w},{m},"{s}",{a},{v},{d}\n' for c, w, m, s, a, v, d in rows)
            elif shape == "1.11":
                stream.write("FileName,EmoDetail\n")
                stream.writelines(
                    f'{c},"{w}; {m}; {s}; A:{a}.000000; V:{v}.000000; D:{d}.000000;"\n' for c, w, m, s, a, v, d in rows
                )
            else:
                before = ""
                for c, w, m, s, a, v, d in rows:
                    if c != before:
                        stream.write(f"\n{c}; N; A:4.0; V:4.0; D:4.0;\n")
                        before = c
                    stream.write(f"{w}; {m}; {s}; A:{a}.000000; V:{v}.000000; D:{d}.000000;\n")
    (root / "Audios").mkdir()
    for clip in clips:
        (root / "Audios" / clip).touch()


def measure(root: Path) -> None:
    """Read a release in this process; print time and memory."""
    from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
    from alm_proxies.stages.read.stage import read

    begin, processor = time.perf_counter(), time.process_time()
    corpus = read(MspPodcastSource(source=root))
    result = {
        "votes": len(corpus.votes),
        "with audio": corpus.utterances.frame["audio"].len() - corpus.utterances.frame["audio"].null_count(),
        "wall": time.perf_counter() - begin,
        "processor": time.process_time() - processor,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=1_500_000)
    parser.add_argument("--one", type=Path)
    given = parser.parse_args()
    if given.one:
        measure(given.one)
        return
    print("| shape | votes | recordings found | wall, s | processor, s | peak, GiB |\n|---|---|---|---|---|---|")
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), given.answers, shape)
            command = [sys.executable, __file__, "--one", folder]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if shape == "2.0":
                bare = "import polars as pl, sys; pl.read_csv(sys.argv[1])"
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-c", bare, f"{folder}/Labels/labels_detailed.csv"], check=True)
                plain = time.perf_counter() - begin
        cells = f"{figures['votes']:,} | {figures['with audio']:,} | {figures['wall']:.1f} | {figures['processor']:.1f}"
        print(f"| {shape} | {cells} | {figures['peak']:.1f} |", flush=True)
    print(f"\npolars reads the bare CSV of 2.0 in {plain:.1f} s, its start included.")


if __name__ == "__main__":
    main()
