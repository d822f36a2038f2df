"""Distributions over labels drawn as points of the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alm_proxies.report.charts import chart_of
from alm_proxies.report.drawing import Drawing, shorten, text_width
from alm_proxies.report.page import Cell, Chart, Table

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Distributions drawn as points in the simplex; equal distributions share one larger mark."""

    name: str
    role: str
    points: Floats


def simplex(
    name: str, title: str, labels: Sequence[str], clouds: Sequence[Cloud], *, alt: str, note: str = "",
    means: bool = True,
) -> Chart:  # fmt: skip
    """One polygon per cloud, with a corner per label: a distribution p is drawn at sum_k p_k corner_k.

    Large marks are means.
    """
    corners = _corners(len(labels))
    beside = min(max(42.0, *(text_width(label, 11) + 10 for label in labels)), 62.0)  # room for labels on each side

    def draw(width: float) -> Drawing:
        across = len(clouds) if width > 500 else 1
        side = min(width / across, 330.0)
        sheet = Drawing(width, 0)
        rows = math.ceil(len(clouds) / across)
        sheet.height = rows * (side + 14)
        for index, cloud in enumerate(clouds):
            middle = (index % across + 0.5) * (width / across), (index // across) * (side + 14) + 22 + (side - 14) / 2
            radius = side / 2 - beside
            place = [(middle[0] + radius * x, middle[1] + radius * y) for x, y in corners]
            sheet.path(place, "outline", closed=True)
            sheet.text(middle[0] - side / 2 + 4, middle[1] - side / 2 + 4, cloud.name, "strong")
            for (x, y), label in zip(corners, labels, strict=True):
                anchor = "middle" if abs(x) < 0.2 else ("start" if x > 0 else "end")
                room = side / 2 - abs(x) * (radius + 8) if abs(x) >= 0.2 else side
                at = middle[0] + (radius + 8) * x, middle[1] + (radius + 8) * y + (10 if y > 0.5 else 2)
                sheet.text(at[0], at[1], shorten(label, room, 11), "tick", anchor)
            _cloud(sheet, cloud, corners, middle, radius, means, labels)
        return sheet

    rows: list[list[Cell]] = [
        [cloud.name, len(cloud.points), *map(float, cloud.points.mean(axis=0))] for cloud in clouds if len(cloud.points)
    ]
    table = Table.of(["Points", "Utterances", *labels], rows, "Mean distribution")
    return chart_of(name, title, alt, note, draw, table)


def _cloud(
    sheet: Drawing, cloud: Cloud, corners: Floats, middle: tuple[float, float], radius: float, means: bool,
    labels: Sequence[str],
) -> None:  # fmt: skip
    distinct, counts = np.unique(np.round(cloud.points, 3), axis=0, return_counts=True)
    for distribution, count in zip(distinct[np.argsort(-counts, kind="stable")], -np.sort(-counts), strict=True):
        x, y = distribution @ corners
        tip = _most(distribution, labels) + (f"\n{count} utterances" if count > 1 else "")
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
