"""Responses are parsed strictly: anything but a completion within its bounds is malformed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.engines.bounds import Most
from alm_proxies.engines.completions import first_token_scores, forced_score, read_completion
from alm_proxies.engines.faults import FaultError

B = {"type": "text", "text": "B"}
MOST = Most(answers=2, tokens_each=8, tokens_in=500)
SCORED = Most(answers=1, tokens_each=1, tokens_in=500, scores=21)


def body(content: Any = "happy", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], **more}


def read(content: Any, most: Most = MOST) -> Any:
    return read_completion(content if isinstance(content, bytes) else json.dumps(content).encode(), most)


def top(*scores: tuple[Any, Any]) -> dict[str, Any]:
    entries = [{"token": token, "logprob": score} for token, score in scores]
    response = body("A")
    response["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": entries}]}
    return response


@pytest.mark.parametrize(
    ("content", "text", "thought"),
    [
        ("happy", "happy", ""),
        ([{"type": "text", "text": "hap"}, {"type": "text", "text": "py"}], "happy", ""),
        ([{"type": "output_text", "text": "sad", "annotations": []}], "sad", ""),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "B"}],
            "B",
            "hm",
        ),
        ([{"type": "thinking", "thinking": "hm"}, B], "B", "hm"),
    ],
)
def test_a_content_is_a_text_or_a_list_of_parts(content: Any, text: str, thought: str) -> None:
    answer = read(body(content))
    assert (answer.texts, answer.reasoning) == ((text,), (thought,))


def test_a_refusal_among_answers_is_that_answer_alone() -> None:
    refused = {"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}
    answer = read({"choices": [body()["choices"][0], refused], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
    assert (answer.texts, answer.finish) == (("happy", "I will not."), ("stop", "refusal"))
    with pytest.raises(FaultError) as fault:
        read({"choices": [refused, refused]})
    assert fault.value.failure.kind == "refused"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("length", "length"),
        ("end_turn", "end_turn"),
        ("SAFETY", "content_filter"),
    ],
)
def test_an_answer_that_was_cut_is_known_by_the_words_of_several_servers(reason: str, finish: str) -> None:
    (choice,) = body()["choices"]
    assert read({"choices": [choice | {"finish_reason": reason}]}).finish == (finish,)


@pytest.mark.parametrize("reason", ["content_filter", "PROHIBITED_CONTENT", "RECITATION"])
def test_an_answer_that_a_filter_blocked_is_a_refusal(reason: str) -> None:
    with pytest.raises(FaultError) as fault:
        read({"choices": [{"message": {"content": None}, "finish_reason": reason}]})
    assert fault.value.failure.kind == "refused"


def test_an_answer_at_which_the_server_broke_off_is_none() -> None:
    (whole,) = body()["choices"]
    broken = body("I think the speaker is ang")["choices"][0] | {"finish_reason": "error"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    with pytest.raises(FaultError) as fault:
        read({"choices": [broken], "usage": usage})
    assert (fault.value.failure.kind, fault.value.reported[:3]) == ("server_error", (1, 7, 5))
    assert read({"choices": [whole, broken], "usage": usage}).finish == ("stop", "failed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow down"}, "rate_limited"),
        ({"code": 402, "message": "insufficient credits"}, "unauthorised"),
        ({"code": 403, "message": "not from here"}, "forbidden"),
        ({"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "y"}}, "refused"),
        ({"code": 502, "message": "provider gone"}, "server_error"),
        ({"code": "odd", "message": "no model"}, "malformed"),
        ({"code": 7, "message": "no model"}, "malformed"),
    ],
)
def test_an_error_in_place_of_an_answer_is_that_fault_and_may_be_charged_for(error: dict[str, Any], kind: str) -> None:
    with pytest.raises(FaultError) as fault:
        read({"error": error})
    assert (fault.value.failure.kind, fault.value.paid) == (kind, True)
    assert kind == "unauthorised" or error["message"] in fault.value.failure.message


NOT_COMPLETIONS: dict[str, Any] = {
    "integer content": body(7),
    "boolean content": body(True),
    "dictionary content": body({"text": "happy"}),
    "list of strings": body(["happy"]),
    "part without a type": body([{"text": "happy"}]),
    "part with a number": body([{"type": "text", "text": 3}]),
    "no choices": {"choices": []},
    "choices missing": {"usage": {}},
    "choices null": {"choices": None},
    "choices a dictionary": {"choices": {"0": {}}},
    "more answers than asked for": {"choices": body()["choices"] * 3},
    "message missing": {"choices": [{"finish_reason": "stop"}]},
    "message a text": {"choices": [{"message": "happy"}]},
    "finish a number": {"choices": [{"message": {"content": "A"}, "finish_reason": 1}]},
    "reasoning a list": {"choices": [{"message": {"content": "A", "reasoning": [1]}}]},
    "refusal a boolean": {"choices": [{"message": {"content": None, "refusal": True}}]},
    "a list": [body()],
    "a number": 3,
    "nested 10,000 deep": b'{"choices": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "nested in a field nobody reads": json.dumps(body())[:-1].encode()
    + b', "x": '
    + b'{"a":' * 9000
    + b"1"
    + b"}" * 9001,
    "half a letter": b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
    "no UTF-8": b'{"choices": [{"message": {"content": "\xff"}}]}',
    "5,000 digits": b'{"choices": [], "created": ' + b"9" * 5000 + b"}",
    "too long a text": body("x" * 5000),
    "too long a thought": {"choices": [{"message": {"content": "A", "reasoning": "x" * 5000}}]},
    "nothing": b"",
    "HTML": b"<!doctype html>",
    "two values": b"{} {}",
}


@pytest.mark.parametrize("content", NOT_COMPLETIONS.values(), ids=NOT_COMPLETIONS)
def test_whatever_is_no_completion_is_malformed(content: Any) -> None:
    with pytest.raises(FaultError) as caught:
        read(content)
    assert caught.value.failure.kind == "malformed"
    assert len(caught.value.failure.message) < 400


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (0, 0, False)),
        ({}, (0, 0, False)),
        ({"prompt_tokens": 20, "completion_tokens": 3}, (20, 3, False)),
        ({"prompt_tokens": 20.0, "completion_tokens": None}, (20, 0, False)),
        ({"prompt_tokens": -4000, "completion_tokens": 3}, (500, 3, True)),
        ({"prompt_tokens": 20, "completion_tokens": 17}, (20, 16, True)),
        ({"prompt_tokens": 20, "completion_tokens": 10**15}, (20, 16, True)),
        ({"prompt_tokens": "20"}, (500, 0, True)),
        ({"prompt_tokens": True}, (500, 0, True)),
        ({"prompt_tokens": 20.5}, (500, 0, True)),
        ({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 10**15}, (20, 16, True)),
        ({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 37}, (20, 16, True)),
        ([1, 2], (500, 16, True)),
        ("none", (500, 16, True)),
    ],
)
def test_an_impossible_count_is_replaced_by_the_most_there_can_be(usage: Any, expected: tuple[int, int, bool]) -> None:
    answer = read(body(usage=usage))
    assert (answer.tokens_in, answer.tokens_out, answer.implausible) == expected


@pytest.mark.parametrize(
    ("usage", "tokens_out"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}, 3),
        ({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 33}, 13),
        ({"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 29}, 9),
        ({"prompt_tokens": 20, "total_tokens": 21}, 1),
        ({"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 19}, 3),
        ({"completion_tokens": 3, "total_tokens": 9}, 3),
    ],
)
def test_reasoning_that_only_the_total_has_is_on_the_bill(usage: Any, tokens_out: int) -> None:
    answer = read(body(usage=usage))
    assert (answer.tokens_out, answer.implausible) == (tokens_out, False)


@pytest.mark.parametrize("number", [b"Infinity", b"-Infinity", b"NaN", b"1e999"])
def test_a_count_without_end_is_replaced_too(number: bytes) -> None:
    answer = read(json.dumps(body())[:-1].encode() + b', "usage": {"prompt_tokens": ' + number + b"}}")
    assert (answer.tokens_in, answer.implausible) == (500, True)


def test_log_probabilities_are_read_where_they_were_asked_for() -> None:
    answer = read(top(("A", -0.2), ("B", -2.0), ("C", -9999.0)), SCORED)
    assert first_token_scores(answer, ("A", "B", "C")) == (-0.2, -2.0, -9999.0)
    assert read(top(("A", "nonsense")), MOST).first_tokens is None


def test_tokens_with_the_same_text_are_one_answer_and_a_token_listed_twice_counts_once() -> None:
    answer = read(top(("A", math.log(0.5)), ("B", math.log(0.3)), ("A", math.log(0.1)), ("B", math.log(0.3))), SCORED)
    scores = first_token_scores(answer, ("A", "B"))
    assert scores is not None
    assert [math.exp(score) for score in scores] == pytest.approx([0.6, 0.3])


@pytest.mark.parametrize(
    "scores",
    [
        (("A", 0.5), ("B", -1.0)),
        (("A", -1e308), ("B", -1.0)),
        (("A", "likely"), ("B", -1.0)),
        (("A", True), ("B", -1.0)),
        (("A", None), ("B", -1.0)),
        ((3, -1.0), ("B", -1.0)),
        (("A", 0.0), ("B", 0.0)),
        (("A", float("nan")), ("B", -1.0)),
        (("A", float("-inf")), ("B", -1.0)),
    ],
)
def test_impossible_log_probabilities_are_malformed(scores: tuple[tuple[Any, Any], ...]) -> None:
    with pytest.raises(FaultError) as caught:
        read(top(*scores), SCORED)
    assert caught.value.failure.kind == "malformed"


def test_a_scored_prompt_is_read_from_its_end() -> None:
    places = [None, {"5": {"logprob": -1.0}}, {"7": {"logprob": -2.0}}, {"9": {"logprob": -0.5, "rank": 1}}]
    answer = read(body("A", prompt_logprobs=places), SCORED)
    assert forced_score(answer, (7,)) == -2.5
    for wrong in ([None, {"x": {"logprob": -1.0}}], [None, {"5": {"logprob": 1.0}}], [None, {"5": -1.0}], "none"):
        with pytest.raises(FaultError, match="not a chat completion|not a log-probability|has no id"):
            read(body("A", prompt_logprobs=wrong), SCORED)


def test_answers_stand_in_the_order_of_their_numbers() -> None:
    choices = [{"index": 1, "message": {"content": "second"}}, {"index": 0, "message": {"content": "first"}}]
    assert read({"choices": choices}).texts == ("first", "second")
    alike = [{"index": 0, "message": {"content": "second"}}, {"index": 0, "message": {"content": "first"}}]
    assert read({"choices": alike}).texts == ("second", "first")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "usage",
                    "prompt_tokens",
                    "logprobs",
                    "top_logprobs",
                    "token",
                    "logprob",
                    "index",
                    "finish_reason",
                    "type",
                    "text",
                    "prompt_logprobs",
                    "3",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(deadline=None, max_examples=300)
@given(JSON, st.sampled_from([MOST, SCORED]))
def test_any_json_is_a_completion_within_its_bounds_or_a_fault(content: Any, most: Most) -> None:
    try:
        read_back = read(content, most)
    except FaultError:
        return
    assert all(isinstance(text, str) and len(text) <= most.letters for text in read_back.texts)
    assert 0 <= read_back.tokens_in <= most.tokens_in
    assert 0 <= read_back.tokens_out <= most.tokens_out
    assert all(-1e5 <= score <= 0.0 for _, score in read_back.first_tokens or ())


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ({"message": {"content": ""}, "finish_reason": "content_filter"}, "refused"),
        ({"message": {"content": None, "refusal": "I will not."}, "finish_reason": "stop"}, "refused"),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "empty"),
        ({"message": {"content": "x" * 10_000}, "finish_reason": "stop"}, "malformed"),
    ],
)
def test_the_fault_of_an_answer_without_text_has_the_tokens_that_the_server_reports(
    choice: dict[str, Any], kind: str
) -> None:
    for usage, expected in (
        ({"prompt_tokens": 7, "completion_tokens": 5}, (1, 7, 5, 0)),
        ({"prompt_tokens": 10**9}, (1, MOST.tokens_in, 0, 1)),
        (None, (0, 0, 0, 0)),
    ):
        with pytest.raises(FaultError) as fault:
            read({"choices": [choice], "usage": usage})
        assert (fault.value.failure.kind, fault.value.reported) == (kind, expected)
