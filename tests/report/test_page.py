from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alm_proxies.interval import Interval
from alm_proxies.report.charts import Bars, Curves, Dots, Heat, Line, Series, votes_picture
from alm_proxies.report.drawing import Drawing
from alm_proxies.report.page import (
    P_VALUE,
    Column,
    Example,
    Examples,
    Figure,
    Page,
    Section,
    Sound,
    Table,
    Text,
    interval_words,
)
from alm_proxies.report.simplex import Cloud, Simplex

EVIL = "</script><script>alert(1)</script>\"'<img src=http://example.org/x onerror=alert(1)>"
LABELS = ("anger", "happiness", "sadness")


def test_a_page_holds_its_headline_figures_sections_and_how_it_was_made() -> None:
    html = _page().html()
    for words in ("The proxies helped.", "2.1", "human votes", "Shares", "Who voted for what.", "0.1.0"):
        assert words in html


def test_a_chart_is_drawn_when_its_page_is_written_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[float] = []
    draw = Bars.draw

    def noted(chart: Bars, width: float) -> Drawing:
        widths.append(width)
        return draw(chart, width)

    monkeypatch.setattr(Bars, "draw", noted)
    chart = Bars("b", "B", "share", LABELS, [Series.of("human", "human", [0.5, 0.3, 0.2])], alt="B.")
    page = Page("Report", "H", "S", (), (Section("Charts", "", (chart,)),))
    assert page.charts[0].table.rows[0][0] == "anger"
    assert widths == []
    assert page.html().count("<figure") == 1
    assert sorted(widths) == [350.0, 720.0]


def test_text_of_users_is_always_escaped() -> None:
    table = Table.of([EVIL, Column(EVIL, hint=EVIL)], [[EVIL, EVIL]], EVIL)
    series = [Series.of(EVIL, "human", [0.5, 0.3, 0.2])]
    chart = Bars(EVIL, EVIL, EVIL, [EVIL, "b", "c"], series, alt=EVIL, note=EVIL)
    example = Example(EVIL, {EVIL: EVIL}, votes_picture([EVIL, "b", "c"], series, alt=EVIL), EVIL)
    blocks = (Text(EVIL), Text(EVIL, "notice"), table, chart, Examples((example,)))
    page = Page(EVIL, EVIL, EVIL, (Figure(EVIL, EVIL, EVIL),), (Section(EVIL, EVIL, blocks),), {EVIL: EVIL})
    reader = _Reader()
    reader.feed(page.html())
    assert reader.scripts == 1
    assert "img" not in reader.tags
    assert not [name for name in reader.attributes if name.startswith("on")]


def test_sections_are_found_by_titles_in_any_script() -> None:
    titles = ["Column 性別", "Column 年齢", "Column age_group"]
    anchors = [Section(title, "").anchor for title in titles]
    assert len(set(anchors)) == 3
    html = Page("Balance", "", "", sections=tuple(Section(title, "") for title in titles)).html()
    for anchor in anchors:
        assert html.count(f'<section id="{anchor}">') == html.count(f'href="#{anchor}"') == 1


def test_the_page_may_load_nothing_and_says_so_to_the_browser() -> None:
    html = _page().html()
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)


def test_a_full_page_stays_under_three_megabytes() -> None:
    generator = np.random.default_rng(1)
    clouds = [Cloud(name, name, generator.dirichlet(np.ones(9), 600)) for name in ("human", "proxy", "fused")]
    chart = Simplex("simplex", "Simplex", [f"label {k}" for k in range(9)], clouds, alt="Simplex.")
    page = Page("Report", "Headline", "Summary", sections=(Section("Simplex", "Points", (chart,)),))
    assert len(page.html().encode()) < 1_500_000


def test_the_same_page_is_written_byte_for_byte_the_same_with_its_pictures_beside_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _page().write(tmp_path / name / "report.html")
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert Path("report_charts/shares.svg") in files
    assert Path("report_charts/shares.png") in files
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_intervals_are_written_in_brackets_and_unknown_ends_left_out() -> None:
    assert interval_words(Interval(-0.05, -0.07, -0.03)) == "−0.050 [−0.070, −0.030]"
    assert interval_words(Interval(0.5, float("nan"), float("nan")), 2) == "0.50"


def test_backticks_become_code_after_escaping() -> None:
    assert Text("run `a <b>` now").html() == "<p>run <code>a &lt;b&gt;</code> now</p>"


@pytest.mark.browser
def test_every_chart_is_drawn_on_a_wide_screen_and_on_a_phone(browser, tmp_path: Path) -> None:
    _page().write(tmp_path / "report.html", pictures=False)
    for width, kind in ((1200, "wide"), (390, "narrow")):
        browser.screen(width)
        browser.open(tmp_path / "report.html")
        seen = browser.marks(kind)
        assert {name: marks > 0 for name, marks in seen} == {
            "shares": True, "saturation": True, "confusion": True, "simplex": True
        }  # fmt: skip
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []
    assert browser.asked_of_the_network() == []


@pytest.mark.browser
def test_tables_sort_by_a_press_on_a_name_and_unknown_values_stay_last(browser, tmp_path: Path) -> None:
    _page().write(tmp_path / "report.html", pictures=False)
    browser.open(tmp_path / "report.html")
    press = "document.querySelectorAll('section > .table thead button')[1].click()"
    read = "[...document.querySelectorAll('section > .table tbody tr')].map(r => r.children[0].textContent)"
    browser.ask(press)
    assert browser.ask(read) == ["two", "ten", "hundred", "unknown"]
    assert browser.ask("document.querySelectorAll('section > .table th')[1].ariaSort") == "ascending"
    browser.ask(press)
    assert browser.ask(read) == ["hundred", "ten", "two", "unknown"]


@pytest.mark.browser
def test_the_page_follows_the_system_and_the_button_turns_it(browser, tmp_path: Path) -> None:
    _page().write(tmp_path / "report.html", pictures=False)
    browser.screen(1200, scheme="dark")
    browser.open(tmp_path / "report.html")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = browser.ask(paper)
    browser.ask("document.getElementById('theme').click()")
    light = browser.ask(paper)
    browser.screen(1200, scheme="light")
    browser.open(tmp_path / "report.html")
    assert browser.ask(paper) == light != dark


@pytest.mark.browser
def test_a_mark_under_the_pointer_says_its_value(browser, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    _page().write(tmp_path / "report.html", pictures=False)
    browser.open(tmp_path / "report.html")
    mark = browser.driver.find_element(By.CSS_SELECTOR, "#shares .wide rect.mark")
    ActionChains(browser.driver).move_to_element(mark).perform()
    assert browser.wait("!document.getElementById('tip').hidden")
    assert browser.ask("document.getElementById('tip').textContent") == "anger · human\n0.500"


@pytest.mark.browser
def test_a_recording_in_the_page_plays(browser, tmp_path: Path) -> None:
    _page().write(tmp_path / "report.html", pictures=False)
    browser.open(tmp_path / "report.html")
    assert browser.wait("document.querySelector('audio').readyState >= 1")
    assert browser.ask("document.querySelector('audio').duration") == pytest.approx(0.5, abs=0.01)
    browser.ask("void document.querySelector('audio').play()")
    assert browser.wait("document.querySelector('audio').currentTime > 0")
    assert browser.complaints() == []


LONG = ("contemptuous", "disgusted", "happy", "other", "frustrated", "neutral", "surprised", "fearful", "sad")


@pytest.mark.browser
def test_labels_of_charts_never_overprint_each_other_or_leave_the_chart(browser, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    names = ["human votes alone", "fused labels", "human shares", "weighted", "pool"]
    roles = ["human-only", "fused", "human", "weighted", "pool"]
    spread = generator.normal(0, 0.1, (5, 9))
    series = [Series.of(n, r, v, v - 0.1, v + 0.1) for n, r, v in zip(names, roles, spread, strict=True)]
    steps = tuple(float(n) for n in range(1, 13))
    lines = [
        Line(Series.of(n, r, 1 / np.arange(1, 13) + k / 50), steps)
        for k, (n, r) in enumerate(zip(names, roles, strict=True))
    ]
    shares = generator.dirichlet(np.ones(9), 9)
    charts = (
        Dots("d", "D", "log loss minus that of human votes alone (nats per vote; below zero is better)", LONG, series,
             alt="D.", reference=("human votes alone", 0.0),
             headings={0: "most likely label", 4: "gender"}, signed=True),
        Bars("b", "B", "share of votes", LONG, [series[0]], alt="B."),
        Bars("two", "B", "share of votes", LONG, series[:2], alt="B."),
        Curves("c", "C", "human votes of the utterance", "log loss per held-out vote (nats)", lines, alt="C.",
               references=[("fused labels:", "fused", 0.3), ("another human", "human", 0.7)],
               stop=("90 % of the fall at 4", 4.0)),
        Heat("h", "H", LONG, LONG, shares, row_title="listeners", column_title="prediction", alt="H."),
        Simplex("s", "S", LONG, [Cloud(n, r, shares) for n, r in zip(names[:3], roles, strict=False)], alt="S."),
    )  # fmt: skip
    Page("Report", "All charts.", "", (), (Section("Charts", "", charts),)).write(tmp_path / "p.html", pictures=False)
    for width in (1700, 1200, 390):
        browser.screen(width)
        browser.open(tmp_path / "p.html")
        assert browser.overprinted() == []
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    wide = browser.ask("document.querySelector('.wide svg').getBoundingClientRect().width")
    assert wide == 0  # a phone gets the narrow drawing
    browser.screen(1700)
    assert browser.ask("document.querySelector('.wide svg').getBoundingClientRect().width") > 900


@pytest.mark.browser
def test_a_printed_page_is_white_wide_and_whole_however_it_looks_on_the_screen(browser, tmp_path: Path) -> None:
    columns = ["Prediction", *(f"{name}, nats per vote" for name in ("Log loss", "JSD", "Slope", "Bias", "Strength"))]
    rows = [[f"model {place}", *[Interval(1.234, 1.111, 1.345)] * 5] for place in range(4)]
    page = _page()
    page = replace(page, sections=(*page.sections, Section("Table", "A wide one.", (Table.of(columns, rows),))))
    page.write(tmp_path / "p.html", pictures=False)
    browser.screen(1200, scheme="dark")
    browser.open(tmp_path / "p.html")
    browser.ask("void document.getElementById('theme').click()")
    browser.ask("void document.getElementById('theme').click()")
    assert browser.ask("document.documentElement.dataset.theme") == "dark"
    size = {"width": 695, "height": 1010, "deviceScaleFactor": 1, "mobile": False}  # A4 between its margins
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.ask("getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#ffffff"
        assert browser.ask("getComputedStyle(document.body).color") == "rgb(29, 28, 26)"
        marks = dict(browser.marks("wide"))
        assert min(marks.values()) > 0
        assert max(dict(browser.marks("narrow")).values()) == 0
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
        assert browser.ask("[...document.querySelectorAll('nav, #theme, audio')].every(e => !e.offsetParent)")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_wide_table_is_whole_on_a_desk_and_shaded_where_it_goes_on_beside_a_phone(browser, tmp_path: Path) -> None:
    columns = ["Prediction", *(f"{name}, nats" for name in ("Log loss", "JSD", "Slope", "Bias", "Strength"))]
    rows = [[f"model {place}", *[Interval(1.234, 1.111, 1.345)] * 5, "better than human votes"] for place in range(4)]
    table = Table.of([*columns, "Verdict"], rows)
    replace(_page(), sections=(Section("Table", "A wide one.", (table,)),)).write(tmp_path / "p.html", pictures=False)
    cut = "(e => e.scrollWidth > e.clientWidth)(document.querySelector('.table'))"
    shades = "getComputedStyle(document.querySelector('.table')).backgroundAttachment"
    for width, is_cut in ((1400, False), (420, True)):
        browser.screen(width)
        browser.open(tmp_path / "p.html")
        assert browser.ask(cut) is is_cut
        assert browser.ask(shades) == "local, local, scroll, scroll"
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")


def _page() -> Page:
    human = Series.of("human", "human", [0.5, 0.3, 0.2])
    falling = Line(Series.of("proxy", "proxy", [0.5, 0.4, 0.35]), (1.0, 2.0, 3.0))
    generator = np.random.default_rng(1)
    charts = (
        Bars("shares", "Shares", "share of votes", LABELS, [human], alt="Shares."),
        Curves("saturation", "Saturation", "proxy votes", "JSD (base 2)", [falling], alt="Saturation."),
        Heat("confusion", "Confusion", LABELS, LABELS, generator.dirichlet(np.ones(3), 3), row_title="human",
             column_title="proxy", alt="Confusion."),
        Simplex("simplex", "Simplex", LABELS, [Cloud("human", "human", generator.dirichlet(np.ones(3), 30))], alt="S."),
    )  # fmt: skip
    table = Table.of(["Name", "Value"], [["ten", 10.0], ["unknown", None], ["two", 2.0], ["hundred", 100]])
    example = Example("u/1", {"votes": "anger 2"}, votes_picture(LABELS, [human], alt="Votes."), "Say it.", _sound())
    sections = (
        Section("Shares", "Who voted for what.", (*charts, table, Text("Hold votes out.", "notice"))),
        Section("Examples", "Listen.", (Examples((example,)),)),
    )
    figures = (Figure("2.1", "human votes", "per utterance"),)
    return Page("Alignment report", "The proxies helped.", "On `votes`.", figures, sections, {"Version": "0.1.0"})


def _sound() -> Sound:
    buffer = io.BytesIO()
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    soundfile.write(buffer, tone, 16000, format="WAV")
    return Sound(buffer.getvalue())


class _Reader(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def test_a_difference_has_its_sign_and_other_figures_have_none() -> None:
    table = Table.of(
        ["what", Column("value"), Column("difference", signed=True)],
        [["a", 0.25, Interval(0.05, -0.01, 0.11)], ["b", 0.5, 0.0], ["c", 1.0, -0.2]],
    )
    html = str(table.html())
    assert "+0.050 [−0.010, +0.110]" in html
    assert ">0.250<" in html
    assert ">0.000<" in html
    assert ">−0.200<" in html


def test_a_p_value_that_rounds_to_zero_is_shown_as_below_the_smallest_number() -> None:
    rows = [["a", 0.0001], ["b", 0.001], ["c", 0.25], ["d", float("nan")], ["e", None]]
    html = str(Table.of(["what", P_VALUE], rows).html())
    shown = re.findall(r'<td class="figure" data-key="([^"]*)">([^<]*)</td>', html)
    assert shown == [("0.0001", "&lt; 0.001"), ("0.001", "0.001"), ("0.25", "0.250"), ("", "–"), ("", "–")]
