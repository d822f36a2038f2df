"""Rows of a cache in Parquet files that show whether they were changed: a damaged file is never read as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.files import digest_file, digest_of, digest_of_bytes, write_bytes

_WHOLE = "whole-"
"""The beginning of a file's name, before the digest of its content."""


def write_rows(folder: Path, frame: pl.DataFrame) -> None:
    """Write rows as a file that is named by its content."""
    content = BytesIO()
    frame.write_parquet(content)
    write_bytes(folder / f"{_WHOLE}{digest_of_bytes(content.getvalue())}.parquet", content.getvalue())


def read_rows(
    path: Path, schema: Mapping[str, Any], text: str, parse: Callable[[str], object]
) -> tuple[pl.DataFrame | None, str]:
    """The rows of a file, or None and the reason why they are not those that were written.

    Parquet itself does not notice all changes. Files of earlier versions are named by their keys; the column `text` of
    these must be such that `parse` can read it.
    """
    try:
        if path.stem.startswith(_WHOLE):
            if path.stem != f"{_WHOLE}{digest_file(path)}":
                return None, "it was changed after it was written"
            return pl.read_parquet(path), ""
        frame = pl.read_parquet(path)
        if dict(frame.schema) != dict(schema):
            return None, "it has other columns"
        if path.stem != digest_of(frame["key"].to_list()) or frame[text].null_count():
            return None, "it was changed after it was written"
        for written in frame[text].unique():
            parse(written)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError) as error:
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    return frame, ""
