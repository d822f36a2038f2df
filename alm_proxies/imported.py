"""Packages that threads import when they first need them, one thread at a time."""

from __future__ import annotations

import os
from importlib import import_module
from threading import RLock
from types import ModuleType

_ONE_AT_A_TIME = RLock()
if hasattr(os, "register_at_fork"):
    # A process that is forked while a thread imports would find the lock taken by a thread that it has not.
    os.register_at_fork(
        before=_ONE_AT_A_TIME.acquire,
        after_in_parent=_ONE_AT_A_TIME.release,
        after_in_child=_ONE_AT_A_TIME.release,
    )


def imported(module: str) -> ModuleType:
    """The module; raises ImportError.

    Parts of scipy import each other in circles: two threads that import two of them at once, the first in a process,
    find each other's half imported, and fail.
    """
    with _ONE_AT_A_TIME:
        return import_module(module)
