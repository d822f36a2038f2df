"""The time to simulate a corpus with one and two workers, and the share of it for synthesis.

python benchmarks/simulate/speed.py [--utterances 1000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from alm_proxies.stages.simulate.stage import SimulateSettings, simulate


def seconds(settings: SimulateSettings, workers: int) -> tuple[float, float, float]:
    """Wall-clock seconds, processor seconds, and seconds of speech."""
    with tempfile.TemporaryDirectory() as name:
        clock, processor = time.perf_counter(), time.process_time()
        corpus = simulate(Path(name), settings, workers=workers, quiet=True)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return clock, processor, float(corpus.utterances.frame["duration"].sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    settings = SimulateSettings(utterances=options.utterances, dense=50)
    for workers in (1, 2):
        runs = [seconds(settings, workers) for _ in range(options.repeats)]
        clock, processor, speech = (statistics.median(column) for column in zip(*runs, strict=True))
        print(
            f"{workers} worker(s): {clock:.1f} s on the clock, {processor:.1f} s of processor time for "
            f"{options.utterances} utterances ({speech / 60:.0f} minutes, {speech / clock:.0f} x real time)"
        )


if __name__ == "__main__":
    main()
