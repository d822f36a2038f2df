"""One run of the soak: the command line, with a name for every try, and a note of every try without an answer.

Nothing is imported before the command line has set its signal handlers.

    python benchmarks/proxies/soak_run.py TRIES.tsv annotate ...
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count
from types import ModuleType
from typing import Any

from alm_proxies.cli import start

_import_module = start.import_module


def _importing(name: str) -> ModuleType:
    module = _import_module(name)
    _note_tries(sys.argv[1])
    return module


def _note_tries(path: str) -> None:
    from alm_proxies.engines import connections

    ask, mine, numbers = connections._ask, f"{os.getpid():x}{time.time_ns():x}", count()
    notes = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def noted(client: Any, method: str, url: Any, headers: Any, body: Any, seconds: float, most: int) -> Any:
        name, begun = f"{mine}x{next(numbers):x}", time.monotonic()
        try:
            return await ask(client, method, url, {**headers, "x-try": name}, body, seconds, most)
        except connections.FaultError as fault:
            took = time.monotonic() - begun
            os.write(notes, f"{name}\t{fault.failure.kind}\t{took:.2f} of {seconds:.2f} s\n".encode())
            raise

    connections._ask = noted


if __name__ == "__main__":
    start.import_module = _importing
    start.main(sys.argv[2:])
