from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from alm_proxies.engines.engine import Question, Request, Turn
from alm_proxies.engines.openai import OpenAI
from alm_proxies.engines.registry import OpenAIServe, open_engine, serve_settings
from alm_proxies.engines.traffic import Traffic
from alm_proxies.errors import EngineError, SettingsError


def request_to(do, clip, key, seconds=20.0, seeds=(7,)):
    orders = json.dumps({"key": key, "do": do})
    return Request(key, "u", "sample", (Question((Turn("user", (clip, orders)),)),), seeds, seconds=seconds)


def impatient(urls, *, tries=4, in_flight=8, try_seconds=0.5, model="full"):
    """An engine with waits of hundredths of a second instead of seconds."""
    serve = OpenAIServe(base_urls=tuple(urls), in_flight=in_flight)
    engine = OpenAI.unprobed(model, serve)
    engine.traffic = Traffic(
        serve.base_urls, in_flight=in_flight, tries=tries, try_seconds=try_seconds, first_wait=0.01, longest_wait=0.05
    )
    return engine


def patience(fault):
    """Timeout of a try: short only if the server never answers, so that the tests pass on a busy machine."""
    return 1.0 if fault == "hang" else 20.0


def ask(engine, *requests):
    async def asked():
        try:
            return await asyncio.gather(*(engine.ask(request) for request in requests))
        finally:
            await engine.close()

    return asyncio.run(asked())


PASSING = ["409", "429", "500", "503", "hang", "cut", "garbage", "reset", "empty"]
LASTING = {
    "429": "rate_limited",
    "500": "server_error",
    "502": "server_error",
    "503": "server_error",
    "504": "timeout",
    "hang": "timeout",
    "cut": "cut_body",
    "garbage": "malformed",
    "reset": "reset",
    "empty": "empty",
}
FINAL = {
    "400": "bad_request",
    "404": "bad_request",
    "422": "bad_request",
    "401": "unauthorised",
    "403": "forbidden",
    "402": "unauthorised",
    "quota": "unauthorised",
    "refusal": "refused",
    "filter": "refused",
    "too long": "too_long",
    "413": "too_long",
    "bad audio": "corrupt_audio",
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_tries_and_no_votes(fault_server, clip, fault):
    engine = impatient([fault_server.url], try_seconds=patience(fault))
    (reply,) = ask(engine, request_to([fault, fault, "ok"], clip, f"passing {fault}"))
    assert reply.failure is None
    assert len(reply.texts) == 1
    assert reply.tries == 3
    assert reply.paid_tries == (1 if fault in ("409", "429") else 3)
    assert reply.audio_seconds == pytest.approx(0.5 * reply.paid_tries)
    assert (reply.tokens_in, reply.counted) == (10, 1)


@pytest.mark.parametrize(("fault", "kind"), LASTING.items())
def test_a_fault_that_lasts_ends_as_its_kind_after_all_tries(fault_server, clip, fault, kind):
    key = f"lasting {fault}"
    engine = impatient([fault_server.url], tries=3, try_seconds=patience(fault))
    (reply,) = ask(engine, request_to([fault], clip, key))
    assert reply.failure is not None
    assert reply.failure.kind == kind
    assert reply.texts == ()
    assert fault_server.seen()["tries"][key] == reply.tries == 3
    assert reply.paid_tries == (0 if fault == "429" else 3)
    assert reply.audio_seconds == pytest.approx(0.5 * reply.paid_tries)
    assert reply.counted == 0


@pytest.mark.parametrize(("fault", "kind"), FINAL.items())
def test_a_fault_that_asking_again_cannot_mend_is_asked_once(fault_server, clip, fault, kind):
    key = f"final {fault}"
    (reply,) = ask(impatient([fault_server.url]), request_to([fault], clip, key))
    assert reply.failure is not None
    assert reply.failure.kind == kind
    assert fault_server.seen()["tries"][key] == reply.tries == 1
    assert reply.paid_tries == (kind == "refused")


@pytest.mark.parametrize("act", ["late", "ok", "403"])
def test_recordings_forbidden_at_once_are_in_a_row_only_where_none_between_them_waits_or_is_answered(
    fault_server, clip, act
):
    acts = ["403", act] * 10
    requests = [replace(request_to([do], clip, f"row {act} {n}"), utterance_id=f"u{n}") for n, do in enumerate(acts)]
    replies = ask(impatient([fault_server.url], in_flight=20, try_seconds=20.0), *requests)
    kinds = [reply.failure and reply.failure.kind for reply in replies]
    if act == "403":
        assert set(kinds) == {"forbidden", "unauthorised"}
    else:
        assert kinds == ["forbidden", None] * 10


@pytest.mark.parametrize(
    ("acts", "kind", "answered", "without_answer"),
    [
        (["filter, counted"], "refused", (0, 0), (1, 30, 1, 0)),
        (["empty, counted", "empty", "empty, counted", "ok"], None, (1, 10), (2, 60, 2, 0)),
        (["empty, counted"], "empty", (0, 0), (4, 120, 4, 0)),
    ],
)
def test_what_a_server_reports_of_tries_without_an_answer_is_on_the_bill(
    fault_server, clip, acts, kind, answered, without_answer
):
    (reply,) = ask(impatient([fault_server.url], tries=4), request_to(acts, clip, f"reported {acts}"))
    assert (reply.failure and reply.failure.kind) == kind
    assert (reply.counted, reply.tokens_in) == answered
    assert reply.without_answer == without_answer


def test_every_request_of_a_bad_day_ends_with_its_own_kind(fault_server, clip):
    kinds = {**{f"{fault} then well": None for fault in PASSING}, **LASTING, **FINAL, "ok": None}
    requests = [
        request_to(
            [name.removesuffix(" then well"), "ok"] if name.endswith(" then well") else [name], clip, f"day {name}"
        )
        for name in kinds
    ]
    replies = ask(impatient([fault_server.url], tries=3, try_seconds=1.5, in_flight=64), *requests)
    failures = {reply.key.removeprefix("day "): reply.failure.kind if reply.failure else None for reply in replies}
    assert failures == kinds


def test_one_dead_replica_does_not_end_the_job(fault_server, dead_url, clip):
    engine = impatient([dead_url, fault_server.url])
    replies = ask(engine, *(request_to(["ok"], clip, f"replica {number}") for number in range(40)))
    assert [reply.failure for reply in replies] == [None] * 40


def test_all_replicas_dead_is_said_as_such(dead_url, clip):
    (reply,) = ask(impatient([dead_url]), request_to(["ok"], clip, "dead"))
    assert reply.failure is not None
    assert reply.failure.kind == "unreachable"


def test_a_request_gives_up_at_its_deadline(fault_server, clip):
    (reply,) = ask(impatient([fault_server.url], tries=1000), request_to(["hang"], clip, "deadline", seconds=0.3))
    assert reply.failure is not None
    assert reply.failure.kind == "timeout"


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(fault_server, clip):
    key = "a minute later"
    (reply,) = ask(impatient([fault_server.url]), request_to(["429 soon", "ok"], clip, key, seconds=5.0))
    assert reply.failure is not None
    assert reply.failure.kind == "rate_limited"
    assert fault_server.seen()["tries"][key] == 1


def test_a_server_that_asks_to_wait_longer_than_anybody_does_is_given_up(fault_server, clip):
    key = "an hour later"
    (reply,) = ask(impatient([fault_server.url]), request_to(["429 later", "ok"], clip, key))
    assert reply.failure is not None
    assert (reply.failure.kind, reply.tries) == ("gone", 1)
    assert "asks to wait 3,600 s (Retry-After), at most 120 s are waited" in reply.failure.message


def test_draws_that_failed_alone_leave_the_others_their_votes(fault_server, clip):
    engine = impatient([fault_server.url])
    (reply,) = ask(engine, request_to(["400", "ok"], clip, "partly", seeds=(1, 2, 3)))
    assert reply.failure is None
    assert sorted(reply.finish) == ["failed", "stop", "stop"]
    assert [text == "" for text in reply.texts] == [finish == "failed" for finish in reply.finish]
    kinds = [failure.kind if failure else None for failure in reply.failures]
    assert kinds == ["bad_request" if finish == "failed" else None for finish in reply.finish]
    assert (reply.tries, reply.paid_tries, reply.tokens_in) == (3, 2, 20)


def test_words_that_are_scored_leave_nothing_behind_when_one_of_them_fails(fault_server, clip):
    engine = impatient([fault_server.url])
    engine._abilities = replace(engine.abilities, score=True, score_words=True)
    engine._tokens = dict.fromkeys(("angry", "happy", "sad"), (1, 2))
    orders = json.dumps({"key": "words", "do": ["400", "500", "ok"]})
    asked = Request("words", "u", "score", (Question((Turn("user", (clip, orders)),), ("angry", "happy", "sad")),))

    async def run():
        try:
            reply = await engine.ask(asked)
            return reply, engine.traffic.replicas[0].flying, fault_server.seen()["tries"]["words"]
        finally:
            await engine.close()

    reply, flying, tries = asyncio.run(run())
    assert reply.failure is not None
    assert reply.failure.kind in ("bad_request", "unsupported")
    assert flying == 0
    assert reply.tries == tries == 4
    assert reply.paid_tries == 3


def test_more_requests_than_slots_wait_their_turn(fault_server, clip):
    engine = impatient([fault_server.url], in_flight=2)
    replies = ask(engine, *(request_to(["ok"], clip, f"turn {number}") for number in range(30)))
    assert all(reply.failure is None for reply in replies)
    assert engine.traffic.replicas[0].flying == 0


def test_keys_reach_the_server_and_nothing_else(fault_server, clip, monkeypatch, caplog):
    monkeypatch.setenv("A_KEY", "sesame")
    serve = OpenAIServe(base_urls=(fault_server.url,), key_from="A_KEY", tries=1)

    async def asked():
        engine = await open_engine("keyed", serve)
        try:
            well = await engine.ask(request_to(["ok"], clip, "key"))
            leaked = await engine.ask(request_to(["key in error"], clip, "key told"))
        finally:
            await engine.close()
        return well, leaked, repr(engine), str(engine.abilities)

    with caplog.at_level("DEBUG"):
        well, leaked, *texts = asyncio.run(asked())
    assert well.failure is None
    assert leaked.failure is not None
    assert leaked.failure.kind == "server_error"
    assert all("sesame" not in text for text in (*texts, repr(leaked), repr(serve), caplog.text))


def test_a_wrong_key_stops_before_anything_is_asked(fault_server, monkeypatch):
    monkeypatch.setenv("A_KEY", "wrong-secret")
    with pytest.raises(EngineError, match="unauthorised") as caught:
        asyncio.run(open_engine("keyed", OpenAIServe(base_urls=(fault_server.url,), key_from="A_KEY")))
    assert "wrong-secret" not in str(caught.value)


def test_an_account_without_credit_needs_credit_and_no_other_key(fault_server, monkeypatch):
    monkeypatch.setenv("A_KEY", "sesame")
    for model, key_from in (("bankrupt", "A_KEY"), ("bankrupt", None), ("prepaid", "A_KEY")):
        with pytest.raises(EngineError, match="no credit left") as error:
            asyncio.run(open_engine(model, OpenAIServe(base_urls=(fault_server.url,), key_from=key_from)))
        assert error.value.fix == "Add credit to the account, then run the same command again."


def test_a_key_that_is_not_set_is_named(fault_server, monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(SettingsError, match="A_KEY, which is not set"):
        asyncio.run(open_engine("keyed", OpenAIServe(base_urls=(fault_server.url,), key_from="A_KEY")))


@pytest.mark.parametrize("key", ["two\nlines", "smärt", "tab\tinside"])
def test_a_key_that_cannot_be_one_is_refused_without_being_told(fault_server, monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(SettingsError, match="A_KEY, which contains characters that are not allowed in a key") as caught:
        asyncio.run(open_engine("keyed", OpenAIServe(base_urls=(fault_server.url,), key_from="A_KEY")))
    assert key not in str(caught.value)


def test_a_line_end_behind_a_key_is_no_part_of_it(fault_server, monkeypatch, clip):
    monkeypatch.setenv("A_KEY", "sesame\n")
    serve = OpenAIServe(base_urls=(fault_server.url,), key_from="A_KEY", tries=1)
    (reply,) = ask(OpenAI.unprobed("keyed", serve), request_to(["ok"], clip, "key with line end"))
    assert reply.failure is None


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/v1",
        "host:80/v1",
        "http://me:secret@host/v1",
        "http://host/v1?key=secret",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://host:x/v1",
        "http://[::1/v1",
        "http://ho\r\nst/v1",
        "http:///v1",
        "http://a..b/v1",
        "",
    ],
)
def test_addresses_that_are_none_or_hold_secrets_are_refused(address):
    with pytest.raises(SettingsError) as caught:
        serve_settings("openai", {"base_urls": [address]}, where="a.toml")
    assert "serve.base_urls" in str(caught.value)
    assert "me:secret" not in str(caught.value)
    assert "key=secret" not in str(caught.value)
