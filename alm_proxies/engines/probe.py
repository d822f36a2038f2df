"""What a server really does, found with about ten small questions before anything is spent on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from alm_proxies.engines import chat_api
from alm_proxies.engines.chat_api import Completion
from alm_proxies.engines.engine import Abilities, Audio, Question, Sampling, Turn
from alm_proxies.engines.traffic import FaultError, Sent

_SECONDS = 120.0
_NOT_ASKED_FOR = ("zq", "qz")
_SCHEMA = {
    "type": "object",
    "properties": {"zq": {"type": "string", "enum": ["qz"]}},
    "required": ["zq"],
    "additionalProperties": False,
}
_REFUSALS = frozenset({"bad_request", "too_long", "corrupt_audio", "server_error", "unsupported"})


class Asks(Protocol):
    """The part of the engine that the probe uses."""

    async def complete(
        self,
        question: Question,
        fields: Mapping[str, Any],
        *,
        seconds: float,
        answer: str | None = None,
        words: bool = True,
    ) -> Sent[Completion]:
        """One chat completion."""
        ...

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text."""
        ...


async def probe(engine: Asks, supposed: Abilities) -> Abilities:
    """Abilities as found: audio parts, sampling fields, n, seeds, log-probabilities, forms that are really kept."""
    tone = 0.1 * np.sin(2 * np.pi * 440.0 * np.arange(8_000) / 16_000)
    heard = _question("Name eight random letters.", Audio(tone.astype(np.float32), 16_000))
    every = chat_api.sampling_fields(Sampling(max_tokens=8), Sampling.__slots__)
    few = {name: value for name, value in every.items() if name in supposed.sampling}
    found = supposed
    for fields in (every, few):
        if await _try(engine, heard, fields) is not None:
            found = replace(found, sampling=tuple(fields))
            break
    else:
        deaf = await _try(engine, _question("Name eight random letters."), few)
        if deaf is not None:
            return replace(found, audio=False, notes=("answers text, takes no audio",))
        await engine.complete(heard, few, seconds=_SECONDS)
        raise FaultError("server_error", "the server answers one time and not the next")
    fields = {name: every[name] for name in found.sampling}
    found = await _seeds(engine, found, heard, fields)
    found = await _forms(engine, found, heard, fields)
    return await _scores(engine, found, heard)


async def _seeds(engine: Asks, found: Abilities, heard: Question, fields: Mapping[str, Any]) -> Abilities:
    """n: two answers from one request. Seeds: the same again, other ones for another; children of n have seed + i."""
    one = await _try(engine, heard, {**fields, "seed": 11})
    again = await _try(engine, heard, {**fields, "seed": 11})
    other = await _try(engine, heard, {**fields, "seed": 12})
    two = await _try(engine, heard, {**fields, "seed": 11, "n": 2})
    if one is None or again is None or other is None:
        two = two or await _try(engine, heard, {**fields, "n": 2})
        return replace(found, several=two is not None and len(two.texts) == 2)
    several = two is not None and len(two.texts) == 2
    if one.texts != again.texts or one.texts == other.texts:
        return replace(found, several=several, seeds="none", notes=(*found.notes, "seeds have no effect"))
    each = several and two is not None and two.texts == (one.texts[0], other.texts[0])
    notes = () if each or not several else ("draws of one request cannot be seeded one by one",)
    return replace(
        found, several=several, seeds="each" if each or not several else "request", notes=found.notes + notes
    )


async def _forms(engine: Asks, found: Abilities, heard: Question, fields: Mapping[str, Any]) -> Abilities:
    """Whether answers nobody gives unasked are given when imposed: some servers accept such fields and ignore them."""
    notes: tuple[str, ...] = ()
    chosen = await _try(engine, heard, {**fields, "structured_outputs": {"choice": list(_NOT_ASKED_FOR)}})
    structured = chosen is not None and chosen.texts[0] in _NOT_ASKED_FOR
    if chosen is not None and not structured:
        notes += ("structured_outputs is ignored",)
    formed = await _try(engine, heard, {**fields, "max_tokens": 64, **chat_api.json_form(_SCHEMA)})
    schema = formed is not None and _keeps(formed.texts[0])
    if formed is not None and not schema:
        notes += ("response_format is ignored",)
    return replace(found, structured=structured, schema=schema, notes=found.notes + notes)


async def _scores(engine: Asks, found: Abilities, heard: Question) -> Abilities:
    """Log-probabilities of the likeliest first tokens; of tokens by number and of a given answer (vLLM)."""
    plain = {"temperature": 1.0, "max_tokens": 1, "logprobs": True}
    top = await _try(engine, heard, {**plain, "top_logprobs": 20})
    likely = top is not None and chat_api.first_token_scores(top.raw, _first_tokens(top)) is not None
    tokens = await engine.tokenize("zq"), await engine.tokenize("A")
    words = False
    if tokens[0] and tokens[1]:
        numbers = [tokens[0][0], tokens[1][0]]
        named = await _try(engine, heard, {**plain, "logprob_token_ids": numbers, "return_tokens_as_token_ids": True})
        forced = await _try(
            engine, heard, {"max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False}, answer="zq"
        )
        words = (
            named is not None
            and chat_api.named_token_scores(named.raw, numbers) is not None
            and forced is not None
            and chat_api.forced_score(forced.raw, tokens[0]) is not None
        )
    return replace(found, log_probabilities=likely or words, score=likely or words, score_words=words)


async def _try(
    engine: Asks, question: Question, fields: Mapping[str, Any], answer: str | None = None
) -> Completion | None:
    """The completion, or None where the server does not take such a request."""
    try:
        sent = await engine.complete(question, fields, seconds=_SECONDS, answer=answer, words=False)
    except FaultError as fault:
        if fault.failure.kind in _REFUSALS:
            return None
        raise
    return sent.answer


def _question(text: str, clip: Audio | None = None) -> Question:
    return Question((Turn("user", (text,) if clip is None else (clip, text)),))


def _first_tokens(completion: Completion) -> tuple[str, ...]:
    try:
        top = completion.raw["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return tuple(str(entry["token"]) for entry in top[:2])
    except (KeyError, IndexError, TypeError):
        return ()


def _keeps(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"zq": "qz"})
    except ValueError:
        return False
