"""Seconds of `alm-proxies --help` as a whole process, beside a bare Python that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 15


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    program = str(Path(sys.executable).with_name("alm-proxies"))
    commands = {
        "alm-proxies --help": [program, "--help"],
        "alm-proxies fuse --help": [program, "fuse", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    for name, all_ in times.items():
        print(f"{name}: median {statistics.median(all_):.3f} s, least {min(all_):.3f} s ({REPEATS} runs)")


if __name__ == "__main__":
    main()
