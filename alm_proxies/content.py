"""Content digests of tables: the same rows give the same digest, independent of file, path, parts and version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import polars as pl

from alm_proxies.files import canonical_json

_AT_ONCE = 500_000
_IN_64_BITS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


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
        nested = isinstance(dtype, pl.List | pl.Array)
        self._inner = _Column(dtype.inner) if nested else None  # type: ignore[attr-defined]
        fields = dtype.fields if isinstance(dtype, pl.Struct) else []
        self._fields = [(field.name, _Column(field.dtype)) for field in fields]  # type: ignore[arg-type]

    def update(self, column: pl.Series) -> None:
        self._missing.update(column.is_null().cast(pl.UInt8).to_numpy().tobytes())
        column = _in_full(column)
        if self._fields:
            for name, inner in self._fields:
                inner.update(column.struct.field(name))
        elif self._inner is not None:
            self._lengths.update(column.list.len().fill_null(0).cast(pl.Int64).to_numpy().astype("<i8").tobytes())
            held = column.filter((column.list.len() > 0).fill_null(False))
            if held.len():
                self._inner.update(held.explode())
        elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
            wide, order = _wide_form(column.dtype)
            self._values.update(column.cast(wide).fill_null(0).to_numpy().astype(order).tobytes())
        elif column.dtype == pl.Binary:
            held = column.fill_null(b"")
            self._lengths.update(held.bin.size().cast(pl.Int64).to_numpy().astype("<i8").tobytes())
            self._values.update(b"".join(held))
        else:
            text = column.cast(pl.String).fill_null("")
            self._lengths.update(text.str.len_bytes().cast(pl.Int64).to_numpy().astype("<i8").tobytes())
            if text.len():
                self._values.update(text.str.join("")[0].encode())

    def state(self) -> list[Any]:
        """Its type and digests, as plain JSON."""
        digests = [part.hexdigest() for part in (self._missing, self._lengths, self._values)]
        inner = [column.state() for _, column in self._fields] or ([self._inner.state()] if self._inner else [])
        return [str(self._type), *digests, *inner]


def _wide_form(dtype: pl.DataType) -> tuple[pl.DataType, str]:
    """The type of 64 bits that holds all numbers of a type, and its form in bytes."""
    if dtype.is_float():
        return pl.Float64(), "<f8"
    return (pl.UInt64(), "<u8") if dtype == pl.UInt64 else (pl.Int64(), "<i8")


def _in_full(column: pl.Series) -> pl.Series:
    """The column as a type of which no digit is lost: as text polars shortens times, as numbers decimals."""
    dtype = column.dtype
    if isinstance(dtype, pl.Array):
        return column.arr.to_list()
    if dtype in (pl.Time, pl.Duration):
        return column.to_physical()
    too_wide = dtype.is_integer() and dtype not in _IN_64_BITS
    return column.cast(pl.String) if dtype.is_decimal() or too_wide else column
