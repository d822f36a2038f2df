"""External sorting of a table file: rows are partitioned into ranges of ids, and each range is sorted in memory.

Files that are not Parquet with ids of text are copied into one first, in the order of their rows.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.about import METADATA_KEY
from alm_proxies.columns import cast, missing_column, refuse_where
from alm_proxies.errors import TableError
from alm_proxies.files import make_folder, writing
from alm_proxies.printable import counted
from alm_proxies.progress import Progress
from alm_proxies.table_files import is_text, readable, scan_table
from alm_proxies.table_parts import ID, ROW, rows_in

_SAMPLE = 20_000
"""The number of ids sampled for the ranges."""
_ORDER = (ID, "annotator", "draw", "label")
_ROW_GROUP = 2**18


@contextmanager
def folder_of_parts(beside: Path) -> Iterator[Path]:
    """A folder for parts and copies beside an output, removed at the end; what an earlier run left there goes too."""
    folder = beside.parent / f".{beside.name}.parts"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        # a separate folder: parts of another run that writes the same file are never mixed with these
        yield Path(tempfile.mkdtemp(dir=folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parquet_copy(path: Path, wanted: Sequence[str] | None, text: Sequence[str], folder: Path) -> Path:
    """The wanted columns (None: all) of a file as Parquet with ids of text, row by row in the same order.

    The columns in `text` stay text; types are those that the whole file has.
    """
    lazy = scan_table(path, text)
    copy = _own(folder) / f"{path.stem}.parquet"
    with writing(copy), readable(path):
        schema = lazy.collect_schema()
        if ID not in schema:
            raise missing_column(ID, schema.names(), str(path))
        cast(pl.Series(ID, [], dtype=schema[ID]), pl.String(), str(path))  # raises for ids that cannot be text
        names = [name for name in dict.fromkeys((ID, *(wanted or schema.names()))) if name in schema]
        lazy = lazy.select(names).with_columns(pl.col(ID).cast(pl.String()))
        metadata = None if is_text(path) else _metadata(path)
        lazy.sink_parquet(copy, compression="lz4", metadata=metadata, row_group_size=_ROW_GROUP)
        ids = pl.scan_parquet(copy, glob=False).select(pl.col(ID).is_null().arg_true()).collect(engine="streaming")[ID]
    if len(ids):
        more = f" (and {counted(len(ids) - 1, 'more row')})" if len(ids) > 1 else ""
        where = f"{path}, column {ID}, row {ids[0] + 1}"
        raise TableError(f"an empty value is not allowed{more}", where=where, fix=f"Fill {ID}.")
    return copy


def sorted_copy(
    path: Path, wanted: Sequence[str], folder: Path, *, rows: int, name: str = "", quiet: bool = True
) -> Path:
    """The wanted columns of a Parquet file in a new file, sorted by utterance id and the other columns of the key.

    It has the place of each row too. Rows without a draw keep their order, from which their draws follow. `rows` is the
    number of rows in memory at a time. The file is read twice: a sample of its ids, then all of it.
    """
    height, name = rows_in(path) or 0, name or str(path)
    lazy = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
    there = lazy.collect_schema().names()
    lazy = lazy.select([name for name in dict.fromkeys((ID, *wanted)) if name in there and name != ROW])
    order = _ORDER if "draw" in there else _ORDER[:2]
    each = max(rows // 2, 1)
    folder = _own(folder)
    copy = folder / path.name
    with writing(copy), readable(path):
        sample = lazy.select(ID).gather_every(max(height // _SAMPLE, 1)).collect(engine="streaming")[ID]
        cuts = _cuts(sample, height, each)
        pieces: list[list[Path]] = [[] for _ in range(len(cuts) + 1)]
        with Progress(f"sorting {Path(name).name}", total=height, quiet=quiet) as progress:
            for first in range(0, height, each):
                frame = lazy.slice(first, each).collect()
                frame = frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(ROW))
                ids = frame[ID]
                try:
                    refuse_where(ids.is_null(), ids, "is not allowed", name, f"Fill {ID}.")
                except TableError as error:
                    raise error.of_row(first + (error.row or 0)) from None
                place = cuts.search_sorted(ids, side="right").to_numpy() if len(cuts) else np.zeros(len(ids), np.int64)
                for number in np.unique(place).tolist():
                    piece = folder / f"sort-{number:05d}-{first:012d}.parquet"
                    frame.filter(pl.Series(place == number)).write_parquet(piece, compression="lz4")
                    pieces[number].append(piece)
                progress.advance(frame.height)
        ranges = []
        for number, some in enumerate(pieces):
            if some:
                joined = pl.concat([pl.read_parquet(piece, glob=False) for piece in some])
                ranges.append(folder / f"sort-{number:05d}.parquet")
                by = [name for name in order if name in joined.columns]
                joined.sort(by, maintain_order=True).write_parquet(ranges[-1], compression="lz4")
                for piece in some:
                    piece.unlink()
        pl.scan_parquet(ranges, glob=False).sink_parquet(
            copy, compression="lz4", metadata=_metadata(path), row_group_size=_ROW_GROUP
        )
        for piece in ranges:
            piece.unlink()
    return copy


def _own(folder: Path) -> Path:
    """A new folder in a folder: files of the same name may come from several places."""
    return Path(tempfile.mkdtemp(dir=folder))


def _metadata(path: Path) -> dict[str, str] | None:
    text = pl.read_parquet_metadata(path).get(METADATA_KEY)
    return {METADATA_KEY: text} if text is not None else None


def _cuts(sample: pl.Series, height: int, each: int) -> pl.Series:
    """Ids that divide the rows into ranges of about `each`."""
    ranges = -(-height // each)
    ordered = sample.drop_nulls().sort()
    at = [len(ordered) * number // ranges for number in range(1, ranges)]
    return ordered.gather([place for place in at if place < len(ordered)]).unique().sort()
