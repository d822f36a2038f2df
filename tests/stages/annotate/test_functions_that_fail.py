"""A function or plug-in that fails on a recording costs the votes on it alone; one that never works ends the run."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.engines.engine import Abilities, Engine, Reply, Request
from alm_proxies.engines.scripted import Scripted
from alm_proxies.errors import EngineError, InputError, SettingsError
from alm_proxies.stages.annotate.limits import Tally
from alm_proxies.stages.annotate.settings import Stop
from alm_proxies.stages.annotate.stage import Annotated, AnnotateSettings, annotate

Make = Callable[..., Any]
Fails = Callable[[str], bool]
QUIET = AnnotateSettings(injection=0)
LABELS = ("angry", "happy", "neutral", "sad")
MOOD: dict[str, str] = {}


def by_rule(fails: Fails, asked: list[str] | None = None) -> Callable[[Request, int], str]:
    def rule(request: Request, seed: int) -> str:
        if asked is not None:
            asked.append(request.utterance_id)
        return MOOD["level"] if fails(request.utterance_id) else "sad"

    return rule


def of_a_function(script: Any) -> Callable[[Annotator], Awaitable[Engine]]:
    async def engine_of(annotator: Annotator) -> Engine:
        return Scripted(script=script, name="rule")

    return engine_of


def a_rule(votes: int = 2, **settings: Any) -> Annotator:
    values = {"name": "rule", "engine": "scripted", "model": "1", "prompt": "listener", "answer": "words"}
    return Annotator.of(AnnotatorFile.model_validate({**values, "votes": votes, **settings}))


def failed(annotated: Annotated) -> dict[str, int]:
    frame = annotated.votes.frame.filter(pl.col("status") == "failed")
    return dict(frame.group_by("utterance_id").len().iter_rows())


def last(utterance: str) -> bool:
    return utterance.endswith("00029")


def always(utterance: str) -> bool:
    return True


def test_a_function_that_raises_on_one_recording_costs_its_votes_alone_with_the_reason(
    corpus: Make, tmp_path: Path
) -> None:
    run = [corpus(30), [a_rule()], tmp_path / "out", QUIET]
    annotated = annotate(*run, engine_of=of_a_function(by_rule(last)))
    assert failed(annotated) == {"sim/00029": 2}
    assert annotated.by_status == {"ok": 58, "failed": 2}
    assert annotated.stopped is None
    (row,) = annotated.findings.frame.filter(pl.col("kind") == "failed").iter_rows(named=True)
    assert (row["utterance_id"], row["count"], row["where"]) == ("sim/00029", 2, "code_error")
    assert f"{Path(__file__).name}, line " in row["message"]
    assert "the function rule failed: KeyError: 'level'" in row["message"]
    asked: list[str] = []
    corrected = annotate(*run, engine_of=of_a_function(by_rule(lambda utterance: False, asked)))
    assert corrected.by_status == {"ok": 60}
    assert asked == ["sim/00029"] * 2


@pytest.mark.parametrize("answer", [None, 3])
def test_a_function_that_gives_no_text_for_one_recording_costs_its_votes_alone(
    corpus: Make, tmp_path: Path, answer: Any
) -> None:
    def script(request: Request, seed: int) -> Any:
        return answer if last(request.utterance_id) else "sad"

    annotated = annotate(corpus(30), [a_rule()], tmp_path, QUIET, engine_of=of_a_function(script))
    assert failed(annotated) == {"sim/00029": 2}
    (message,) = annotated.findings.frame.filter(pl.col("kind") == "failed")["message"]
    assert f"script answered {answer!r} for 'sim/00029', not text" in message


def test_a_recording_that_fails_in_each_of_many_cells_is_one_failure(corpus: Make, tmp_path: Path) -> None:
    many = a_rule(votes=12, cross={"temperature": [0.5 + number / 10 for number in range(12)]})
    first = of_a_function(by_rule(lambda utterance: utterance.endswith("00000")))
    annotated = annotate(corpus(4), [many], tmp_path, QUIET, engine_of=first)
    assert annotated.by_status == {"ok": 36, "failed": 12}


@pytest.mark.parametrize("works", [(), ("sim/00003",)])
def test_a_function_that_fails_on_nearly_every_recording_ends_the_run_early_with_its_place(
    corpus: Make, tmp_path: Path, works: tuple[str, ...]
) -> None:
    asked: list[str] = []
    rule = by_rule(lambda utterance: utterance not in works, asked)
    with pytest.raises(SettingsError) as raised:
        annotate(corpus(600), [a_rule(1)], tmp_path, QUIET, engine_of=of_a_function(rule), quiet=True)
    assert len(asked) < 400
    assert str(raised.value).startswith(f"{__file__}, line ")
    assert "the function rule failed: KeyError: 'level'; " in str(raised.value)
    assert " votes of rule failed" in str(raised.value)
    causes = raised.value.__cause__
    assert isinstance(causes and causes.__cause__, KeyError)


def test_a_function_that_fails_on_every_recording_of_a_few_is_an_error_after_the_last(
    corpus: Make, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"KeyError: 'level'; 6 of 6 votes of rule failed"):
        annotate(corpus(3), [a_rule()], tmp_path, QUIET, engine_of=of_a_function(by_rule(always)))


def test_a_function_that_fails_too_often_stops_its_annotator_with_its_place(corpus: Make, tmp_path: Path) -> None:
    half = of_a_function(by_rule(lambda utterance: int(utterance[-1]) % 2 == 0))
    annotated = annotate(corpus(600), [a_rule(1)], tmp_path, QUIET, engine_of=half, quiet=True)
    assert annotated.stopped is not None
    assert "(stop.failed = 0.1), e.g. the function rule failed: KeyError: 'level' (" in annotated.stopped
    assert f"{__file__}, line " in annotated.stopped


def test_code_without_lines_that_fails_too_often_is_named_without_a_place() -> None:
    """What compiled code raises has no frame of its own."""
    tally = Tally("rule", Counter(failed=5, ok=5), broken={"a": SettingsError("ValueError: too short")})
    verdict = tally.verdict(Stop(after=10), {})
    assert verdict == "50% of the votes of rule failed (stop.failed = 0.1), e.g. ValueError: too short"


def test_a_function_that_fails_on_silence_is_the_cause_of_the_error(corpus: Make, tmp_path: Path) -> None:
    def shares(request: Request) -> dict[str, float]:
        return dict.fromkeys(LABELS, 0.25) if request.utterance_id != "silence" else {"sad": float(MOOD["level"])}

    async def engine_of(annotator: Annotator) -> Engine:
        return Scripted(shares=shares, name="rule")

    divided = a_rule(1, elicit="score", content_free=True, answer="codes")
    with pytest.raises(EngineError, match=r"rule, silence: code_error: .*KeyError.* With content_free") as raised:
        annotate(corpus(2), [divided], tmp_path, QUIET, engine_of=engine_of)
    causes = raised.value.__cause__
    assert isinstance(causes and causes.__cause__, KeyError)


def test_an_error_of_ours_that_a_function_raises_is_about_its_recording_only_if_it_is_about_an_input(
    corpus: Make, tmp_path: Path
) -> None:
    def script(request: Request, seed: int) -> str:
        if last(request.utterance_id):
            raise errors[0]
        return "sad"

    run = [corpus(30), [a_rule()], tmp_path, QUIET]
    errors: list[Exception] = [EngineError("the service is closed")]
    with pytest.raises(EngineError, match="the service is closed"):
        annotate(*run, engine_of=of_a_function(script))
    errors = [InputError("there is no speech", where="a.wav")]
    assert failed(annotate(*run, engine_of=of_a_function(script))) == {"sim/00029": 2}


class Bare:
    """An engine of a user's own, with nothing around it."""

    abilities = Abilities(engine="bare", model="1", local=True)

    async def ask(self, request: Request) -> Reply:
        if last(request.utterance_id):
            raise ZeroDivisionError
        return Reply(request.key, texts=("sad",) * len(request.seeds), finish=("stop",) * len(request.seeds))

    async def token_counts(self, texts: tuple[str, ...]) -> None:
        return None

    async def close(self) -> None:
        pass


def test_an_engine_of_ones_own_that_raises_on_one_recording_costs_its_votes_alone(corpus: Make, tmp_path: Path) -> None:
    async def engine_of(annotator: Annotator) -> Engine:
        return Bare()

    annotated = annotate(corpus(30), [a_rule()], tmp_path, QUIET, engine_of=engine_of)
    assert failed(annotated) == {"sim/00029": 2}
    (message,) = annotated.findings.frame.filter(pl.col("kind") == "failed")["message"]
    assert "the function ask failed: ZeroDivisionError (" in message


class Cancelling(Bare):
    """One that cancels work of its own, and lets that escape."""

    async def ask(self, request: Request) -> Reply:
        if last(request.utterance_id):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.cancel()
            await waiting
        return Reply(request.key, texts=("sad",) * len(request.seeds), finish=("stop",) * len(request.seeds))


def test_an_engine_of_ones_own_that_lets_a_cancellation_escape_keeps_the_reason(corpus: Make, tmp_path: Path) -> None:
    async def engine_of(annotator: Annotator) -> Engine:
        return Cancelling()

    annotated = annotate(corpus(30), [a_rule()], tmp_path, QUIET, engine_of=engine_of)
    assert failed(annotated) == {"sim/00029": 2}
    (message,) = annotated.findings.frame.filter(pl.col("kind") == "failed")["message"]
    assert "asyncio.CancelledError left ask()" in message
    assert f"{__file__}, line " in message
