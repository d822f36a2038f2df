"""One writer per ledger: a lock that the system releases when its process ends, even after kill -9."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from alm_proxies.errors import InputError, OutputError
from alm_proxies.machine import file_system, on_network

_HELD: set[str] = set()
"""Locks of this process, because record locks of the system do not exclude their own process."""
_ONE_AT_A_TIME = threading.RLock()
"""Held while a lock file is opened and closed: closing it releases the lock that another thread has just taken."""
_FLOCK = {
    "linux": ("hhqqi4x", ("type", "whence", "start", "len", "pid")),
    "darwin": ("qqihh", ("start", "len", "pid", "type", "whence")),
}
"""The layout of C's struct flock."""


class OneWriter:
    """`with OneWriter(path):` holds a lock file, or raises an error that names the holder."""

    def __init__(self, path: Path, *, merging: bool = False) -> None:
        self._path, self._merging = path, merging
        self._name = str(path.resolve())
        self._handle: int | None = None

    def __enter__(self) -> Self:
        with _ONE_AT_A_TIME:
            if self._name in _HELD:  # before the file is opened: closing it would release the lock
                raise self._refused(f"this process ({os.getpid()})")
            self._handle = self._locked()
            _HELD.add(self._name)
        return self

    def _locked(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        except OSError as error:
            os.close(handle)
            raise self._not_writable(error) from error
        return handle

    def _take(self, handle: int) -> None:
        """Take the lock. If it fails and the system names no holder, the file system does not support locks."""
        for last in (False, True):
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise self._cannot_lock(error) from error
                if (owner := owner_of(self._path)) is not None:
                    raise self._refused(owner) from error
                if last:  # the first failure may be a lock that was just released
                    raise self._cannot_lock(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _HELD.discard(self._name)

    def _not_writable(self, error: OSError) -> OutputError:
        reason = error.strerror or str(error)
        return OutputError(f"cannot be written: {reason}", where=self._name, fix="Choose a folder you may write to.")

    def _cannot_lock(self, error: OSError) -> OutputError:
        reason = error.strerror or str(error)
        kind = file_system(self._path)
        named = f"the file system {kind}" if kind else "the file system"
        fix = "Choose a folder on a local disk."
        if on_network(self._path):
            fix = "Choose a folder on a local disk, or switch on the locks of this network disk."
        return OutputError(f"{named} cannot lock files: {reason}", where=self._name, fix=fix)

    def _refused(self, owner: str) -> InputError:
        message = f"{owner} is annotating into this folder"
        fix = "Wait for it or stop it; or use --shard I/N, so that each process has a ledger of its own."
        if self._merging:
            message = f"{owner} is merging or annotating into this folder"
            fix = "Wait until it has ended, and run the same command again; or merge into another folder."
        return InputError(message, where=str(self._path.parent), fix=fix)


def owner_of(path: Path) -> str | None:
    """The process that holds a lock file, or None."""
    with _ONE_AT_A_TIME:
        if str(path.resolve()) in _HELD:
            return f"process {os.getpid()} on {platform.node()}"
        return _other_owner(path)


def _other_owner(path: Path) -> str | None:
    layout = _FLOCK.get(sys.platform)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if layout is None:
            return None
        query = struct.pack(layout[0], *(fcntl.F_WRLCK if name == "type" else 0 for name in layout[1]))
        answer = struct.unpack(layout[0], fcntl.fcntl(handle, fcntl.F_GETLK, query))  # a query, which takes no lock
        if dict(zip(layout[1], answer, strict=True))["type"] == fcntl.F_UNLCK:
            return None
        return os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another process"
    except OSError:
        return None
    finally:
        os.close(handle)
