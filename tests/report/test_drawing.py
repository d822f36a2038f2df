from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.report.drawing import (
    DARK,
    LIGHT,
    ROLES,
    Drawing,
    Scale,
    chart_style,
    number,
    png,
    shorten,
    standalone,
    text_width,
    tick_words,
    wrap,
)

FIGURES = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))


@given(st.lists(FIGURES, min_size=1, max_size=20), st.booleans())
def test_a_scale_holds_every_value_and_zero_when_asked(values: list[float], zero: bool) -> None:
    scale = Scale.over(values, 10.0, 210.0, zero=zero)
    pixels = [scale(value) for value in [*values, *([0.0] if zero else [])]]
    assert all(10.0 - 1e-6 <= pixel <= 210.0 + 1e-6 for pixel in pixels)


@given(st.lists(FIGURES, min_size=1, max_size=20), st.integers(2, 8))
def test_ticks_are_inside_the_scale_evenly_spaced_and_distinct_as_text(values: list[float], about: int) -> None:
    scale = Scale.over(values, 0.0, 100.0)
    ticks = scale.ticks(about)
    assert len(ticks) <= 2.6 * about + 1
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6, abs_tol=1e-9) for step in steps)
    assert len(set(tick_words(ticks))) == len(ticks)


def test_a_scale_over_nothing_known_still_has_an_extent() -> None:
    scale = Scale.over([math.nan], 0.0, 100.0)
    assert scale.high > scale.low


@pytest.mark.parametrize(
    ("value", "words"),
    [(-0.0681, "−0.068"), (-0.0001, "0.000"), (1234.5, "1,234.500"), (math.nan, "n/a"), (math.inf, "∞")],
)
def test_numbers_are_written_for_people(value: float, words: str) -> None:
    assert number(value) == words


def test_long_words_are_cut_with_an_ellipsis_and_short_ones_left_alone() -> None:
    assert shorten("neutral", 100) == "neutral"
    assert shorten("a very long label indeed", 60).endswith("…")


def test_a_long_axis_name_is_wrapped_and_the_sheet_grows_to_hold_it() -> None:
    name = "log loss against human votes alone (nats a vote; below zero is better)"
    lines = wrap(name, 200.0)
    assert " ".join(lines) == name
    assert len(lines) > 1
    assert all(text_width(line) <= 200.0 for line in lines)
    sheet = Drawing(200, 100)
    sheet.horizontal_axis(Scale(0.0, 1.0, 20.0, 190.0), 10, 60, name)
    lowest = max(float(node.attrib["y"]) for node in ElementTree.fromstring(sheet.svg("A.")) if "y" in node.attrib)
    assert lowest < sheet.height


def test_every_role_has_a_colour_on_light_and_dark_paper_and_a_style() -> None:
    assert set(ROLES) < set(LIGHT)
    assert set(LIGHT) == set(DARK)
    assert all(f".chart .{role} " in chart_style() for role in ROLES)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_series_stand_out_from_the_paper(palette: dict[str, str]) -> None:
    assert _contrast(palette["ink"], palette["paper"]) >= 7.0
    assert _contrast(palette["muted"], palette["paper"]) >= 4.5
    assert all(_contrast(palette[role], palette["paper"]) >= 3.0 for role in ROLES)


def test_text_of_users_is_escaped_in_the_picture() -> None:
    sheet = Drawing(100, 50)
    sheet.text(0, 10, "<script>alert(1)</script>")
    sheet.mark(5, 5, "human", tip='"><img src=x>')
    picture = ElementTree.fromstring(sheet.svg('" onload="alert(1)'))
    assert picture.attrib["aria-label"] == '" onload="alert(1)'
    assert [node.tag.split("}")[1] for node in picture] == ["text", "circle"]


def test_a_standalone_picture_needs_no_page_and_becomes_a_png() -> None:
    sheet = Drawing(100, 50)
    for place, role in enumerate(ROLES):
        sheet.mark(10 + 10 * place, 20, role, tip="a tip")
    svg = standalone(sheet.svg("Eight marks."))
    ElementTree.fromstring(svg)
    assert "var(" not in svg
    assert LIGHT["proxy"] in svg
    picture = png(svg)
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") == 2 * (100 + 2 * 16)


def _contrast(first: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
