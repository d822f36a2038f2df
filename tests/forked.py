"""Processes that begin with torch and the trainings imported: forks of one process that has done nothing but import.

A new Python needs seconds to import them. What such a process is, is otherwise that of a new Python that runs a script:
its own process, environment, arguments and standard error; and it can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_IMPORTED = (
    "alm_proxies.stages.train.stage", "alm_proxies.training.recipes", "alm_proxies.training.encoder",
    "alm_proxies.training.alm", "alm_proxies.training.alm_head", "pytest",
)  # fmt: skip
_BEFORE_IMPORTS = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""One thread, so that the process can be forked; and one heap, so that a limit on memory is the same limit anywhere."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(_IMPORTED))


class Forked(AbstractContextManager["Forked"]):
    """A script in a process of its own; `stderr` is what it writes there, and leaving the block waits for its end."""

    def __init__(self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        reader, writer = os.pipe()
        self.stderr: IO[str] = os.fdopen(reader)
        given = {**os.environ, **_BEFORE_IMPORTS, **(environment or {})}
        with Connection(writer, readable=False) as errors:
            self._process = _FORKS.Process(target=_run, args=(str(script), arguments, given, errors))
            before = {name: os.environ.get(name) for name in _BEFORE_IMPORTS}
            os.environ.update(_BEFORE_IMPORTS)
            try:
                self._process.start()
            finally:
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})

    def __exit__(self, *_: object) -> None:
        self.stderr.close()
        self._process.join()

    @property
    def returncode(self) -> int | None:
        """Its exit code, -N if the signal N killed it, None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Send it a SIGKILL."""
        self._process.kill()


def _run(script: str, arguments: tuple[str, ...], environment: dict[str, str], errors: Connection) -> None:
    os.dup2(errors.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
