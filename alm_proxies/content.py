"""Content digests of tables: the same rows give the same digest, independent of file, path, parts and version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import polars as pl

from alm_proxies.files import canonical_json

_AT_ONCE = 500_000


class ContentDigest:
    """The digest of a table, added whole or part by part; parts are in the order of their keys."""

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._columns: dict[str, _Column] = {}
        self._rows = 0

    def update(self, frame: pl.DataFrame) -> None:
        """Add the rows of one part; within a part their order does not matter if there is a key."""
        ordered = frame.sort(self._key, maintain_order=True) if self._key else frame
        for name in ordered.columns:
            column = self._columns.setdefault(name, _Column(ordered.schema[name]))
            for start in range(0, ordered.height, _AT_ONCE):
                column.update(ordered[name].slice(start, _AT_ONCE))
        self._rows += ordered.height

    def hexdigest(self, about: Any) -> str:
        """Sixteen hexadecimal digits that change with any value, name or type of a column, and with `about`."""
        columns = [[name, *column.state()] for name, column in sorted(self._columns.items())]
        text = canonical_json([about, self._rows, columns])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Column:
    """The values and nulls of a column as bytes that do not depend on polars' memory layout."""

    def __init__(self, dtype: pl.DataType) -> None:
        self._type = dtype
        self._missing, self._lengths, self._values = (hashlib.blake2b(digest_size=16) for _ in range(3))
        self._inner = _Column(dtype.inner) if isinstance(dtype, pl.List) else None  # type: ignore[arg-type]

    def update(self, column: pl.Series) -> None:
        self._missing.update(column.is_null().cast(pl.UInt8).to_numpy().tobytes())
        if self._inner is not None:
            self._lengths.update(column.list.len().fill_null(0).cast(pl.Int64).to_numpy().astype("<i8").tobytes())
            held = column.filter((column.list.len() > 0).fill_null(False))
            if held.len():
                self._inner.update(held.explode())
        elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
            wide, order = (pl.Float64(), "<f8") if column.dtype.is_float() else (pl.Int64(), "<i8")
            self._values.update(column.cast(wide).fill_null(0).to_numpy().astype(order).tobytes())
        else:
            text = column.cast(pl.String).fill_null("")
            self._lengths.update(text.str.len_bytes().cast(pl.Int64).to_numpy().astype("<i8").tobytes())
            if text.len():
                self._values.update(text.str.join("")[0].encode())

    def state(self) -> list[Any]:
        """Its type and digests, as plain JSON."""
        digests = [part.hexdigest() for part in (self._missing, self._lengths, self._values)]
        return [str(self._type), *digests, *([self._inner.state()] if self._inner is not None else [])]
