"""Validation of columns: fill defaults, cast types and raise errors with file, column, row and fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from alm_proxies.errors import InputError, TableError
from alm_proxies.nearest import did_you_mean as did_you_mean  # imported by other modules from here
from alm_proxies.printable import counted


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract: its type, whether it is needed, its default and its bounds."""

    name: str
    dtype: pl.DataType
    needed: bool = False
    default: Any = None
    nullable: bool = True
    allowed: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    low_open: bool = False


def conform(frame: pl.DataFrame, columns: Sequence[Column], where: str) -> pl.DataFrame:
    """The frame with the contract's columns first, each filled, cast and checked; other columns follow unchanged."""
    checked: list[pl.Series] = []
    for column in columns:
        if column.name in frame.columns:
            series = cast(frame.get_column(column.name), column.dtype, where)
            if not column.nullable and column.default is not None and series.null_count():
                series = series.fill_null(column.default)
        elif column.needed:
            raise missing_column(column.name, frame.columns, where)
        else:
            series = pl.Series(column.name, [column.default], dtype=column.dtype).new_from_index(0, frame.height)
        _check(series, column, where)
        checked.append(series)
    names = {column.name for column in columns}
    for name, dtype in frame.schema.items():
        if name not in names and dtype == pl.Object:
            raise TableError("has Python objects", where=f"{where}, column {name}", fix="Make it text or drop it.")
    extras = [frame.get_column(name) for name in frame.columns if name not in names]
    return pl.DataFrame([*checked, *extras])


def refuse_other_frames(frame: object, where: str) -> None:
    """Raise for anything that is not a polars DataFrame."""
    if not isinstance(frame, pl.DataFrame):
        fix = "Give pl.DataFrame(...), pl.from_pandas(...) or a lazy frame's .collect()."
        raise TableError(f"is a {type(frame).__name__}, not a polars DataFrame", where=where, fix=fix)


def holds_numbers(column: pl.Series) -> bool:
    """Whether a column of text holds nothing but numbers, and at least one."""
    plain = column.drop_nulls().str.strip_chars()
    plain = plain.filter(plain != "")
    return len(plain) > 0 and plain.cast(pl.Float64, strict=False).is_finite().fill_null(False).all()


def refuse_clashes(frames: Sequence[pl.DataFrame], kind: str) -> None:
    """Raise for a column with different types in several frames, which would change its values when combined."""
    known: dict[str, pl.DataType] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            other = known.setdefault(name, dtype)
            if other == pl.Null:
                known[name] = dtype
            elif dtype not in (other, pl.Null) and not (dtype.is_numeric() and other.is_numeric()):
                fix = "Make it text, or numbers, in all of them."
                raise InputError(f"the column {name!r} of these {kind} has the types {other} and {dtype}", fix=fix)


def missing_column(name: str, present: Iterable[str], where: str) -> TableError:
    """The error for a missing required column, with the nearest column name."""
    present = list(present)
    near = did_you_mean(name, present)
    listed = ", ".join(present[:30]) + (" ..." if len(present) > 30 else "")
    fix = near or "Add or rename it."
    if name == "annotator" and any(column.startswith("p_") for column in present):
        fix = "These are labels: alm-proxies read table FILE --as proxy:NAME ... reads them as the votes of a proxy."
    return TableError(f"has no column {name!r}", where=where, fix=f"{fix} There are: {listed or 'none'}.")


def cast(series: pl.Series, dtype: pl.DataType, where: str) -> pl.Series:
    """The series cast to the wanted type if lossless; else an error with the first row."""
    if series.dtype == dtype:
        return series
    fix = f"Needed: {dtype}."
    if isinstance(dtype, pl.String) and not (
        series.dtype.is_integer() or series.dtype in (pl.Categorical, pl.Enum, pl.Null)
    ):
        raise TableError(f"is {series.dtype}, not text", where=f"{where}, column {series.name}", fix=fix)
    if series.dtype.is_temporal() and (dtype.is_numeric() or isinstance(dtype, pl.Boolean)):
        fix = f"{fix} Times are numbers of seconds."
        raise TableError(f"is {series.dtype}, not a number", where=f"{where}, column {series.name}", fix=fix)
    source = series
    if isinstance(dtype, pl.Boolean) and series.dtype == pl.String:
        series = series.str.to_lowercase().replace_strict(
            {"true": True, "1": True, "false": False, "0": False}, default=None, return_dtype=pl.Boolean
        )
    if dtype.is_numeric() and series.dtype == pl.String:
        series = series.str.strip_chars()
    try:
        converted = series.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        raise TableError(
            f"is {source.dtype}, which cannot be read as {dtype}", where=f"{where}, column {source.name}", fix=fix
        ) from None
    lost = converted.is_null() & source.is_not_null()
    if source.dtype.is_float() and dtype.is_integer():
        lost = lost | (converted.cast(source.dtype) != source).fill_null(False)
    elif source.dtype.is_numeric() and isinstance(dtype, pl.Boolean):
        lost = lost | ((source != 0) & (source != 1))
    elif source.dtype.is_integer() and dtype.is_float():
        lost = lost | (converted.cast(source.dtype, strict=False) != source).fill_null(True)
    refuse_where(lost.fill_null(False), source, f"cannot be read as {dtype} without loss", where, fix)
    return converted


def refuse_where(bad: pl.Series, shown: pl.Series, message: str, where: str, fix: str) -> None:
    """Raise for the first row where `bad` is true, with its row (from 1), its value and the number of rows."""
    if not bad.any():
        return
    row = int(bad.arg_true()[0])
    count = int(bad.sum())
    more = f" (and {counted(count - 1, 'more row')})" if count > 1 else ""
    place = f"{where}, column {shown.name}, row {row + 1}"
    error = TableError(f"{_short(shown[row])} {message}{more}", where=place, fix=fix)
    error.row = row + 1
    raise error


def _check(series: pl.Series, column: Column, where: str) -> None:
    missing = series.null_count()
    if not column.nullable and missing:
        refuse_where(series.is_null(), series, "is not allowed", where, f"Fill {column.name}.")
    if missing == series.len():
        return
    if column.allowed is not None and not {*column.allowed, None}.issuperset(series.unique()):
        bad = series.is_not_null() & ~series.is_in(list(column.allowed))
        refuse_where(bad, series, "is not allowed", where, f"Allowed: {', '.join(column.allowed)}.")
    if column.dtype.is_float() and not series.is_finite().all():
        bad = series.is_not_null() & ~series.is_finite()
        refuse_where(bad, series, "is not a finite number", where, "Leave unknown values empty (null).")
    if column.low is not None or column.high is not None:
        _check_range(series, column, where)


def _check_range(series: pl.Series, column: Column, where: str) -> None:
    low, high = series.min(), series.max()
    if low is None:
        return
    too_low = column.low is not None and (low <= column.low if column.low_open else low < column.low)  # type: ignore[operator]
    too_high = column.high is not None and high > column.high  # type: ignore[operator]
    if not (too_low or too_high):
        return
    bad = pl.repeat(False, series.len(), eager=True)
    if column.low is not None:
        bad = bad | ((series <= column.low) if column.low_open else (series < column.low))
    if column.high is not None:
        bad = bad | (series > column.high)
    left = "(" if column.low_open else "["
    bounds = (
        f"{left}{column.low if column.low is not None else '...'}, {column.high if column.high is not None else '...'}]"
    )
    refuse_where(bad.fill_null(False), series, f"is outside {bounds}", where, f"Bring {column.name} into {bounds}.")


def _short(value: Any) -> str:
    if value is None:
        return "an empty value"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
