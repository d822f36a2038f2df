"""Processor seconds of `alm-proxies VERB --help` as a process, beside one that imports cyclopts and pydantic."""

from __future__ import annotations

import resource
import subprocess
import sys

REPEATS = 9
BASE = "from cyclopts import App, Parameter; from pydantic import BaseModel"
VERBS = ("", "fuse", "annotate", "train", "read table", "export")


def seconds(command: list[str]) -> float:
    """The minimum of several runs, because other work on the machine only adds to it."""
    least = float("inf")
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def main() -> None:
    base = seconds([sys.executable, "-c", BASE])
    print(f"import cyclopts, pydantic: {base:.3f} s (least of {REPEATS})")
    run = "import sys; from alm_proxies.cli.app import run; run(sys.argv[1:])"
    for verb in VERBS:
        used = seconds([sys.executable, "-c", run, *verb.split(), "--help"])
        print(f"alm-proxies {verb} --help: {used:.3f} s, {used / base:.2f} times that".replace("  ", " "))


if __name__ == "__main__":
    main()
