"""A real vLLM in our engine. Run these with the Python of the vLLM test environment, as `make test` does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from real_vllm import NEEDS_VLLM, ONE_THREAD
from scipy.stats import chisquare
from vllm_forks import engines_are_forks

from alm_proxies.engines.engine import Audio, Request, Sampling
from alm_proxies.engines.registry import VllmServe, open_engine

pytestmark = NEEDS_VLLM
CODES = ("A", "B", "C")
WORDS = ("angry", "happy", "disgust")
ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which is it? A) sad B) angry C) happy, or none of them")


@pytest.fixture(scope="module")
def ask(checkpoint):
    """Ask the engine of this module."""
    with pytest.MonkeyPatch.context() as environment, asyncio.Runner() as runner:
        for name, value in ONE_THREAD.items():
            environment.setenv(name, value)
        with engines_are_forks():
            engine = runner.run(open_engine(str(checkpoint), VllmServe(max_length=1024, in_flight=64)))

        async def asked(*requests):
            return await asyncio.gather(*(engine.ask(request) for request in requests))

        yield lambda *requests: runner.run(asked(*requests))
        runner.run(engine.close())


@pytest.fixture
def scored(clips, ask_about):
    def request(number, choices=CODES):
        questions = tuple(ask_about(clips[number], order, choices) for order in ORDERS)
        return Request(f"s{number}", f"u{number}", "score", questions)

    return request


@pytest.fixture
def sampled(clips, ask_about):
    def request(number=0, seeds=(1,), choices=CODES, **more):
        return Request("d", "u", "sample", (ask_about(clips[number], choices=choices),), tuple(seeds), **more)

    return request


def test_label_probabilities_equal_transformers(ask, scored, by_transformers):
    requests = [scored(number, choices) for choices in (CODES, WORDS) for number in range(3)]
    for request, reply in zip(requests, ask(*requests), strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, by_transformers(request), atol=1e-4)


@pytest.mark.parametrize("choices", [CODES, WORDS])
def test_label_probabilities_of_the_wrong_clip_do_not_equal_transformers(ask, scored, by_transformers, choices):
    (reply,) = ask(scored(0, choices))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(reply.log_probabilities, by_transformers(scored(1, choices)), atol=1e-4)


def test_each_clip_gets_its_own_likeliest_label(ask, clips, ask_about):
    replies = ask(*(Request("s", "u", "score", (ask_about(clip, choices=CODES),)) for clip in clips))
    assert [int(np.argmax(reply.log_probabilities[0])) for reply in replies] == [0, 1, 2]


def test_drawn_codes_are_as_frequent_as_their_exact_probabilities(ask, sampled, clips, ask_about, by_transformers):
    score = Request("s", "u", "score", (ask_about(clips[1], choices=CODES),))
    exact = np.exp(by_transformers(score)[0])
    (reply,) = ask(sampled(1, range(2000), constrained=True))
    counts = Counter(reply.texts)
    assert set(counts) <= set(CODES)
    assert set(reply.finish) == {"stop"}
    expected = 2000 * exact / exact.sum()
    assert chisquare([counts[code] for code in CODES], expected).pvalue > 1e-3
    assert chisquare([counts[code] for code in CODES], np.roll(expected, 1)).pvalue < 1e-3


def test_temperature_sharpens_by_its_power_and_the_checkpoints_own_defaults_do_not_apply(
    ask, sampled, clips, ask_about, by_transformers
):
    score = Request("s", "u", "score", (ask_about(clips[1], choices=CODES),))
    exact = np.exp(by_transformers(score)[0] / 2.0)
    (reply,) = ask(sampled(1, range(2000), constrained=True, sampling=Sampling(temperature=2.0)))
    counts = Counter(reply.texts)
    assert chisquare([counts[code] for code in CODES], 2000 * exact / exact.sum()).pvalue > 1e-3


def test_a_draw_is_the_same_alone_in_a_run_and_beside_others(ask, sampled):
    together, others = ask(sampled(0, (5, 6, 7, 8)), sampled(1, (5, 6)))
    (run,) = ask(sampled(0, (6, 7)))
    (alone,) = ask(sampled(0, (8,)))
    assert run.texts == together.texts[1:3]
    assert alone.texts == together.texts[3:]
    assert len(set(together.texts)) == 4
    assert others.texts != together.texts[:2]
    assert together.seeds_honoured


def test_no_temperature_is_one_answer_for_every_draw(ask, sampled):
    (reply,) = ask(sampled(0, (1, 2, 3), sampling=Sampling(temperature=0.0)))
    assert len(reply.texts) == 3
    assert len(set(reply.texts)) == 1


def test_imposed_words_and_json_schemas_are_kept(ask, sampled):
    schema = {"type": "object", "properties": {"label": {"enum": list(WORDS)}}, "required": ["label"]}
    words = sampled(0, range(8), choices=WORDS, constrained=True)
    stated = replace(sampled(0, range(8), sampling=Sampling(max_tokens=60)), elicit="state", schema=schema)
    chosen, formed = ask(words, stated)
    assert set(chosen.texts) <= set(WORDS)
    whole = [text for text, finish in zip(formed.texts, formed.finish, strict=True) if finish == "stop"]
    assert whole
    assert all(json.loads(text)["label"] in WORDS for text in whole)


def test_bad_requests_end_as_their_kind_and_the_engine_lives_on(ask, sampled, clips, ask_about):
    def about(clip, text="?"):
        return Request("b", "u", "sample", (ask_about(clip, text),), (1,), Sampling(max_tokens=2))

    silence = np.zeros(31 * 16_000, np.float32)
    long, fast, wordy, late, well = ask(
        about(Audio(silence, 16_000)),
        about(Audio(silence[:8_000], 8_000)),
        about(clips[0], "too many words " * 1000),
        replace(about(clips[0]), seconds=1e-6),
        about(clips[0]),
    )
    kinds = [reply.failure.kind if reply.failure else None for reply in (long, fast, wordy, late, well)]
    assert kinds == ["too_long", "bad_request", "too_long", "timeout", None]
