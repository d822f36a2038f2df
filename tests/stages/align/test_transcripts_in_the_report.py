"""What the alignment report says of transcripts that tell a proxy the answer."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.about import Injected
from alm_proxies.estimators.dirichlet import Pool
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.tables import About, AnnotatorCard, Utterances, Votes

LABELS = ("angry", "happy", "sad")
MEASURED = Injected(utterances=20, votes=120.0, share=0.314, low=0.2, high=0.42, by_chance=0.08)
AT_ONCE = Injected(utterances=1, votes=6.0, share=1.0, by_chance=0.0)


def report(cards: dict[str, AnnotatorCard], transcript: str | None = "Go.") -> Alignment:
    """The report of thirty utterances of three people and two proxies, a and b."""
    random = np.random.default_rng(1)
    rows: list[tuple[Any, ...]] = []
    for number in range(30):
        for annotator, count in (("sim/crowd", 3), ("a", 4), ("b", 4)):
            source = "human" if annotator == "sim/crowd" else "proxy"
            for draw, label in enumerate(random.choice(3, count)):
                rows.append((f"sim/{number}", annotator, source, draw, LABELS[label]))
    names = ["utterance_id", "annotator", "source", "draw", "label"]
    about = About(taxonomy=LABELS, annotators=cards)
    votes = Votes.of(pl.DataFrame(rows, schema=names, orient="row"), about=about)
    frame = pl.DataFrame({"utterance_id": [f"sim/{number}" for number in range(30)]})
    utterances = Utterances.of(frame.with_columns(transcript=pl.lit(transcript, pl.String)))
    return align(Pool().fit(votes).predict(votes), votes, utterances, AlignSettings(examples=0))


def card(*told: str, injected: Injected | None = None) -> AnnotatorCard:
    return AnnotatorCard(digest="d", model="m", context=told, injected=injected)


def test_what_was_measured_is_said_with_its_interval_and_beside_a_harmless_sentence() -> None:
    found = report({"a": card("transcript", injected=MEASURED), "b": card("transcript", injected=AT_ONCE)})
    html = found.page.html().replace("\N{NO-BREAK SPACE}", " ")
    assert "Does the transcript decide?" in html
    assert (
        "turns 31 % (20 to 42) of the votes of a that it could turn, against 8 % by a harmless sentence and "
        "100 % of the votes of b that it could turn, against 0 % by a harmless sentence."
    ) in html
    assert "is not measured" not in html
    assert found.metrics["injected_transcripts"] == {
        "a": {"told_transcripts": True, "measured": MEASURED.model_dump()},
        "b": {"told_transcripts": True, "measured": AT_ONCE.model_dump()},
    }


def test_what_was_not_measured_is_said_with_how_to_get_it_and_who_is_told_none() -> None:
    found = report({"a": card("transcript", "speaker"), "b": card("speaker")})
    html = found.page.html()
    assert "How many votes of a it turns is not measured. Annotate again with <code>--injection 20</code>" in html
    assert "b is given no transcripts, so injection cannot affect it." in html
    assert found.metrics["injected_transcripts"]["a"] == {"told_transcripts": True, "measured": None}
    assert found.metrics["injected_transcripts"]["b"] == {"told_transcripts": False, "measured": None}


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"a": card(), "b": card("speaker")}, "a and b are given no transcripts, so injection cannot affect them."),
        ({"a": card(), "b": AnnotatorCard(digest="d")}, "Whether b is given transcripts is not known."),
        ({}, "Whether a and b are given transcripts is not known."),
    ],
)
def test_where_no_proxy_is_known_to_be_told_transcripts_a_sentence_says_so(
    cards: dict[str, AnnotatorCard], said: str
) -> None:
    html = report(cards).page.html()
    assert "Does the transcript decide?" not in html
    assert said in html


def test_without_transcripts_nothing_is_asked_for() -> None:
    html = report({"a": card("transcript"), "b": card()}, transcript=None).page.html()
    assert "No utterance has a transcript that a could be given." in html
    assert "--injection" not in html
