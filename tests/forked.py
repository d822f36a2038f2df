"""Processes that begin with torch and the stages imported: forks of one process that has done nothing but import.

A new Python needs seconds to import them. What such a process is, is otherwise that of a new Python that runs a script:
its own process, environment, arguments and outputs; and it can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_IMPORTED = (
    "alm_proxies.stages.annotate.stage", "alm_proxies.stages.train.stage", "alm_proxies.training.recipes",
    "alm_proxies.training.encoder", "alm_proxies.training.alm", "alm_proxies.training.alm_head", "pytest",
)  # fmt: skip
_BEFORE_IMPORTS = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""One thread for sums, since a fork has none of a pool; one heap, so that a limit on memory is the same anywhere."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(_IMPORTED))


class Forked(AbstractContextManager["Forked"]):
    """A script in a process of its own, with pipes from what it prints; leaving the block waits for its end.

    Both pipes have to be read if much is printed, as of any process.
    """

    def __init__(self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        outputs = [os.pipe(), os.pipe()]
        self.stdout, self.stderr = (os.fdopen(reader) for reader, _ in outputs)
        given = {**os.environ, **_BEFORE_IMPORTS, **(environment or {})}
        with ExitStack() as closing:
            writers = [closing.enter_context(Connection(writer, readable=False)) for _, writer in outputs]
            self._process = _FORKS.Process(target=_run, args=(str(script), arguments, given, writers))
            before = {name: os.environ.get(name) for name in _BEFORE_IMPORTS}
            os.environ.update(_BEFORE_IMPORTS)
            try:
                self._process.start()
            finally:
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.stderr.close()
        self._process.join()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, -N if the signal N killed it, None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Send it a SIGKILL."""
        self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @classmethod
    def done(cls, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Its exit code and what it printed, once it has ended."""
        process = cls(script, *arguments)
        out, errors = process.communicate()
        assert process.returncode is not None
        return subprocess.CompletedProcess([str(script), *arguments], process.returncode, out, errors)

    def communicate(self) -> tuple[str, str]:
        """What it prints until it ends, to stdout and to stderr."""
        with self, ThreadPoolExecutor(2) as readers:
            out, errors = readers.map(_all_of, (self.stdout, self.stderr))
        return out, errors


def _all_of(pipe: IO[str]) -> str:
    return pipe.read()


def _run(script: str, arguments: tuple[str, ...], environment: dict[str, str], outputs: list[Connection]) -> None:
    for number, output in enumerate(outputs, 1):
        os.dup2(output.fileno(), number)
        output.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
