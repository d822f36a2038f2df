"""The alignment report of a small made-up corpus with real recordings, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.compare.examples import most_disputed
from alm_proxies.estimators.gated import Gated
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.tables import About, Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
SHOWN = AlignSettings(examples=6, audio=True, transcripts=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Labels, Votes, Utterances]:
    """Ninety utterances of six speakers: three votes, three held out, six proxy votes, one recording for all."""
    folder = tmp_path_factory.mktemp("corpus")
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    soundfile.write(folder / "a.wav", tone, 16000)
    random = np.random.default_rng(1)
    truth = random.dirichlet(np.full(3, 0.6), 90)
    rows: list[tuple[Any, ...]] = []
    for number, share in enumerate(truth):
        for annotator, count, shares in (("sim/crowd", 6, share), ("proxy", 6, 0.7 * share + 0.1)):
            for draw, label in enumerate(random.choice(3, count, p=shares / shares.sum())):
                human = annotator == "sim/crowd"
                row = (f"sim/{number:03}", annotator, "human" if human else "proxy", draw, LABELS[label])
                rows.append((*row, human and draw >= 3))
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    votes = Votes.of(pl.DataFrame(rows, schema=names, orient="row"), about=About(taxonomy=LABELS))
    frame = pl.DataFrame(
        {
            "utterance_id": [f"sim/{number:03}" for number in range(90)],
            "corpus": "sim",
            "audio": "a.wav",
            "speaker": [f"sim/{number % 6}" for number in range(90)],
            "gender": [("female", "male")[number % 2] for number in range(90)],
            "transcript": "Say <b>it</b> & go.",
            "place": [("<i>here</i>", "there")[number % 2] for number in range(90)],
        }
    )
    utterances = Utterances.of(frame, about=About(roots={"sim": str(folder)}))
    return Gated(4, 0.01).fit(votes).predict(votes), votes, utterances


@pytest.fixture(scope="module")
def unscored(corpus: tuple[Labels, Votes, Utterances]) -> tuple[Labels, Votes, Utterances]:
    """The same without held-out votes, so that a report scores nothing: for what examples show."""
    labels, votes, utterances = corpus
    return labels, Votes.of(votes.frame.filter(~pl.col("held_out")), about=votes.about), utterances


@pytest.fixture(scope="module")
def plain(corpus: tuple[Labels, Votes, Utterances]) -> Alignment:
    """The report without examples."""
    return align(*corpus, AlignSettings(examples=0))


def _with_corpus(utterances: Utterances, name: str) -> Utterances:
    about = utterances.about.with_(roots={name: next(iter(utterances.about.roots.values()))})
    return Utterances.of(utterances.frame.with_columns(corpus=pl.lit(name)), about=about)


def test_how_intervals_are_made_is_stated_as_it_is(plain: Alignment) -> None:
    stated = plain.page.made["Intervals"]
    assert plain.metrics["scores"]["overall"][0]["nll_per_vote"]["method"] == "t"
    assert "a t-interval under 20 speakers" in stated
    curve = plain.metrics["learning"]["human"]
    assert {(point["method"], point["speakers"]) for point in curve} == {("percentile", 6)}
    assert "on the learning curve percentiles over speakers and draws, none under five" in stated


@pytest.mark.browser
def test_the_report_is_drawn_sorted_and_heard_in_a_browser(
    browser, corpus: tuple[Labels, Votes, Utterances], tmp_path: Path
) -> None:
    report = align(*corpus, SHOWN)
    report.page.write(tmp_path / "report.html")
    for width, kind in ((1200, "wide"), (390, "narrow")):
        browser.screen(width)
        browser.open(tmp_path / "report.html")
        seen = browser.marks(kind)
        assert [name for name, _ in seen] == [
            "learning", "strata", "groups", "shares", "confusion", "agreement", "saturation", "variance",
            "halved", "reliability", "coverage", "trust", "simplex",
        ]  # fmt: skip
        assert all(marks > 0 for _, marks in seen), seen
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    browser.ask("document.querySelector('#against-held-out-votes thead th:nth-child(2) button').click()")
    losses = browser.ask(
        "[...document.querySelector('#against-held-out-votes tbody').rows].map(row => Number(row.cells[1].dataset.key))"
    )
    assert len(losses) == 6
    assert losses == sorted(losses)
    assert browser.wait("document.querySelector('article audio').readyState >= 1")
    assert browser.ask("document.querySelector('article audio').duration") == pytest.approx(1.0, abs=0.01)
    browser.ask("void document.querySelector('article audio').play()")
    assert browser.wait("document.querySelector('article audio').currentTime > 0")
    assert browser.complaints() == []
    assert browser.asked_of_the_network() == []


def test_text_of_users_is_always_escaped(corpus: tuple[Labels, Votes, Utterances]) -> None:
    html = align(*corpus, SHOWN).page.html()
    assert "Say &lt;b&gt;it&lt;/b&gt; &amp; go." in html
    assert "<b>it</b>" not in html
    assert "<i>here</i>" not in html


def test_every_chart_is_saved_beside_the_report(plain: Alignment, tmp_path: Path) -> None:
    plain.page.write(tmp_path / "report.html")
    saved = {path.name for path in (tmp_path / "report_charts").iterdir()}
    assert saved == {f"{chart.name}.{kind}" for chart in plain.page.charts for kind in ("svg", "png")}


def test_recordings_and_transcripts_are_shown_only_when_asked_for(unscored: tuple[Labels, Votes, Utterances]) -> None:
    html = align(*unscored, AlignSettings(examples=6)).page.html()
    assert "<article>" in html
    assert "<audio" not in html
    assert "Say &lt;b&gt;" not in html


@pytest.mark.parametrize("name", ["iemocap", "no_such_corpus"])
def test_content_that_a_card_forbids_is_not_shown_and_is_a_finding(
    unscored: tuple[Labels, Votes, Utterances], name: str
) -> None:
    labels, votes, utterances = unscored
    report = align(labels, votes, _with_corpus(utterances, name), SHOWN)
    html = report.page.html()
    assert "<audio" not in html
    assert "Say &lt;b&gt;" not in html
    assert report.findings.counts()["kept_back"] == 1
    named = SHOWN.model_copy(update={"may_leave": (name,)})
    assert "<audio" in align(labels, votes, _with_corpus(utterances, name), named).page.html()


def test_a_recording_that_is_missing_is_a_finding_and_the_example_is_still_shown(
    unscored: tuple[Labels, Votes, Utterances], tmp_path: Path
) -> None:
    labels, votes, utterances = unscored
    gone = Utterances(utterances.frame, utterances.about.with_(roots={"sim": str(tmp_path)}))
    report = align(labels, votes, gone, SHOWN)
    assert report.findings.counts()["missing"] == 6
    assert report.page.html().count("<article>") == 6


def test_disputes_are_ranked_by_evidence_and_no_pair_of_labels_fills_the_page() -> None:
    human = np.array([[1, 0, 0], [9, 0, 0], [8, 0, 0], [7, 0, 0], [0, 5, 0], [3, 3, 3], [0, 0, 0]], dtype=float)
    proxy = np.array([[0, 1, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0], [0, 0, 5], [3, 3, 3], [4, 0, 0]], dtype=float)
    chosen = most_disputed(human, proxy, 4)
    assert [row for row, _ in chosen] == [1, 2, 4, 5]
    assert most_disputed(human, proxy, 0) == []
