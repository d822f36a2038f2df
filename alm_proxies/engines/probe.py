"""The probe of a server: about a dozen small requests that find out its abilities before any votes are requested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from alm_proxies.engines import chat_api
from alm_proxies.engines.completions import Completion, first_token_scores, forced_score, named_token_scores
from alm_proxies.engines.engine import Abilities, Audio, Question, Sampling, Turn
from alm_proxies.engines.faults import FaultError, Sent

_SECONDS = 120.0
_REASONING_TOKENS = 2048
_UNLIKELY = ("zq", "qz")
"""Answers that a model gives only if the server imposes them."""
_SCHEMA = {
    "type": "object",
    "properties": {"zq": {"type": "string", "enum": ["qz"]}},
    "required": ["zq"],
    "additionalProperties": False,
}
_REFUSALS = frozenset({"bad_request", "too_long", "corrupt_audio", "server_error", "unsupported"})
"""Kinds of fault that mean that the server does not support a request."""
_NO_SCORES = _REFUSALS | {"malformed"}

FIXES = {
    "unauthorised": "Add credit to the account, then run the same command again.",  # the key itself is right
    "unreachable": "Start the server, or correct serve.base_urls.",
    "timeout": "Wait until the server is ready, or raise serve.try_seconds.",
    "bad_request": "Check the model's name, and that it takes audio.",
    "no_trust": "Write http:// for a server without TLS; name the file of its own certificate in SSL_CERT_FILE.",
    "reset": "See the server's log; for a server with TLS write https:// in serve.base_urls.",
    "malformed": "Check that serve.base_urls leads to a chat-completions interface, as .../v1 does.",
    "gone": "Wait until the server takes requests again, then run the same command.",
}
"""The fix for a server that cannot be probed, by kind of fault."""


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


class Failing:
    """A server that is probed, and whether it failed at a request: what it failed at may work later."""

    def __init__(self, engine: Asks) -> None:
        self._engine = engine
        self.failed = False

    async def complete(self, *given: Any, **named: Any) -> Sent[Completion]:
        """One chat completion."""
        try:
            return await self._engine.complete(*given, **named)
        except FaultError as fault:
            self.failed |= fault.failure.kind == "server_error"
            raise

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text."""
        return await self._engine.tokenize(text)


async def probe(engine: Asks, assumed: Abilities) -> Abilities:
    """The abilities of a server: audio, sampling fields, n, seeds, log-probabilities, imposed answers."""
    tone = 0.1 * np.sin(2 * np.pi * 440.0 * np.arange(8_000) / 16_000)
    heard = _question("Name eight random letters.", Audio(tone.astype(np.float32), 16_000))
    answer, names = await _first(engine, heard, assumed.sampling)
    if answer is None:
        few = chat_api.sampling_fields(Sampling(max_tokens=8), assumed.sampling)
        if await _try(engine, _question("Name eight random letters."), few) is not None:
            return replace(assumed, audio=False, notes=("answers text, takes no audio",))
        await engine.complete(heard, few, seconds=_SECONDS)
        raise FaultError("server_error", "the server answers a request once, but not the same request again")
    abilities, max_tokens = replace(assumed, sampling=names), 8
    if not any(answer.texts) and answer.finish[0] == "length":
        max_tokens = _REASONING_TOKENS
        abilities = _noted(abilities, f"reasons first: probed with {max_tokens} tokens")
    fields = chat_api.sampling_fields(Sampling(max_tokens=max_tokens), names)
    abilities = await _seeds(engine, abilities, heard, fields)
    abilities = await _ignored(engine, abilities, heard, fields)
    abilities = await _imposed(engine, abilities, heard, fields, max_tokens)
    return await _scores(engine, abilities, heard)


async def _first(engine: Asks, heard: Question, basic: Sequence[str]) -> tuple[Completion | None, tuple[str, ...]]:
    """The first answer to a request with audio, and the sampling fields that the server accepts."""
    every = tuple(Sampling.__slots__)
    few = tuple(name for name in every if name in basic)
    for names in (every, few):
        for limit in ("max_tokens", "max_completion_tokens"):
            fields = tuple(limit if name == "max_tokens" else name for name in names)
            answer = await _try(engine, heard, chat_api.sampling_fields(Sampling(max_tokens=8), fields))
            if answer is not None:
                return answer, fields
    return None, few


async def _seeds(engine: Asks, abilities: Abilities, heard: Question, fields: Mapping[str, Any]) -> Abilities:
    """Whether n = 2 gives two answers, and whether equal seeds give equal answers; with n, draw i has seed + i."""
    first = await _try(engine, heard, {**fields, "seed": 11})
    again = await _try(engine, heard, {**fields, "seed": 11})
    other = await _try(engine, heard, {**fields, "seed": 12})
    two = await _try(engine, heard, {**fields, "seed": 11, "n": 2})
    if first is None or again is None or other is None:
        two = two or await _try(engine, heard, {**fields, "n": 2})
        return replace(abilities, several=two is not None and len(two.texts) == 2)
    several = two is not None and len(two.texts) == 2
    if first.texts != again.texts or first.texts == other.texts:
        return _noted(replace(abilities, several=several, seeds="none"), "seeds have no effect")
    if not several or (two is not None and two.texts == (first.texts[0], other.texts[0])):
        return replace(abilities, several=several, seeds="each")
    return _noted(
        replace(abilities, several=several, seeds="request"), "draws of one request have no seeds of their own"
    )


async def _ignored(engine: Asks, abilities: Abilities, heard: Question, fields: Mapping[str, Any]) -> Abilities:
    """Notes on fields that the server accepts and that have no effect on its answers."""
    if not {"top_k", "repetition_penalty"} & set(fields):
        return abilities
    likeliest = {**fields, "temperature": 0.0, "seed": 11}
    plain = await _try(engine, heard, likeliest)
    narrow = await _try(engine, heard, {**fields, "top_k": 1, "seed": 12})
    varied = await _try(engine, heard, {**likeliest, "repetition_penalty": 10.0})
    if plain is not None and narrow is not None and narrow.texts != plain.texts:
        abilities = _noted(abilities, "top_k is ignored")
    if plain is not None and varied is not None and varied.texts == plain.texts:
        abilities = _noted(abilities, "repetition_penalty is ignored")
    return abilities


async def _imposed(
    engine: Asks, abilities: Abilities, heard: Question, fields: Mapping[str, Any], max_tokens: int
) -> Abilities:
    """Whether constraints on the answer are obeyed: some servers accept such fields and ignore them."""
    chosen = await _try(engine, heard, {**fields, "structured_outputs": {"choice": list(_UNLIKELY)}})
    structured = chosen is not None and chosen.texts[0] in _UNLIKELY
    if chosen is not None and not structured:
        abilities = _noted(abilities, "structured_outputs is ignored")
    more = chat_api.limit(max(64, max_tokens), abilities.sampling)
    formed = await _try(engine, heard, {**fields, **more, **chat_api.json_form(_SCHEMA)})
    schema = formed is not None and _obeys_schema(formed.texts[0])
    if formed is not None and not schema:
        abilities = _noted(abilities, "response_format is ignored")
    return replace(abilities, structured=structured, schema=schema)


async def _scores(engine: Asks, abilities: Abilities, heard: Question) -> Abilities:
    """Log-probabilities: of the most likely first tokens, and of tokens by id and of a given answer (vLLM)."""
    plain = chat_api.score_fields(abilities.sampling)
    top = await _try(engine, heard, {**plain, "top_logprobs": 20}, refusals=_NO_SCORES)
    likely = top is not None and first_token_scores(top, _first_tokens(top)) is not None
    tokens = await engine.tokenize("zq"), await engine.tokenize("A")
    words = False
    if tokens[0] and tokens[1]:
        numbers = [tokens[0][0], tokens[1][0]]
        by_number = {**plain, "logprob_token_ids": numbers, "return_tokens_as_token_ids": True}
        named = await _try(engine, heard, by_number, refusals=_NO_SCORES)
        in_prompt = {"max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False}
        forced = await _try(engine, heard, in_prompt, answer="zq", refusals=_NO_SCORES)
        words = (
            named is not None
            and named_token_scores(named, numbers) is not None
            and forced is not None
            and forced_score(forced, tokens[0]) is not None
        )
    return replace(abilities, log_probabilities=likely or words, score=likely or words, score_words=words)


async def _try(
    engine: Asks,
    question: Question,
    fields: Mapping[str, Any],
    answer: str | None = None,
    refusals: frozenset[str] = _REFUSALS,
) -> Completion | None:
    """The completion, or None if the server does not support such a request."""
    try:
        sent = await engine.complete(question, fields, seconds=_SECONDS, answer=answer, words=False)
    except FaultError as fault:
        if fault.failure.kind in refusals:
            return None
        raise
    return sent.answer


def _noted(abilities: Abilities, note: str) -> Abilities:
    return replace(abilities, notes=(*abilities.notes, note))


def _question(text: str, clip: Audio | None = None) -> Question:
    return Question((Turn("user", (text,) if clip is None else (clip, text)),))


def _first_tokens(completion: Completion) -> tuple[str, ...]:
    return tuple(token for token, _ in (completion.first_tokens or ())[:2])


def _obeys_schema(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"zq": "qz"})
    except (ValueError, RecursionError):
        return False
