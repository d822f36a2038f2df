"""What every case without a server is: work that has to end in time, with one sentence."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from alm_proxies.cli.app import run
from alm_proxies.errors import AlmProxiesError

Case = Callable[[Path], None]


SAMPLES = (0.3 * np.random.default_rng(0).standard_normal(16_000)).clip(-1, 1).astype(np.float32)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """An alarm for what waits for ever."""

    def late(*_: object) -> None:
        raise AssertionError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(work: Callable[[], object], *names: str, kind: type[Exception] = AlmProxiesError) -> None:
    """It is refused with one sentence that holds these names."""
    with within(20):
        try:
            work()
        except kind as error:
            message = str(error)
            assert all(name in message for name in names), message
            assert "\n" not in message
            assert all(letter.isprintable() for letter in message), repr(message)
            return
    raise AssertionError("was taken")


def command(arguments: list[str], *names: str, code: int = 2) -> None:
    """A command line that ends with this code and one sentence that holds these names."""
    out, err = io.StringIO(), io.StringIO()
    with within(60), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        got = run(arguments)
    output = err.getvalue()
    assert got == code, f"ended with {got}: {output}"
    assert all(name in output for name in names), output
    assert "Traceback" not in output
    assert all(letter.isprintable() or letter == "\n" for letter in output), repr(output)
