"""The report's section on transcripts with an injected answer."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.about import Cost, Injected
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


def card(*context: str, injected: Injected | None = None) -> AnnotatorCard:
    return AnnotatorCard(digest="d", model="m", context=context, injected=injected)


def test_measured_injection_is_reported_with_its_interval_and_a_control() -> None:
    result = report({"a": card("transcript", injected=MEASURED), "b": card("transcript", injected=AT_ONCE)})
    html = result.page.html().replace("\N{NO-BREAK SPACE}", " ")
    assert "Does the transcript decide?" in html
    assert (
        "changes 31 % (20 to 42) of the votes of a that it could change, against 8 % by a harmless sentence and "
        "100 % of the votes of b that it could change, against 0 % by a harmless sentence."
    ) in html
    assert "is not measured" not in html
    assert result.metrics["injected_transcripts"] == {
        "a": {"told_transcripts": True, "measured": MEASURED.model_dump()},
        "b": {"told_transcripts": True, "measured": AT_ONCE.model_dump()},
    }


def test_missing_measurements_are_reported_with_a_fix_and_with_proxies_without_transcripts() -> None:
    result = report({"a": card("transcript", "speaker"), "b": card("speaker")})
    html = result.page.html()
    assert "How many votes of a it changes is not measured. Annotate again with <code>--injection 20</code>" in html
    assert "b is not shown transcripts, so injection cannot affect it." in html
    assert result.metrics["injected_transcripts"]["a"] == {"told_transcripts": True, "measured": None}
    assert result.metrics["injected_transcripts"]["b"] == {"told_transcripts": False, "measured": None}


@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        ({"a": card(), "b": card("speaker")}, "a and b are not shown transcripts, so injection cannot affect them."),
        ({"a": card(), "b": AnnotatorCard(digest="d")}, "Whether b is shown transcripts is not known."),
        ({}, "Whether a and b are shown transcripts is not known."),
    ],
)
def test_a_sentence_reports_that_no_proxy_is_known_to_see_transcripts(
    cards: dict[str, AnnotatorCard], sentence: str
) -> None:
    html = report(cards).page.html()
    assert "Does the transcript decide?" not in html
    assert sentence in html


def test_without_transcripts_no_measurement_is_suggested() -> None:
    html = report({"a": card("transcript"), "b": card()}, transcript=None).page.html()
    assert "No utterance has a transcript that a could see." in html
    assert "--injection" not in html


def test_the_cost_of_each_proxy_is_shown_with_its_currency() -> None:
    paid = card().model_copy(update={"cost": Cost(votes=120, price=0.6, currency="EUR")})
    result = report({"a": paid, "b": card()})
    html = result.page.html()
    assert all(f">{words}<" in html for words in ("0.60 EUR", "0.0050 EUR", "5.00 EUR"))
    assert result.metrics["proxies"]["a"]["cost"] == {"votes": 120, "price": 0.6, "currency": "EUR"}
    assert result.metrics["proxies"]["b"]["cost"] is None
    assert "Cost of the proxy votes" not in report({"a": card(), "b": card()}).page.html()
