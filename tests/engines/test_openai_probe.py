from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from alm_proxies.engines.bill import Bill
from alm_proxies.engines.engine import ENDS_THE_JOB, Question, Request, Sampling, Turn, draw_seeds
from alm_proxies.engines.faults import FaultError
from alm_proxies.engines.openai import OpenAI
from alm_proxies.engines.registry import OpenAIServe, open_engine
from alm_proxies.engines.traffic import Traffic
from alm_proxies.engines.trials import asking, showing
from alm_proxies.errors import EngineError

EVERY = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """A request is sent again a moment after it failed, not half a second."""
    monkeypatch.setitem(Traffic.__init__.__kwdefaults__, "first_wait", 0.02)


def with_engine(server, model, use=None):
    async def run():
        engine = await open_engine(model, OpenAIServe(base_urls=(server.url,), tries=2))
        try:
            return engine.abilities, await use(engine) if use is not None else None
        finally:
            await engine.close()

    return asyncio.run(run())


def sample(clip, seeds, key="probe", **more):
    return Request(key, "u", "sample", (Question((Turn("user", (clip, "?")),), ("A", "B")),), seeds, **more)


def test_a_server_that_does_everything_is_found_to(fault_server):
    can, _ = with_engine(fault_server, "full")
    assert (can.audio, can.several, can.seeds, can.structured, can.schema) == (True, True, "each", True, True)
    assert can.sampling == EVERY
    assert can.score
    assert not can.score_words
    assert can.local


def test_ignored_forms_are_found_out_and_said(fault_server):
    can, _ = with_engine(fault_server, "ignoring")
    assert (can.structured, can.schema) == (False, False)
    assert "structured_outputs is ignored" in str(can)
    assert "response_format is ignored" in str(can)


def test_an_ignored_n_is_found_out_and_draws_are_asked_one_by_one(fault_server, clip):
    can, reply = with_engine(fault_server, "single", lambda engine: engine.ask(sample(clip, draw_seeds(5, 0, 3))))
    assert not can.several
    assert reply.texts == ("seed 5", "seed 6", "seed 7")
    assert reply.seeds_honoured
    assert reply.tries == 3


def test_seeds_without_effect_are_found_out_and_the_votes_say_so(fault_server, clip):
    can, reply = with_engine(fault_server, "unseeded", lambda engine: engine.ask(sample(clip, (1, 2, 3))))
    assert can.seeds == "none"
    assert not reply.seeds_honoured
    assert len(set(reply.texts)) == 3
    assert reply.tries == 1


def test_fields_a_server_does_not_know_are_left_out_and_said(fault_server, clip):
    can, reply = with_engine(fault_server, "strict", lambda engine: engine.ask(sample(clip, (1,))))
    assert can.sampling == ("temperature", "top_p", "max_tokens")
    assert reply.failure is None


def test_a_server_that_takes_no_audio_is_found_out(fault_server):
    can, _ = with_engine(fault_server, "deaf")
    assert not can.audio
    assert "audio no" in str(can)


def test_every_sampling_field_is_sent_so_that_no_default_applies(fault_server, clip):
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, repetition_penalty=1.1, max_tokens=3)
    with_engine(fault_server, "full", lambda engine: engine.ask(sample(clip, (1,), key="fields", sampling=sampling)))
    sent = [seen for seen in fault_server.seen()["seen"] if seen["temperature"] == 0.7][-1]
    assert {name: sent[name] for name in EVERY} == {name: getattr(sampling, name) for name in EVERY}


def test_scores_are_asked_for_with_neutral_sampling_so_that_no_default_bends_them(fault_server, clip):
    narrow = Sampling(temperature=0.5, top_p=0.5, top_k=2, repetition_penalty=1.3)
    question = Question((Turn("user", (clip, '{"key": "neutral"}')),), ("A", "B"))
    request = Request("k", "u", "score", (question,), sampling=narrow)
    with_engine(fault_server, "full", lambda engine: engine.ask(request))
    (sent,) = [seen for seen in fault_server.seen()["seen"] if seen["key"] == "neutral"]
    assert {name: sent[name] for name in EVERY} == dict(zip(EVERY, (1.0, 1.0, -1, 1.0, 1), strict=True))


def test_consecutive_seeds_share_a_request_and_others_do_not_change_a_draw(fault_server, clip):
    async def both(engine):
        return await engine.ask(sample(clip, (7, 8, 9))), await engine.ask(sample(clip, (9, 20, 7)))

    _, (together, apart) = with_engine(fault_server, "full", both)
    assert together.texts == ("seed 7", "seed 8", "seed 9")
    assert together.tries == 1
    assert apart.texts == ("seed 9", "seed 20", "seed 7")
    assert apart.tries == 3


def test_a_limit_to_n_is_found_and_kept_to_and_every_draw_keeps_its_seed(fault_server, clip):
    first, second = draw_seeds(5, 0, 10), draw_seeds(50, 0, 10)

    async def both(engine):
        return await engine.ask(sample(clip, first)), await engine.ask(sample(clip, second))

    _, (early, late) = with_engine(fault_server, "few", both)
    assert early.texts == tuple(f"seed {seed}" for seed in first)
    assert late.texts == tuple(f"seed {seed}" for seed in second)
    assert (early.failures, early.seeds_honoured) == ((None,) * 10, True)
    sizes = [seen.get("n", 1) for seen in fault_server.seen()["seen"] if seen["model"] == "few"]
    assert sizes[-11:-4] == [10, 5, 2, 3, 5, 2, 3]
    assert sorted(sizes[-4:]) == [1, 3, 3, 3]


def test_a_request_that_is_refused_for_anything_but_its_n_is_asked_once(fault_server, clip):
    orders = '{"key": "not n", "do": ["400"]}'
    request = Request("w", "u", "sample", (Question((Turn("user", (clip, orders)),), ("A", "B")),), tuple(range(8)))
    _, reply = with_engine(fault_server, "full", lambda engine: engine.ask(request))
    assert reply.failure is not None
    assert (reply.failure.kind, reply.tries) == ("bad_request", 1)


def test_no_temperature_is_asked_once_and_counted_for_every_draw(fault_server, clip):
    greedy = sample(clip, (1, 2, 3), sampling=Sampling(temperature=0.0))
    _, reply = with_engine(fault_server, "full", lambda engine: engine.ask(greedy))
    assert len(reply.texts) == 3
    assert len(set(reply.texts)) == 1
    assert reply.tries == 1
    assert reply.tokens_in == 10


def test_codes_among_the_likeliest_tokens_are_scored(fault_server, clip):
    question = Question((Turn("user", (clip, "?")),), ("B", "A"))
    _, reply = with_engine(fault_server, "full", lambda engine: engine.ask(Request("k", "u", "score", (question,))))
    assert reply.log_probabilities == ((-2.0, -1.0),)


def test_a_code_that_may_weigh_something_and_is_not_told_fails_the_score(fault_server, clip):
    question = Question((Turn("user", (clip, "?")),), ("A", "Z"))
    _, reply = with_engine(fault_server, "full", lambda engine: engine.ask(Request("k", "u", "score", (question,))))
    assert reply.failure is not None
    assert reply.failure.kind == "no_scores"
    assert reply.failure.kind not in ENDS_THE_JOB
    assert reply.tokens_in == 10


def test_a_server_that_is_not_there_is_one_sentence(dead_url):
    with pytest.raises(EngineError, match="unreachable.*Start the server"):
        asyncio.run(open_engine("full", OpenAIServe(base_urls=(dead_url,), tries=1)))


def test_what_passes_is_not_taken_for_what_the_server_cannot_do(fault_server):
    whole, _ = with_engine(fault_server, "full")
    can, _ = with_engine(fault_server, "hiccups")
    assert replace(can, model="full") == whole


def test_every_question_of_the_probe_is_counted_with_its_audio_and_tokens(fault_server):
    async def took(engine):
        return engine.tried_out

    _, counts = with_engine(fault_server, "full", took)
    assert (counts.requests, counts.audio_seconds) == (11, 5.5)
    assert counts.tokens_in == 110
    assert counts.tokens_out == 23  # two an answer, one where one is allowed; one question asks for two


def test_a_model_that_the_server_does_not_have_is_answered_with_those_it_has(fault_server):
    with pytest.raises(EngineError, match=r"It offers no model 'absent', but: full, single\."):
        with_engine(fault_server, "absent")


def test_a_server_that_wants_a_key_and_gets_none_is_answered_with_how_to_give_it_one(fault_server):
    with pytest.raises(EngineError, match='key_from = "OPENAI_API_KEY".*export OPENAI_API_KEY'):
        with_engine(fault_server, "keyed")


def test_what_a_server_is_asked_before_any_vote_is_shown(fault_server):
    shown: list[str] = []
    with showing(shown.append):
        with_engine(fault_server, "full")
    probing, tokens = "trying out what the server can do", "asking for tokens, which is optional"
    assert shown == [probing, tokens, probing, ""]  # it has no address for tokens, and is not asked again


def test_what_a_server_failed_at_is_tried_again_soon_and_the_rest_a_day_later(monkeypatch):
    failing, asked = {"now": True}, []

    async def answer(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        length = int(request.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        body = json.loads(await reader.readexactly(length) or b"{}")
        status = b"200 OK"
        said: dict[str, object] = {"data": [{"id": "m"}]}
        if body:
            asked.append(body)
            formed = "response_format" in body
            status = b"500 Oops" if formed and failing["now"] else status
            message = {"role": "assistant", "content": '{"zq": "qz"}' if formed else "A"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            said = {"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        content = json.dumps(said).encode()
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(content)))
        writer.write(content)
        await writer.drain()
        writer.close()

    async def run():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

            async def opened():
                asked.clear()
                engine = await open_engine("m", OpenAIServe(base_urls=(url,), tries=1))
                await engine.close()
                return engine.abilities.schema, bool(asked)

            found = [await opened()]
            failing["now"] = False
            found.append(await opened())
            monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1000.0)
            found += [await opened(), await opened()]
            monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1000.0)
            return [*found, await opened()]

    assert asyncio.run(run()) == [(False, True), (False, False), (True, True), (True, False), (True, False)]


def test_what_a_server_that_fails_always_answers_is_shown_while_it_is_tried_again():
    async def fail(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        length = int(request.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        content = b'{"error": {"message": "out of memory"}}'
        writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    async def run():
        async with await asyncio.start_server(fail, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            engine = OpenAI.unprobed("m", OpenAIServe(base_urls=(url,)))
            engine._trial = Bill()
            try:
                with showing(shown.append), asking("trying out"):
                    question = Question((Turn("user", ("?",)),), ())
                    await engine.complete(question, {"max_tokens": 8}, seconds=2.0)
            finally:
                await engine.close()

    shown: list[str] = []
    with pytest.raises(FaultError, match="HTTP 500: out of memory"):
        asyncio.run(run())
    assert set(shown[1:-1]) == {"trying out; tried again after: HTTP 500: out of memory"}
    assert (shown[0], shown[-1]) == ("trying out", "")


def test_an_optional_question_is_asked_twice_at_most():
    asked: list[bytes] = []

    async def break_off(reader, writer):
        asked.append(await reader.readuntil(b"\r\n"))
        writer.transport.abort()

    async def run():
        async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            engine = OpenAI.unprobed("m", OpenAIServe(base_urls=(url,), tries=6))
            try:
                with showing(shown.append):
                    return await engine.token_counts(("A", "B"))
            finally:
                await engine.close()

    shown: list[str] = []
    assert asyncio.run(run()) is None
    assert asked == [b"POST /tokenize HTTP/1.1\r\n"] * 2
    assert shown == ["asking for tokens, which is optional", ""]


def test_a_run_begins_with_as_many_requests_at_once_as_the_last_one_ended_with(fault_server, clip):
    windows = []

    async def ask(engine):
        windows.append(engine.traffic.replicas[0].window)
        await asyncio.gather(*(engine.ask(sample(clip, (number,), key=str(number))) for number in range(8)))
        windows.append(engine.traffic.window)

    # an address that no other test asks
    server = SimpleNamespace(url=f"http://localhost:{fault_server.port}/v1")
    for _ in range(2):
        with_engine(server, "full", ask)
    first, grown, second, _ = windows
    assert grown > first
    assert second == grown
