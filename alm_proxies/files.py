"""Files: atomic writes, digests of content and settings, and the files shipped with the package."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from alm_proxies.errors import AlmProxiesError, InputError, OutputError, OutputPathError, SettingsError
from alm_proxies.uris import remote_of

_READ_AT_ONCE = 2**18
_READ_AT_LEAST = 2**12
_READ_OF_WEIGHTS = 16 * 2**20
_PIECES_OF_WEIGHTS = (256, 2**16)
"""The number of pieces and the bytes of each that are read between beginning and end of a large file."""
_LONGEST_TEXT = 2**30
_OF_THIS_PROCESS = Path("/proc/self/status")
_ONE_AT_A_TIME = threading.Lock()
_MADE_BY_THE_KERNEL = re.compile(
    "proc|sysfs|cgroup2?|debugfs|tracefs|securityfs|configfs|bpf|pstore|efivarfs|mqueue|devpts|autofs|rpc_pipefs"
    "|fusectl|binfmt_misc|selinuxfs|nsfs"
)
"""File systems with files that look regular, but may be endless or block."""
_IS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}
_NEXT = {
    errno.EIO: "Free some space or choose another folder, then run the same command again.",
    errno.ENOSPC: "Free some space or choose another folder, then run the same command again.",
    errno.EDQUOT: "Your disk quota is used up: free some space or choose another folder, then run it again.",
    errno.EACCES: "Choose a folder you may write to.",
    errno.EPERM: "Choose a folder you may write to.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENOTDIR: "Part of the path is a file, not a folder: choose another path.",
    errno.EEXIST: "Part of the path is a file, not a folder: choose another path.",
    errno.ENOTEMPTY: "Something else was written there meanwhile: run the same command again.",
    errno.EISDIR: "There is a folder of this name: choose another path.",
    errno.EINVAL: "Choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_OF_THE_PATH = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG})
"""Errors of the path that was named, not of the disk."""


class IrregularFileError(OSError):
    """A path is not a regular file: reading it might never end, and replacing it would break it."""


def open_file(path: str | Path) -> BufferedReader:
    """Open a regular file for reading; every reader of a user's file uses this. Raises OSError."""
    return os.fdopen(file_handle(path), "rb")


def file_handle(path: str | Path) -> int:
    """Open a regular file and return its descriptor; anything else is an IrregularFileError.

    The path is checked before it is opened, since opening a pipe may block, and again once it is open.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "its name has a null character")
    _refuse_irregular(os.stat(path))  # noqa: PTH116 - this runs for every recording
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _refuse_irregular(os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def refuse_irregular(path: str | Path) -> None:
    """Raise OSError unless a path is a regular file; for readers of other packages, which open it themselves."""
    os.close(file_handle(path))


def is_there(path: str | Path, *, file: bool = False) -> bool:
    """Whether there is something (a regular file, where `file`) at a path, never an error.

    A path without permission to look at it counts as existing, an impossible name as missing.
    """
    try:
        return stat.S_ISREG(Path(path).stat().st_mode) or not file
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        return error.errno not in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def _refuse_irregular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode) and status.st_dev not in _kernel_devices():
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    named = next((name for is_so, name in _IS.items() if is_so(status.st_mode)), "made by the kernel")
    raise IrregularFileError(errno.EINVAL, f"is {named}, not a regular file")


@lru_cache(maxsize=1)
def _kernel_devices() -> frozenset[int]:
    """The device numbers of mounted virtual file systems of the kernel."""
    devices = set()
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            if _MADE_BY_THE_KERNEL.fullmatch(after.split(" ", 1)[0]):
                major, _, minor = before.split(" ")[2].partition(":")
                devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Atomic write: a context manager with a temporary path beside `path`, which is synced and renamed on success.

    Raises if there is anything at `path` that is not a regular file, such as a device or a pipe.
    """
    target = Path(path)
    temporary: Path | None = None
    refuse_remote(target)
    try:
        if "\0" in str(target):
            raise OSError(errno.EINVAL, "its name has a null character")
        if is_there(target):
            _refuse_irregular(target.stat())
        target.parent.mkdir(parents=True, exist_ok=True)
        short = os.fsdecode(os.fsencode(target.name)[:200])  # a name has at most 255 bytes, with the ending
        handle, name = tempfile.mkstemp(prefix=f".{short}.", suffix=".part", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        settle(temporary)
        temporary.replace(target)
        flush(target.parent)
    except OSError as error:
        _forget(temporary)
        raise _could_not_write(target, error) from error
    except BaseException as error:
        _forget(temporary)
        if refused := system_error(error):
            raise _could_not_write(target, refused) from error
        raise


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """A context in which an error of the system, such as a full disk, is an OutputError about this path."""
    try:
        yield
    except AlmProxiesError:
        raise
    except Exception as error:
        if refused := system_error(error):
            raise _could_not_write(target, refused) from error
        raise


def system_error(error: BaseException) -> OSError | None:
    """The system's error behind one that was raised while a file was written; None where there is none."""
    if isinstance(error, OSError):
        return error
    if match := re.search(r"os error (\d+)", str(error)):  # polars hides it in the text of its own
        return OSError(int(match[1]), os.strerror(int(match[1])))
    if "thrift: transport error" in str(error):  # its Parquet writer gives no more detail
        return OSError(errno.EIO, "the disk is full, or refuses to be written")
    return None


def make_folder(path: str | Path) -> None:
    """Create a folder and its parents, if they do not exist."""
    refuse_remote(Path(path))
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _could_not_write(Path(path), error) from error


@contextmanager
def folder_to_fill(path: str | Path) -> Iterator[None]:
    """Create a folder for as long as something is written there; on an error, new folders that are empty go again."""
    new = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
    make_folder(path)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # such as: it is not empty
            for folder in new:
                folder.rmdir()
        raise


def remove(path: str | Path) -> None:
    """Remove a file, if it exists."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise _could_not_write(Path(path), error) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:
    """Write readable JSON (indented, keys in the given order) atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def canonical_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """The digest of a JSON value: sixteen hexadecimal digits."""
    return digest_of_bytes(canonical_json(value).encode("utf-8"))


def digest_of_bytes(content: bytes) -> str:
    """The digest of a file with this content: sixteen hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_file(path: str | Path) -> str:
    """The digest of a file's content: sixteen hexadecimal digits."""
    try:
        handle = file_handle(path)
        try:
            digest = hashlib.sha256()
            at_once = min(_READ_AT_ONCE, max(_READ_AT_LEAST, os.fstat(handle).st_size + 1))  # no memory for nothing
            while content := os.read(handle, at_once):
                digest.update(content)
        finally:
            os.close(handle)
        return digest.hexdigest()[:16]
    except OSError as error:
        raise could_not_read(path, error) from error


def weights_digest(folder: Path, pattern: str = "*") -> str:
    """The digest of a model's folder: sixteen hexadecimal digits; of large files size, beginning, end and pieces
    between them count, since models of which only some layers were trained can have the same weights at both ends.
    """
    parts = []
    for path in sorted(path for path in folder.glob(pattern) if path.is_file()):
        size = path.stat().st_size
        with open_file(path) as stream:
            content = stream.read(_READ_OF_WEIGHTS)
            if size > 2 * _READ_OF_WEIGHTS:
                content += _pieces(stream, size)
                stream.seek(size - _READ_OF_WEIGHTS)
            parts.append([path.name, size, hashlib.sha256(content + stream.read()).hexdigest()])
    return digest_of(parts)


def _pieces(stream: BufferedReader, size: int) -> bytes:
    """Pieces of a large file, evenly spread between its beginning and its end."""
    count, length = _PIECES_OF_WEIGHTS
    pieces = []
    for number in range(count):
        stream.seek(_READ_OF_WEIGHTS + number * (size - 2 * _READ_OF_WEIGHTS) // count)
        pieces.append(stream.read(length))
    return b"".join(pieces)


def could_not_read(path: str | Path, error: OSError) -> InputError:
    """The error for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return InputError("there is no such file", where=str(path), fix="Check the path.")
    if isinstance(error, IsADirectoryError):
        return InputError("this is a folder, a file is needed", where=str(path), fix="Name a file inside it.")
    if isinstance(error, IrregularFileError):
        return InputError(f"{error.strerror}", where=str(path), fix="Write it into a file first, and name that.")
    return InputError(f"cannot be read: {error.strerror or error}", where=str(path), fix="Check its permissions.")


def refuse_unreadable_folder(folder: str | Path) -> None:
    """Raise for a folder whose files cannot be listed or opened; they would look absent."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise could_not_read(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a file; raises InputError if it is missing, unreadable or wrongly encoded."""
    try:
        with open_file(path) as stream:
            content = stream.read(_LONGEST_TEXT + 1)
        if len(content) > _LONGEST_TEXT:
            raise InputError(f"is larger than {_LONGEST_TEXT:,} bytes", where=str(path), fix="Name the right file.")
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise could_not_read(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not {encoding} text (byte {error.start})", where=str(path), fix=f"Save it as {encoding}."
        ) from error


def shipped(kind: str, name: str) -> Path:
    """The path of a file shipped with the package: kind is prompts, pipelines or data_cards."""
    folder = shipped_folder(kind)
    path = folder / name
    if not path.exists():
        known = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.is_file())
        raise SettingsError(f"no file {name!r} is shipped in {kind}", fix=f"There are: {', '.join(known) or 'none'}.")
    return path


def shipped_folder(kind: str) -> Path:
    """The folder of the shipped prompts, pipelines or data_cards: inside the wheel, or in the checkout."""
    package = package_folder()
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def package_folder() -> Path:
    """The folder the package is in."""
    return Path(__file__).resolve().parent


def settle(path: Path) -> None:
    """fsync a finished file, with the mode of any new file: some libraries write files that only the user may read."""
    path.chmod(0o666 & ~_umask())
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_remote(target: Path) -> None:
    """Raise for an address: results are written to this machine."""
    if (uri := remote_of(target)) is not None:
        fix = "Name a folder or file on this machine, and copy the results afterwards."
        raise SettingsError("results are not written to addresses", where=uri, fix=fix)


def _could_not_write(target: Path, error: OSError) -> OutputError:
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and (at := _in_the_way(target)) is not None:
        is_what = "a file" if at.is_file() else "a link to nothing" if at.is_symlink() else "not a folder"
        message = f"a folder is needed here, but {'this' if at == target else at} is {is_what}"
        return OutputPathError(message, where=str(target), fix="Choose another path, or remove it.")
    reason = error.strerror or str(error)
    fix = _NEXT.get(error.errno or 0, "Check the path and run it again.")
    kind = OutputPathError if error.errno in _OF_THE_PATH else OutputError
    return kind(f"could not be written: {reason}", where=str(target), fix=fix)


def _in_the_way(target: Path) -> Path | None:
    """What there is in place of a folder on the way to a path, or at it."""
    return next((path for path in (target, *target.parents) if os.path.lexists(path) and not path.is_dir()), None)


def _forget(temporary: Path | None) -> None:
    if temporary is not None:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The mask of new files' modes; to ask for it elsewhere than on Linux it has to be set, for all threads."""
    with suppress(OSError, ValueError, StopIteration):
        lines = _OF_THIS_PROCESS.read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    with _ONE_AT_A_TIME:
        current = os.umask(0o077)
        os.umask(current)
    return current
