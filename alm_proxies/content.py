"""Digests of what a table holds: the same rows give the same digest, whatever file, path or version they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.files import canonical_json

_AT_ONCE = 500_000


def content_digest(frame: pl.DataFrame, key: Sequence[str], about: Any) -> str:
    """Sixteen hexadecimal digits that change when a value, a column's name or type, or `about` (plain JSON) does.

    The order of rows counts for nothing where `key` names the columns that tell them apart; that of columns never.
    """
    ordered = frame.sort(list(key), maintain_order=True) if key else frame
    digest = hashlib.blake2b(digest_size=8)
    digest.update(canonical_json([about, ordered.height]).encode())
    for name in sorted(ordered.columns):
        digest.update(canonical_json([name, str(ordered.schema[name])]).encode())
        for start in range(0, ordered.height, _AT_ONCE):
            for part in _bytes(ordered[name].slice(start, _AT_ONCE)):
                digest.update(part)
    return digest.hexdigest()


def _bytes(column: pl.Series) -> list[bytes]:
    """The values of a column, and where it has none, as bytes that do not depend on how polars keeps them."""
    missing = np.packbits(column.is_null().to_numpy()).tobytes()
    if column.dtype == pl.List:
        lengths = column.list.len().fill_null(0).cast(pl.Int64).to_numpy().tobytes()
        inner = column.drop_nulls()
        inner = inner.filter(inner.list.len() > 0).explode() if inner.len() else inner.explode()
        return [missing, lengths, *_bytes(inner)]
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        wide = pl.Float64 if column.dtype.is_float() else pl.Int64
        return [
            missing,
            column.cast(wide).fill_null(0).to_numpy().astype("<i8" if wide is pl.Int64 else "<f8").tobytes(),
        ]
    text = column.cast(pl.String).fill_null("")
    joined = text.str.join("")[0] if text.len() else ""
    return [missing, text.str.len_bytes().cast(pl.Int64).to_numpy().astype("<i8").tobytes(), joined.encode()]
