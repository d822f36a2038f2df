"""The process that tests/forked.py forks: it imports floors of the package, then becomes a process a connection."""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import types
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn


def _asked_for(address: str, imported: list[str]) -> socket.socket:
    """The connection that asks for a process, in the fork that becomes it; the process that is forked stays in here."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    gc.disable()
    for floor in imported:
        package = import_module(f"alm_proxies.{floor}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    gc.collect()
    gc.freeze()
    gc.enable()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # the threads that polars starts only sleep
    ended, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(1, b"ready\n")
    running: dict[int, socket.socket] = {}
    waited_for: list[int | socket.socket] = [0, listening, ended]
    while True:
        ready, _, _ = select.select(waited_for, [], [])
        if 0 in ready:
            os._exit(0)
        if ended in ready:
            ended.recv(4096)
            while running and (found := os.waitpid(-1, os.WNOHANG))[0]:
                with running.pop(found[0]) as connection, suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(found[1]))
        if listening in ready:
            connection, _ = listening.accept()
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for other in (listening, ended, woken, *running.values()):
                    other.close()
                return connection
            running[pid] = connection
            with suppress(OSError):
                connection.sendall(b"%d\n" % pid)


def _become(connection: socket.socket, path: list[str]) -> None:
    """Be the process that is asked for; `path` is where a new Python looks for modules."""
    with connection:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as lines:
            order = json.loads(lines.readline())
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        new = os.fdopen(number, old.mode, encoding=old.encoding, errors=old.errors, closefd=False)
        new.reconfigure(line_buffering=name == "stderr")  # not as here, where it may be unbuffered
        setattr(sys, name, new)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    first, *rest = order["arguments"]
    script = str(Path(first).absolute())
    place = {"-c": "", "-m": order["cwd"]}.get(first, str(Path(script).parent))
    sys.path[:] = [place, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if first == "-c":
        code, script = rest.pop(0), "<string>"
    else:
        code, main.__file__ = Path(script).read_text(), script
    sys.argv = [first, *rest]
    exec(compile(code, script, "exec"), vars(main))


def _end(error: BaseException | None) -> NoReturn:
    """End as Python does, but leave all modules to the system: taking them down needs most of a second."""
    code = getattr(error, "code", 1) if error else 0
    if isinstance(error, SystemExit):
        code = code if isinstance(code, int) else int(code is not None and print(code, file=sys.stderr) is None)
    elif error:
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    _connection = _asked_for(sys.argv[1], sys.argv[2:])
    try:
        _become(_connection, [place for place in sys.path[1:] if place not in _known])
    except BaseException as error:
        _end(error)
    _end(None)
