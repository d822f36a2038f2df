"""A real `vllm serve` behind our engine for OpenAI-compatible servers."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections import Counter

import numpy as np
import pytest
from real_vllm import MODEL, NEEDS_VLLM, vllm_server
from scipy.stats import chisquare

from alm_proxies.engines.engine import Audio, Request, Sampling
from alm_proxies.engines.registry import OpenAIServe, open_engine

pytestmark = NEEDS_VLLM
CODES = ("A", "B", "C")
WORDS = ("angry", "happy", "disgust")
ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which is it? A) sad B) angry C) happy, or none of them")


@pytest.fixture(scope="module")
def url(checkpoint, tmp_path_factory):
    with vllm_server(sys.executable, checkpoint, tmp_path_factory.mktemp("serve") / "log") as address:
        yield address


@pytest.fixture(scope="module")
def ask(url):
    """Ask the server through one engine, probed once."""
    with asyncio.Runner() as runner:
        engine = runner.run(open_engine(MODEL, OpenAIServe(base_urls=(url,), tries=3)))

        async def asked(*requests):
            return await asyncio.gather(*(engine.ask(request) for request in requests))

        def run(*requests):
            return runner.run(asked(*requests))

        run.can = engine.abilities  # type: ignore[attr-defined]  # a function may carry what it knows
        yield run
        runner.run(engine.close())


def scored(ask_about, clip, choices=CODES):
    return Request("s", "u", "score", tuple(ask_about(clip, order, choices) for order in ORDERS))


def test_the_probe_finds_what_vllm_does(ask):
    can = ask.can
    assert (can.audio, can.several, can.seeds, can.structured, can.schema) == (True, True, "each", True, True)
    assert (can.score, can.score_words, can.local) == (True, True, True)
    assert can.notes == ()


def test_the_old_guided_fields_are_ignored_by_vllm_so_we_do_not_use_them(url):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "max_tokens": 8, "guided_choice": ["zq"]}
    request = urllib.request.Request(
        url + "/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] != "zq"


@pytest.mark.parametrize("choices", [CODES, WORDS])
def test_label_probabilities_equal_transformers_and_those_of_another_clip_do_not(
    ask, clips, ask_about, by_transformers, choices
):
    requests = [scored(ask_about, clip, choices) for clip in clips]
    replies = ask(*requests)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, by_transformers(request), atol=1e-4)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(replies[0].log_probabilities, by_transformers(requests[1]), atol=1e-4)


def test_scoring_is_paid_for_once_a_question_and_tried_once(ask, clips, ask_about):
    (reply,) = ask(scored(ask_about, clips[0]))
    assert reply.tries == 2
    assert reply.audio_seconds == pytest.approx(2.0)


def test_drawn_codes_are_as_frequent_as_their_exact_probabilities(ask, clips, ask_about, by_transformers):
    about = ask_about(clips[1], choices=CODES)
    exact = np.exp(by_transformers(Request("s", "u", "score", (about,)))[0])
    (reply,) = ask(Request("d", "u", "sample", (about,), tuple(range(1000)), constrained=True))
    counts = Counter(reply.texts)
    assert set(counts) <= set(CODES)
    assert set(reply.finish) == {"stop"}
    assert reply.tries == 1
    assert chisquare([counts[code] for code in CODES], 1000 * exact / exact.sum()).pvalue > 1e-3


def test_a_draw_is_the_same_alone_in_a_run_and_beside_others(ask, clips, ask_about):
    def drawn(number, seeds):
        return Request("d", "u", "sample", (ask_about(clips[number]),), seeds)

    together, _ = ask(drawn(0, (5, 6, 7, 8)), drawn(1, (5, 6)))
    (scattered,) = ask(drawn(0, (8, 6)))
    assert scattered.texts == (together.texts[3], together.texts[1])
    assert len(set(together.texts)) == 4


def test_json_schemas_are_kept(ask, clips, ask_about):
    schema = {"type": "object", "properties": {"label": {"enum": list(WORDS)}}, "required": ["label"]}
    about = (ask_about(clips[0]),)
    (reply,) = ask(Request("j", "u", "state", about, tuple(range(8)), Sampling(max_tokens=60), schema=schema))
    whole = [text for text, finish in zip(reply.texts, reply.finish, strict=True) if finish == "stop"]
    assert whole
    assert all(json.loads(text)["label"] in WORDS for text in whole)


def test_corrupt_audio_and_long_prompts_end_as_their_kind_and_the_server_lives_on(ask, clips, ask_about):
    corrupt = Audio(clips[0].samples, 16_000)
    corrupt.__dict__["base64"] = b"Z2FyYmFnZWdhcmJhZ2U="

    def about(clip, text="?"):
        return Request("b", "u", "sample", (ask_about(clip, text),), (1,), Sampling(max_tokens=2))

    replies = ask(about(corrupt), about(clips[0], "too many words " * 1000), about(clips[0]))
    kinds = [reply.failure.kind if reply.failure else None for reply in replies]
    assert kinds == ["corrupt_audio", "too_long", None]
