"""When annotate stops or refuses to start: budgets, pilots, collapse, failures, corpora that must stay local."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from listening import draws, listening

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Request
from alm_proxies.errors import EngineError, ForbiddenError
from alm_proxies.stages.annotate import open_recordings
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Votes

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("price", "budget"),
    [({"audio_minute": 60.0}, 3.0), ({"million_tokens_in": 1e4}, 26.0), ({"million_tokens_out": 1e5}, 3.0)],
)
def test_the_budget_stops_before_it_is_passed_and_a_larger_one_goes_on(
    corpus: Make, annotator: Make, tmp_path: Path, price: dict[str, float], budget: float
) -> None:
    utterances = corpus(30)
    scripted = annotator(utterances, votes=4, price=price, sampling={"max_tokens": 2})
    annotated = annotate(utterances, [scripted], tmp_path, AnnotateSettings(budget=budget))
    assert annotated.stopped is not None
    assert "budget" in annotated.stopped
    assert 1.0 < annotated.spent.price <= budget * (1 + 1e-12)  # sums of prices are rounded
    assert not annotated.complete
    assert len(annotated.votes) == 120
    statuses = Counter(annotated.votes.frame["status"])
    assert statuses["ok"] == annotated.spent.cast
    assert annotated.findings.counts()["not_cast"] == statuses["failed"]
    rest = annotate(utterances, [scripted], tmp_path, AnnotateSettings(budget=1000.0))
    assert rest.complete


def test_a_pilot_is_a_fair_sample_and_its_price_is_extrapolated(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(40)
    human = Votes.of(
        pl.DataFrame(
            {
                "utterance_id": utterances.frame["utterance_id"],
                "annotator": "h",
                "label": ["sad"] * 10 + ["happy"] * 30,
            }
        ),
        taxonomy=utterances.taxonomy,
    )
    scripted = annotator(utterances, votes=2, price={"audio_minute": 60.0})
    pilot = annotate(utterances, [scripted], tmp_path, AnnotateSettings(limit=8), votes=human)
    asked_about = pilot.votes.frame["utterance_id"].unique()
    assert asked_about.is_in([f"sim/{n:05d}" for n in range(10)]).sum() == 2
    assert pilot.spent.whole == pytest.approx(40 * 0.2)
    whole = annotate(utterances, [scripted], tmp_path, AnnotateSettings(), votes=human)
    assert whole.spent.price == pytest.approx(40 * 0.2)
    assert whole.spent.cast_now == 64


def test_collapse_stops_an_annotator_unless_humans_do_it_too(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(40)
    collapsed = annotator(utterances, "flat", texts={"*": ["neutral"]}, answer="words", votes=4)
    fine = annotator(utterances, "fine", votes=4)
    stop = AnnotateSettings.model_validate({"stop": {"after": 40}})
    annotated = annotate(utterances, [collapsed, fine], tmp_path / "a", stop, engine_of=listening([], in_flight=4))
    assert annotated.stopped is not None
    assert "flat gives neutral in 100% of its votes" in annotated.stopped
    by_name = dict(annotated.votes.frame.filter(pl.col("status") == "ok").group_by("annotator").len().iter_rows())
    assert by_name["fine"] == 160
    assert by_name["flat"] < 160
    asked: list[Request] = []
    again = annotate(utterances, [collapsed, fine], tmp_path / "a", stop, engine_of=listening(asked))
    assert asked == []
    assert again.stopped == annotated.stopped
    flat_humans = pl.DataFrame({"utterance_id": utterances.frame["utterance_id"], "annotator": "h", "label": "neutral"})
    human = Votes.of(flat_humans, taxonomy=utterances.taxonomy)
    assert annotate(utterances, [collapsed], tmp_path / "b", stop, votes=human).complete


@pytest.mark.parametrize(("fault", "status"), [("server_error", "failed"), ("refused", "refused")])
def test_too_many_failures_or_refusals_stop_an_annotator(
    corpus: Make, annotator: Make, tmp_path: Path, fault: str, status: str
) -> None:
    utterances = corpus(60)
    scripted = annotator(utterances, votes=4, serve={"faults": {fault: 0.6}})
    stop = AnnotateSettings.model_validate({"stop": {"after": 50}})
    annotated = annotate(utterances, [scripted], tmp_path, stop, engine_of=listening([], in_flight=4))
    assert annotated.stopped is not None
    assert f"stop.{status}" in annotated.stopped
    assert annotated.spent.cast < 240


def test_a_recording_without_scores_of_all_labels_fails_alone(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(30)
    scripted = annotator(utterances, elicit="score", serve={"faults": {"no_scores": 0.3}})
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}})
    annotated = annotate(utterances, [scripted], tmp_path, lenient)
    assert annotated.complete
    assert 0 < annotated.by_status["failed"] < 30
    assert annotated.by_status["ok"] + annotated.by_status["failed"] == 30


def test_a_key_that_is_not_accepted_ends_the_job_at_once(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(30)
    scripted = annotator(utterances, votes=1, serve={"faults": {"unauthorised": 1.0}})
    asked: list[Request] = []
    with pytest.raises(EngineError, match="unauthorised"):
        annotate(utterances, [scripted], tmp_path, AnnotateSettings(), engine_of=listening(asked, in_flight=4))
    assert len(asked) <= 8


def test_a_restricted_corpus_stays_on_the_machine_unless_the_file_names_it(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(2, "secret")
    scripted = annotator(utterances, votes=1)
    asked: list[Request] = []
    remote = listening(asked, local=False)
    with pytest.raises(ForbiddenError, match=r"may_leave = \['secret'\]"):
        annotate(utterances, [scripted], tmp_path / "a", AnnotateSettings(), engine_of=remote)
    assert asked == []
    assert annotate(utterances, [scripted], tmp_path / "a", AnnotateSettings()).complete
    named = AnnotateSettings(may_leave=("secret",))
    assert annotate(utterances, [scripted], tmp_path / "b", named, engine_of=remote).complete


def test_an_address_off_this_machine_is_refused_before_it_is_even_reached(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(2, "secret")
    scripted = annotator(utterances)
    for url in ("http://192.0.2.1/v1", "https://localhost.example.org/v1"):
        file = scripted.file.model_copy(update={"engine": "openai", "serve": {"base_urls": [url]}})
        with pytest.raises(ForbiddenError, match="has to stay on this machine"):
            annotate(utterances, [Annotator.of(file)], tmp_path / "out", AnnotateSettings())
    assert not (tmp_path / "out").exists()


def test_max_minutes_stops_cleanly(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(50)
    scripted = annotator(utterances, votes=4, serve={"seconds": 0.05})
    asked: list[Request] = []
    brief = AnnotateSettings(max_minutes=0.3 / 60)
    annotated = annotate(utterances, [scripted], tmp_path, brief, engine_of=listening(asked, in_flight=2))
    assert annotated.stopped is not None
    assert annotated.spent.cast == draws(asked)
    assert annotate(utterances, [scripted], tmp_path, AnnotateSettings()).complete


def test_a_stop_does_not_wait_for_recordings_that_are_still_opened(
    corpus: Make, annotator: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = corpus(16)
    scripted = annotator(utterances, votes=1, serve={"seconds": 0.4})
    ended, waited = threading.Event(), list[bool]()
    real = open_recordings._open_all

    def slow(rows: Any, *how: Any) -> Any:
        if rows[0][0] > 0:  # all but the first recordings
            waited.append(ended.wait(5.0))
        return real(rows, *how)

    monkeypatch.setattr(open_recordings, "_open_all", slow)
    asked: list[Request] = []
    brief = AnnotateSettings(max_minutes=0.5 / 60)
    annotated = annotate(utterances, [scripted], tmp_path / "out", brief, engine_of=listening(asked, in_flight=1))
    in_time = not waited
    ended.set()
    assert in_time
    assert annotated.stopped is not None
    assert annotated.spent.cast == draws(asked)
