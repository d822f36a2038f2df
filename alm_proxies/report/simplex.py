"""Distributions over labels drawn as points of the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alm_proxies.printable import counted
from alm_proxies.report.drawing import Drawing, shorten, text_width
from alm_proxies.report.page import Cell, Chart, Table

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Distributions drawn as points in the simplex; equal distributions share one larger mark."""

    name: str
    role: str
    points: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Simplex(Chart):
    """One polygon per cloud, with a corner per label: a distribution p is drawn at sum_k p_k corner_k.

    Large marks are means.
    """

    labels: Sequence[str]
    clouds: Sequence[Cloud]
    means: bool = field(default=True, kw_only=True)

    def draw(self, width: float) -> Drawing:
        """The polygons side by side, or below each other where they do not fit."""
        corners = _corners(len(self.labels))
        # room for labels on each side
        beside = min(max(42.0, *(text_width(label, 11) + 10 for label in self.labels)), 62.0)
        across = len(self.clouds) if width > 500 else 1
        side = min(width / across, 330.0)
        sheet = Drawing(width, 0)
        rows = math.ceil(len(self.clouds) / across)
        sheet.height = rows * (side + 14)
        for index, cloud in enumerate(self.clouds):
            middle = (index % across + 0.5) * (width / across), (index // across) * (side + 14) + 22 + (side - 14) / 2
            radius = side / 2 - beside
            place = [(middle[0] + radius * x, middle[1] + radius * y) for x, y in corners]
            sheet.path(place, "outline", closed=True)
            sheet.text(middle[0] - side / 2 + 4, middle[1] - side / 2 + 4, cloud.name, "strong")
            for (x, y), label in zip(corners, self.labels, strict=True):
                anchor = "middle" if abs(x) < 0.2 else ("start" if x > 0 else "end")
                room = side / 2 - abs(x) * (radius + 8) if abs(x) >= 0.2 else side
                at = middle[0] + (radius + 8) * x, middle[1] + (radius + 8) * y + (10 if y > 0.5 else 2)
                sheet.text(at[0], at[1], shorten(label, room, 11), "tick", anchor)
            _cloud(sheet, cloud, corners, middle, radius, self.means, self.labels)
        return sheet

    def drawn(self) -> Table:
        """The mean of each cloud."""
        rows: list[list[Cell]] = [
            [cloud.name, len(cloud.points), *map(float, cloud.points.mean(axis=0))]
            for cloud in self.clouds
            if len(cloud.points)
        ]
        return Table.of(["Points", "Utterances", *self.labels], rows, "Mean distribution")


def _cloud(
    sheet: Drawing, cloud: Cloud, corners: Floats, middle: tuple[float, float], radius: float, means: bool,
    labels: Sequence[str],
) -> None:  # fmt: skip
    distinct, counts = np.unique(np.round(cloud.points, 3), axis=0, return_counts=True)
    for distribution, count in zip(distinct[np.argsort(-counts, kind="stable")], -np.sort(-counts), strict=True):
        x, y = distribution @ corners
        tip = _most(distribution, labels) + (f"\n{counted(count, 'utterance')}" if count > 1 else "")
        size = min(2.0 + 0.6 * math.sqrt(count), 9.0)
        sheet.mark(middle[0] + radius * x, middle[1] + radius * y, cloud.role, tip=tip, size=size, faint=True)
    if means and len(cloud.points):
        x, y = cloud.points.mean(axis=0) @ corners
        tip = f"{cloud.name}: mean\n{_most(cloud.points.mean(axis=0), labels)}"
        sheet.mark(middle[0] + radius * x, middle[1] + radius * y, cloud.role, tip=tip, size=7)


def _most(distribution: Floats, labels: Sequence[str]) -> str:
    order = np.argsort(-distribution, kind="stable")[:3]
    return ", ".join(f"{labels[k]} {100 * distribution[k]:.0f} %" for k in order if distribution[k] >= 0.005)


def _corners(count: int) -> Floats:
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
