from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alm_proxies.engines.engine import Audio, Question, Request, Sampling, Turn
from alm_proxies.engines.registry import TransformersServe, open_engine
from alm_proxies.models.audio_lm import AudioLM

CODES = ("A", "B", "C")
WORDS = ("angry", "happy", "sad")


def ask(checkpoint, *requests, **serve):
    async def asked():
        engine = await open_engine(str(checkpoint), TransformersServe(**serve))
        try:
            return await asyncio.gather(*(engine.ask(request) for request in requests))
        finally:
            await engine.close()
            await engine.close()

    return asyncio.run(asked())


@pytest.fixture
def scored(clips, ask_about):
    orders = ("Which emotion? A) angry B) happy C) sad", "Which is it? A) sad B) angry C) happy, or none of them")

    def request(number, choices=CODES):
        return Request(
            f"s{number}", f"u{number}", "score", tuple(ask_about(clips[number], order, choices) for order in orders)
        )

    return request


@pytest.mark.parametrize("batch", [1, 8])
def test_scores_of_codes_and_words_equal_whole_passes(checkpoint, by_transformers, scored, batch):
    requests = [scored(number, choices) for choices in (CODES, WORDS) for number in range(3)]
    for request, reply in zip(requests, ask(checkpoint, *requests, batch=batch), strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, by_transformers(request), atol=1e-4)


def test_a_small_model_gets_one_thread_and_the_number_for_others_stays(checkpoint, scored, monkeypatch):
    def threads():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    used = []
    score = AudioLM.score

    def noted(lm, asked):
        used.append(torch.get_num_threads())
        return score(lm, asked)

    monkeypatch.setattr(AudioLM, "score", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ask(checkpoint, scored(0))
        monkeypatch.setattr("alm_proxies.engines.transformers._ONE_THREAD", 10)
        ask(checkpoint, scored(0))
        assert used == [1, 2]
        assert [torch.get_num_threads(), threads()] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_each_clip_gets_its_own_likeliest_label(checkpoint, scored):
    replies = ask(checkpoint, *(scored(number) for number in range(3)))
    assert [int(np.argmax(reply.log_probabilities[0])) for reply in replies] == [0, 1, 2]


def test_draws_depend_on_their_seeds_alone(checkpoint, clips, ask_about):
    def drawn(number, seeds):
        return Request("d", "u", "sample", (ask_about(clips[number]),), seeds, Sampling(max_tokens=5))

    together = ask(checkpoint, drawn(0, (1, 2, 3)), drawn(1, (1, 2)), drawn(0, (3, 9)), batch=4)
    (alone,) = ask(checkpoint, drawn(0, (2, 3)))
    assert alone.texts == together[0].texts[1:]
    assert together[2].texts[0] == together[0].texts[2]
    assert together[0].texts[0] != together[1].texts[0]
    assert alone.seeds_honoured


def test_a_checkpoints_own_sampling_defaults_do_not_apply(checkpoint, clips, ask_about):
    (reply,) = ask(checkpoint, Request("d", "u", "sample", (ask_about(clips[0]),), tuple(range(50))))
    assert len(set(reply.texts)) > 25


def test_imposed_codes_are_whole_answers(checkpoint, clips, ask_about):
    request = Request("c", "u", "sample", (ask_about(clips[2]),), tuple(range(30)), constrained=True)
    (reply,) = ask(checkpoint, request)
    assert set(reply.texts) <= set(CODES)
    assert set(reply.finish) == {"stop"}
    assert reply.texts.count("C") > 15


def test_one_bad_request_does_not_spoil_its_batch(checkpoint, clips, ask_about):
    good = Request("good", "u", "sample", (ask_about(clips[0]),), (1,), Sampling(max_tokens=2))
    long = replace(good, key="long", questions=(ask_about(Audio(np.zeros(31 * 16_000, np.float32), 16_000)),))
    fast = replace(good, key="fast", questions=(ask_about(Audio(np.zeros(8_000, np.float32), 8_000)),))
    worded = replace(good, key="worded", questions=(ask_about(clips[0], choices=("one token", "B")),), constrained=True)
    replies = ask(checkpoint, good, long, fast, good, worded, batch=8)
    kinds = [reply.failure.kind if reply.failure else None for reply in replies]
    assert kinds == [None, "too_long", "bad_request", None, "bad_request"]
    assert replies[0].texts == replies[3].texts


def test_a_late_reply_is_a_timeout_and_the_next_one_comes(checkpoint, clips, ask_about):
    request = Request("late", "u", "sample", (ask_about(clips[0]),), (1,), seconds=1e-6)
    late, well = ask(checkpoint, request, replace(request, seconds=60.0))
    assert late.failure is not None
    assert late.failure.kind == "timeout"
    assert well.failure is None


def test_what_is_no_failure_of_a_request_is_raised_to_all_who_wait_and_the_next_batch_runs(
    checkpoint, clips, ask_about
):
    request = Request("r", "u", "sample", (ask_about(clips[0]),), (1,), Sampling(max_tokens=2), seconds=60.0)

    async def asked():
        engine: Any = await open_engine(str(checkpoint), TransformersServe(batch=2))
        draw = engine._lm.draw
        try:
            engine._lm.draw = {}.__getitem__
            wrong = await asyncio.gather(engine.ask(request), engine.ask(request), return_exceptions=True)
            engine._lm.draw = draw
            return [*wrong, await engine.ask(request)]
        finally:
            await engine.close()

    *wrong, well = asyncio.run(asked())
    assert [type(error) for error in wrong] == [TypeError, TypeError]
    assert well.failure is None


def test_requests_whose_time_is_over_are_not_run(checkpoint, clips, ask_about):
    ran = []

    async def asked():
        engine: Any = await open_engine(str(checkpoint), TransformersServe(batch=1))
        draw = engine._lm.draw

        def counted(wanted):
            ran.extend(question.seeds for question in wanted)
            return draw(wanted)

        engine._lm.draw = counted
        about = (ask_about(clips[0]),)
        waits = [
            asyncio.create_task(engine.ask(Request("r", "u", "sample", about, (seed,), Sampling(max_tokens=2))))
            for seed in range(4)
        ]
        try:
            await asyncio.sleep(0)
            for given_up in waits[1:3]:
                given_up.cancel()
            await waits[3]
        finally:
            await engine.close()

    asyncio.run(asked())
    assert ran == [(0,), (3,)]


def test_tokens_of_answers_are_counted(checkpoint):
    async def counted():
        engine = await open_engine(str(checkpoint), TransformersServe())
        try:
            return await engine.token_counts(("A", "not one token")), str(engine.abilities)
        finally:
            await engine.close()

    counts, sentence = asyncio.run(counted())
    assert counts[0] == 1
    assert counts[1] > 1
    assert "longest 30 s" in sentence
    assert "stays on this machine" in sentence


def test_earlier_turns_and_text_only_questions_are_answered(checkpoint, clips):
    turns = (Turn("user", (clips[0], "?")), Turn("assistant", ("A",)), Turn("user", ("Sure?",)))
    requests = [
        Request("turns", "u", "sample", (Question(turns),), (1, 2), Sampling(max_tokens=2)),
        Request("text", "u", "sample", (Question((Turn("user", ("Only text.",)),)),), (1, 2), Sampling(max_tokens=2)),
    ]
    assert [len(reply.texts) for reply in ask(checkpoint, *requests)] == [2, 2]
