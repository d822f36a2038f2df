"""External sorting of a Parquet file: rows are partitioned into ranges of ids, and each range is sorted in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.about import METADATA_KEY
from alm_proxies.columns import refuse_where
from alm_proxies.progress import Progress
from alm_proxies.table_parts import ID, rows_in

_SAMPLE = 20_000
"""The number of ids sampled for the ranges."""
_ORDER = (ID, "annotator", "draw", "label")
_ROW_GROUP = 2**18


def sorted_copy(path: Path, wanted: Sequence[str], folder: Path, *, rows: int, quiet: bool = True) -> Path:
    """The wanted columns of a Parquet file in a new file, sorted by utterance id and the other columns of the key.

    `rows` is the number of rows in memory at a time. The file is read twice: a sample of its ids, then all of it.
    """
    height = rows_in(path) or 0
    lazy = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
    there = lazy.collect_schema().names()
    lazy = lazy.select([name for name in dict.fromkeys((ID, *wanted)) if name in there])
    each = max(rows // 2, 1)
    cuts = _cuts(lazy.select(ID).gather_every(max(height // _SAMPLE, 1)).collect(engine="streaming")[ID], height, each)
    pieces: list[list[Path]] = [[] for _ in range(len(cuts) + 1)]
    with Progress(f"sorting {path.name}", total=height, quiet=quiet) as progress:
        for first in range(0, height, each):
            frame = lazy.slice(first, each).collect()
            ids = frame[ID]
            refuse_where(ids.is_null(), ids, "is not allowed", f"{path} after row {first:,}", f"Fill {ID}.")
            place = cuts.search_sorted(ids, side="right").to_numpy() if len(cuts) else np.zeros(len(ids), np.int64)
            for number in np.unique(place).tolist():
                piece = folder / f"sort-{number:05d}-{first:012d}.parquet"
                frame.filter(pl.Series(place == number)).write_parquet(piece, compression="lz4")
                pieces[number].append(piece)
            progress.advance(frame.height)
    ranges = []
    for number, some in enumerate(pieces):
        if some:
            whole = pl.concat([pl.read_parquet(piece, glob=False) for piece in some])
            ranges.append(folder / f"sort-{number:05d}.parquet")
            order = [name for name in _ORDER if name in whole.columns]
            whole.sort(order, maintain_order=True).write_parquet(ranges[-1], compression="lz4")
            for piece in some:
                piece.unlink()
    copy = folder / f"sorted-{path.name}"
    text = pl.read_parquet_metadata(path).get(METADATA_KEY)
    metadata = {METADATA_KEY: text} if text is not None else None
    pl.scan_parquet(ranges, glob=False).sink_parquet(
        copy, compression="lz4", metadata=metadata, row_group_size=_ROW_GROUP
    )
    for piece in ranges:
        piece.unlink()
    return copy


def _cuts(sample: pl.Series, height: int, each: int) -> pl.Series:
    """Ids that divide the rows into ranges of about `each`."""
    ranges = -(-height // each)
    ordered = sample.drop_nulls().sort()
    at = [len(ordered) * number // ranges for number in range(1, ranges)]
    return ordered.gather([place for place in at if place < len(ordered)]).unique().sort()
