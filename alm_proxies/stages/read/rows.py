"""Rows of a label file (CSV, JSON lines, Parquet): only the columns wanted, and the line of every row."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import polars as pl

from alm_proxies.columns import missing_column
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.files import could_not_read, open_file
from alm_proxies.printable import counted
from alm_proxies.table_files import read_parquet

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_MISSING = ["", "NA", "NaN", "nan", "null"]
CALLED_NOTHING = f"called {', '.join(_MISSING[1:])} need another name, as these words mean no value."
"""The end of a sentence about people whose names stand for no value."""
_WHOLE_COPY = "Write it again, or check that it was copied whole."
_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class Delimited:
    """How a file of delimited text is written."""

    encoding: str
    delimiter: str
    quoted: bool = True
    """Whether a quotation mark at the start of a value is not part of it."""

    def reader(self, stream: TextIO) -> Any:
        """The records of a stream, as csv.reader gives them."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(stream, delimiter=self.delimiter, quoting=quoting, strict=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """A label file's rows: `frame` has the wanted columns as text (Parquet: or numbers), missing values as null."""

    path: str
    columns: tuple[str, ...]
    frame: pl.DataFrame
    text: Delimited | None = None
    """How a CSV file is written."""
    lines: tuple[int, ...] | None = None
    """The line of every row of a JSON lines file."""

    def need(self, *names: str) -> None:
        """Raise if the file lacks a column, with the nearest name it has."""
        for name in names:
            if name not in self.columns:
                raise missing_column(name, self.columns, self.path)

    def words(self, *names: str) -> pl.DataFrame:
        """Columns as text without spaces around it, null where it is empty; raises if the file lacks one."""
        self.need(*names)
        return self.frame.select(pl.col(*names).cast(pl.String).str.strip_chars().replace("", None))

    def place(self, row: int, column: str | None = None) -> str:
        """The place of a row (from 0): file, line and column."""
        where = f"{self.path}, {self._line(row)}"
        return where if column is None else f"{where}, column {column}"

    def refuse(self, bad: pl.Series, column: str, message: str, fix: str) -> None:
        """Raise for the first row where `bad` is true, with file, line, column and the number of further rows."""
        bad = bad.fill_null(False)
        if not bad.any():
            return
        rows = bad.arg_true()
        row = int(rows[0])
        value = repr(self.frame[column][row])
        shown = value if len(value) <= 60 else value[:57] + "..."
        more = f" (and {counted(len(rows) - 1, 'more row')})" if len(rows) > 1 else ""
        raise TableError(f"{shown} {message}{more}", where=self.place(row, column), fix=fix)

    def _line(self, row: int) -> str:
        if self.lines is not None:
            return f"line {self.lines[row]}"
        if self.text is not None:
            return f"line {_line_of(Path(self.path), self.text, row)}"
        return f"row {row + 1}"


def read_rows(
    path: Path, wanted: Sequence[str] | None = None, encoding: str | None = None, *, quoted: bool = True
) -> Rows:
    """The rows of a label file, with those of the wanted columns that it has (by default all).

    Where values are not `quoted`, quotation marks are part of them, and no value holds a delimiter or a line's end.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        try:
            path.stat()
        except OSError as error:
            raise could_not_read(path, error) from error
        sheet = "Save the sheet as CSV. " if suffix in _SHEETS else ""
        fix = f"{sheet}A label file is one of {', '.join(SUFFIXES)}."
        raise InputError(f"has an unknown format ({suffix or 'no suffix'})", where=str(path), fix=fix)
    try:
        if suffix == ".parquet":
            return _parquet(path, wanted)
        encoding = _encoding(path, encoding)
        if suffix in (".jsonl", ".ndjson"):
            return _json_lines(path, wanted, encoding)
        return _csv(path, wanted, encoding, quoted)
    except OSError as error:
        raise could_not_read(path, error) from error


def _line_of(path: Path, text: Delimited, row: int) -> int:
    """The line at which a row of a CSV file begins; rows count from 0, without the header."""
    left, line = row + 1, 1
    with _opened(path, text.encoding) as stream:
        reader = text.reader(stream)
        for record in reader:
            if record and not left:
                break
            left -= bool(record)
            line = reader.line_num + 1
    return line


def _encoding(path: Path, encoding: str | None) -> str:
    with open_file(path) as stream:
        head = stream.read(4)
    if encoding is not None:
        try:
            "".encode(encoding)
        except (LookupError, UnicodeError):
            raise SettingsError(f"there is no text encoding {encoding!r}", fix='Write "utf-8" or "latin-1".') from None
        return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _opened(path: Path, encoding: str) -> TextIO:
    return TextIOWrapper(open_file(path), encoding=encoding, newline="")


def _csv(path: Path, wanted: Sequence[str] | None, encoding: str, quoted: bool) -> Rows:
    form, header = _header(path, encoding, quoted)
    names = header if wanted is None else [name for name in dict.fromkeys(wanted) if name in header]
    for name in names:
        if header.count(name) > 1:
            raise TableError(f"has two columns {name!r}", where=f"{path}, header", fix="Rename one of them.")
    places = [header.index(name) for name in names]
    text = _plain_text(path, form, len(header))
    if text is None:
        frame = _parsed(path, form, header, places)
    else:
        frame = _split(text, form.delimiter, len(header), places)
    frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    frame = frame.with_columns(pl.all().replace(_MISSING, None))
    return Rows(str(path), tuple(header), frame, text=form)


def _parsed(path: Path, form: Delimited, header: list[str], places: list[int]) -> pl.DataFrame:
    """The columns at the given places of any CSV file, read record by record."""
    schema = {f"{place}": pl.String() for place in places}
    frames = [pl.DataFrame(schema=schema)]
    number = 0
    with _opened(path, form.encoding) as stream:
        records = _records(stream, form)
        try:
            next(records)
            while batch := list(islice(records, _BATCH)):
                if set(map(len, batch)) != {len(header)}:
                    _refuse_ragged(batch, len(header), number, Rows(str(path), (), frames[0], form))
                number += len(batch)
                cells = [list(map(itemgetter(place), batch)) for place in places]
                frames.append(pl.DataFrame(cells, schema=schema, orient="col"))
        except (UnicodeError, csv.Error) as error:
            raise _not_csv(path, form, error) from None
    return pl.concat(frames)


def _plain_text(path: Path, form: Delimited, width: int) -> bytes | None:
    """The rows of a plain file: UTF-8 without a quoted value, in which every line has as many values as the header.

    None for any other file. A plain file is split at its delimiters, which takes a fraction of the time.
    """
    if form.encoding not in ("utf-8", "utf-8-sig"):
        return None
    with open_file(path) as stream:
        text = stream.read().replace(b"\r\n", b"\n")
    if any(odd in text for odd in (b"\r", b"\0", *([b'"'] if form.quoted else []))) or not _is_utf_8(text):
        return None
    if not text.endswith(b"\n"):
        text += b"\n"
    signs = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(signs == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    if len(ends) < 2 or lengths.min() == 0 or lengths.max() > csv.field_size_limit():
        return None
    between = np.diff(np.searchsorted(np.flatnonzero(signs == ord(form.delimiter)), ends), prepend=0)
    return text[starts[1] :] if (between == width - 1).all() else None


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _split(text: bytes, delimiter: str, width: int, places: list[int]) -> pl.DataFrame:
    """The columns at the given places of a plain file."""
    names = [f"{place}" for place in range(width)]
    frame = pl.read_csv(
        text, has_header=False, schema=dict.fromkeys(names, pl.String()), separator=delimiter, quote_char=None
    )
    return frame.select(names[place] for place in places)


def _records(stream: TextIO, form: Delimited) -> Iterator[list[str]]:
    """The records of a CSV file, the header first; blank lines are left out."""
    return filter(None, form.reader(stream))


def _header(path: Path, encoding: str, quoted: bool) -> tuple[Delimited, list[str]]:
    """The delimiter that gives the most columns in the first record, and that record: the column names."""
    best: tuple[Delimited, list[str]] = (Delimited(encoding, ",", quoted), [])
    for form in (Delimited(encoding, delimiter, quoted) for delimiter in (",", ";", "\t")):
        try:
            with _opened(path, encoding) as stream:
                record = next(_records(stream, form), [])
        except csv.Error:
            continue
        except UnicodeError as error:
            raise _not_csv(path, form, error) from None
        if len(record) > len(best[1]):
            best = (form, record)
    if not best[1]:
        fix = "The first line names the columns."
        raise TableError("is empty, or does not begin like a CSV file", where=f"{path}, line 1", fix=fix)
    return best


def _refuse_ragged(batch: list[list[str]], width: int, before: int, rows: Rows) -> None:
    """Raise for the first record with too few values, or with additional values that are not empty."""
    for number, record in enumerate(batch):
        if len(record) < width or any(record[width:]):
            message = f"has {counted(len(record), 'value')}, but the header has {width}"
            fix = "Quote values that contain the delimiter, and check that the file was copied whole."
            raise TableError(message, where=rows.place(before + number), fix=fix)


def _not_csv(path: Path, form: Delimited, error: Exception) -> TableError:
    """The error for a file that is not CSV, with its line."""
    if isinstance(error, UnicodeError):
        return _not_text(path, form.encoding)
    line = 1
    with _opened(path, form.encoding) as stream:
        reader = form.reader(stream)
        with suppress(csv.Error, UnicodeError):
            for _ in reader:
                line = reader.line_num + 1
    return TableError(f"cannot be read as CSV: {error}", where=f"{path}, line {line}", fix=_WHOLE_COPY)


def _not_text(path: Path, encoding: str) -> TableError:
    fix = (
        'Save it as UTF-8. For a table of your own, its encoding can be given too: encoding = "latin-1" '
        "(--encoding latin-1)."
    )
    where = f"{path}, line {_first_bad_line(path, encoding)}"
    return TableError(f"is not {encoding.removesuffix('-sig')} text", where=where, fix=fix)


def _first_bad_line(path: Path, encoding: str) -> int:
    if encoding.lower().startswith(("utf-16", "utf-32")):
        return 1
    with open_file(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeError:
                return number
    return 1


def _json_lines(path: Path, wanted: Sequence[str] | None, encoding: str) -> Rows:
    names: dict[str, None] = {}
    lines: list[int] = []
    cells: dict[str, list[str | None]] = {name: [] for name in wanted or ()}
    frames: list[pl.DataFrame] = []
    rows = _objects(path, encoding)
    while batch := list(islice(rows, _BATCH)):
        for line, row in batch:
            lines.append(line)
            names.update(dict.fromkeys(row))
        kept = list(names) if wanted is None else [name for name in cells if name in names]
        columns = {name: [_cell(row.get(name)) for _, row in batch] for name in kept}
        try:
            frames.append(pl.DataFrame(columns, schema=dict.fromkeys(kept, pl.String())))
        except UnicodeEncodeError:
            raise _half_a_character(path, batch) from None
    if not lines:
        raise TableError("is empty", where=f"{path}, line 1", fix="Each line is one JSON object.")
    frame = pl.concat(frames, how="diagonal") if frames[0].width or frames[-1].width else pl.DataFrame()
    return Rows(str(path), tuple(names), frame, lines=tuple(lines))


def _objects(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    with TextIOWrapper(open_file(path), encoding=encoding) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    row = json.loads(line, object_pairs_hook=each_key_once)
                    if not isinstance(row, dict):
                        raise TableError("is not a JSON object", where=f"{path}, line {number}", fix="Write {...}.")
                    yield number, row
        except UnicodeError:
            raise _not_text(path, encoding) from None
        except TwiceError as error:
            raise TableError(str(error), where=f"{path}, line {number}", fix="Keep one of them.") from None
        except (ValueError, RecursionError) as error:
            reason = str(error).split(":")[0][:80]
            raise TableError(f"is not JSON: {reason}", where=f"{path}, line {number}", fix=_WHOLE_COPY) from None


class TwiceError(ValueError):
    """A JSON object has a key twice: one of the values would be lost."""


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its pairs; a TwiceError if a key is there twice."""
    named = dict(pairs)
    if len(named) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise TwiceError(f"an object has the key {twice!r} twice")
    return named


def _half_a_character(path: Path, batch: list[tuple[int, dict[str, Any]]]) -> TableError:
    halves = (line for line, row in batch if re.search("[\ud800-\udfff]", json.dumps(row, ensure_ascii=False)))
    return TableError("has half a character", where=f"{path}, line {next(halves)}", fix=_WHOLE_COPY)


def _cell(value: Any) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return None if value in _MISSING else value
    return json.dumps(value, ensure_ascii=False)


def _parquet(path: Path, wanted: Sequence[str] | None) -> Rows:
    try:
        with open_file(path) as stream:
            schema = pl.read_parquet_schema(stream)
        names = [name for name in (schema if wanted is None else dict.fromkeys(wanted)) if name in schema]
        frame = read_parquet(path, names)
        frame = frame.with_columns([_plain(frame[name], path) for name in names])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise TableError(f"cannot be read as Parquet: {reason}", where=str(path), fix=_WHOLE_COPY) from error
    return Rows(str(path), tuple(schema), frame)


def _plain(series: pl.Series, path: Path) -> pl.Series:
    """A Parquet column as numbers or text; time spans in seconds, lists and structs as JSON."""
    dtype = series.dtype
    if dtype.is_float():
        return series.cast(pl.Float64).fill_nan(None)
    if dtype.is_numeric():
        return series
    if dtype == pl.Duration:
        return (series.cast(pl.Duration("ns")).cast(pl.Int64) / 1e9).alias(series.name)
    if dtype.is_nested():
        values = [
            None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in series.to_list()
        ]
        return pl.Series(series.name, values, dtype=pl.String)
    if dtype == pl.Binary or dtype == pl.Object:
        fix = "Map another column, or save it as text."
        raise TableError(f"is {dtype}, not text", where=f"{path}, column {series.name}", fix=fix)
    text = series.cast(pl.String)
    return text.set(text.is_in(_MISSING), None)
