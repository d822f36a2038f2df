"""A thread with an event loop, in which requests run, so that whoever waits for one can stop waiting at any time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""The loop of each process: a forked one cannot use that of its parent."""
_alone = threading.Lock()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, which is cancelled if this call is interrupted."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _alone:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="fetch-remote", daemon=True).start()
        return loop
