"""Charts for report pages, described as data: each draws itself when its page is written, in any width, with a tooltip
on every mark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from alm_proxies.interval import Interval
from alm_proxies.report.drawing import Drawing, Scale, freest, number, shorten, text_width
from alm_proxies.report.page import Cell, Chart, Column, Table, interval_words

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One value, optionally with its interval, per label, group or step; the role sets colour and shape."""

    name: str
    role: str
    values: Sequence[Interval]

    @classmethod
    def of(
        cls,
        name: str,
        role: str,
        values: Sequence[float] | Floats,
        low: Sequence[float] | Floats | None = None,
        high: Sequence[float] | Floats | None = None,
    ) -> Series:
        """A series from plain numbers; without `low` and `high` the values have no interval."""
        unknown = [math.nan] * len(values)
        ends = zip(values, unknown if low is None else low, unknown if high is None else high, strict=True)
        return cls(name, role, tuple(Interval(float(v), float(a), float(b)) for v, a, b in ends))


@dataclass(frozen=True, slots=True)
class Line:
    """A series along a horizontal axis; `fit` is a smooth curve, drawn dotted behind it."""

    series: Series
    at: tuple[float, ...]
    fit: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Bars(Chart):
    """Grouped horizontal bars, for example class shares by source or variance components."""

    axis: str
    rows: Sequence[str]
    series: Sequence[Series]
    digits: int = field(default=3, kw_only=True)

    def draw(self, width: float) -> Drawing:
        """The chart in this width."""
        thick = 11.0 if len(self.series) > 1 else 15.0
        step = thick * len(self.series) + 11.0
        many = len(self.series) > 1
        left = _left(self.rows, width)
        sheet = Drawing(width, step * len(self.rows) + 44 + (26 if many else 6))
        top = sheet.legend([(s.name, s.role) for s in self.series], 0, 8, bars=True) + 8 if many else 6.0
        sheet.height += top - (26 if many else 6)
        ends = [v for s in self.series for i in s.values for v in (i.estimate, i.high, i.low)]
        scale = Scale.over(ends, left, width - 12 - (0 if many else 36), zero=True)
        bottom = top + step * len(self.rows)
        sheet.horizontal_axis(scale, top, bottom, self.axis, about=_about(width))
        for index, row in enumerate(self.rows):
            y = top + index * step + 5
            sheet.text(left - 9, y + (step - 11) / 2 + 4, shorten(row, left - 9), "label", "end")
            for place, drawn in enumerate(self.series):
                value = drawn.values[index]
                if not math.isfinite(value.estimate):
                    continue
                at, middle = y + place * thick, y + place * thick + thick / 2 - 0.5
                start, end = sorted((scale(0.0), scale(value.estimate)))
                tip = f"{row} · {drawn.name}\n{interval_words(value, self.digits)}"
                sheet.rect(start, at, end - start, thick - 1.5, f"mark bar {drawn.role}", tip=tip)
                _whisker(sheet, scale, value, middle, tip)
                if not many:
                    after = max(end, _end(scale, value)) + 5
                    sheet.text(after, middle + 4, number(value.estimate, self.digits), "value")
        sheet.line(scale(0.0), top, scale(0.0), bottom, "baseline")
        return sheet

    def drawn(self) -> Table:
        """The drawn values."""
        return _table("", self.rows, self.series, self.digits)


@dataclass(frozen=True, slots=True)
class Dots(Chart):
    """Points with intervals: one row per stratum or group, one shape per method; `headings` are above their row.

    Differences are `signed`: above zero they have a plus sign.
    """

    axis: str
    rows: Sequence[str]
    series: Sequence[Series]
    reference: tuple[str, float] | None = field(default=None, kw_only=True)
    digits: int = field(default=3, kw_only=True)
    headings: Mapping[int, str] | None = field(default=None, kw_only=True)
    signed: bool = field(default=False, kw_only=True)

    def draw(self, width: float) -> Drawing:
        """The chart in this width."""
        above = self.headings or {}
        gap = 12.0
        step = gap * len(self.series) + 12.0
        left = _left(self.rows, width)
        sheet = Drawing(width, 0)
        top = sheet.legend([(s.name, s.role) for s in self.series], 0, 8) + 18
        bottom = top + step * len(self.rows) + 26 * len(above)
        sheet.height = bottom + 44
        ends = [v for s in self.series for i in s.values for v in (i.estimate, i.low, i.high)]
        scale = Scale.over([*ends, *([self.reference[1]] if self.reference else [])], left + 4, width - 14)
        sheet.horizontal_axis(scale, top, bottom, self.axis, about=_about(width), signed=self.signed)
        if self.reference:
            at = scale(self.reference[1])
            sheet.line(at, top, at, bottom, "reference")
            side = "end" if at > left + 0.5 * (width - left) else "start"
            sheet.text(at, top - 5, self.reference[0], "note", side)
        y = top
        for index, row in enumerate(self.rows):
            if index in above:
                sheet.rect(0, y, width, 25, "band")
                sheet.text(0, y + 18, above[index], "strong")
                y += 26
            elif index:
                sheet.line(0, y, width, y, "grid")
            sheet.text(0, y + step / 2 + 4, shorten(row, left - 6))
            for place, drawn in enumerate(self.series):
                value, middle = drawn.values[index], y + 6 + gap * (place + 0.5)
                if not math.isfinite(value.estimate):
                    if not math.isnan(value.estimate):
                        end = (width - 14, "end") if value.estimate > 0 else (left + 4, "start")
                        sheet.text(end[0], middle + 4, number(value.estimate), f"value {drawn.role}", end[1])
                    continue
                tip = f"{row} · {drawn.name}\n{interval_words(value, self.digits, signed=self.signed)}"
                if not math.isnan(value.low):
                    sheet.line(scale(value.low), middle, scale(value.high), middle, f"interval {drawn.role}")
                sheet.mark(scale(value.estimate), middle, drawn.role, tip=tip, size=4.2)
            y += step
        return sheet

    def drawn(self) -> Table:
        """The drawn values, each row under its heading."""
        rows, heading = [], ""
        for index, row in enumerate(self.rows):
            heading = (self.headings or {}).get(index, heading)
            rows.append(f"{heading}: {row}" if heading else row)
        return _table("", rows, self.series, self.digits, signed=self.signed)


@dataclass(frozen=True, slots=True)
class Curves(Chart):
    """Lines over a number of votes: saturation curves with their fit, learning curves; references are level lines."""

    across: str
    up: str
    lines: Sequence[Line]
    references: Sequence[tuple[str, str, float]] = field(default=(), kw_only=True)
    stop: tuple[str, float] | None = field(default=None, kw_only=True)
    digits: int = field(default=3, kw_only=True)

    def _tip(self, x: float, value: Interval) -> str:
        return f"{self.across}: {_step(x):g}\n{interval_words(value, self.digits)}"

    def draw(self, width: float) -> Drawing:
        """The chart in this width."""
        sheet = Drawing(width, 0)
        left = 46.0
        top = sheet.legend([(line.series.name, line.series.role) for line in self.lines], 0, 8) + 24
        bottom = top + (270.0 if width > 500 else 230.0)
        sheet.height = bottom + 44
        steps = sorted({x for line in self.lines for x in line.at})
        ends = [v for line in self.lines for i in line.series.values for v in (i.estimate, i.low, i.high)]
        ends += [value for _, _, value in self.references] + [y for line in self.lines for _, y in line.fit]
        down = Scale.over(ends, bottom, top, room=0.08)
        along = Scale.over([*steps, *(x for line in self.lines for x, _ in line.fit)], left + 8, width - 16, room=0.02)
        sheet.vertical_axis(down, left, width, self.up)
        ticks = steps if len(steps) <= _about(width) * 2 else _whole_ticks(along.ticks(_about(width) + 2), steps)
        for x in ticks:
            sheet.text(along(x), bottom + 16, number(x, 0 if float(x).is_integer() else 1), "tick", "middle")
        sheet.text(along.end, bottom + 34, self.across, "axis", "end")
        sheet.line(left, bottom, width, bottom, "baseline")
        taken = [
            (along(x), down(i.estimate))
            for line in self.lines
            for x, i in zip(line.at, line.series.values, strict=True)
        ]
        for line in self.lines:  # words keep clear of intervals too
            for x, value in zip(line.at, line.series.values, strict=True):
                if not math.isnan(value.low):
                    top_end, steps_down = down(value.high), int((down(value.low) - down(value.high)) / 8) + 1
                    taken += [(along(x), top_end + 8.0 * step) for step in range(steps_down)]
        for words, role, level in self.references:
            text, y = f"{words} {number(level, self.digits)}", down(level)
            sheet.line(left, y, width, y, f"fit {role}", tip=text)
            start, base = freest(text, ((left + 6, y + 14), (left + 6, y - 5)), width - 6, taken)
            sheet.text(start, base, text, "note")
            taken += [(start + 20.0 * step, base - 4) for step in range(int(text_width(text) / 20) + 1)]
        if self.stop and along.low <= self.stop[1] <= along.high:
            x = along(self.stop[1])
            sheet.line(x, top, x, bottom, "reference")
            late = x > width * 0.6
            sheet.text(x + (-6 if late else 6), top + 8, self.stop[0], "note", "end" if late else "start")
        for line, place in zip(self.lines, _beside_each_other(self.lines, along), strict=True):
            _points(sheet, line, place, down, self._tip)
        return sheet

    def drawn(self) -> Table:
        """The drawn values, a row for each step."""
        steps = sorted({x for line in self.lines for x in line.at})
        by_line = [dict(zip(line.at, line.series.values, strict=True)) for line in self.lines]
        rows: list[list[Cell]] = [[_step(x), *(values.get(x) for values in by_line)] for x in steps]
        return Table.of([self.across, *(Column(line.series.name, self.digits) for line in self.lines)], rows)


@dataclass(frozen=True, slots=True)
class Calibration(Chart):
    """A calibration curve: predicted probability against observed frequency, with the diagonal as reference."""

    across: str
    up: str
    lines: Sequence[Line]
    digits: int = field(default=3, kw_only=True)

    def _tip(self, x: float, value: Interval) -> str:
        return f"{self.across}: {number(x, self.digits)}\n{self.up}: {interval_words(value, self.digits)}"

    def draw(self, width: float) -> Drawing:
        """The chart in this width."""
        side = min(width, 440.0)
        sheet = Drawing(side, 0)
        left = 46.0
        top = sheet.legend([(line.series.name, line.series.role) for line in self.lines], 0, 8) + 24
        bottom = top + side - left - 16
        sheet.height = bottom + 44
        values = [v for line in self.lines for i in line.series.values for v in (i.estimate, i.low, i.high)]
        values += [x for line in self.lines for x in line.at]
        extent = Scale.over(values, 0, 1, room=0.04)
        along = Scale(extent.low, extent.high, left, side - 16)
        down = Scale(extent.low, extent.high, bottom, top)
        sheet.vertical_axis(down, left, side - 16, self.up)
        sheet.horizontal_axis(along, bottom, bottom, self.across)
        sheet.line(along(extent.low), down(extent.low), along(extent.high), down(extent.high), "reference")
        for line in self.lines:
            _points(sheet, line, along, down, self._tip)
        return sheet

    def drawn(self) -> Table:
        """The drawn values, a row for each point."""
        rows: list[list[Cell]] = [
            [line.series.name, x, value]
            for line in self.lines
            for x, value in zip(line.at, line.series.values, strict=True)
        ]
        return Table.of(["Series", Column(self.across, self.digits), Column(self.up, self.digits)], rows)


@dataclass(frozen=True, slots=True, eq=False)
class Heat(Chart):
    """A matrix of shares, one square per pair of labels, darker for larger shares, with the share in per cent.

    `most` is the share of the darkest square; charts that are compared have the same.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    values: Floats
    row_title: str = field(kw_only=True)
    column_title: str = field(kw_only=True)
    most: float = field(default=1.0, kw_only=True)

    def draw(self, width: float) -> Drawing:
        """The chart in this width."""
        left = _left(self.rows, width)
        cell = min(58.0, (width - left - 4) / len(self.columns))
        high = min(cell, 40.0)
        upwards = any(text_width(column, 11) > cell - 4 for column in self.columns)
        longest = min(max(text_width(column, 11) for column in self.columns), 110.0)
        top = 26.0 + (longest + 8.0 if upwards else 18.0)
        across = left + cell * len(self.columns) + 4
        sheet = Drawing(max(width if width < 400 else 0.0, across), top + high * len(self.rows) + 8)
        sheet.text(0, 12, f"{self.row_title} ↓", "axis")
        sheet.text(sheet.width - 4, 12, f"{self.column_title} →", "axis", "end")
        for j, column in enumerate(self.columns):
            words, middle = shorten(column, 110.0, 11), left + (j + 0.5) * cell
            at = middle + (4 if upwards else 0)
            sheet.text(at, top - 7, words, "tick", "start" if upwards else "middle", upwards=upwards)
        for i, row in enumerate(self.rows):
            y = top + i * high
            sheet.text(left - 8, y + high / 2 + 4, shorten(row, left - 8), "label", "end")
            for j, column in enumerate(self.columns):
                share = float(self.values[i, j])
                if math.isnan(share):
                    continue
                x, strength = left + j * cell, 0.03 + 0.92 * min(share / self.most, 1.0)
                tip = f"{self.row_title} {row}\n{self.column_title} {column}\n{100 * share:.1f} %"
                sheet.rect(x + 1, y + 1, cell - 2, high - 2, "mark cell", tip=tip, opacity=strength)
                kind = "value on-dark" if strength > 0.85 else "value on-middle" if strength > 0.62 else "value"
                sheet.text(x + cell / 2, y + high / 2 + 4, f"{100 * share:.0f}", kind, "middle")
        return sheet

    def drawn(self) -> Table:
        """The drawn values."""
        rows: list[list[Cell]] = [[row, *map(float, self.values[place])] for place, row in enumerate(self.rows)]
        return Table.of([f"{self.row_title} \\ {self.column_title}", *self.columns], rows)


def _whole_ticks(ticks: Sequence[float], steps: Sequence[float]) -> list[float]:
    """The ticks of an axis; of counts only whole numbers."""
    if not all(float(step).is_integer() for step in steps):
        return list(ticks)
    return [tick for tick in ticks if float(tick).is_integer()]


def votes_picture(labels: Sequence[str], series: Sequence[Series], *, alt: str) -> str:
    """A small bar chart of one utterance's distributions, for an example card."""
    thick, left, width = 7.0, min(88.0, max(map(text_width, labels)) + 8), 330.0
    step = thick * len(series) + 7
    sheet = Drawing(width, 0)
    top = sheet.legend([(s.name, s.role) for s in series], 0, 8, bars=True) + 6
    sheet.height = top + step * len(labels) + 2
    scale = Scale(0.0, 1.0, left, width - 2)
    for share in (0.5, 1.0):
        sheet.line(scale(share), top - 3, scale(share), top + step * len(labels) - 4, "grid")
    for index, label in enumerate(labels):
        y = top + index * step
        sheet.text(left - 7, y + (step - 7) / 2 + 4, shorten(label, left - 7, 11), "tick", "end")
        for place, drawn in enumerate(series):
            value = drawn.values[index].estimate
            tip = f"{label} · {drawn.name}\n{100 * value:.0f} %"
            wide = scale(value) - scale(0.0)
            sheet.rect(left, y + place * thick, wide, thick - 1.2, f"mark bar {drawn.role}", tip=tip)
    sheet.line(left, top - 3, left, top + step * len(labels) - 4, "baseline")
    return sheet.svg(alt)


def _table(first: str, rows: Sequence[str], series: Sequence[Series], digits: int, *, signed: bool = False) -> Table:
    columns = [Column(first), *(Column(drawn.name, digits, signed=signed) for drawn in series)]
    return Table.of(columns, [[row, *(drawn.values[i] for drawn in series)] for i, row in enumerate(rows)])


def _beside_each_other(lines: Sequence[Line], along: Scale) -> list[Scale]:
    """A scale for each line, up to 6 pixels beside the next, so that no interval hides; short lines in the middle."""
    places = sorted({along(x) for line in lines for x in line.at})
    spans = any(not math.isnan(value.low) for line in lines for value in line.series.values)
    apart = min([6.0, *(0.5 * (b - a) / len(lines) for a, b in pairwise(places))]) if spans else 0.0
    shifts = sorted((apart * (n - 0.5 * (len(lines) - 1)) for n in range(len(lines))), key=lambda by: (-abs(by), by))
    by = dict(zip(sorted(range(len(lines)), key=lambda n: -len(lines[n].at)), shifts, strict=True))
    return [replace(along, start=along.start + by[n], end=along.end + by[n]) for n in range(len(lines))]


def _points(sheet: Drawing, line: Line, along: Scale, down: Scale, tip: Callable[[float, Interval], str]) -> None:
    """Draw a line's fit, or the line through its points, and a mark with its interval at each point."""
    role = line.series.role
    known = [(x, i) for x, i in zip(line.at, line.series.values, strict=True) if math.isfinite(i.estimate)]
    if line.fit:
        sheet.path([(along(x), down(y)) for x, y in line.fit], f"fit {role}")
    else:
        sheet.path([(along(x), down(i.estimate)) for x, i in known], f"curve {role}")
    for x, value in known:
        if not math.isnan(value.low):
            sheet.line(along(x), down(value.low), along(x), down(value.high), f"interval {role}")
        sheet.mark(along(x), down(value.estimate), role, tip=f"{line.series.name}\n{tip(x, value)}")


def _whisker(sheet: Drawing, scale: Scale, value: Interval, middle: float, tip: str) -> None:
    if not math.isnan(value.low):
        sheet.line(scale(value.low), middle, scale(value.high), middle, "whisker", tip=tip)


def _end(scale: Scale, value: Interval) -> float:
    return scale(value.estimate if math.isnan(value.high) else value.high)


def _left(rows: Sequence[str], width: float) -> float:
    return min(max([*map(text_width, rows), 20.0]) + 14, 0.36 * width)


def _about(width: float) -> int:
    return 6 if width > 500 else 4


def _step(x: float) -> int | float:
    return int(x) if float(x).is_integer() else x
