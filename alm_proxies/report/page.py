"""A report page that works offline: a headline, then sections of text, charts, sortable tables and audio examples."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alm_proxies.files import write_bytes, write_text
from alm_proxies.finding import worded
from alm_proxies.interval import Interval
from alm_proxies.printable import printable_lines
from alm_proxies.progress import say
from alm_proxies.report.drawing import (
    DARK,
    LIGHT,
    NARROW,
    WIDE,
    Drawing,
    chart_style,
    number,
    png,
    signed_number,
    standalone,
)

if TYPE_CHECKING:
    from markupsafe import Markup


_LONG = 24
"""Texts longer than this get a column wide enough to be read on a phone."""
Cell = str | int | float | Interval | None


def interval_words(interval: Interval, digits: int = 3, *, signed: bool = False) -> str:
    """The estimate, with its interval in brackets where it is known; a difference is `signed`: with its plus sign."""
    write = signed_number if signed else number
    estimate = write(interval.estimate, digits)
    if math.isnan(interval.low) or math.isnan(interval.high):
        return estimate
    return f"{estimate} [{write(interval.low, digits)}, {write(interval.high, digits)}]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, the number of digits of its values, and a tooltip for the name."""

    name: str
    digits: int = 3
    hint: str = ""
    signed: bool = False
    """A difference: above zero it has a plus sign."""
    chance: bool = False
    """A p-value: one that would be rounded to zero is shown as below the smallest number, < 0.001."""


P_VALUE = Column("p", chance=True)


@dataclass(frozen=True, slots=True)
class Table:
    """A table, sorted by a click on a column's name; None is a dash and sorts last; a folded table opens on demand."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: bool = False

    @classmethod
    def of(
        cls, columns: Sequence[str | Column], rows: Sequence[Sequence[Cell]], caption: str = "", *, folded: bool = False
    ) -> Table:
        """A table from column names (or columns) and rows."""
        named = tuple(column if isinstance(column, Column) else Column(column) for column in columns)
        return cls(named, tuple(tuple(row) for row in rows), caption, folded)

    def html(self) -> Markup:
        """The table as HTML."""
        heads = "".join(
            f'<th scope="col" aria-sort="none"><button type="button"{_title(c.hint)}>{escape(c.name)}</button></th>'
            for c in self.columns
        )
        body = "".join(f"<tr>{self._cells(row)}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        table = f'<div class="table" tabindex="0" role="region" aria-label="{escape(self._name())}">{table}</div>'
        if self.folded:
            summary = _inline(self.caption or "The table")
            return _markup(f"<details><summary>{summary}</summary>{table}</details>")
        caption = f'<p class="caption">{_inline(self.caption)}</p>' if self.caption else ""
        return _markup(caption + table)

    def _name(self) -> str:
        return self.caption or ", ".join(column.name for column in self.columns)

    def _cells(self, row: tuple[Cell, ...]) -> str:
        cells = []
        for index, (cell, column) in enumerate(zip(row, self.columns, strict=True)):
            words, key = _cell(cell, column.digits, column.signed)
            if column.chance and isinstance(cell, float) and cell < 10**-column.digits:
                words = f"< {number(10**-column.digits, column.digits)}"
            kind = "" if isinstance(cell, str) else ' class="figure"'
            if isinstance(cell, str) and len(cell) > _LONG:
                kind = ' class="words"'
            tag = 'th scope="row"' if index == 0 and isinstance(cell, str) else "td"
            cells.append(f'<{tag}{kind} data-key="{escape(key)}">{escape(words)}</{tag.split()[0]}>')
        return "".join(cells)


@dataclass(frozen=True, slots=True)
class Chart(ABC):
    """A picture for screens and phones, its description in one sentence, and its values as a table.

    A chart is plain data until the page is written: `draw` makes the picture in a width.
    """

    name: str
    title: str
    alt: str = field(kw_only=True)
    note: str = field(default="", kw_only=True)
    numbers: Table | None = field(default=None, kw_only=True)
    """A table to show in place of the drawn values."""

    @abstractmethod
    def draw(self, width: float) -> Drawing:
        """The picture in a width."""

    @abstractmethod
    def drawn(self) -> Table:
        """The drawn values."""

    @property
    def wide(self) -> str:
        """The picture for screens."""
        return self.draw(WIDE).svg(self.alt)

    @property
    def narrow(self) -> str:
        """The picture for phones."""
        return self.draw(NARROW).svg(self.alt)

    @property
    def table(self) -> Table:
        """The chart's numbers."""
        return self.drawn() if self.numbers is None else self.numbers

    def html(self) -> Markup:
        """The chart as a figure element, with its numbers in a folded table below."""
        note = f'<p class="note">{_inline(self.note)}</p>' if self.note else ""
        return _markup(
            f'<figure id="{escape(self.name)}"><figcaption>{escape(self.title)}</figcaption>'
            f'<div class="wide">{self.wide}</div><div class="narrow">{self.narrow}</div>{note}'
            f"<details><summary>The numbers</summary>{self.table.html()}</details></figure>"
        )

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the wide picture into a folder as <name>.svg and, if the extra `png` is installed, as <name>.png."""
        svg = standalone(self.wide)
        paths = [Path(folder) / f"{self.name}.svg"]
        write_text(paths[0], printable_lines(svg))
        if find_spec("vl_convert") is not None:
            paths.append(Path(folder) / f"{self.name}.png")
            write_bytes(paths[1], png(svg))
        return tuple(paths)


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs; `backticks` mark code. A notice is highlighted: something the reader must know or do."""

    words: str
    kind: Literal["plain", "notice"] = "plain"

    def html(self) -> Markup:
        """The paragraphs as HTML."""
        kind = ' class="notice" role="note"' if self.kind == "notice" else ""
        return _markup("".join(f"<p{kind}>{_inline(part)}</p>" for part in self.words.split("\n\n")))


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording that is embedded in the page."""

    content: bytes
    kind: Literal["audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"] = "audio/wav"

    def html(self, name: str) -> str:
        """An audio player with the recording embedded as a data URI."""
        data = base64.b64encode(self.content).decode("ascii")
        source = f"data:{self.kind};base64,{data}"
        return f'<audio controls preload="metadata" aria-label="{escape(name)}" src="{source}"></audio>'


@dataclass(frozen=True, slots=True)
class Example:
    """One example utterance: its metadata, a picture of its votes, its transcript and its recording."""

    title: str
    facts: Mapping[str, str]
    picture: str
    transcript: str | None = None
    sound: Sound | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """Utterances side by side."""

    items: tuple[Example, ...]

    def html(self) -> Markup:
        """The examples as cards."""
        return _markup(f'<div class="examples">{"".join(map(self._card, self.items))}</div>')

    @staticmethod
    def _card(example: Example) -> str:
        facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in example.facts.items())
        spoken = f"<blockquote>{escape(example.transcript)}</blockquote>" if example.transcript else ""
        sound = example.sound.html(example.title) if example.sound else ""
        return f"<article><h3>{escape(example.title)}</h3>{spoken}{sound}{example.picture}<dl>{facts}</dl></article>"


Block = Text | Table | Chart | Examples


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: its title, its result in one sentence, and the evidence."""

    title: str
    lead: str
    blocks: tuple[Block, ...] = ()

    @property
    def anchor(self) -> str:
        """The section's anchor in links."""
        return re.sub(r"[\W_]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure under the headline."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A report: kind, headline, short summary, key figures, sections, provenance (`made`), and a notice at the top."""

    kind: str
    headline: str
    summary: str
    figures: tuple[Figure, ...] = ()
    sections: tuple[Section, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Every chart of the page, in order."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Chart))

    def html(self) -> str:
        """The whole page as one HTML string; it loads no other file, and its content security policy forbids it."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        folder = Path(__file__).parent
        environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["inline"] = lambda words: _markup(_inline(words))
        script = (folder / "page.js").read_text(encoding="utf-8")
        style = _palette() + (folder / "page.css").read_text(encoding="utf-8") + chart_style()
        text = environment.get_template("page.html").render(
            page=self,
            script=_markup(script),
            style=_markup(style),
            script_digest=_markup(_digest(script)),
            style_digest=_markup(_digest(style)),
        )
        return printable_lines(text)

    def write(self, path: str | Path, *, pictures: bool = True) -> None:
        """Write the page and, next to it, <name>_charts/ with every chart as SVG and, with the extra `png`, as PNG."""
        target = Path(path)
        write_text(target, self.html())
        if pictures:
            saved = [chart.save(target.with_name(f"{target.stem}_charts")) for chart in self.charts]
            if any(len(paths) == 1 for paths in saved):
                say("The charts are written as SVG only. For PNG as well: pip install 'alm-proxies[png]'")


def _cell(cell: Cell, digits: int, signed: bool) -> tuple[str, str]:
    if cell is None:
        return "–", ""
    if isinstance(cell, str):
        return cell, cell
    if isinstance(cell, Interval):
        return interval_words(cell, digits, signed=signed), "" if math.isnan(cell.estimate) else repr(
            float(cell.estimate)
        )
    if isinstance(cell, int):
        return f"{cell:,}", str(cell)
    if math.isnan(cell):
        return "–", ""
    return signed_number(cell, digits) if signed else number(cell, digits), repr(float(cell))


def _inline(words: str) -> str:
    spaced = re.sub(r"(?<=[0-9]) %", "\u00a0%", worded(words))  # no line may begin with the sign
    parts = re.split(r"`([^`]+)`", escape(spaced))
    prose = [re.sub(r"(?<![^\s(])-(?=[0-9])", "\u2212", part) for part in parts[::2]]
    return "".join(
        f"{text}<code>{code}</code>" for text, code in zip(prose, [*parts[1::2], ""], strict=True)
    ).removesuffix("<code></code>")


def _title(hint: str) -> str:
    return f' data-tip="{escape(hint)}"' if hint else ""


def _markup(html: str) -> Markup:
    from markupsafe import Markup

    return Markup(html)  # all parts have been escaped before


def _palette() -> str:
    def variables(colours: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{colour};" for name, colour in colours.items())

    dark = f"color-scheme:dark;{variables(DARK)}"
    return (
        f":root{{color-scheme:light;{variables(LIGHT)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
        "@media print{:root{--paper:#ffffff}}\n"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
