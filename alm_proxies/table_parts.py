"""Read big tables part by part: Parquet files sorted by utterance_id, read together; no utterance is split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from alm_proxies.columns import refuse_where
from alm_proxies.errors import InputError, TableError
from alm_proxies.files import could_not_read, open_file, refuse_irregular
from alm_proxies.table_files import is_text

ID = "utterance_id"
ROW = "row in the file"
"""The column of a sorted copy that has the place of each row in the file itself, from 0."""
PART_ROWS = 2_000_000
"""The number of rows of all files together in memory at a time."""
_BLOCK = 2**20


class NotSortedError(InputError):
    """A file is not sorted by utterance id, so it cannot be read part by part."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one file."""

    frame: pl.DataFrame
    first: int
    """The number of rows of the file before them."""

    def place(self, row: int) -> int:
        """The place in the user's file of one of these rows, from 0."""
        return int(self.frame[ROW][row]) if ROW in self.frame.columns else self.first + row


def rows_in(path: Path) -> int | None:
    """The number of rows of a Parquet file with text ids; None for any other file or a folder."""
    if is_text(path) or path.is_dir():
        return None
    try:
        lazy = _scan(path)
        if lazy.collect_schema().get(ID) != pl.String():
            return None
        return int(lazy.select(pl.len()).collect().item())
    except OSError as error:
        raise could_not_read(path, error) from error
    except pl.exceptions.PolarsError:
        return None  # reading it whole raises the proper error


def about_rows(path: Path) -> int | None:
    """The number of rows of a Parquet file, or of lines of a text file; None if it is neither."""
    if path.is_dir():
        return None
    try:
        if not is_text(path):
            return int(_scan(path).select(pl.len()).collect().item())
        with open_file(path) as stream:
            return sum(block.count(b"\n") for block in iter(partial(stream.read, _BLOCK), b""))
    except OSError as error:
        raise could_not_read(path, error) from error
    except pl.exceptions.PolarsError:
        return None  # reading it whole raises the proper error


def columns_in(path: Path) -> list[str]:
    """The names of all columns of a Parquet file."""
    try:
        return _scan(path).collect_schema().names()
    except OSError as error:
        raise could_not_read(path, error) from error


def side_by_side(files: Mapping[Path, Sequence[str]], rows: int = PART_ROWS) -> Iterator[dict[Path, Rows]]:
    """Parts of all files: all rows of some consecutive utterances. `files` maps each file to its wanted columns;
    missing ones are skipped. A file that is not sorted raises NotSortedError.
    """
    heights = {path: rows_in(path) or 0 for path in files}
    total = max(sum(heights.values()), 1)
    cursors = [
        _Cursor(path, wanted, heights[path], max(rows * heights[path] // total, 1)) for path, wanted in files.items()
    ]
    while any(cursor.has_more for cursor in cursors):
        for cursor in cursors:
            cursor.fill()
        bounds = [cursor.last for cursor in cursors if cursor.unread]
        bound = min(bounds) if bounds else None
        part = {cursor.path: cursor.take(bound) for cursor in cursors}
        if any(some.frame.height for some in part.values()):
            yield part
        else:  # all rows read of a file are of one utterance: read on
            for cursor in cursors:
                if cursor.unread and cursor.last == bound:
                    cursor.size *= 2


class _Cursor:
    def __init__(self, path: Path, wanted: Sequence[str], height: int, size: int) -> None:
        self.path, self.height, self.size = path, height, size
        lazy = _scan(path)
        there = lazy.collect_schema().names()
        self.lazy = lazy.select([name for name in dict.fromkeys((ID, *wanted)) if name in there])
        self.read = 0
        self.held = self.lazy.head(0).collect()

    @property
    def unread(self) -> bool:
        return self.read < self.height

    @property
    def has_more(self) -> bool:
        return self.unread or self.held.height > 0

    @property
    def last(self) -> str:
        return str(self.held[ID][-1])

    def fill(self) -> None:
        """Keep `size` rows in memory, or all that are left."""
        if not self.unread or self.held.height >= self.size:
            return
        try:
            new = self.lazy.slice(self.read, self.size - self.held.height).collect()
        except OSError as error:
            raise could_not_read(self.path, error) from error
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0][:120]
            fix = "Write it again, or check that it was copied whole."
            raise TableError(f"cannot be read as Parquet: {reason}", where=str(self.path), fix=fix) from error
        ids = new[ID]
        try:
            refuse_where(ids.is_null(), ids, "is not allowed", str(self.path), f"Fill {ID}.")
        except TableError as error:
            raise error.of_row(self.read + (error.row or 0)) from None
        if not ids.is_sorted() or (self.held.height and ids[0] < self.last):
            raise NotSortedError("is not sorted by utterance_id", where=str(self.path))
        self.read += new.height
        self.held = pl.concat([self.held, new]) if self.held.height else new

    def take(self, bound: str | None) -> Rows:
        """The rows in memory of utterances before the bound, or all of them."""
        first = self.read - self.held.height
        count = self.held.height if bound is None else int((self.held[ID] < bound).sum())
        taken, self.held = self.held.head(count), self.held.slice(count)
        return Rows(taken, first)


def _scan(path: Path) -> pl.LazyFrame:
    refuse_irregular(path)
    return pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
