"""What an annotator is shown of an utterance, what asking about silence costs, and votes that cannot be asked for."""

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from listening import listening

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import Price
from alm_proxies.engines.bill import TriedOut
from alm_proxies.engines.engine import Abilities, Failure, Reply, Request
from alm_proxies.stages.annotate.askable import askable
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.paid import expectation_of
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances

Make = Callable[..., Any]


def test_previous_turns_and_measured_evidence_reach_the_prompt(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(6, seconds=0.5, dialogue=["sim/d1"] * 4 + ["sim/d2"] * 2, turn=[0, 1, 2, 3, 0, 1])
    panel = [
        annotator(utterances, "context", prompt="context", votes=1),
        annotator(utterances, "evidence", prompt="evidence", votes=1),
    ]
    asked: list[Request] = []
    annotate(utterances, panel, tmp_path / "out", AnnotateSettings(), engine_of=listening(asked))
    prompts = {request.key: str(request.questions[0].turns[-1].parts[-1]) for request in asked}
    context = prompts["context|sim/00003|0|0"]
    assert [f"sentence {n}." in context for n in range(6)] == [True, True, True, True, False, False]
    assert "sentence 0" not in prompts["context|sim/00004|0|0"]
    evidence = prompts["evidence|sim/00003|0|0"]
    assert "- pitch: " in evidence
    again: list[Request] = []
    annotate(utterances, panel, tmp_path / "out", AnnotateSettings(), engine_of=listening(again))
    assert again == []


def test_the_turns_that_an_annotator_is_shown_do_not_depend_on_the_others(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    words = ["Zero.", "One.", None, "Three.", "Four."]
    utterances = corpus(5, dialogue=["sim/d"] * 5, turn=list(range(5)), transcript=words)
    shown = "{% for turn in turns %}{{ turn.transcript }}{% endfor %}{{ choices }}"
    (tmp_path / "long.toml").write_text(f'elicits = "label"\nturns = 5\nafter = "{shown}"\n')
    context = annotator(utterances, "context", prompt="context", votes=1)
    longer = annotator(utterances, "longer", prompt="long.toml", votes=1)
    asked: list[Request] = []
    annotate(utterances, [context], tmp_path / "out", AnnotateSettings(), engine_of=listening(asked))
    both: list[Request] = []
    annotate(utterances, [longer, context], tmp_path / "out", AnnotateSettings(), engine_of=listening(both))
    assert {request.key.partition("|")[0] for request in both} == {"longer"}
    prompts = {request.key: str(request.questions[0].turns[-1].parts[-1]) for request in (*asked, *both)}
    for name, earlier in (("context", ["One.", "Three."]), ("longer", ["Zero.", "One.", "Three."])):
        prompt = prompts[f"{name}|sim/00004|0|0"]
        assert [word for word in words[:4] if word and f"<quote>{word}</quote>" in prompt] == earlier


def test_silence_costs_what_its_own_annotator_states_whoever_shares_the_server(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    free = annotator(utterances, elicit="score", content_free=True)
    table = pl.read_parquet(tmp_path / "scripted.parquet")
    silence = table.head(1).with_columns(utterance_id=pl.lit("silence"))
    pl.concat([table, silence]).write_parquet(tmp_path / "scripted.parquet")
    priced = free.file.model_copy(update={"name": "priced", "price": Price(audio_minute=60.0)})
    panel = [free, Annotator.of(priced, where=free.where)]
    annotated = annotate(utterances, panel, tmp_path / "out", AnnotateSettings(budget=1.5), quiet=True)
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as ledger:
        trials = dict(ledger.execute("SELECT annotator, price FROM trial"))
    assert trials == {"scripted": 0.0, "priced": pytest.approx(1.0)}
    assert annotated.spent.price == pytest.approx(1.4)
    assert annotated.spent.cast == 5  # one more would pass the budget


def test_votes_without_what_their_prompt_requires_open_no_engine_and_are_priced_and_failed_once(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    words = ["Zero.", None, "Two.", None]
    utterances = corpus(4, transcript=words)
    (tmp_path / "needs.toml").write_text(
        'elicits = "label"\nrequires = ["transcript"]\nafter = "{{ transcript }} {{ choices }}"\n'
    )
    scripted = annotator(utterances, prompt="needs.toml", votes=2, price={"audio_minute": 60.0})
    settings, opened = AnnotateSettings(injection=0), list[Annotator]()

    async def engine_of(annotator: Annotator) -> Any:
        opened.append(annotator)
        return await annotator.open()

    def run(table: Utterances) -> Any:
        return annotate(table, [scripted], tmp_path / "out", settings, engine_of=engine_of, quiet=True)

    ready, askable_now = scripted.ready(utterances.taxonomy), askable(utterances, None)[0]
    before = expectation_of(ready, askable_now, None, 0)
    first, again = run(utterances), run(utterances)
    assert (before.left, before.cast, before.impossible) == (4, 0, 4)
    assert before.price == pytest.approx(first.spent.price)
    assert (first.spent.expected, first.by_status) == (pytest.approx(first.spent.price), {"failed": 4, "ok": 4})
    assert (again.spent.expected, again.by_status, len(opened)) == (0.0, {"failed": 4, "ok": 4}, 1)
    assert "asked_again" not in set(again.findings.frame["kind"])
    with Ledger.look(tmp_path / "out/ledger.sqlite") as ledger:
        expected = expectation_of(ready, askable_now, ledger, 0)
        assert (expected.left, expected.price, ledger.set_aside_so_far()) == (0, 0.0, 0)
    whole = run(corpus(4))
    assert (whole.by_status, len(opened)) == ({"ok": 8}, 2)


def test_a_forecast_prices_no_votes_on_missing_recordings(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(4)
    scripted = annotator(utterances, votes=2, price={"audio_minute": 60.0})
    (tmp_path / "audio/sim/00001.wav").unlink()
    before = expectation_of(scripted.ready(utterances.taxonomy), askable(utterances, None)[0], None, 0)
    spent = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings(injection=0), quiet=True).spent
    assert (before.planned, before.left, before.impossible) == (8, 6, 2)
    assert before.price == pytest.approx(spent.price)


class CalledOff:
    """An engine whose first request is in flight when Ctrl-C is pressed."""

    tried_out = TriedOut()

    def __init__(self) -> None:
        self.abilities = Abilities("scripted", "m", local=True, score=True, score_words=True)
        self._off = asyncio.Event()

    async def ask(self, request: Request) -> Reply:
        signal.raise_signal(signal.SIGINT)
        await self._off.wait()
        return Reply(request.key, failure=Failure("called_off", "SIGINT received"), paid_tries=0, counted=0)

    def away(self) -> None:
        return None

    def call_off(self, kind: str, message: str) -> None:
        self._off.set()

    async def token_counts(self, texts: tuple[str, ...]) -> None:
        return None

    async def close(self) -> None:
        return None


def test_ctrl_c_while_silence_is_asked_about_stops_as_at_any_moment(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    scripted = annotator(utterances, elicit="score", content_free=True)

    async def engine_of(_: object) -> Any:
        return CalledOff()

    annotated = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings(), engine_of=engine_of, quiet=True)
    assert (annotated.interrupted, annotated.stopped) == (True, "SIGINT received")
    assert annotated.spent.cast == 0
