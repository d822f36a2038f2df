"""The cache: one folder for data that can be computed or fetched again (server abilities, frozen features, remote
audio, digests of recordings).

It is `$XDG_CACHE_HOME/alm-proxies`, or `~/.cache/alm-proxies`, with a sub-folder for each kind; the command `cache`
shows, trims and clears it. Once a day, the first process that writes into it trims it to `limit`. Folders have mode
0700 and files 0600. Data of a corpus whose card forbids copies must not be stored here, but in the run's own folder.
A cache that cannot be used (read-only home, a folder of another user, a damaged entry) counts as empty.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from alm_proxies.errors import OutputError, SettingsError
from alm_proxies.log import LOG

Kind = Literal["abilities", "features", "audio", "digests"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MOST_JSON = 1_000_000
"""The largest JSON entry that is read, in bytes; a larger file is not ours."""
_logged: set[str] = set()
"""The reasons that are in the log."""
AT_MOST = "ALM_PROXIES_CACHE_AT_MOST"
"""The variable with the size to which the cache is trimmed, such as 20GB; unlimited = it is not trimmed unasked."""
_DEFAULT = "50GB"
_UNLIMITED = "unlimited"
_MOST_DIGITS = 18
"""The most digits of a size."""
_DAY = 86_400.0
"""Seconds between two trimmings."""
_USED = 2 * _DAY
"""Seconds in which a file counts as in use; file systems state a reading up to a day late."""
_TRIMMED = ".trimmed"
"""The file whose time is that of the last trimming."""
_looked: set[Path] = set()
"""The caches of which this process knows that they were trimmed lately."""
_TRIES = 20
"""How often a folder is removed again which others clear or write into meanwhile."""
_PAUSE = 0.05
"""Seconds between two of these tries."""
_TRIES_ASIDE = 20
"""How often a folder is removed again that was put aside, without a pause."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of the cache of one kind."""

    kind: Kind
    folder: Path
    files: int
    bytes: int


def cache_folder() -> Path:
    """The path of the cache, existing or not; relative values of XDG_CACHE_HOME are ignored, as XDG specifies."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / "alm-proxies"


def folder_of(kind: Kind, *below: str) -> Path | None:
    """The folder of one kind, or one below it, created with mode 0700; None if this fails, or if it is a link or
    another user's.
    """
    try:
        return _made(kind, *below)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        why = _in_words(error)
        if why not in _logged:
            _logged.add(why)
            LOG.warning("the cache cannot be used, so nothing is kept there: %s", why)
        return None


def why_unusable(kind: Kind) -> str | None:
    """Why nothing can be kept in the folder of one kind; None where it can."""
    try:
        with tempfile.TemporaryFile(dir=_made(kind)):
            return None
    except (OSError, RuntimeError) as error:
        return _in_words(error)


def _made(kind: Kind, *below: str) -> Path:
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for name in ("", kind, *below):
        folder = folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is no folder, or a link", str(folder))
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EACCES, "belongs to another user", str(folder))
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    return folder


def _in_words(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or cache_folder()}: {error.strerror or error}"
    return "there is no home folder"


def file_of(kind: Kind, key: str, suffix: str) -> Path | None:
    """The path of an entry, for callers that read and write it themselves; `key` is a digest. None = no cache."""
    if not key.isalnum():
        raise ValueError(f"a cache key is a digest, not {key!r}")
    folder = folder_of(kind)
    return None if folder is None else folder / f"{key}{suffix}"


def read_json(kind: Kind, key: str, *, seconds: float) -> Any | None:
    """The entry if it is younger than `seconds`; None if there is none or it is damaged."""
    path = file_of(kind, key, ".json")
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            age = time.time() - status.st_mtime
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_JSON or not 0.0 <= age < seconds:
                return None
            return json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return None


def write_json(kind: Kind, key: str, value: Any) -> None:
    """Store an entry atomically; if the cache cannot be written, nothing is stored."""
    path = file_of(kind, key, ".json")
    if path is not None:
        write(path, json.dumps(value, allow_nan=False).encode("utf-8"))


def write(path: Path, content: bytes) -> bool:
    """Write an entry atomically with mode 0600; False if this fails, such as on a full disk."""
    _keep_to_limit()
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return False
    return True


def forget(kind: Kind, key: str) -> None:
    """Remove a JSON entry, if it is there."""
    path = file_of(kind, key, ".json")
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


def contents() -> list[Kept]:
    """The number of files and bytes of each kind; creates nothing."""
    held = []
    for kind in KINDS:
        folder = cache_folder() / kind
        sizes: list[int] = []
        for each in (folder, *_aside(kind)):
            sizes += _sizes(each)
        held.append(Kept(kind, folder, len(sizes), sum(sizes)))
    return held


def clear(kind: Kind | None = None) -> list[Kept]:
    """Remove all entries of one kind, or of all kinds, and return what was removed."""
    removed = [kept for kept in contents() if kind in (None, kept.kind)]
    for kept in removed:
        _remove(kept.kind)
    if not any((cache_folder() / each).exists() for each in KINDS):
        with suppress(OSError):
            (cache_folder() / _TRIMMED).unlink(missing_ok=True)
    return removed


def limit() -> int | None:
    """The number of bytes to which the cache is trimmed once a day; None = it is not."""
    stated = os.environ.get(AT_MOST, "").strip() or _DEFAULT
    return None if stated.lower() == _UNLIMITED else bytes_of(stated, AT_MOST)


def bytes_of(size: str, where: str) -> int:
    """The number of bytes that a text such as 20GB names."""
    match = re.fullmatch(r"(0+|\d+(?:\.\d+)?\s*(?=[kMGTB]))([kMGT]?)B?", size.strip(), re.IGNORECASE)
    if match is None or len(match[1]) > _MOST_DIGITS:
        raise SettingsError(f"{size!r} is no size", where=where, fix="Write a number and a unit, such as 20GB.")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def _keep_to_limit() -> None:
    """Trim the cache to its limit, unless a process did within a day; what was used within two days stays."""
    folder = cache_folder()
    if folder in _looked:
        return
    _looked.add(folder)
    mark = folder / _TRIMMED
    try:
        if not mark.exists() or abs(time.time() - mark.stat().st_mtime) > _DAY:
            most = limit()
            mark.touch(mode=0o600)  # first, so that no other process does the same meanwhile
            removed = sum(kept.bytes for kept in trim(most, unused=_USED)) if most is not None else 0
            if removed:
                LOG.info("the cache was trimmed to %d bytes: %d removed", most, removed)
    except (OSError, OutputError, SettingsError) as error:
        LOG.warning("the cache was not trimmed: %s", error)


def trim(most: int, *, unused: float = 0.0) -> list[Kept]:
    """Remove the files that were not used for the longest time, until at most `most` bytes are left.

    Files that were used within `unused` seconds stay. Gives what was removed. The last use is what the file system
    states, where it notes when a file was read; else when it was written. What is being written is left; what was put
    aside to be removed, and what processes that ended had begun to write, goes first.
    """
    removed = {
        kind: [sum(pair) for pair in zip(_remove_aside(kind), _remove_begun(kind), strict=True)] for kind in KINDS
    }
    surplus = sum(size for kind in KINDS for _, size, _ in _files(kind)) - most
    kinds = KINDS if surplus > 0 else ()
    files = sorted((used, kind, size, path) for kind in kinds for used, size, path in _files(kind))
    latest = time.time() - unused
    for used, kind, size, path in files:
        if surplus <= 0 or (unused and used > latest):
            break
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            fix = "Check its permissions, or remove it by hand."
            raise OutputError(f"cannot be removed: {error.strerror or error}", where=path, fix=fix) from error
        surplus -= size
        removed[kind][0] += 1
        removed[kind][1] += size
    return [Kept(kind, cache_folder() / kind, *counts) for kind, counts in removed.items()]


def _remove_begun(kind: Kind) -> list[int]:
    """Remove files that were begun two days ago or earlier and never put in place; gives their number and bytes."""
    folder, sizes = cache_folder() / kind, []
    for place, _, names in () if folder.is_symlink() or folder.parent.is_symlink() else os.walk(folder):
        for path in (Path(place, name) for name in names if name.startswith(".") and name.endswith(".part")):
            with suppress(OSError):
                status = path.lstat()
                if time.time() - status.st_mtime > _USED:
                    path.unlink()
                    sizes.append(status.st_size)
    return [len(sizes), sum(sizes)]


def _files(kind: Kind) -> Iterator[tuple[float, int, str]]:
    """The last use, size and path of every file of a kind that is whole; none behind a link."""
    folder = cache_folder() / kind
    for place, _, names in () if folder.is_symlink() or folder.parent.is_symlink() else os.walk(folder):
        for path in (f"{place}/{name}" for name in names if not name.startswith(".")):
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                yield max(status.st_atime, status.st_mtime), status.st_size, path


def _sizes(folder: Path) -> Iterator[int]:
    """The size of every file in a folder and below it."""
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):  # another process has just put it in its place, or cleared it
                yield Path(place, name).lstat().st_size


def _aside(kind: Kind) -> list[Path]:
    """The folders of a kind that were put aside to be removed; one is left where that was stopped."""
    return [
        folder for folder in sorted(cache_folder().glob(f".{kind}-*")) if folder.is_dir() and not folder.is_symlink()
    ]


def _remove_aside(kind: Kind) -> list[int]:
    """Remove what was put aside; gives its number of files and bytes."""
    sizes: list[int] = []
    for folder in _aside(kind):
        sizes += _sizes(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return [len(sizes), sum(sizes)]


def _remove_whole(folder: Path) -> None:
    """Remove a folder that was put aside: who was about to write into it may still add or rename a file, once."""
    for tries_left in reversed(range(_TRIES_ASIDE)):
        try:
            shutil.rmtree(folder)
            return
        except OSError as error:
            if error.errno == errno.ENOENT and not folder.exists():  # another process has removed it
                return
            if not tries_left or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _remove(kind: Kind) -> None:
    """Remove the folder of a kind: first put it aside in one step, since other processes may be writing into it."""
    folder = cache_folder() / kind
    for tries_left in reversed(range(_TRIES)):
        try:
            if folder.is_symlink():
                folder.unlink()
            elif folder.is_dir():
                try:
                    folder.rename(tempfile.mkdtemp(prefix=f".{kind}-", dir=folder.parent))
                except OSError:  # cannot be put aside
                    shutil.rmtree(folder)
            for each in _aside(kind):
                _remove_whole(each)
            return
        except OSError as error:
            if tries_left and error.errno in (errno.ENOENT, errno.ENOTEMPTY):  # another process was there meanwhile
                time.sleep(_PAUSE)
                continue
            fix = "Check its permissions, or remove it by hand."
            raise OutputError(f"cannot be removed: {error.strerror or error}", where=str(folder), fix=fix) from error
