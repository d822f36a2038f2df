"""Everything hostile, class by class: cases tried, cases that failed. Prints a table in Markdown.

python tests/hostile/table.py [class ...]
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import local
import served

CLASSES = {**served.CLASSES, **local.CLASSES}


def main(names: list[str]) -> int:
    """Try every case of the classes named, or of all."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    unknown = set(names) - set(CLASSES)
    if unknown:
        print(f"no class {unknown.pop()!r}; there are: {', '.join(CLASSES)}", file=sys.stderr)
        return 2
    print("| class | cases | failed | seconds |\n|---|---:|---:|---:|")
    total, wrong = 0, []
    for name in names or CLASSES:
        started, failed = time.monotonic(), []
        for case, run in CLASSES[name].items():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    run(Path(folder))
                except (Exception, asyncio.CancelledError) as error:
                    failed.append(f"{name}: {case}: {type(error).__name__}: {str(error)[:300]}")
        total += len(CLASSES[name])
        wrong += failed
        print(f"| {name} | {len(CLASSES[name])} | {len(failed)} | {time.monotonic() - started:.0f} |", flush=True)
    print(f"| all | {total} | {len(wrong)} | |")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
