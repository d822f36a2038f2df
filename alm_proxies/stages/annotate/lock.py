"""One writer a ledger: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path
from types import TracebackType
from typing import Self

from alm_proxies.errors import InputError, OutputError

_HELD: set[str] = set()
"""What this process holds: the system's record locks do not keep a process from itself."""


class OneWriter:
    """`with OneWriter(path):` holds the lock file, or says who does. After kill -9 the next one simply gets it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def __enter__(self) -> Self:
        name = str(self._path.resolve())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"cannot be written: {reason}", where=name, mend="Choose a folder you may write to."
            ) from error
        if name in _HELD:
            os.close(handle)
            raise self._refused(f"this very process ({os.getpid()})")
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
            os.close(handle)
            raise self._refused(owner or "another process") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        _HELD.add(name)
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _HELD.discard(str(self._path.resolve()))

    def _refused(self, owner: str) -> InputError:
        return InputError(
            f"{owner} is annotating into this folder",
            where=str(self._path.parent),
            mend="Wait for it or stop it; or use --shard I/N, so that each process has a ledger of its own.",
        )
