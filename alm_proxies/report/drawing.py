"""SVG drawing: scales with round ticks, marks with tooltips, one palette for light, dark and exported pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from alm_proxies.errors import need

# Okabe and Ito's colours, lighter on a dark background; the roles a series can have, in legend order.
LIGHT = {
    "paper": "#fffefb", "raised": "#f6f3ec", "ink": "#1d1c1a", "muted": "#67645d", "grid": "#e4e0d6",
    "human": "#0072b2", "proxy": "#d55e00", "fused": "#00835f", "human-only": "#3a9bd9", "weighted": "#b3528a",
    "pool": "#b07a00", "other": "#7b7770", "extra": "#5b4aa8", "on-middle": "#1d1c1a",
}  # fmt: skip
DARK = {
    "paper": "#151618", "raised": "#1e2023", "ink": "#ecebe7", "muted": "#a3a29c", "grid": "#33353a",
    "human": "#4fb0f0", "proxy": "#ff9147", "fused": "#35cfa2", "human-only": "#a6d8ff", "weighted": "#e8a4cd",
    "pool": "#f0c04d", "other": "#a8a6a0", "extra": "#b3a5f5", "on-middle": "#151618",
}  # fmt: skip
ROLES = ("human", "proxy", "fused", "human-only", "weighted", "pool", "other", "extra")
SHAPES = {
    "human": "circle", "proxy": "diamond", "fused": "square", "human-only": "ring", "weighted": "triangle",
    "pool": "cross", "other": "circle", "extra": "triangle-down",
}  # fmt: skip
WIDE, NARROW = 720.0, 350.0
_MARGIN = 16
_LETTER = 7.0
"""Advance of a 12-pixel letter in the wider of the common sans fonts; labels are laid out with it."""
_WIDTHS = dict.fromkeys("ijl.,:;'|!", 3.6) | dict.fromkeys("ftrI ()[]-/", 4.8) | dict.fromkeys("mwMW%@…", 11.8)
_CAPITAL = 8.2
_FONT = "Inter, 'Segoe UI', Helvetica, Arial, 'Liberation Sans', sans-serif"


def chart_style() -> str:
    """The style sheet of every chart; colours are the palette's CSS variables."""
    return Path(__file__).with_name("chart.css").read_text(encoding="utf-8")


def text_width(words: str, size: float = 12.0) -> float:
    """The approximate width of a line of text in pixels."""
    return sum(_WIDTHS.get(letter, _CAPITAL if letter.isupper() else _LETTER) for letter in words) * size / 12.0


def freest(
    text: str, places: Sequence[tuple[float, float]], right: float, taken: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """The position for a text that covers the fewest points, among `places` and the same heights at the right end."""
    wide = text_width(text)
    places = [*places, *((right - wide, y) for _, y in places)]

    def covered(place: tuple[float, float]) -> int:
        start, base = place
        return sum(start - 6 < x < start + wide + 6 and base - 16 < y < base + 6 for x, y in taken)

    return min(places, key=covered)


def shorten(words: str, width: float, size: float = 12.0) -> str:
    """The text, shortened with an ellipsis if it is wider than `width` pixels."""
    if text_width(words, size) <= width:
        return words
    fits = max((n for n in range(1, len(words)) if text_width(words[:n] + "…", size) <= width), default=1)
    return words[:fits].rstrip() + "…"


def wrap(words: str, width: float, size: float = 12.0) -> list[str]:
    """The text wrapped into lines of at most `width` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def listed(words: Sequence[str], last: str = "and") -> str:
    """The words as a list in prose: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def number(value: float, digits: int = 3) -> str:
    """A number as text: fixed digits, a typographic minus sign, "n/a" for NaN."""
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    words = f"{value:,.{digits}f}"
    return "−" + words[1:] if words.startswith("-") and float(words.replace(",", "")) != 0 else words.lstrip("-")


def signed_number(value: float, digits: int = 3) -> str:
    """A difference for people: with a plus sign above zero."""
    words = number(value, digits)
    return f"+{words}" if value > 0 and words.strip("0.,") else words


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale from values to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, zero: bool = False, room: float = 0.04
    ) -> Scale:
        """A scale that covers all finite values (and zero, with `zero`), with some margin at both ends."""
        finite = [float(value) for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low < 1e-12:
            low, high = (0.0, 1.0) if zero and high == 0.0 else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
        margin = room * (high - low)
        return cls(
            low if zero and low == 0.0 else low - margin, high if zero and high == 0.0 else high + margin, start, end
        )

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round tick values inside the scale, approximately as many as asked."""
        raw = (self.high - self.low) / max(1, about)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(nice * power for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if raw <= nice * power * 1.0001)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def tick_words(ticks: Sequence[float], *, signed: bool = False) -> list[str]:
    """The ticks as text, all with the same number of digits; differences are `signed`: with their plus sign."""
    digits = max((len(f"{tick:.6f}".rstrip("0").split(".")[1]) for tick in ticks), default=0)
    return [(signed_number if signed else number)(tick, digits) for tick in ticks]


class Drawing:
    """Marks, lines and text on a canvas of `width` x `height`; `svg` gives the finished picture."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, kind: str, *, tip: str = "", opacity: float | None = None
    ) -> None:
        """A rectangle; one with a tip counts as a mark."""
        strength = "" if opacity is None else f' fill-opacity="{opacity:.3f}"'
        at = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(0.0, width))}" height="{_n(max(0.0, height))}"'
        self._parts.append(f"<rect {at}{strength}{_kind(kind, tip)}/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, *, tip: str = "") -> None:
        """A straight line."""
        self._parts.append(f'<path d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"{_kind(kind, tip)}/>')

    def path(self, points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False, tip: str = "") -> None:
        """A line through points, closed where asked."""
        if points:
            way = "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + ("Z" if closed else "")
            self._parts.append(f'<path d="M{way}"{_kind(kind, tip)}/>')

    def mark(self, x: float, y: float, role: str, *, tip: str = "", size: float = 4.0, faint: bool = False) -> None:
        """A point in the shape and colour of its role; series differ in both."""
        kind = f"mark point {role}" + (" faint" if faint else "")
        shape = SHAPES[role]
        if shape in ("circle", "ring"):
            ring = " ring" if shape == "ring" else ""
            self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}"{_kind(kind + ring, tip)}/>')
            return
        s = size * 1.15
        ways = {
            "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
            "triangle": [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
            "triangle-down": [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
            "cross": [(-1.2, -0.35), (-0.35, -0.35), (-0.35, -1.2), (0.35, -1.2), (0.35, -0.35), (1.2, -0.35),
                      (1.2, 0.35), (0.35, 0.35), (0.35, 1.2), (-0.35, 1.2), (-0.35, 0.35), (-1.2, 0.35)],
        }  # fmt: skip
        self.path([(x + s * dx, y + s * dy) for dx, dy in ways[shape]], kind, closed=True, tip=tip)

    def text(
        self, x: float, y: float, words: str, kind: str = "label", anchor: str = "start", *, upwards: bool = False
    ) -> None:
        """A line of text; `anchor` is start, middle or end; `upwards` it is read from below."""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        place += f' transform="rotate(-90 {_n(x)} {_n(y)})"' if upwards else ""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{place} class="{kind}">{escape(words)}</text>')

    def legend(self, entries: Sequence[tuple[str, str]], x: float, y: float, *, bars: bool = False) -> float:
        """The legend: names with their shapes (or swatches), wrapped to the width; returns the height used."""
        at, row = x, 0
        for name, role in entries:
            needed = 16 + text_width(name) + 26
            if at + needed > self.width and at > x:
                at, row = x, row + 1
            middle = y + 20 * row
            if bars:
                self.rect(at, middle - 5, 10, 10, f"swatch {role}")
            else:
                self.mark(at + 5, middle, role)
            self.text(at + 16, middle + 4, name)
            at += needed
        return 20.0 * (row + 1)

    def horizontal_axis(
        self, scale: Scale, top: float, bottom: float, title: str, *, about: int = 5, ticks: Sequence[float] = (),
        signed: bool = False,
    ) -> None:  # fmt: skip
        """Grid lines, tick labels and the name of the horizontal axis, right-aligned below it, in two lines if long."""
        values = list(ticks) or scale.ticks(about)
        for value, words in zip(values, tick_words(values, signed=signed), strict=True):
            self.line(scale(value), top, scale(value), bottom, "grid")
            self.text(scale(value), bottom + 16, words, "tick", "middle")
        lines = wrap(title, scale.end, 11.5)
        for row, words in enumerate(lines):
            self.text(scale.end, bottom + 34 + 14 * row, words, "axis", "end")
        self.height += 14 * (len(lines) - 1)

    def vertical_axis(self, scale: Scale, left: float, right: float, title: str, *, about: int = 5) -> None:
        """Grid lines, tick labels and the name of the vertical axis, written horizontally above it."""
        values = scale.ticks(about)
        for value, words in zip(values, tick_words(values), strict=True):
            self.line(left, scale(value), right, scale(value), "grid")
            self.text(left - 7, scale(value) + 4, words, "tick", "end")
        self.text(2, min(scale.start, scale.end) - 10, title, "axis")

    def svg(self, alt: str) -> str:
        """The picture as an SVG element with one sentence of alternative text."""
        box = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} class="chart" role="img" aria-label="{escape(alt)}">'
            f"{''.join(self._parts)}</svg>"
        )


def standalone(svg: str) -> str:
    """The picture as a standalone SVG: light palette, white background with a margin, no CSS variables."""
    colours = {**LIGHT, "paper": "#ffffff"}
    style = re.sub(r"var\(--([a-z-]+)\)", lambda match: colours[match[1]], chart_style())
    start = svg.index(">") + 1
    sheet = f'<rect x="-{_MARGIN}" y="-{_MARGIN}" width="100%" height="100%" fill="#ffffff"/>'
    head = re.sub(r'viewBox="0 0 ([\d.]+) ([\d.]+)" width="[\d.]+" height="[\d.]+"', _with_margin, svg[:start])
    bare = re.sub(r' data-tip="[^"]*"', "", svg[start:])
    return f"{head}<style>.chart{{font-family:{_FONT}}}{style}</style>{sheet}{bare}"


def _with_margin(match: re.Match[str]) -> str:
    width, height = (float(match[place]) + 2 * _MARGIN for place in (1, 2))
    box = f"-{_MARGIN} -{_MARGIN} {_n(width)} {_n(height)}"
    return f'viewBox="{box}" width="{_n(width)}" height="{_n(height)}"'


def png(svg: str) -> bytes:
    """A standalone SVG as a PNG of twice its size; needs the extra `png`."""
    return bytes(need("vl_convert", "png").svg_to_png(svg, scale=2.0))


def _kind(kind: str, tip: str) -> str:
    words = f' data-tip="{escape(tip)}"'.replace("\n", "&#10;") if tip else ""
    return f' class="{escape(kind)}"{words}'


def _n(value: float) -> str:
    words = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if words == "-0" else words
