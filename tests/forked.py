"""Python processes that begin with their imports done: forks of one process that has done nothing but import.

A new Python needs seconds to import the package, and more to import torch. What such a process is, is otherwise that of
a new Python: its own process, arguments, environment, folder, streams and exit code; and it can be killed.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

PACKAGE = ("cli", "pipeline", "stages", "compare", "estimators")
"""The floors of the package that commands begin with; none of them imports torch."""
TORCH = (*PACKAGE, "models", "training")
"""With those of models that hear and learn."""
LONGEST = 900.0
"""How many seconds a process may take: one that hangs fails its test, not the whole run."""
_SOON = 5.0
"""How many seconds what a killed process printed may still be read."""
PROGRAM = Path(sys.executable).with_name("alm-proxies")
_BEFORE_IMPORTS = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""One thread for sums, since a fork has none of a pool; one heap, so that a limit on memory is the same anywhere."""
_COMMAND = """#!{python} -IS
import sys
sys.path.insert(0, {tests!r})
from forked import stand_for
stand_for({address!r}, *{before!r})
"""


class Forked(AbstractContextManager["Forked"]):
    """A Python process of a script, of `-c` and a program, or of `-m` and a module, with pipes to its three streams.

    Leaving the block waits for its end. Both outputs have to be read if much is printed, as of any process.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        imported: tuple[str, ...] = PACKAGE,
    ) -> None:
        (given, written), (read, out), (read_too, errors) = os.pipe(), os.pipe(), os.pipe()
        self.stdin, self.stdout, self.stderr = os.fdopen(written, "w"), os.fdopen(read), os.fdopen(read_too)
        own = {**os.environ, **(environment or {})}
        address = _address(imported, own.get("PYTHONHASHSEED"))
        self._server = _ordered(address, (given, out, errors), arguments, cwd or Path.cwd(), own)
        for number in (given, out, errors):
            os.close(number)
        self.pid = _number(self._server)
        self.returncode: int | None = None

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            with suppress(BrokenPipeError):
                pipe.close()
        self._ended(LONGEST)

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code once it has ended, -N if the signal N killed it."""
        if self.returncode is None:
            assert select.select([self._server], [], [], seconds)[0], f"it has not ended in {seconds} s"
            self.returncode = _number(self._server)
            self._server.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        runs = self.returncode is None and not select.select([self._server], [], [], 0)[0]
        return None if runs else self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it a SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, written: str = "", seconds: float = LONGEST) -> tuple[str, str]:
        """What it prints until it ends, to stdout and to stderr, given this on stdin; killed if it takes longer."""
        outputs = ["", ""]

        def write() -> None:
            with suppress(BrokenPipeError), self.stdin:
                self.stdin.write(written)

        def read(place: int, pipe: TextIO) -> None:
            with pipe:
                outputs[place] = pipe.read()

        # not of an executor, which would wait for what a process that outlives this one holds open
        threads = [Thread(target=write, daemon=True)]
        threads += [Thread(target=read, args=each, daemon=True) for each in enumerate((self.stdout, self.stderr))]
        end = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self.kill()
            for thread in threads:
                thread.join(_SOON)
            raise AssertionError(f"it has not ended in {seconds} s")
        with self:
            self._ended(max(0.0, end - time.monotonic()))
        return outputs[0], outputs[1]

    def _ended(self, seconds: float) -> None:
        """Wait for its end, and kill it if that takes longer."""
        try:
            self.wait(seconds)
        except AssertionError:
            self.kill()
            raise

    @classmethod
    def done(cls, *arguments: str | Path, written: str = "", **how: Any) -> subprocess.CompletedProcess[str]:
        """Its exit code and what it printed, once it has ended."""
        process = cls(*arguments, **how)
        out, errors = process.communicate(written)
        return subprocess.CompletedProcess(arguments, process.wait(), out, errors)


def bash(text: str, folder: Path, imported: tuple[str, ...] = PACKAGE) -> subprocess.CompletedProcess[str]:
    """What lines of bash do in a folder; every `alm-proxies` in them is such a process."""
    command = _stand_in("alm-proxies", imported, str(PROGRAM))
    own = os.environ | {"PATH": os.pathsep.join([str(command.parent), str(PROGRAM.parent), os.environ["PATH"]])}
    call = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(call, cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=LONGEST)


def python(imported: tuple[str, ...] = PACKAGE) -> Path:
    """A program that does what Python does with its arguments, in such a process."""
    return _stand_in("python", imported)


def _stand_in(name: str, imported: tuple[str, ...], *before: str) -> Path:
    """A program of this name that is such a process, with these arguments before its own."""
    address = _address(imported, os.environ.get("PYTHONHASHSEED"))
    command = Path(address).with_name(name)
    tests = str(Path(__file__).parent)
    command.write_text(_COMMAND.format(python=sys.executable, tests=tests, address=address, before=before))
    command.chmod(0o755)
    return command


def stand_for(address: str, *before: str) -> None:
    """Exit as a process does that has these arguments, then those of this one, and its folder and streams."""
    server = _ordered(address, (0, 1, 2), (*before, *sys.argv[1:]), Path.cwd(), os.environ)
    _number(server)
    sys.exit(_number(server))


def _ordered(
    address: str, streams: tuple[int, ...], arguments: tuple[str | Path, ...], cwd: Path, own: Mapping[str, str]
) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    socket.send_fds(server, [b"\n"], streams)
    order = {"arguments": [*map(str, arguments)], "cwd": str(cwd), "environment": {**own, **_BEFORE_IMPORTS}}
    server.sendall(json.dumps(order).encode() + b"\n")
    return server


def _number(server: socket.socket) -> int:
    line = b""
    while not line.endswith(b"\n"):
        line += (more := server.recv(1))
        assert more, "the process that is forked has ended"
    return int(line)


@cache
def _address(imported: tuple[str, ...], seed: str | None) -> str:
    """Where a process listens that has imported these floors and hashes texts by this seed; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="forked")
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    own = os.environ | _BEFORE_IMPORTS | ({} if seed is None else {"PYTHONHASHSEED": seed})
    call = [sys.executable, str(Path(__file__).with_name("fork_server.py")), address, *imported]
    process = subprocess.Popen(call, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # the last one registered runs first
    return address
