"""One process for each folder: a lock that the system releases when its process ends, even after kill -9."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from alm_proxies.errors import InputError
from alm_proxies.files import folder_to_fill, make_folder, writing
from alm_proxies.progress import say

WAIT = "Wait until it is done, or choose another folder."
_held: set[tuple[str, int]] = set()
"""The locks beside folders that threads of this process hold: a task and the stage's function lock the same folder."""

_MINE: ContextVar[frozenset[str]] = ContextVar("_MINE", default=frozenset())
"""The folders that code which calls stages here, a pipeline or a recipe, has locked for them."""


def locks_for_all() -> bool:
    """Whether this process locks the folder: of those that torchrun started, the first does for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def locked_for_stages(folder: Path) -> Iterator[None]:
    """A context in which stages that write into this locked folder, or into one below it, are those of its holder."""
    token = _MINE.set(_MINE.get() | {os.path.realpath(folder)})
    try:
        yield
    finally:
        _MINE.reset(token)


def is_mine(folder: Path) -> bool:
    """Whether the code that runs here was called by the holder of this folder's lock."""
    return os.path.realpath(folder) in _MINE.get()


@contextmanager
def alone_in(folder: Path, work: str, fix: str) -> Iterator[None]:
    """Lock the folder against a second process."""
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, work, fix, may_be_shared=True)
        yield
    finally:
        os.close(handle)


def is_taken(folder: Path) -> bool:
    """Whether a process has the lock of a folder now."""
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it cannot be locked at all
        return False
    finally:
        os.close(handle)
    return False


@contextmanager
def beside_others(folders: Iterable[Path]) -> Iterator[None]:
    """Lock folders against a process that wants one of them alone; others may lock them so too and work there."""
    import fcntl

    with ExitStack() as locks:
        for folder in folders:
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:  # there is none, or it may not be read
                continue
            locks.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken(folder) from None
            except OSError:  # it cannot be locked at all
                continue
        yield


def taken(folder: Path) -> InputError:
    """The error for a folder that a process wants alone."""
    return InputError("a pipeline or another command is writing into this folder", where=str(folder), fix=WAIT)


@contextmanager
def alone_beside(folder: Path, work: str, fix: str) -> Iterator[None]:
    """Lock a folder that is replaced as a whole: the lock is a hidden file beside it, which is removed at the end.

    The thread that holds the lock may take it again.
    """
    folder = Path(os.path.realpath(folder))
    lock = folder.with_name(f".{folder.name}.lock")
    holder = (str(lock), threading.get_ident())
    if holder in _held:
        yield
        return
    with folder_to_fill(folder.parent):
        handle = _locked(lock, folder, work, fix)
        _held.add(holder)
        try:
            yield
        finally:
            _held.discard(holder)
            lock.unlink(missing_ok=True)
            os.close(handle)


def _locked(lock: Path, folder: Path, work: str, fix: str) -> int:
    """An open lock file that this process has locked, and that no other process has removed meanwhile."""
    while True:
        make_folder(lock.parent)
        with writing(lock):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(handle, folder, work, fix)
            if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except FileNotFoundError:  # removed between two looks at it
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, folder: Path, work: str, fix: str, *, may_be_shared: bool = False) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        by = "another command" if may_be_shared and not is_taken(folder) else f"another {work}"
        raise InputError(f"{by} is writing into this folder", where=str(folder), fix=fix) from None
    except OSError as error:
        say(f"{folder} cannot be locked ({error.strerror}): see that nothing else is run into it")
