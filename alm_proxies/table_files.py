"""Reading and writing tables: Parquet with metadata, CSV and JSON lines; paths are never glob patterns."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    with readable(path) as kind:
        if kind == "CSV":
            stays = dict.fromkeys(text, pl.String())
            frame = pl.read_csv(path.absolute(), glob=False, infer_schema_length=None, schema_overrides=stays)
            _refuse_odd_columns(frame.columns, path)
            return frame, About()
        if kind == "JSON lines":
            with open_file(path) as stream:
                return pl.read_ndjson(stream, infer_schema_length=None), About()
        return read_parquet(path), about_of(path)


def scan_table(path: Path, text: Iterable[str]) -> pl.LazyFrame:
    """The rows of the same table, which need not be in memory together; collect them within `readable`."""
    with readable(path) as kind:
        if kind == "CSV":
            stays = dict.fromkeys(text, pl.String())
            lazy = pl.scan_csv(path.absolute(), glob=False, infer_schema_length=None, schema_overrides=stays)
            _refuse_odd_columns(lazy.collect_schema().names(), path)
        elif kind == "JSON lines":
            lazy = pl.scan_ndjson(glob.escape(str(path.absolute())), infer_schema_length=None)
            lazy.collect_schema()
        else:
            lazy = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
        return lazy


@contextmanager
def readable(path: Path) -> Iterator[str]:
    """The kind of a regular file, in a context in which errors of polars are errors about this file."""
    kind = _KINDS.get(path.suffix.lower(), "Parquet")
    try:
        with open_file(path) as stream:
            head = stream.read(2)
        if kind == "CSV" and head in (b"\xff\xfe", b"\xfe\xff"):
            raise TableError("is UTF-16 text", where=str(path), fix=f"Save it as UTF-8. {_READ_IT}")
        yield kind
    except OSError as error:
        raise could_not_read(path, error) from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        fix = f"Save it as UTF-8. {_READ_IT}" if "utf-8" in reason.lower() else _AGAIN
        raise TableError(f"cannot be read as {kind}: {reason}", where=str(path), fix=fix) from error


def is_text(path: Path) -> bool:
    """Whether a table file is CSV or JSON lines."""
    return path.suffix.lower() in _KINDS


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The rows of one Parquet file; ~ * ? [ ] in its path are literal."""
    refuse_irregular(path)
    return pl.read_parquet(path.absolute(), columns=columns, glob=False, hive_partitioning=False)


def refuse_other_suffix(path: str | Path) -> None:
    """Raise unless the file name ends in .parquet."""
    if Path(path).suffix.lower() in (*_KINDS, ".tsv", ".txt", ".json", ".xlsx", ".html"):
        fix = f"Name it {Path(path).with_suffix('.parquet').name}."
        raise InputError("tables are written as Parquet", where=str(path), fix=fix)


def _refuse_odd_columns(names: list[str], path: Path) -> None:
    """Raise for repeated columns of a CSV file, and for columns that are not separated by commas."""
    for name in names:
        twice = re.sub(r"_duplicated_\d+$", "", name)
        if twice != name and twice in names:
            raise TableError(f"has two columns {twice!r}", where=str(path), fix="Rename one of them.")
    if len(names) == 1 and (match := re.search(r"[;\t|]", names[0])):
        message = f"its columns are separated by {match[0]!r}, not by commas"
        raise TableError(message, where=str(path), fix=f"Save it with commas. {_READ_IT}")
