"""Numbers measured of clips, by content: in the cache for all commands, or in a run's own folder.

Of corpora that may be copied they are in the cache, `features/<computation>/<corpus>/`; of the others, and of all where
the cache cannot be used, in the run's folder. What is not under a corpus's own name is looked for under those of
others, since the content decides. A folder holds Parquet files named by a digest of their content: each appears whole
or not at all, several processes may write side by side, and a damaged one is never read as values. Many small files
become one. A file is compared with its name once, and again only if its size or time changed; of the files of a corpus
only the keys are read, and the rest when one of its clips is asked for. At most 1 GiB of them is held in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies import cache
from alm_proxies.files import digest_of, digest_of_bytes, write_bytes
from alm_proxies.remembered import REMEMBERED, UNREADABLE, Memory, digests_of
from alm_proxies.table_files import read_parquet
from alm_proxies.tables import Finding

Numbers = NDArray[Any]
Row = tuple[Numbers, str]
"""The numbers of a clip, and a text that belongs to them."""
_WHOLE = "whole-"
"""The beginning of a file's name, before the digest of its content."""
_FLUSH = 500
"""The largest number of new rows written at once."""
_FLUSH_BYTES = 2**26
"""The largest size of new rows written at once, unless one is larger."""
_HELD = 2**30
"""The largest size of the files of one folder that are held in memory; one is held in any case."""
_MANY = 64
"""The number of small files in a folder that become one."""
_SMALL = 2**20
"""The size from which on a file is not small, on disk or in memory: rows that repeat take little on disk."""
_CHANGED = "it was changed after it was written"


class Store:
    """Rows by a digest of the recording; `digest` identifies the computation and `own` is the run's folder, if any.

    `beside` is the folder of another run, whose rows are only read. Wherever a corpus is asked for, it is the name of
    one that may be copied; None for one that may not.
    """

    def __init__(
        self,
        digest: str,
        width: int,
        own: Path | None,
        numbers: type[pl.DataType] = pl.Float32,
        *,
        beside: Path | None = None,
    ) -> None:
        self._digest = digest
        self._type = pl.Array(numbers(), width)
        self._at_once = max(1, min(_FLUSH, _FLUSH_BYTES // (8 * max(width, 1))))
        self._own = own / digest if own is not None else None
        self._shelves: dict[str | None, _Shelf] = {}
        self._beside = [] if beside is None else [_Shelf(beside / digest, cached=False)]
        self._others: list[_Shelf] | None = None
        self._alone = threading.Lock()
        self._unkept = ""
        self._new: list[tuple[str | None, str, Row]] = []

    def get(self, key: str, corpus: str | None) -> Row | None:
        """The row of a key, if any."""
        with self._alone:
            return next((row for shelf in self._of(corpus) if (row := shelf.get(key)) is not None), None)

    def add(self, key: str, corpus: str | None, row: Row) -> None:
        """Add a row; rows are written in batches."""
        self._new.append((corpus, key, row))
        if len(self._new) >= self._at_once:
            self.flush()

    def flush(self) -> None:
        """Write the new rows."""
        by_corpus: dict[str | None, list[tuple[str, Row]]] = {}
        for corpus, key, row in self._new:
            by_corpus.setdefault(corpus, []).append((key, row))
        for corpus, rows in by_corpus.items():
            self._write(rows, self._cached(corpus), may_be_cached=corpus is not None)
        self._new.clear()

    def findings(self, stage: str = "") -> tuple[Finding, ...]:
        """Findings for files that were found damaged, and for a cache that could not be used."""
        message = "cached features cannot be read ({}); they are computed again"
        shelves = [*self._shelves.values(), *self._beside, *(self._others or [])]
        broken = [item for shelf in shelves for item in shelf.broken.items()]
        found = [
            Finding(stage, "cache_unreadable", message.format(why), _fix_of(path), where=str(path))
            for path, why in broken
        ]
        if self._unkept:
            where = f"in {self._own}" if self._own is not None else "nowhere"
            message = f"the cache cannot be used ({self._unkept}); new features are kept {where}"
            fix = "Make it writable, or name a folder that is in XDG_CACHE_HOME."
            found.append(Finding(stage, "cache_unusable", message, fix, where=str(cache.cache_folder())))
        return tuple(found)

    def _of(self, corpus: str | None) -> Iterator[_Shelf]:
        """The cache's rows of a corpus, those in the folders of runs, and those of other corpora in the cache."""
        for name in dict.fromkeys((corpus, None)):
            if name not in self._shelves:
                folder = self._own if name is None else self._cached(name)
                self._shelves[name] = _Shelf(folder, cached=name is not None)
            yield self._shelves[name]
        yield from self._beside
        if corpus is not None:
            if self._others is None:
                self._others = [_Shelf(folder, cached=True) for folder in self._other_folders(corpus)]
            yield from self._others

    def _other_folders(self, corpus: str) -> list[Path]:
        own = self._cached(corpus)
        if own is None:
            return []
        with suppress(OSError):
            return sorted(folder for folder in own.parent.iterdir() if folder != own and folder.is_dir())
        return []

    def _cached(self, corpus: str | None) -> Path | None:
        return cache.folder_of("features", self._digest, digest_of(corpus)) if corpus is not None else None

    def _write(self, rows: list[tuple[str, Row]], cached: Path | None, *, may_be_cached: bool) -> None:
        keys, values = zip(*rows, strict=True)
        vectors, texts = zip(*values, strict=True)
        frame = pl.DataFrame(
            [
                pl.Series("key", keys, dtype=pl.String()),
                pl.Series("text", texts, dtype=pl.String()),
                pl.Series("vector", np.stack(vectors), dtype=self._type),
            ]
        )
        row_bytes = int(frame["vector"].estimated_size()) // len(frame)
        if cached is not None and _put(frame, cached, cache.write) is not None:
            _merge(cached, cache.write, row_bytes)
            return
        if may_be_cached:
            self._unkept = cache.why_unusable("features") or "it could not be written"
        if self._own is not None:
            _put(frame, self._own, _write_own)
            _merge(self._own, _write_own, row_bytes)


def _put(frame: pl.DataFrame, folder: Path, write: Callable[[Path, bytes], bool]) -> Path | None:
    """The file in which these rows are now; None if it could not be written."""
    content = BytesIO()
    frame.unique("key", keep="first").sort("key").write_parquet(content)
    path = folder / f"{_WHOLE}{digest_of_bytes(content.getvalue())}.parquet"
    return path if write(path, content.getvalue()) else None


def _write_own(path: Path, content: bytes) -> bool:
    write_bytes(path, content)
    return True


def _merge(folder: Path, write: Callable[[Path, bytes], bool], row_bytes: int) -> None:
    """Put the rows of many small files into one; whoever looked for one of these looks again."""
    with suppress(OSError):
        paths = sorted(folder.glob(f"{_WHOLE}*.parquet"))
        small = [path for path in paths if path.stat().st_size < _SMALL]
        if len(small) < _MANY:
            return
        whole = {path: content for path in small if _is_whole(path, content := path.read_bytes())}
        whole = {path: content for path, content in whole.items() if _rows_in(content) * row_bytes < _SMALL}
        frames = [pl.read_parquet(BytesIO(content)) for content in whole.values()]
        merged = _put(pl.concat(frames), folder, write) if len(frames) > 1 else None
        for path in whole if merged is not None else ():
            if path != merged:
                path.unlink(missing_ok=True)


def _is_whole(path: Path, content: bytes) -> bool:
    return path.stem == f"{_WHOLE}{digest_of_bytes(content)}"


def _rows_in(content: bytes) -> int:
    return int(pl.scan_parquet(BytesIO(content)).select(pl.len()).collect().item())


def _fix_of(path: Path) -> str:
    """What to do about a file that was damaged: nothing, if a whole one has replaced it."""
    with suppress(OSError):
        if _is_whole(path, path.read_bytes()):
            return "The file has been replaced, so nothing has to be done."
    return "Delete the file."


class _Shelf:
    """The rows in the files of one folder, if it is there."""

    def __init__(self, folder: Path | None, *, cached: bool) -> None:
        self._folder = folder
        self._cached = cached
        self._held: OrderedDict[Path, tuple[dict[str, Row], int]] = OrderedDict()
        """The rows of files and their size, the one asked last at the end."""
        self.broken: dict[Path, str] = {}
        self._file_of = self._index()

    def get(self, key: str) -> Row | None:
        while (path := self._file_of.get(key)) is not None:
            if path not in self._held and not self._hold(path):
                self._file_of = self._index()  # another file may have the key too
                continue
            self._held.move_to_end(path)
            return self._held[path][0].get(key)
        return None

    def _hold(self, path: Path) -> bool:
        """Read a file; those asked longest ago make room for it. False if it is damaged, or was removed since."""
        frame = self._read(path)
        if frame is None:
            return False
        rows = zip(frame["vector"].to_numpy(), frame["text"], strict=True)
        size = int(frame.estimated_size())
        while self._held and sum(held for _, held in self._held.values()) + size > _HELD:
            self._held.popitem(last=False)
        self._held[path] = dict(zip(frame["key"], rows, strict=True)), size
        return True

    def _index(self) -> dict[str, Path]:
        """The file of every key."""
        paths: list[Path] = []
        if self._folder is not None:
            with suppress(OSError):  # there is none, or it was cleared since
                paths = sorted(self._folder.glob(f"{_WHOLE}*.parquet"))
        keys = {path: self._read(path, keys_only=True) for path in self._intact(paths) if path not in self.broken}
        return {key: path for path, frame in keys.items() if frame is not None for key in frame["key"]}

    def _intact(self, paths: list[Path]) -> list[Path]:
        """The files whose content is that of their names; polars prints a trace for some that are damaged."""
        if self._folder is None or not paths:
            return []
        own = None if self._cached else self._folder / REMEMBERED
        memory = Memory.of(["features", str(self._folder)], own, cached=self._cached)
        digests = digests_of({path.name: path for path in paths}, memory, only=True)
        intact = []
        for path in paths:
            digest = digests.get(path.name)
            if path.stem == f"{_WHOLE}{digest}":
                intact.append(path)
            elif digest is not None:
                self.broken.setdefault(path, "it cannot be read" if digest == UNREADABLE else _CHANGED)
        return intact

    def _read(self, path: Path, *, keys_only: bool = False) -> pl.DataFrame | None:
        """The content of a file; None for one that is damaged, or was removed since."""
        try:
            if keys_only:
                return read_parquet(path, ["key"])
            content = path.read_bytes()
            if _is_whole(path, content):
                return pl.read_parquet(BytesIO(content))
            self.broken[path] = _CHANGED
        except FileNotFoundError:
            return None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError) as error:
            self.broken[path] = (str(error).splitlines() or [type(error).__name__])[0]
        return None
