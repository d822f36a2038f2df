"""Messages of annotate about costs, votes that are not in its table, and missing recordings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import listening

from alm_proxies.about import Cost
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Engine, Request
from alm_proxies.errors import SettingsError
from alm_proxies.printable import counted, in_money
from alm_proxies.stages.annotate.ledgers import AnnotatorStatus, Status, status
from alm_proxies.stages.annotate.stage import Annotated, AnnotateSettings, annotate
from alm_proxies.tables import Votes

Make = Callable[..., Any]


async def no_engine(annotator: Annotator) -> Engine:
    raise AssertionError(f"{annotator.name} was opened")


def findings_of(annotated: Annotated, kind: str) -> list[tuple[str, str]]:
    rows = annotated.findings.frame.iter_rows(named=True)
    return [(row["message"], row["fix"]) for row in rows if row["kind"] == kind]


@given(st.floats(1e-9, 1e6))
def test_a_price_is_said_with_two_digits_at_least(price: float) -> None:
    assert float(in_money(price)) == pytest.approx(price, rel=0.06)


def test_figures_read_well() -> None:
    assert [in_money(price) for price in (0.0, 12.3, 0.05, 0.00042)] == ["0.00", "12.30", "0.050", "0.00042"]
    assert [counted(1, "vote"), counted(4800, "vote")] == ["1 vote", "4,800 votes"]


def test_costs_are_stated_in_the_currency_of_the_annotator_file(
    corpus: Make, annotator: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances, price = corpus(6), {"audio_minute": 60.0, "currency": "EUR"}
    free, paid = annotator(utterances, "free", votes=2), annotator(utterances, "paid", votes=2, price=price)
    annotated = annotate(utterances, [free, paid], tmp_path / "out", AnnotateSettings(injection=0, budget=1.0))
    assert annotated.spent.currency == "EUR"
    assert f"{in_money(annotated.spent.price, 'EUR')} spent" in annotated.line
    assert annotated.stopped is not None
    assert "the budget of 1 EUR: 1.00 EUR are spent, and it may cost up to 0.20 EUR" in annotated.stopped
    said = capsys.readouterr().err
    assert "for about 1.20 EUR, by the price table" in said
    (standing,) = status(tmp_path / "out")
    assert "1.00 EUR spent, about 0.20 EUR to come" in str(standing)
    assert "price of a vote: free 0.00 EUR, paid 0.10 EUR" in str(standing)


def test_prices_in_several_currencies_are_refused_before_anything_is_asked(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(2)
    panel = [
        annotator(utterances, name, votes=1, price={"audio_minute": 1.0, "currency": currency})
        for name, currency in (("here", "EUR"), ("there", "USD"))
    ]
    with pytest.raises(SettingsError, match="several currencies: here in EUR, there in USD"):
        annotate(utterances, panel, tmp_path / "out", AnnotateSettings(), engine_of=no_engine)
    assert not (tmp_path / "out").exists()


def test_votes_of_another_annotator_are_said_to_be_in_the_ledger_alone_and_status_names_it(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    first, second = annotator(utterances, "first", votes=4), annotator(utterances, "second", votes=2)
    annotate(utterances, [first], tmp_path / "out", AnnotateSettings(injection=0))
    annotated = annotate(utterances, [second], tmp_path / "out", AnnotateSettings(injection=0))
    assert set(annotated.votes.frame["annotator"]) == {"second"}
    ((message, fix),) = findings_of(annotated, "not_in_votes")
    assert message.startswith("24 votes of first, cast before, are in the ledger and not in votes.parquet")
    assert fix == "Name first's file with --annotator too to have both."
    (standing,) = status(tmp_path / "out")
    assert standing.annotators == {"first": 24, "second": 12}
    assert "votes in the ledger: 24 of first, 12 of second" in str(standing)
    both = annotate(utterances, [first, second], tmp_path / "out", AnnotateSettings(injection=0), engine_of=no_engine)
    assert set(both.votes.frame["annotator"]) == {"first", "second"}
    assert findings_of(both, "not_in_votes") == []


def test_fewer_votes_or_utterances_than_were_cast_are_said(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(6)
    scripted = annotator(utterances, votes=8)
    annotate(utterances, [scripted], tmp_path, AnnotateSettings(injection=0))
    fewer = annotate(utterances, [scripted], tmp_path, AnnotateSettings(votes=4, limit=5, injection=0))
    assert findings_of(fewer, "not_in_votes") == [
        (
            "24 votes of scripted beyond the 4 per utterance asked for now are in the ledger and not in votes.parquet",
            "Write --votes 8 to have them.",
        ),
        (
            "4 votes of scripted about 1 utterance that this command does not plan are in the ledger"
            " and not in votes.parquet",
            "Leave --limit out, or name the same utterances, to have them.",
        ),
    ]


def test_a_pilot_is_extrapolated_from_its_own_panel(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(20)
    dear = annotator(utterances, "dear", votes=2, price={"audio_minute": 6000.0})
    cheap = annotator(utterances, "cheap", votes=2, price={"audio_minute": 60.0})
    annotate(utterances, [dear], tmp_path, AnnotateSettings(limit=5, injection=0))
    pilot = annotate(utterances, [cheap], tmp_path, AnnotateSettings(limit=5, injection=0))
    assert pilot.spent.whole == pytest.approx(20 * 0.2)


def test_the_votes_table_states_what_each_annotator_has_cost_with_its_currency(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(5)
    paid = annotator(utterances, "paid", votes=2, price={"audio_minute": 60.0, "currency": "EUR"})
    free = annotator(utterances, "free", votes=2)
    annotated = annotate(utterances, [paid, free], tmp_path, AnnotateSettings(injection=0))
    cards = Votes.read(tmp_path / "votes.parquet").about.annotators
    assert cards["paid"].cost == Cost(votes=10, price=1.0, currency="EUR")
    assert annotated.spent.price == pytest.approx(1.0)
    assert cards["free"].cost is None
    renamed = annotator(utterances, "paid", votes=3, price={"audio_minute": 60.0, "currency": "USD"})
    more = annotate(utterances, [renamed, free], tmp_path, AnnotateSettings(injection=0))
    assert (more.spent.cast_now, more.about.annotators["paid"].cost.votes) == (5, 15)
    assert more.about.annotators["paid"].cost.currency == "USD"


def test_the_price_before_is_measured_where_the_ledger_knows_it(
    corpus: Make, annotator: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = corpus(40)
    scripted = annotator(utterances, votes=2, price={"million_tokens_out": 1e6}, sampling={"max_tokens": 16})
    pilot = annotate(utterances, [scripted], tmp_path, AnnotateSettings(limit=10, injection=0))
    assert pilot.spent.expected == pytest.approx(20 * 16)
    assert "about 320.00, by the price table" in capsys.readouterr().err
    whole = annotate(utterances, [scripted], tmp_path, AnnotateSettings(injection=0))
    assert whole.spent.expected == pytest.approx(60)  # an answer is one word
    assert "about 60.00, by measured prices" in capsys.readouterr().err


def test_a_price_table_that_has_changed_since_is_not_taken_for_measured(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(40)
    before = annotator(utterances, votes=2, price={"audio_minute": 60.0})
    annotate(utterances, [before], tmp_path, AnnotateSettings(limit=20, injection=0))
    dearer = annotator(utterances, votes=2, price={"audio_minute": 600.0})
    annotated = annotate(utterances, [dearer], tmp_path, AnnotateSettings(injection=0))
    assert annotated.spent.expected == pytest.approx(20 * 2.0)


def test_a_missing_recording_is_named_opens_no_engine_and_is_asked_about_once_it_is_there(
    corpus: Make, annotator: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = corpus(30)
    scripted = annotator(utterances, votes=2)
    path = Path(utterances.about.roots["sim"]) / "00007.wav"
    path.rename(path.with_suffix(".away"))
    annotated = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings(injection=0))
    assert f"1 recording is missing and not used: {path}\n" in capsys.readouterr().err
    ((message, fix),) = findings_of(annotated, "failed")
    assert message == f"2 votes of scripted: failed (missing), e.g. sim/00007: '{path}: there is no such file'"
    assert "Restore the recordings" in fix
    again = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings(injection=0), engine_of=no_engine)
    assert findings_of(again, "failed") == [(message, fix)]
    assert findings_of(again, "asked_again") == []
    path.with_suffix(".away").rename(path)
    asked: list[Request] = []
    whole = annotate(
        utterances, [scripted], tmp_path / "out", AnnotateSettings(injection=0), engine_of=listening(asked)
    )
    assert {request.utterance_id for request in asked} == {"sim/00007"}
    assert set(whole.votes.frame["status"]) == {"ok"}


def test_after_a_budget_stop_the_mend_is_a_larger_budget_and_what_was_not_asked_for_is_said(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(30)
    scripted = annotator(utterances, votes=2, price={"audio_minute": 60.0})
    annotated = annotate(utterances, [scripted], tmp_path, AnnotateSettings(injection=0, budget=1.0))
    ((stopped, fix),) = findings_of(annotated, "stopped")
    assert stopped == "the next request could exceed the budget of 1: 1.00 are spent, and it may cost up to 0.20"
    assert fix == "Raise the budget (--budget), then run the same command again to continue."
    left = annotated.spent.planned - annotated.spent.cast
    ((message, fix),) = findings_of(annotated, "not_cast")
    assert message.startswith(f"{left} planned votes were not requested")
    assert fix.startswith("Raise the budget")


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ((0.5,), "2.00 spent, about 5.00 to come"),
        ((None,), "2.00 spent, the price of 10 waiting votes is not measured yet"),
        ((0.5, None), "2.00 spent, about 5.00 to come, the price of 10 waiting votes is not measured yet"),
    ],
)
def test_status_says_which_prices_nothing_has_measured_yet(prices: tuple[float | None, ...], words: str) -> None:
    panel = tuple(AnnotatorStatus(f"a{place}", 12, {"ok": 2}, 1.0, price) for place, price in enumerate(prices))
    cast = {"ok": 2 * len(panel)}
    standing = Status("ledger.sqlite", 12 * len(panel), cast, 0, 0, 2.0, 0.0, 9.0, {}, {}, panel)
    assert f"; {words}" in str(standing)
