"""The documented endpoints of OpenAI and Google, imitated by the fault server; the real services are never used."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import polars as pl
import pytest
import soundfile
from dialects import DIALECTS, KEY

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines import chat_api
from alm_proxies.engines.engine import Question, Request, Sampling, Turn
from alm_proxies.engines.registry import OpenAIServe, open_engine
from alm_proxies.errors import EngineError
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances

FEW = ("temperature", "top_p", "max_tokens")
EVERY = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")
THINKS = "reasons first: probed with 2048 tokens"
APART = "draws of one request have no seeds of their own"
IGNORED = ("top_k is ignored", "repetition_penalty is ignored", "structured_outputs is ignored")
LABELS = ("angry", "happy", "neutral", "sad")
PROMPT = """
elicits = "label"
requires = ["speaker"]
after = '{"key": "{{ speaker }}", "do": ["429", "ok"], "labels": "{{ labels | join(" ") }}"}'
"""


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("DIALECT_KEY", KEY)


def with_engine(server, model, use=None):
    async def run():
        engine = await open_engine(model, OpenAIServe(base_urls=(server.url,), tries=2, key_from="DIALECT_KEY"))
        try:
            return engine.abilities, await use(engine) if use is not None else None
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "sampling", "seeds", "schema", "score", "notes"),
    [
        ("gpt-audio", FEW, "request", False, True, (APART,)),
        ("gpt-limits", ("temperature", "top_p", "max_completion_tokens"), "request", False, True, (APART,)),
        ("gemini", FEW, "none", True, False, ()),
        ("gemini-2.5", FEW, "none", True, False, (THINKS,)),
        ("vertex", EVERY, "request", True, False, (APART, *IGNORED)),
    ],
)
def test_the_probe_finds_what_each_documented_service_does(fault_server, model, sampling, seeds, schema, score, notes):
    can, _ = with_engine(fault_server, model)
    assert (can.audio, can.several, can.structured, can.score_words) == (True, True, False, False)
    assert (can.sampling, can.seeds, can.schema, can.score) == (sampling, seeds, schema, score)
    assert can.notes == notes


@pytest.mark.parametrize("model", DIALECTS)
def test_a_wrong_key_is_one_sentence_that_says_so(fault_server, monkeypatch, model):
    monkeypatch.setenv("DIALECT_KEY", "wrong")
    with pytest.raises(EngineError, match=r"unauthorised.*Check the key") as caught:
        with_engine(fault_server, model)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("model", DIALECTS)
def test_annotate_completes_over_each_of_them_behind_rate_limits(fault_server, tmp_path, model):
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.sin(np.arange(3200) * 0.01 * (number + 5)), 16_000)
    frame = pl.DataFrame({"utterance_id": [f"c/{number}" for number in range(6)], "corpus": "c"})
    frame = frame.with_columns(
        audio=pl.format("{}.wav", pl.col("utterance_id").str.slice(2)),
        speaker=pl.format("{}/{}", pl.lit(model), pl.col("utterance_id")),
    )
    utterances = Utterances.of(frame, about=About(taxonomy=LABELS, roots={"c": str(tmp_path)}))
    (tmp_path / "dialect.toml").write_text(PROMPT)
    (tmp_path / "a.toml").write_text(
        f'name = "a"\nengine = "openai"\nmodel = "{model}"\nprompt = "dialect.toml"\nvotes = 20\nanswer = "words"\n'
        "sampling = { max_tokens = 1000 }\ncross = { temperature = [0.6, 1.0] }\n"
        f'serve = {{ base_urls = ["{fault_server.url}"], key_from = "DIALECT_KEY", tries = 3 }}\n'
    )
    settings = AnnotateSettings.model_validate({"injection": 0, "stop": {"collapse": 1.0}})
    annotated = annotate(utterances, [Annotator.read(tmp_path / "a.toml")], tmp_path / "out", settings)
    assert annotated.complete
    votes = annotated.votes.frame
    assert len(votes) == 120
    assert votes["status"].unique().to_list() == ["ok"]
    assert set(votes["label"]) <= set(LABELS)
    assert votes["label"].n_unique() > 1


def test_the_probe_of_a_shared_server_is_charged_at_the_highest_price(fault_server, tmp_path):
    soundfile.write(tmp_path / "0.wav", 0.1 * np.sin(np.arange(3200) * 0.05), 16_000)
    frame = pl.DataFrame({"utterance_id": ["c/0"], "corpus": ["c"], "audio": ["0.wav"], "speaker": ["c/s"]})
    utterances = Utterances.of(frame, about=About(taxonomy=LABELS, roots={"c": str(tmp_path)}))
    (tmp_path / "dialect.toml").write_text(PROMPT)
    panel = []
    for name, price in (("free", 0.0), ("priced", 1.0)):
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\nengine = "openai"\nmodel = "gpt-audio"\nprompt = "dialect.toml"\nanswer = "words"\n'
            f'serve = {{ base_urls = ["{fault_server.url}"], key_from = "DIALECT_KEY", tries = 3 }}\n'
            f"price = {{ audio_minute = {price} }}\n"
        )
        panel.append(Annotator.read(tmp_path / f"{name}.toml"))
    spent = annotate(utterances, panel, tmp_path / "out", AnnotateSettings(injection=0), quiet=True).spent
    assert spent.tried_out_price > 0.0


def test_thought_that_leaves_no_room_for_words_is_a_cut_answer_and_not_asked_again(fault_server, clip):
    question = Question((Turn("user", (clip, "?")),), ("angry", "sad"))
    request = Request("short", "u", "sample", (question,), (1, 2), Sampling(max_tokens=16))
    _, reply = with_engine(fault_server, "gemini-2.5", lambda engine: engine.ask(request))
    assert reply.failure is None
    assert (reply.texts, reply.finish, reply.tries) == (("", ""), ("length", "length"), 1)


def test_the_wait_among_the_details_of_googles_429_is_kept():
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    body = [{"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [wait]}}]
    fault = chat_api.fault_of(429, {}, json.dumps(body).encode())
    assert (fault.failure.kind, fault.failure.message, fault.retry_after) == ("rate_limited", "HTTP 429: Quota.", 34.5)


def test_a_wait_that_is_neither_a_number_nor_a_date_does_no_harm():
    fault = chat_api.fault_of(429, {"retry-after": "soon"}, b"")
    assert (fault.failure.kind, fault.retry_after) == ("rate_limited", None)


@pytest.mark.parametrize("details", [None, "more", {"a": 1}, [1, "x"], [{"retryDelay": "soon"}]])
def test_details_of_other_shapes_do_no_harm(details):
    body = {"error": {"message": "no", "code": "invalid", "details": details}}
    fault = chat_api.fault_of(400, {}, json.dumps(body).encode())
    assert (fault.failure.kind, fault.failure.message, fault.retry_after) == ("bad_request", "HTTP 400: no", None)
