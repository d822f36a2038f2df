"""Copies of remote files: fetched once, then opened from the cache, or kept in memory only.

The cache has the content under its own SHA-256 (`<digest>.bin`), and for each address what the store stated when it was
fetched (`<digest of the address>.json`). A copy appears whole or not at all, so processes may fetch the same file side
by side. A copy is checked against its digest when a process first opens it, and used for an hour without a question to
the store; then the store is asked whether it has changed.
A file of a corpus whose card forbids copies is never on a disk: on Linux it is in memory, elsewhere in a file without a
name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

from alm_proxies import cache
from alm_proxies.files import whole
from alm_proxies.remote import buckets
from alm_proxies.remote.fault import SECONDS, TRIES, Deadline, FetchError, NoRoomError, State, refuse_address
from alm_proxies.uris import scheme_of

T = TypeVar("T")
_SYSTEM: str = sys.platform
AT_ONCE = 8
"""Files that are fetched at the same time by whoever reads ahead."""
_ASK_AGAIN = 3600.0
"""Seconds after which a process asks the store again whether a file has changed."""
_IN_MEMORY = 256 * 2**20
"""Bytes of files that may not be cached, kept for a second slice of the same recording."""
_TO_LOOK = 20.0
"""Seconds in which a store has to state what it has."""
_TEN_YEARS = 3.2e8
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Fetched:
    """An open copy of a remote file, which the caller closes."""

    handle: int
    size: int
    digest: str
    """SHA-256 of its content."""
    mark: int
    """A number that differs when the store states another content; 0 if it does not state any."""


@dataclass(slots=True)
class _Known:
    """What this process knows of the copies."""

    copies: dict[str, tuple[str, int, int, float]] = field(default_factory=dict)
    """By address: digest, size and mark, and until when it is used without a question."""
    checked: set[str] = field(default_factory=set)
    """Digests of copies that have been compared with their content."""
    states: dict[str, tuple[State | None, float]] = field(default_factory=dict)
    memory: OrderedDict[str, Fetched] = field(default_factory=OrderedDict)
    locks: dict[str, tuple[threading.Lock, int]] = field(default_factory=dict)


_known = _Known()
_alone = threading.Lock()


def open_copy(uri: str, *, keep: bool) -> Fetched:
    """Open a copy of a remote file, fetched if there is none; without `keep` nothing is left on a disk.

    Raises FetchError.
    """
    refuse_address(uri)
    with _one_at_a_time(uri):
        if keep:
            with suppress(NoRoomError):
                return _cached(uri)
        return _in_memory(uri)


def state_of(uri: str, *, seconds: float = SECONDS, tries: int = TRIES) -> State | None:
    """What the store states about a file, without fetching it; None if there is no such file. Raises FetchError."""
    refuse_address(uri)
    known = _known.states.get(uri)
    if known is not None and time.monotonic() < known[1]:
        return known[0]
    try:
        stated: State | None = _tried(lambda deadline: _store(uri).state(uri, deadline), seconds, tries)
    except FetchError as error:
        if error.kind != "missing":
            raise
        stated = None
    _known.states[uri] = (stated, time.monotonic() + _ASK_AGAIN)
    with _alone:  # who sees this state shall not be given the content of another
        if uri in _known.copies and _known.copies[uri][2] != mark_of(stated):
            del _known.copies[uri]
        if uri in _known.memory and _known.memory[uri].mark != mark_of(stated):
            os.close(_known.memory.pop(uri).handle)
    return stated


def states_of(uris: Iterable[str], *, seconds: float = SECONDS, tries: int = TRIES) -> list[State | FetchError | None]:
    """The states of many files, several at a time; an error in the place of those that cannot be had."""

    def state_or_error(uri: str) -> State | FetchError | None:
        try:
            return state_of(uri, seconds=seconds, tries=tries)
        except FetchError as error:
            return error

    with ThreadPoolExecutor(2 * AT_ONCE, thread_name_prefix="look-remote") as pool:
        return list(pool.map(state_or_error, uris))


def known_by_store(uris: Sequence[str]) -> list[str | None]:
    """For each file what differs when its content differs; None for a file that is not there.

    Where the store cannot be asked, it is what it stated when the copy in the cache was fetched.
    """
    known: list[str | None] = []
    for uri, state in zip(uris, states_of(uris, seconds=_TO_LOOK, tries=2), strict=True):
        if isinstance(state, FetchError):
            entry = _entry(uri)
            state = entry[0] if entry is not None else State("", None, "")
        known.append(None if state is None else state.known or "")
    return known


def marks_of(uris: Sequence[str]) -> dict[str, int | None]:
    """The mark of each file as the store states it now; None where it cannot be asked, or has no such file."""
    states = states_of(uris, seconds=_TO_LOOK, tries=2)
    return {uri: mark_of(state) if isinstance(state, State) else None for uri, state in zip(uris, states, strict=True)}


def mark_of(state: State | None) -> int:
    """A number for what a store states, which fits into 63 bits; 0 if it states nothing of the content."""
    known = state.known if state is not None else None
    return 0 if known is None else int.from_bytes(hashlib.sha256(known.encode()).digest()[:8], "big") >> 1


def save_copy(uri: str, path: Path) -> None:
    """Fetch a remote file to a path, whole or not at all; nothing is cached."""
    refuse_address(uri)
    with whole(path) as temporary, temporary.open("wb") as stream:
        _fetch(uri, stream.fileno(), None)


def copy_to(uri: str, path: Path) -> None:
    """Write a remote file, or its copy in the cache, to a path."""
    copy = open_copy(uri, keep=True)
    with os.fdopen(copy.handle, "rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _cached(uri: str) -> Fetched:
    """The copy in the cache, fetched anew if it has changed."""
    known = _known.copies.get(uri)
    if known is not None and time.monotonic() < known[3] and (opened := _opened(*known[:3])) is not None:
        return opened
    folder = cache.folder_of("audio")
    if folder is None:
        raise NoRoomError
    entry = _entry(uri)
    held = _opened(entry[1], entry[2], mark_of(entry[0])) if entry is not None else None
    try:
        opened = _fetched_into(folder, uri, entry[0] if entry is not None and held is not None else None)
    except BaseException:
        if held is not None:
            os.close(held.handle)
        raise
    if opened is None:
        assert held is not None
        opened = held
    elif held is not None:
        os.close(held.handle)
    _known.copies[uri] = (opened.digest, opened.size, opened.mark, time.monotonic() + _ASK_AGAIN)
    return opened


def _fetched_into(folder: Path, uri: str, known: State | None) -> Fetched | None:
    """Fetch a file into the cache; None if it is still that of `known`."""
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    except OSError as error:
        raise NoRoomError from error
    temporary = Path(name)
    try:
        fetched, stated = _fetch(uri, handle, known)
        if fetched is None:
            return None
        digest, size = fetched
        if stated is not None and stated.known is not None:  # otherwise it could never be used again
            os.fsync(handle)
            temporary.replace(folder / f"{digest}.bin")
            _write_entry(uri, stated, digest, size)
            _known.checked.add(digest)
        return Fetched(os.dup(_rewound(handle)), size, digest, mark_of(stated))
    except OSError as error:
        raise NoRoomError from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _in_memory(uri: str) -> Fetched:
    """A copy that is on no disk."""
    with _alone:
        held = _known.memory.get(uri)
        if held is not None:
            _known.memory.move_to_end(uri)
            return _again(held)
    handle = _nameless()
    try:
        fetched, stated = _fetch(uri, handle, None)
        assert fetched is not None
        copy = Fetched(_rewound(handle), fetched[1], fetched[0], mark_of(stated))
        if _SYSTEM != "linux":
            return copy
        opened = _again(copy)
    except NoRoomError:
        os.close(handle)
        fix = "Free some memory, or cut it into shorter recordings."
        raise FetchError("not_fetched", "does not fit into memory", where=uri, fix=fix) from None
    except BaseException:
        os.close(handle)
        raise
    with _alone:
        _known.memory[uri] = copy
        while sum(kept.size for kept in _known.memory.values()) > _IN_MEMORY:
            os.close(_known.memory.popitem(last=False)[1].handle)
    return opened


def _nameless() -> int:
    """A file without a name: in memory on Linux, else one that vanishes with its descriptor."""
    if _SYSTEM == "linux":
        return os.memfd_create("alm-proxies", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


def _again(held: Fetched) -> Fetched:
    """The same memory under a descriptor of its own, with a position of its own."""
    handle = os.open(f"/proc/self/fd/{held.handle}", os.O_RDONLY | os.O_CLOEXEC)
    return Fetched(handle, held.size, held.digest, held.mark)


def _fetch(uri: str, handle: int, known: State | None) -> tuple[tuple[str, int] | None, State | None]:
    """Fetch a file into a descriptor: digest and size of its content, or None if it is that of `known`."""
    digest, size = hashlib.sha256(), 0

    def sink(chunk: bytes) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(handle, view) :]
        except OSError as error:
            raise NoRoomError(error.strerror or str(error)) from error

    def once(deadline: Deadline) -> State | None:
        nonlocal digest, size
        digest, size = hashlib.sha256(), 0
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        stated: State | None = _store(uri).download(uri, sink, known, deadline)
        return stated

    stated = _tried(once, SECONDS, TRIES)
    return (None, None) if stated is None else ((digest.hexdigest(), size), stated)


def _tried(once: Callable[[Deadline], T], seconds: float, tries: int) -> T:
    """The result of a request, tried again where that may help, within the time."""
    from tenacity import (
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        stop_before_delay,
        wait_exponential,
        wait_random,
    )

    pause = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0.0, 0.25)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(pause(state), error.after if isinstance(error, FetchError) else 0.0)

    def remembering(deadline: Deadline) -> T:
        try:
            return once(deadline)
        except FetchError as error:
            deadline.reason = deadline.reason or error.message
            raise

    deadline = Deadline(seconds)
    trying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.passes),
        stop=stop_after_attempt(tries) | stop_before_delay(seconds),
        wait=wait,
        reraise=True,
    )
    return trying(remembering, deadline)


def _store(uri: str) -> ModuleType:
    if scheme_of(uri) not in ("http", "https"):
        return buckets
    from alm_proxies.remote import web

    return web


def _opened(digest: str, size: int, mark: int) -> Fetched | None:
    """An open copy from the cache; None if there is none, or it is damaged."""
    path = cache.file_of("audio", digest, ".bin")
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if os.fstat(handle).st_size == size and (digest in _known.checked or _digest_of(handle) == digest):
        _known.checked.add(digest)
        return Fetched(_rewound(handle), size, digest, mark)
    os.close(handle)
    return None


def _digest_of(handle: int) -> str:
    digest = hashlib.sha256()
    while block := os.read(handle, _BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _rewound(handle: int) -> int:
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _key(uri: str) -> str:
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _entry(uri: str) -> tuple[State, str, int] | None:
    """What the store stated when a copy was fetched, and digest and size of the copy, if it is there."""
    stored = cache.read_json("audio", _key(uri), seconds=_TEN_YEARS)
    if not isinstance(stored, dict):
        return None
    try:
        state = State(str(stored["mark"]), stored["stated_size"], str(stored["changed"]))
        digest, size = str(stored["digest"]), int(stored["size"])
    except (TypeError, KeyError, ValueError):
        return None
    return (state, digest, size) if digest.isalnum() and len(digest) == 64 else None


def _write_entry(uri: str, state: State, digest: str, size: int) -> None:
    stored = {"mark": state.mark, "stated_size": state.size, "changed": state.changed, "digest": digest, "size": size}
    cache.write_json("audio", _key(uri), stored)


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Threads that want the same file wait for the one that fetches it."""
    with _alone:
        lock, waiting = _known.locks.get(uri, (threading.Lock(), 0))
        _known.locks[uri] = (lock, waiting + 1)
    try:
        with lock:
            yield
    finally:
        with _alone:
            lock, waiting = _known.locks[uri]
            if waiting == 1:
                del _known.locks[uri]
            else:
                _known.locks[uri] = (lock, waiting - 1)
