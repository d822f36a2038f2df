import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Abilities, Audio, Failure, Reply, Reported
from alm_proxies.stages.annotate.budget import Booked, Budget, Estimate
from alm_proxies.stages.annotate.prices import price_before

TOKENS = {"million_tokens_in": 1e6, "million_tokens_out": 1e6}


def annotator_with(**values: Any) -> Annotator:
    file = {"name": "a", "engine": "openai", "model": "m", **values}
    return Annotator.of(AnnotatorFile.model_validate(file)).ready(("angry", "happy", "sad"))


def asked(annotator: Annotator, seconds: float = 1.0, votes: int = 4) -> Asking:
    audio = Audio(np.zeros(int(seconds * 16_000), dtype=np.float32), 16_000)
    (asking,) = annotator.askings("u", range(votes), audio, PromptContext(), 0)
    return asking


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=40), st.floats(0, 20))
def test_a_budget_is_never_passed_if_nothing_costs_more_than_was_booked(
    requests: list[tuple[float, float]], limit: float
) -> None:
    budget = Budget(limit, 0.0)
    for most, share in requests:
        if budget.book(most):
            budget.settle(most, most * share)
        assert budget.spent <= limit + 1e-9


def test_what_is_in_flight_counts_against_the_budget() -> None:
    budget = Budget(10.0, 4.0)
    assert budget.book(3.0)
    assert budget.book(3.0)
    assert not budget.book(0.1)
    budget.settle(3.0, 1.0)
    assert budget.book(2.0)
    assert not budget.book(0.1)


COUNTS = st.one_of(
    st.integers(-(10**12), 10**12), st.sampled_from([math.inf, -math.inf, math.nan, 1e300, -0.0]), st.floats()
)


@settings(deadline=None, max_examples=200)
@given(
    replies=st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=8),
    votes=st.integers(1, 12),
    several=st.booleans(),
    seconds=st.floats(0.1, 40.0),
)
def test_whatever_a_server_reports_no_reply_costs_more_than_was_booked_for_its_tries_or_less_than_nothing(
    replies: list[tuple[float, float, int, int, bool]], votes: int, several: bool, seconds: float
) -> None:
    annotator = annotator_with(price={**TOKENS, "audio_minute": 60.0}, votes=12)
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=several, seeds="each"))
    request = asked(annotator, seconds, votes).request
    seconds = request.audio[0].seconds
    pieces = 1 if several else votes
    for tokens_in, tokens_out, failed_tries, counted, failed in replies:
        booked = estimate.most(request) + failed_tries * estimate.again(request)
        paid = pieces + failed_tries
        reply = Reply(
            "u",
            tokens_in=tokens_in,  # type: ignore[arg-type]
            tokens_out=tokens_out,  # type: ignore[arg-type]
            audio_seconds=paid * seconds,
            tries=paid,
            paid_tries=paid,
            counted=min(counted, pieces),
            failure=Failure("timeout", "no answer") if failed else None,
        )
        price = estimate.price(estimate.used(request, reply))
        assert 0.0 <= price <= booked * (1 + 1e-9)


def test_prompts_that_grow_are_booked_at_their_maximum_from_the_first_to_the_last() -> None:
    annotator = annotator_with(price={"million_tokens_in": 1e6}, votes=4)
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=True, seeds="each"))
    request = asked(annotator).request
    estimate.used(request, Reply("u", tokens_in=50))
    first = estimate.most(request)
    for tokens in (50, 60, 600):
        assert estimate.price(estimate.used(request, Reply("u", tokens_in=tokens))) == tokens
        assert estimate.most(request) == pytest.approx(first)
    assert first >= 1500
    assert estimate.implausible == 0


def test_until_a_server_has_taken_several_answers_at_once_a_request_is_booked_as_if_it_took_one() -> None:
    annotator = annotator_with(price={"audio_minute": 60.0}, votes=4)
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=True, seeds="each"))
    request = asked(annotator).request
    assert estimate.most(request) == pytest.approx(4.0)
    estimate.used(request, Reply("u", tokens_in=50))
    assert estimate.most(request) == pytest.approx(1.0)


def test_a_count_that_cannot_be_is_booked_at_the_most_and_counted() -> None:
    annotator = annotator_with(price=TOKENS, votes=4, sampling={"max_tokens": 4})
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=True, seeds="each"))
    request = asked(annotator).request
    for tokens_in, tokens_out in ((-4000, 4), (10**9, 4), (200, 10**6), (200, -1)):
        used = estimate.used(request, Reply("u", tokens_in=tokens_in, tokens_out=tokens_out))
        assert 0 < used.tokens_in < 5000
        assert 4 <= used.tokens_out <= 4 * 4 + 5
    assert estimate.implausible == 4
    estimate.used(request, Reply("u", tokens_in=200, tokens_out=16, implausible=2))
    assert estimate.implausible == 6


def test_tries_nobody_counted_are_booked_at_the_most_until_a_reply_shows_what_a_prompt_is() -> None:
    annotator = annotator_with(price={"million_tokens_in": 1e6}, votes=4)
    estimate = Estimate(annotator, Abilities("openai", "m", local=True))
    request = asked(annotator).request
    died = Reply("u", failure=Failure("timeout", "no answer"), tries=3, paid_tries=2, counted=0)
    assert estimate.used(request, died).tokens_in > 2 * 1500
    assert estimate.in_flight(request) >= 1500
    estimate.used(request, Reply("u", tokens_in=50))
    assert estimate.used(request, died).tokens_in == pytest.approx(100.0)
    assert estimate.used(request, Reply("u", tokens_in=50, tries=3, paid_tries=3)).tokens_in == pytest.approx(150.0)
    assert estimate.in_flight(request) == pytest.approx(50.0)


def test_answers_of_tries_nobody_counted_are_booked_at_their_limit() -> None:
    annotator = annotator_with(price={"million_tokens_out": 1e6}, votes=4, sampling={"max_tokens": 500})
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=True, seeds="each"))
    died = Reply("u", failure=Failure("timeout", "no answer"), tries=2, paid_tries=2, counted=0)
    assert 2 * 4 * 500 <= estimate.used(asked(annotator).request, died).tokens_out <= 2 * 4 * 500 + 10


def test_tries_without_an_answer_cost_what_the_server_reports_of_them() -> None:
    annotator = annotator_with(price=TOKENS, votes=4, sampling={"max_tokens": 500})
    estimate = Estimate(annotator, Abilities("openai", "m", local=True, several=True, seeds="each"))
    request = asked(annotator).request
    refused = Failure("refused", "the server's content filter blocked the answer")
    reply = Reply("u", failure=refused, counted=0, without_answer=Reported(1, 60, 2))
    assert estimate.used(request, reply)[1:] == (60, 2)
    reply = Reply("u", tokens_in=50, tokens_out=8, tries=3, paid_tries=3, without_answer=Reported(2, 120, 3))
    assert estimate.used(request, reply)[1:] == (170, 11)
    assert estimate.implausible == 0
    reply = Reply("u", failure=refused, counted=0, without_answer=Reported(1, 10**9, 10**9, 1))
    assert 0 < estimate.used(request, reply).tokens_in < 5000
    assert estimate.implausible == 1


@pytest.mark.parametrize(("answer", "sent"), [("codes", 2), ("words", 6)])
def test_a_scored_recording_is_booked_for_as_often_as_a_server_is_sent_it(answer: str, sent: int) -> None:
    values = {"elicit": "score", "answer": answer, "cross": {"label_orders": 2}, "price": {"audio_minute": 60.0}}
    annotator = annotator_with(**values)
    estimate = Estimate(annotator, Abilities("openai", "m", local=True))
    assert estimate.most(asked(annotator, votes=2).request) == pytest.approx(sent)


def test_another_try_is_booked_before_it_is_made_or_not_made() -> None:
    budget = Budget(2.5, 0.0)
    assert budget.book(1.0)
    booked = Booked(budget, 1.0, lambda: 1.0)
    assert booked.book_again()
    assert not booked.book_again()
    booked.settle(1.5)
    assert budget.spent == 1.5
    assert budget.book(1.0)


def test_the_price_before_a_run_counts_a_recording_once_a_request() -> None:
    price = {"audio_minute": 60.0}
    sampled = annotator_with(cross={"temperature": [0.5, 1.0]}, price=price)
    assert price_before(sampled, [10.0, 10.0], [8, 1]) == pytest.approx(20.0 + 10.0)
    scored = annotator_with(elicit="score", cross={"label_orders": 6}, price=price)
    assert price_before(scored, [10.0], [6]) == pytest.approx(60.0)
    worded = annotator_with(elicit="score", answer="words", cross={"label_orders": 2}, price=price)
    assert price_before(worded, [10.0], [2]) == pytest.approx(2 * 3 * 10.0)
    here = annotator_with(engine="transformers", elicit="score", cross={"label_orders": 6}, price=price)
    assert price_before(here, [10.0], [6]) == pytest.approx(10.0)
    assert price_before(sampled, [10.0], [0]) == 0.0
    answers = annotator_with(price={"million_tokens_out": 1e6}, sampling={"max_tokens": 5})
    assert price_before(answers, [10.0], [8]) == pytest.approx(40.0)
