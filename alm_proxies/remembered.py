"""Digests of files, remembered by size and time of change: a file is read again only where one of these differs.

They are in the cache, `digests/`, or, of corpora whose cards forbid copies and where the cache cannot be used, in a
folder of the run. A file whose content changed but whose size and time of change did not counts as unchanged.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alm_proxies import cache
from alm_proxies.errors import InputError, OutputError
from alm_proxies.files import digest_file, digest_of, open_file, write_bytes
from alm_proxies.progress import Progress

_AT_ONCE = 8
"""Files that are read at the same time."""
_BATCH = 64
REMEMBERED = "remembered"
"""The sub-folder of a folder of results for what may not be in the cache."""
UNREADABLE = "unreadable"
"""The digest of a file that is there and cannot be read."""
Entry = tuple[int, int, str]
"""Size in bytes, time of the last change in nanoseconds, digest of the content."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the digests of the files of one folder are remembered."""

    key: str
    """A digest that identifies the folder."""
    own: Path | None
    """A folder of the run; None if it has none."""
    cached: bool
    """Whether they may be in the cache."""

    @classmethod
    def of(cls, names: Iterable[str], own: Path | None, *, cached: bool) -> Memory:
        """The memory of what these names identify."""
        return cls(digest_of(list(names)), own, cached)

    def read(self) -> dict[str, list[object]]:
        """The entries by name; none where they are damaged or cannot be read."""
        for folder in (self._cache(), self.own):
            if folder is not None:
                with suppress(OSError, ValueError, RecursionError), open_file(folder / self._name) as stream:
                    content = json.loads(stream.read())
                    return content if isinstance(content, dict) else {}
        return {}

    def write(self, entries: Mapping[str, object]) -> None:
        """Keep the entries; where nothing can be written the files are read the next time too."""
        content = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
        folder = self._cache()
        if folder is not None and cache.write(folder / self._name, content):
            return
        if self.own is not None:
            with suppress(OutputError):
                write_bytes(self.own / self._name, content)

    @property
    def _name(self) -> str:
        return f"{self.key}.json"

    def _cache(self) -> Path | None:
        return cache.folder_of("digests") if self.cached else None


def digests_of(
    paths: Mapping[str, str | Path],
    memory: Memory,
    *,
    only: bool = False,
    message: str = "reading files",
    quiet: bool = True,
) -> dict[str, str]:
    """The digest of every file that is there, by its name in `paths`, in their order.

    If `only`, others are forgotten: there are no more files in the folder than these.
    """
    known = memory.read()
    if only:
        known = {name: entry for name, entry in known.items() if name in paths}
    entries = _entries(paths, known)
    unread = [name for name, entry in entries.items() if entry is None]
    if unread:
        new: dict[str, Entry] = {}
        try:
            new.update(_read({name: paths[name] for name in unread}, message, quiet))
        finally:
            if kept := {name: entry for name, entry in new.items() if entry[2] != UNREADABLE and entry[0] >= 0}:
                memory.write({**known, **kept})
        entries |= {name: new.get(name) for name in unread}
    return {name: entry[2] for name, entry in entries.items() if entry is not None}


def known_digests(paths: Mapping[str, str | Path], memory: Memory) -> dict[str, str]:
    """The digest of every file that is as remembered, by its name in `paths`; no file is read."""
    return {name: entry[2] for name, entry in _entries(paths, memory.read()).items() if entry is not None}


def _entries(paths: Mapping[str, str | Path], known: Mapping[str, list[object]]) -> dict[str, Entry | None]:
    """What is remembered of every file that is there; None where it is not as remembered."""
    states = {name: status_of(path) for name, path in paths.items()}
    return {name: _remembered(known.get(name), status) for name, status in states.items() if status is not None}


def status_of(path: str | Path) -> os.stat_result | None:
    """The status of a regular file; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - this runs for every recording
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _remembered(entry: object, status: os.stat_result) -> Entry | None:
    """The entry of a file if it is that of this size and time."""
    match entry:
        case [int(size), int(changed), str(digest)] if (size, changed) == (status.st_size, status.st_mtime_ns):
            return size, changed, digest
    return None


def _read(paths: Mapping[str, str | Path], message: str, quiet: bool) -> Iterator[tuple[str, Entry]]:
    """The entries of files, read by several threads; not of those that are gone meanwhile."""
    items = list(paths.items())
    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
    with (
        Progress(message, len(items), quiet=quiet) as progress,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="read-files") as pool,
    ):
        try:
            for batch in pool.map(lambda batch: [(name, _entry(path)) for name, path in batch], batches):
                yield from ((name, entry) for name, entry in batch if entry is not None)
                progress.advance(len(batch))
        finally:
            pool.shutdown(cancel_futures=True)


def _entry(path: str | Path) -> Entry | None:
    """The entry of a file; of one that is written meanwhile with a size that no file has, which is not kept."""
    before = status_of(path)
    try:
        digest = digest_file(path)
    except InputError:
        digest = UNREADABLE
    after = status_of(path)
    if before is None or after is None:
        return None
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return (before.st_size, before.st_mtime_ns, digest) if same else (-1, 0, digest)
