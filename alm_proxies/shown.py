"""What Python shows of tables, findings and results: a few lines of text; in notebooks plain HTML without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING, Any

from alm_proxies.printable import counted, printable

if TYPE_CHECKING:
    import polars as pl

_ROWS = 8
_COLUMNS = 14
_LONGEST = 80


class Shown:
    """A result: its line in words, what its attributes are, the size of its tables; in a notebook its findings too."""

    __slots__ = ()

    def __repr__(self) -> str:
        title = ": ".join(filter(None, (type(self).__name__, getattr(self, "line", ""))))
        rows = _attributes(self)
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([title, *(f"  {name:{width}}  {words}" for name, words in rows)])

    def _repr_html_(self) -> str:
        parts = [f"<b>{_text(type(self).__name__)}</b>"]
        if line := getattr(self, "line", ""):
            parts[0] += f" {_text(line, 400)}"
        parts.append(_table(("attribute", "what it is"), _attributes(self)))
        if findings := getattr(self, "findings", None):
            parts.append(findings_html(findings.frame))
        return f"<div>{''.join(parts)}</div>"


def frame_text(title: str, frame: pl.DataFrame, labels: Sequence[str] = ()) -> str:
    """A table's title and size, and what polars shows of the columns that hold something."""
    lines = str(frame.select(_held(frame))).splitlines()
    return "\n".join([f"{title}: {_size(frame, labels)}", *map(printable, lines)])


def frame_html(title: str, frame: pl.DataFrame, labels: Sequence[str] = ()) -> str:
    """The first rows of a table, without columns that hold nothing, under its title and size."""
    shown = _held(frame)[:_COLUMNS]
    words = _size(frame, labels)
    if more := len(frame.columns) - len(shown):
        words += f"; {counted(more, 'more column')}, empty or too many to show"
    body = _table(shown, frame.select(shown).head(_ROWS).iter_rows())
    return f"<div><b>{_text(title)}</b> {_text(words, 400)}{body}</div>"


def findings_html(frame: pl.DataFrame) -> str:
    """Findings a line a kind, the most serious first, with the message of the most frequent."""
    order = {"problem": 0, "warning": 1}
    kinds: dict[tuple[int, str, str], list[Any]] = {}
    for row in frame.iter_rows(named=True):
        key = (order.get(row["severity"], 2), row["severity"], row["kind"])
        kept = kinds.setdefault(key, [0, row])
        kept[0] += row["count"]
        if row["count"] > kept[1]["count"]:
            kept[1] = row
    rows = [(severity, kind, n, row["message"], row["fix"]) for (_, severity, kind), (n, row) in sorted(
        kinds.items(), key=lambda item: (item[0][0], -item[1][0], item[0][2]))]  # fmt: skip
    title = f"<b>Findings</b> {len(frame):,}"
    return f"<div>{title}{_table(('severity', 'kind', 'count', 'message', 'fix'), rows, longest=200)}</div>"


def _held(frame: pl.DataFrame) -> list[str]:
    """The columns that hold something, or all if none does."""
    return [name for name in frame.columns if frame[name].null_count() < frame.height] or frame.columns


def _size(frame: pl.DataFrame, labels: Sequence[str]) -> str:
    return counted(frame.height, "row") + (f"; labels {', '.join(labels)}" if labels else "")


def _attributes(result: Any) -> list[tuple[str, str]]:
    """The attributes of a result that hold something, each with what it is."""
    names = [field.name for field in fields(result) if not field.name.startswith("_")]
    return [(f".{name}", words) for name in names if (words := _words(getattr(result, name)))]


def _words(value: Any) -> str:
    """What an attribute of a result is, in a few words; nothing of what is none."""
    if value is None:
        return ""
    kind = type(value).__name__
    if isinstance(value, str | int | float | bool):
        return str(value)
    try:
        size = len(value)
    except TypeError:
        return kind
    is_table = hasattr(value, "frame") or kind == "DataFrame"
    return f"{kind}, {counted(size, 'row')}" if is_table else f"{kind} of {size:,}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], longest: int = _LONGEST) -> str:
    return f"<table>{''.join(_lines(head, rows, longest))}</table>"


def _lines(head: Sequence[str], rows: Iterable[Sequence[object]], longest: int) -> Iterator[str]:
    yield f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in head)}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{_text(value, longest)}</td>' for value in row)}</tr>"
    yield "</tbody>"


def _text(value: object, longest: int = _LONGEST) -> str:
    """A value as text that is only text; long ones are cut."""
    words = "" if value is None else f"{value:.4g}" if isinstance(value, float) else printable(str(value))
    return escape(words if len(words) <= longest else f"{words[: longest - 1]}…")
