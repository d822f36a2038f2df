"""Reading and writing tables: Parquet with metadata, CSV and JSON lines; paths are never glob patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from alm_proxies.about import About, about_of
from alm_proxies.errors import InputError, TableError
from alm_proxies.files import could_not_read, open_file, refuse_irregular

_KINDS = {".csv": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines"}
_READ_IT = "Read it with: alm-proxies read table."
_AGAIN = "Write it again, or check that it was copied whole."


def load_table(path: Path, text: Iterable[str]) -> tuple[pl.DataFrame, About]:
    """A table's rows and metadata; the columns in `text` stay text, whatever their values look like."""
    suffix = path.suffix.lower()
    try:
        with open_file(path) as stream:
            head = stream.read(2)
        if suffix == ".csv":
            if head in (b"\xff\xfe", b"\xfe\xff"):
                raise TableError("is UTF-16 text", where=str(path), fix=f"Save it as UTF-8. {_READ_IT}")
            return _csv(path, text), About()
        if suffix in _KINDS:
            with open_file(path) as stream:
                return pl.read_ndjson(stream, infer_schema_length=None), About()
        return read_parquet(path), about_of(path)
    except OSError as error:
        raise could_not_read(path, error) from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        kind = _KINDS.get(suffix, "Parquet")
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        fix = f"Save it as UTF-8. {_READ_IT}" if "utf-8" in reason.lower() else _AGAIN
        raise TableError(f"cannot be read as {kind}: {reason}", where=str(path), fix=fix) from error


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The rows of one Parquet file; ~ * ? [ ] in its path are literal."""
    refuse_irregular(path)
    return pl.read_parquet(path.absolute(), columns=columns, glob=False, hive_partitioning=False)


def refuse_other_suffix(path: str | Path) -> None:
    """Raise unless the file name ends in .parquet."""
    if Path(path).suffix.lower() in (*_KINDS, ".tsv", ".txt", ".json", ".xlsx", ".html"):
        fix = f"Name it {Path(path).with_suffix('.parquet').name}."
        raise InputError("tables are written as Parquet", where=str(path), fix=fix)


def _csv(path: Path, text: Iterable[str]) -> pl.DataFrame:
    stays = dict.fromkeys(text, pl.String())
    frame = pl.read_csv(path.absolute(), glob=False, infer_schema_length=None, schema_overrides=stays)
    for name in frame.columns:
        twice = re.sub(r"_duplicated_\d+$", "", name)
        if twice != name and twice in frame.columns:
            raise TableError(f"has two columns {twice!r}", where=str(path), fix="Rename one of them.")
    if frame.width == 1 and (match := re.search(r"[;\t|]", frame.columns[0])):
        message = f"its columns are separated by {match[0]!r}, not by commas"
        raise TableError(message, where=str(path), fix=f"Save it with commas. {_READ_IT}")
    return frame
