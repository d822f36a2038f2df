from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from alm_proxies.interval import Interval
from alm_proxies.report.charts import Bars, Calibration, Curves, Dots, Heat, Line, Series, votes_picture
from alm_proxies.report.drawing import DARK, LIGHT
from alm_proxies.report.page import Chart
from alm_proxies.report.simplex import Cloud, Simplex

LABELS = ("anger", "happiness", "sadness")
HUMAN = Series.of("human", "human", [0.5, 0.3, 0.2], [0.4, 0.2, 0.1], [0.6, 0.4, 0.3])
PROXY = Series.of("proxy", "proxy", [0.2, math.nan, 0.8])


def test_bars_draw_known_values_and_leave_out_unknown_ones() -> None:
    chart = Bars("shares", "Shares", "share of votes", LABELS, [HUMAN, PROXY], alt="Shares.")
    assert _tips(chart.wide, "rect") == [
        "anger · human\n0.500 [0.400, 0.600]", "anger · proxy\n0.200", "happiness · human\n0.300 [0.200, 0.400]",
        "sadness · human\n0.200 [0.100, 0.300]", "sadness · proxy\n0.800",
    ]  # fmt: skip


def test_bar_lengths_are_proportional_to_the_values() -> None:
    chart = Bars("shares", "Shares", "share", LABELS, [Series.of("a", "human", [0.1, 0.2, 0.4])], alt="Shares.")
    widths = [float(node.attrib["width"]) for node in _marks(chart.wide, "rect")]
    assert widths[1] / widths[0] == pytest.approx(2.0, rel=0.01)
    assert widths[2] / widths[0] == pytest.approx(4.0, rel=0.01)


def test_negative_bars_start_at_zero_and_go_left() -> None:
    chart = Bars("gain", "Gain", "votes", ["up", "down"], [Series.of("gain", "fused", [2.0, -1.0])], alt="Gain.")
    up, down = _marks(chart.wide, "rect")
    assert float(up.attrib["x"]) == pytest.approx(float(down.attrib["x"]) + float(down.attrib["width"]), abs=0.02)


def test_dots_show_every_row_and_series_with_a_reference() -> None:
    chart = Dots("strata", "Strata", "NLL", LABELS, [HUMAN, PROXY], alt="Strata.", reference=("uniform", 1.1))
    assert len(_tips(chart.wide)) == 5
    assert "uniform" in "".join(ElementTree.fromstring(chart.narrow).itertext())


def test_infinite_values_are_named_in_their_row_and_have_no_mark() -> None:
    infinite = Series.of("proxy", "proxy", [0.2, math.inf, -math.inf])
    line = Line(infinite, (1.0, 2.0, 3.0))
    charts: list[Chart] = [
        Dots("strata", "Strata", "NLL", LABELS, [HUMAN, infinite], alt="Strata."),
        Bars("shares", "Shares", "share", LABELS, [infinite], alt="Shares."),
        Curves("curve", "Curve", "votes", "NLL", [line], alt="Curve."),
    ]
    for chart in charts:
        for svg in (chart.wide, chart.narrow):
            numbers = [value for node in ElementTree.fromstring(svg).iter() for value in node.attrib.values()]
            assert not any(re.search(r"\b(inf|nan)\b", value) for value in numbers)
    words = list(ElementTree.fromstring(charts[0].wide).itertext())
    assert {"∞", "−∞"} <= set(words)
    assert len(_tips(charts[0].wide)) == 4


def test_curves_name_both_axes_and_draw_the_fit_and_the_references() -> None:
    line = Line(HUMAN, (1.0, 2.0, 3.0), tuple((x / 10, 0.5 - x / 100) for x in range(10, 31)))
    chart = Curves(
        "saturation", "Saturation", "proxy votes", "JSD (base 2)", [line], alt="Saturation.",
        references=[("another human", "human", 0.25)], stop=("saturated at 2", 2.0),
    )  # fmt: skip
    words = list(ElementTree.fromstring(chart.wide).itertext())
    assert {"proxy votes", "JSD (base 2)", "saturated at 2", "another human 0.250"} <= set(words)
    assert len(_marks(chart.wide, "circle")) == 3
    assert [row[0] for row in chart.table.rows] == [1, 2, 3]


def test_intervals_at_one_number_of_votes_stand_side_by_side_around_it() -> None:
    at = (1.0, 2.0, 3.0)
    spans = [Series.of(role, role, [0.5] * 3, [0.4] * 3, [0.6] * 3) for role in ("human", "proxy")]
    lines = [Line(series, at) for series in spans]
    plain = Curves("c", "C", "votes", "loss", [Line(Series.of(s.name, s.role, [0.5] * 3), at) for s in spans], alt="C.")
    for picture, others in zip(
        *((chart.wide, chart.narrow) for chart in (Curves("c", "C", "votes", "loss", lines, alt="C."), plain)),
        strict=True,
    ):
        ticks = re.findall(r'x="([^"]+)"[^>]*text-anchor="middle" class="tick"', picture)
        human, proxy = (
            re.findall(rf'd="M([0-9.]+) [^"]+" class="interval {role}"', picture) for role in ("human", "proxy")
        )
        for tick, left, right in zip(ticks, human, proxy, strict=True):
            assert 3 < float(right) - float(left) <= 6
            assert float(tick) == pytest.approx((float(left) + float(right)) / 2, abs=0.11)
        assert len(set(re.findall(r'd="(M[^"]+)" class="curve', others))) == 1  # without intervals nothing is shifted


def test_a_perfectly_calibrated_series_lies_on_the_diagonal() -> None:
    values = (0.2, 0.5, 0.9)
    chart = Calibration(
        "c", "C", "predicted", "observed", [Line(Series.of("fused", "fused", values), values)], alt="C."
    )
    root = ElementTree.fromstring(chart.wide)
    diagonal = next(node for node in root if node.attrib.get("class") == "reference").attrib["d"]
    (x1, y1), (x2, y2) = (map(float, part.split()) for part in diagonal[1:].split("L"))
    for mark in _marks(chart.wide, "path"):
        corners = [tuple(map(float, part.split())) for part in mark.attrib["d"][1:-1].split("L")]
        x, y = np.mean(corners, axis=0)
        assert (y - y1) * (x2 - x1) == pytest.approx((x - x1) * (y2 - y1), abs=1.0 * abs(x2 - x1))


def test_a_heat_map_is_darker_where_the_share_is_larger_and_skips_what_is_not_known() -> None:
    values = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [np.nan, np.nan, np.nan]])
    chart = Heat("h", "H", LABELS, LABELS, values, row_title="human", column_title="proxy", alt="H.")
    cells = _marks(chart.wide, "rect")
    assert len(cells) == 6
    strength = [float(cell.attrib["fill-opacity"]) for cell in cells]
    assert np.argsort(strength, kind="stable").tolist() == np.argsort(values[:2].ravel(), kind="stable").tolist()


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_the_figures_in_a_heat_map_can_be_read_on_every_shade(palette: dict[str, str]) -> None:
    values = np.linspace(0.0, 1.0, 50)[None, :]
    names = [f"{k}" for k in range(50)]
    picture = ElementTree.fromstring(
        Heat("h", "H", ["a"], names, values, row_title="human", column_title="proxy", alt="H.").wide
    )
    nodes = list(picture)
    cells = [(node, after) for node, after in pairwise(nodes) if "cell" in node.attrib.get("class", "")]
    inks = {"value": "ink", "value on-middle": "on-middle", "value on-dark": "paper"}
    for cell, words in cells:
        strength = float(cell.attrib["fill-opacity"])
        shade = strength * _rgb(palette["human"]) + (1 - strength) * _rgb(palette["paper"])
        ink = _rgb(palette[inks[words.attrib["class"]]])
        high, low = sorted((_luminance(shade), _luminance(ink)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3.5, strength
    assert len(cells) == 50


@pytest.mark.parametrize("labels", [2, 3, 8, 30])
def test_a_unanimous_distribution_lies_on_its_corner_of_the_simplex(labels: int) -> None:
    names = [f"label {k}" for k in range(labels)]
    chart = Simplex("s", "S", names, [Cloud("human", "human", np.eye(labels))], alt="S.", means=False)
    root = ElementTree.fromstring(chart.wide)
    outline = next(node for node in root if node.attrib.get("class") == "outline").attrib["d"]
    corners = [tuple(map(float, part.split())) for part in outline[1:-1].split("L")]
    marks = [(float(m.attrib["cx"]), float(m.attrib["cy"])) for m in _marks(chart.wide, "circle")]
    assert np.allclose(sorted(corners), sorted(marks), atol=0.02)


def test_equal_distributions_share_a_mark_with_their_number() -> None:
    points = np.array([[1.0, 0.0, 0.0]] * 9 + [[0.0, 1.0, 0.0]])
    many, single = _marks(
        Simplex("s", "S", LABELS, [Cloud("human", "human", points)], alt="S.", means=False).wide, "circle"
    )
    assert many.attrib["data-tip"] == "anger 100 %\n9 utterances"
    assert single.attrib["data-tip"] == "happiness 100 %"
    assert float(many.attrib["r"]) > float(single.attrib["r"])


def test_a_small_picture_of_votes_says_each_share() -> None:
    svg = votes_picture(LABELS, [HUMAN], alt="Votes.")
    assert _tips(svg) == ["anger · human\n50 %", "happiness · human\n30 %", "sadness · human\n20 %"]


def test_every_chart_stays_inside_its_sheet_on_a_phone() -> None:
    names = ["a label of quite some length", "another one that is long too", "short"]
    chart = Bars("b", "B", "share of votes", names, [HUMAN, PROXY], alt="B.")
    for svg in (chart.wide, chart.narrow):
        root = ElementTree.fromstring(svg)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for node in root:
            assert 0 <= float(node.attrib.get("x", 0)) <= width
            assert 0 <= float(node.attrib.get("y", 0)) <= height
    assert float(ElementTree.fromstring(chart.narrow).attrib["width"]) <= 360


def test_the_table_behind_a_chart_holds_its_values() -> None:
    chart: Chart = Dots("d", "D", "NLL", LABELS, [HUMAN], alt="D.")
    assert chart.table.rows[0] == ("anger", Interval(0.5, 0.4, 0.6))


def _marks(svg: str, tag: str) -> list[ElementTree.Element]:
    elements = ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return [node for node in elements if "mark" in node.attrib["class"].split() and "data-tip" in node.attrib]


def _tips(svg: str, tag: str | None = None) -> list[str]:
    nodes = [n for n in ElementTree.fromstring(svg) if "mark" in n.attrib.get("class", "").split()]
    return [n.attrib["data-tip"] for n in nodes if "data-tip" in n.attrib and (tag is None or n.tag.endswith(tag))]


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _luminance(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_axis_of_a_count_has_whole_numbers_only() -> None:
    many = tuple(float(n) for n in range(1, 31))
    line = Line(Series.of("loss", "human", [1.0 / n for n in many]), many)
    chart = Curves("c", "t", "votes", "loss", [line], alt="a")
    for picture in (chart.wide, chart.narrow):
        ticks = re.findall(r'text-anchor="middle" class="tick">([^<]+)<', picture)
        assert ticks
        assert all(float(tick).is_integer() and "." not in tick for tick in ticks)


def test_two_heat_maps_shade_equal_shares_alike() -> None:
    def shades(values: list[list[float]]) -> list[str]:
        chart = Heat("h", "t", ["a", "b"], ["a", "b"], np.array(values), row_title="r", column_title="c", alt="a")
        return re.findall(r'opacity="([^"]+)"', chart.wide)

    weak, strong = shades([[0.3, 0.1], [0.2, 0.3]]), shades([[0.3, 0.9], [0.9, 0.3]])
    assert weak[0] == strong[0]
    assert float(weak[0]) < float(strong[1])


def test_differences_have_a_plus_sign_on_the_axis_the_marks_and_in_the_table() -> None:
    change = Series.of("fused", "fused", [-0.1, 0.2, 0.0], [-0.2, 0.1, -0.1], [0.0, 0.3, 0.1])
    chart = Dots("d", "D", "change", LABELS, [change], alt="D.", signed=True)
    ticks = re.findall(r'text-anchor="middle" class="tick">([^<]+)<', chart.wide)
    assert {"+0.1", "\N{MINUS SIGN}0.1", "0.0"} <= set(ticks)
    assert _tips(chart.wide)[1] == "happiness · fused\n+0.200 [+0.100, +0.300]"
    assert "+0.200 [+0.100, +0.300]" in chart.table.html()
    plain = Dots("d", "D", "share", LABELS, [change], alt="D.")
    assert "+" not in "".join(_tips(plain.wide))


def test_heat_maps_of_small_shares_use_the_whole_scale_that_they_share() -> None:
    def strengths(values: list[list[float]], most: float) -> list[float]:
        chart = Heat("h", "t", ["a"], ["a", "b"], np.array(values), row_title="r", column_title="c", alt="a", most=most)
        return [float(cell.attrib["fill-opacity"]) for cell in _marks(chart.wide, "rect")]

    before, after = strengths([[0.3, 0.1]], 0.3), strengths([[0.15, 0.1]], 0.3)
    assert before[0] == pytest.approx(0.95)
    assert before[1] == after[1]
    assert after[0] == pytest.approx(0.03 + 0.92 / 2)
