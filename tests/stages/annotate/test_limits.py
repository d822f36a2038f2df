from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import Lent
from alm_proxies.engines.engine import Abilities, Audio, Failure, Reply
from alm_proxies.stages.annotate.limits import (
    Estimate,
    Purse,
    Tally,
    human_shares,
    leaves_this_machine,
    price_before,
)
from alm_proxies.stages.annotate.plan import in_fair_order, shard_of
from alm_proxies.stages.annotate.settings import Stop
from alm_proxies.tables import Votes

Make = Callable[..., Any]


def made(**values: Any) -> Annotator:
    file = {"name": "a", "engine": "openai", "model": "m", **values}
    return Annotator.of(AnnotatorFile.model_validate(file)).ready(("angry", "happy", "sad"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=40), st.floats(0, 20))
def test_a_budget_is_never_passed_if_nothing_costs_more_than_was_set_aside(
    requests: list[tuple[float, float]], budget: float
) -> None:
    purse = Purse(budget, 0.0)
    for aside, share in requests:
        if purse.take(aside):
            purse.settle(aside, aside * share)
        assert purse.spent <= budget + 1e-9


def test_what_is_in_flight_counts_against_the_budget() -> None:
    purse = Purse(10.0, 4.0)
    assert purse.take(3.0)
    assert purse.take(3.0)
    assert not purse.take(0.1)
    purse.settle(3.0, 1.0)
    assert purse.take(2.0)
    assert not purse.take(0.1)


def test_an_annotator_is_judged_only_after_enough_votes() -> None:
    tally = Tally("a")
    for _ in range(9):
        tally.count("failed")
    assert tally.verdict(Stop(after=10), {}) is None
    tally.count("ok", [("sad", 1.0)])
    assert tally.verdict(Stop(after=10), {}) == "90% of the votes of a failed (stop.failed = 0.1)"


def test_collapse_is_judged_against_what_humans_say() -> None:
    tally = Tally("a")
    for _ in range(99):
        tally.count("ok", [("neutral", 1.0)])
    tally.count("ok", [("neutral", 0.5), ("sad", 0.5)])
    stop = Stop(after=100)
    assert tally.verdict(stop, {}) is not None
    assert tally.verdict(stop, {"neutral": 0.5, "sad": 0.5}) is not None
    assert tally.verdict(stop, {"neutral": 0.97, "sad": 0.03}) is None
    assert tally.verdict(Stop(after=100, collapse=1.0), {}) is None


def test_held_out_human_votes_are_not_looked_at() -> None:
    frame = pl.DataFrame(
        {
            "utterance_id": ["1", "2", "3"],
            "annotator": "h",
            "label": ["sad", "sad", "happy"],
            "held_out": [False, False, True],
        }
    )
    assert human_shares(Votes.of(frame, taxonomy=["sad", "happy"])) == {"sad": 1.0}


def test_the_price_before_a_run_counts_a_recording_once_a_request() -> None:
    price = {"audio_minute": 60.0}
    sampled = made(cross={"temperature": [0.5, 1.0]}, price=price)
    assert price_before(sampled, [10.0, 10.0], [8, 1]) == pytest.approx(20.0 + 10.0)
    scored = made(elicit="score", cross={"label_orders": 6}, price=price)
    assert price_before(scored, [10.0], [6]) == pytest.approx(60.0)
    worded = made(elicit="score", answer="words", cross={"label_orders": 2}, price=price)
    assert price_before(worded, [10.0], [2]) == pytest.approx(2 * 3 * 10.0)
    here = made(engine="transformers", elicit="score", cross={"label_orders": 6}, price=price)
    assert price_before(here, [10.0], [6]) == pytest.approx(10.0)
    assert price_before(sampled, [10.0], [0]) == 0.0
    answers = made(price={"million_tokens_out": 1e6}, sampling={"max_tokens": 5})
    assert price_before(answers, [10.0], [8]) == pytest.approx(40.0)


def second() -> Audio:
    return Audio(np.zeros(16_000, dtype=np.float32), 16_000)


@pytest.mark.parametrize(("several", "sent"), [(True, 1), (False, 4)])
def test_a_price_learned_from_a_reply_is_that_of_one_send_however_many_a_request_is_cut_into(
    several: bool, sent: int
) -> None:
    one = made(price={"million_tokens_in": 1e6}, votes=4)
    estimate = Estimate(one, Abilities("openai", "m", local=True, several=several))
    (asking,) = one.askings("u", range(4), second(), Lent(), 0)
    estimate.learn(asking, Reply("u", tokens_in=50 * sent, paid_tries=sent, counted=sent))
    assert estimate.of(asking) == pytest.approx(50.0 * sent)


def test_tries_that_died_are_taken_for_as_many_tokens_as_those_that_were_answered() -> None:
    one = made(price={"million_tokens_in": 1e6}, votes=4)
    estimate = Estimate(one, Abilities("openai", "m", local=True))
    (asking,) = one.askings("u", range(4), second(), Lent(), 0)
    died = Reply("u", failure=Failure("timeout", "no answer"), tries=3, paid_tries=2, counted=0)
    by_rule = estimate.used(asking, died)
    assert by_rule > 2 * 32
    estimate.learn(asking, died)
    assert not estimate.learned
    estimate.learn(asking, Reply("u", tokens_in=50))
    assert estimate.used(asking, died) == pytest.approx(100.0)
    assert estimate.used(asking, Reply("u", tokens_in=50, tries=3, paid_tries=3)) == pytest.approx(150.0)


def test_a_server_that_never_tells_tokens_is_priced_by_rule_and_waited_for_only_once() -> None:
    one = made(price={"million_tokens_in": 1e6}, votes=4)
    estimate = Estimate(one, Abilities("openai", "m", local=True))
    (asking,) = one.askings("u", range(4), second(), Lent(), 0)
    silent = Reply("u", counted=0)
    estimate.learn(asking, silent)
    assert estimate.learned
    assert estimate.used(asking, silent) == pytest.approx(estimate.of(asking))


@pytest.mark.parametrize(("answer", "sent"), [("codes", 2), ("words", 6)])
def test_a_scored_recording_is_set_aside_for_as_often_as_a_server_is_sent_it(answer: str, sent: int) -> None:
    values = {"elicit": "score", "answer": answer, "cross": {"label_orders": 2}, "price": {"audio_minute": 60.0}}
    for engine, times in (("openai", sent), ("vllm", 1)):
        one = made(engine=engine, **values)
        estimate = Estimate(one, Abilities("openai", "m", local=True))
        (asking,) = one.askings("u", range(2), second(), Lent(), 0)
        assert estimate.of(asking) == pytest.approx(times)


@pytest.mark.parametrize(
    ("urls", "leaves"),
    [
        (["http://127.0.0.1:8000/v1"], False),
        (["http://localhost:8000/v1", "http://[::1]:1/v1"], False),
        (["http://127.0.0.1:8000/v1", "https://api.openai.com/v1"], True),
        (["http://127.0.0.1.example.org/v1"], True),
        (["http://10.0.0.1/v1"], True),
        (["http://0.0.0.0:8000/v1"], True),
    ],
)
def test_only_loopback_addresses_stay_on_this_machine(urls: list[str], leaves: bool) -> None:
    assert leaves_this_machine(made(serve={"base_urls": urls})) is leaves


def test_engines_in_process_stay_on_this_machine() -> None:
    assert not leaves_this_machine(made(engine="transformers"))
    assert not leaves_this_machine(made(engine="vllm"))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 5))
def test_every_beginning_of_the_asking_order_is_a_fair_sample(corpora: list[str], seed: int) -> None:
    frame = pl.DataFrame({"utterance_id": [f"{n}" for n in range(len(corpora))], "corpus": corpora})
    ordered = in_fair_order(frame, seed, ["corpus"])
    assert sorted(ordered["utterance_id"]) == sorted(frame["utterance_id"])
    for count in range(1, len(corpora) + 1):
        for corpus in set(corpora):
            fair = count * corpora.count(corpus) / len(corpora)
            assert abs((ordered["corpus"][:count] == corpus).sum() - fair) <= len(set(corpora))
    assert in_fair_order(frame.reverse(), seed, ["corpus"]).equals(ordered)


def test_a_shard_is_read_from_its_text() -> None:
    assert shard_of("2/8") == (2, 8)
