"""Tables, findings and results in Python: a few lines of text; in a notebook well-formed HTML without scripts."""

from __future__ import annotations

from dataclasses import is_dataclass
from html.parser import HTMLParser
from importlib import import_module
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies import FuseSettings, Utterances, Votes, align, evaluate, fuse
from alm_proxies.shown import Shown
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.tables import Finding, Findings

EVIL = "<script>alert('x')</script>&\x1b[2J"


class Reader(HTMLParser):
    """Opened and closed tags, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[Any] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(shown: Any) -> Reader:
    html = shown._repr_html_()
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert reader.tags <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert reader.attributes == []
    assert len(html) < 20_000
    return reader


@pytest.fixture(scope="module")
def corpus() -> tuple[Votes, Utterances]:
    rng = np.random.default_rng(4)
    names = ["utterance_id", "annotator", "label", "held_out"]
    rows = [(f"u{n // 6:02d}", f"r{n % 6}", str(rng.choice(["sad", "happy"])), n % 6 > 2) for n in range(360)]
    about = {"utterance_id": [f"u{number:02d}" for number in range(60)], "speaker": [f"s{n // 5}" for n in range(60)]}
    return Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=["happy", "sad"]), Utterances.of(
        pl.DataFrame(about)
    )


def test_a_table_shows_its_size_and_first_rows(corpus: tuple[Votes, Utterances]) -> None:
    shown = read(corpus[0]).text
    assert "360 rows; labels happy, sad" in shown
    assert "u00" in shown
    assert "u40" not in shown
    assert "valence" not in shown  # a column without values


def test_what_a_table_holds_is_only_text(corpus: tuple[Votes, Utterances]) -> None:
    evil = Utterances.of(pl.DataFrame({"utterance_id": [EVIL], "transcript": ["long " * 500], EVIL: ["x"]}))
    reader = read(evil)
    assert "<script>alert('x')</script>&\\x1b[2J" in reader.text
    assert len(reader.text) < 1000


def test_findings_are_a_line_a_kind_the_most_serious_first() -> None:
    findings = [Finding.of("held_out", "a"), Finding.of("stopped", EVIL), *[Finding.of("mapped", "m")] * 30]
    reader = read(Findings.gather(findings, "annotate"))
    assert reader.text.index("stopped") < reader.text.index("mapped") < reader.text.index("held_out")
    assert "30" in reader.text
    assert reader.text.count("mapped") == 1


def test_an_empty_table_is_shown_too(corpus: tuple[Votes, Utterances]) -> None:
    assert "Findings 0" in read(Findings.gather([])).text
    assert "0 rows" in read(Votes(corpus[0].frame.head(0), corpus[0].about)).text


def test_results_show_what_came_of_them(corpus: tuple[Votes, Utterances]) -> None:
    fused = fuse(corpus[0], FuseSettings(method="human"), utterances=corpus[1], quiet=True)
    shown = read(fused).text
    assert "60 labels by human" in shown
    assert ".labels" in shown
    assert "Labels, 60 rows" in shown
    assert "held_out" in shown
    aligned, evaluated = align(fused.labels, *corpus), evaluate({"fused": fused.labels}, *corpus)
    read(aligned)
    assert "log loss per held-out vote" in read(evaluated).text
    assert repr(fused).splitlines()[:2] == ["Fused: 60 labels by human", "  .labels     Labels, 60 rows"]
    assert evaluated.line in repr(evaluated)
    assert max(len(repr(result)) for result in (fused, aligned, evaluated)) < 1000


def test_a_table_prints_its_size_and_what_polars_shows_of_it(corpus: tuple[Votes, Utterances]) -> None:
    lines = repr(corpus[0]).splitlines()
    assert lines[0] == "Votes: 360 rows; labels happy, sad"
    assert "valence" not in repr(corpus[0])
    assert "u59" in lines[-2]
    evil = repr(Utterances.of(pl.DataFrame({"utterance_id": [EVIL]})))
    assert "\x1b" not in evil
    assert "0 rows" in repr(Findings.gather([]))


@pytest.mark.parametrize("verb", STAGES)
def test_the_result_of_every_stage_is_shown(verb: str) -> None:
    path, _, name = stage_of(verb).function.partition(":")
    module = import_module(path)
    result = getattr(module, getattr(module, name).__annotations__["return"])
    assert is_dataclass(result)
    assert issubclass(result, Shown)
    assert result.__repr__ is Shown.__repr__
