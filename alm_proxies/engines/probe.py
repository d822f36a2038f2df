"""What a server really does, found with about a dozen small questions before it is asked for votes."""

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
_ROOM_TO_THINK = 2048
_NOT_ASKED_FOR = ("zq", "qz")
_SCHEMA = {
    "type": "object",
    "properties": {"zq": {"type": "string", "enum": ["qz"]}},
    "required": ["zq"],
    "additionalProperties": False,
}
_REFUSALS = frozenset({"bad_request", "too_long", "corrupt_audio", "server_error", "unsupported"})
_NO_SCORES = _REFUSALS | {"malformed"}

FIXES = {
    "unreachable": "Start the server, or correct serve.base_urls.",
    "timeout": "Wait until the server is ready, or raise serve.try_seconds.",
    "bad_request": "Check the model's name, and that it takes audio.",
    "no_trust": "Write http:// for a server without TLS; name the file of its own certificate in SSL_CERT_FILE.",
    "reset": "Look into the server's log; for a server with TLS write https:// in serve.base_urls.",
    "malformed": "Check that serve.base_urls leads to a chat-completions interface, as .../v1 does.",
    "gone": "Wait until the server takes requests again, then run the same command.",
}
"""What to do about a server that cannot be tried out, by the kind of fault."""


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
    answer, names = await _first(engine, heard, supposed.sampling)
    if answer is None:
        few = chat_api.sampling_fields(Sampling(max_tokens=8), supposed.sampling)
        if await _try(engine, _question("Name eight random letters."), few) is not None:
            return replace(supposed, audio=False, notes=("answers text, takes no audio",))
        await engine.complete(heard, few, seconds=_SECONDS)
        raise FaultError("server_error", "the server answers one time and not the next")
    found, room = replace(supposed, sampling=names), 8
    if not any(answer.texts) and answer.finish[0] == "length":
        room = _ROOM_TO_THINK
        found = replace(found, notes=(*found.notes, f"thinks first: {room} tokens are left for it to be tried out"))
    fields = chat_api.sampling_fields(Sampling(max_tokens=room), names)
    found = await _seeds(engine, found, heard, fields)
    found = await _ignored(engine, found, heard, fields)
    found = await _forms(engine, found, heard, fields, room)
    return await _scores(engine, found, heard)


async def _first(engine: Asks, heard: Question, surely: Sequence[str]) -> tuple[Completion | None, tuple[str, ...]]:
    """The first answer to a request with audio, and the sampling fields it was given with: as many as are taken."""
    every = tuple(Sampling.__slots__)
    few = tuple(name for name in every if name in surely)
    for names in (every, few):
        for limit in ("max_tokens", "max_completion_tokens"):
            named = tuple(limit if name == "max_tokens" else name for name in names)
            answer = await _try(engine, heard, chat_api.sampling_fields(Sampling(max_tokens=8), named))
            if answer is not None:
                return answer, named
    return None, few


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


async def _ignored(engine: Asks, found: Abilities, heard: Question, fields: Mapping[str, Any]) -> Abilities:
    """Notes which of the fields that only some servers know are taken and have no effect on the likeliest answer."""
    if not {"top_k", "repetition_penalty"} & set(fields):
        return found
    likeliest = {**fields, "temperature": 0.0, "seed": 11}
    plain = await _try(engine, heard, likeliest)
    narrow = await _try(engine, heard, {**fields, "top_k": 1, "seed": 12})
    varied = await _try(engine, heard, {**likeliest, "repetition_penalty": 10.0})
    notes: tuple[str, ...] = ()
    if plain is not None and narrow is not None and narrow.texts != plain.texts:
        notes += ("top_k is ignored",)
    if plain is not None and varied is not None and varied.texts == plain.texts:
        notes += ("repetition_penalty is ignored",)
    return replace(found, notes=found.notes + notes)


async def _forms(engine: Asks, found: Abilities, heard: Question, fields: Mapping[str, Any], room: int) -> Abilities:
    """Whether constraints on the answer are obeyed: some servers accept such fields and ignore them."""
    notes: tuple[str, ...] = ()
    chosen = await _try(engine, heard, {**fields, "structured_outputs": {"choice": list(_NOT_ASKED_FOR)}})
    structured = chosen is not None and chosen.texts[0] in _NOT_ASKED_FOR
    if chosen is not None and not structured:
        notes += ("structured_outputs is ignored",)
    more = chat_api.limit(max(64, room), found.sampling)
    formed = await _try(engine, heard, {**fields, **more, **chat_api.json_form(_SCHEMA)})
    schema = formed is not None and _keeps(formed.texts[0])
    if formed is not None and not schema:
        notes += ("response_format is ignored",)
    return replace(found, structured=structured, schema=schema, notes=found.notes + notes)


async def _scores(engine: Asks, found: Abilities, heard: Question) -> Abilities:
    """Log-probabilities of the likeliest first tokens; of tokens by number and of a given answer (vLLM)."""
    plain = {"temperature": 1.0, "logprobs": True} | chat_api.limit(1, found.sampling)
    top = await _try(engine, heard, {**plain, "top_logprobs": 20}, no=_NO_SCORES)
    likely = top is not None and first_token_scores(top, _first_tokens(top)) is not None
    tokens = await engine.tokenize("zq"), await engine.tokenize("A")
    words = False
    if tokens[0] and tokens[1]:
        numbers = [tokens[0][0], tokens[1][0]]
        by_number = {**plain, "logprob_token_ids": numbers, "return_tokens_as_token_ids": True}
        named = await _try(engine, heard, by_number, no=_NO_SCORES)
        in_prompt = {"max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False}
        forced = await _try(engine, heard, in_prompt, answer="zq", no=_NO_SCORES)
        words = (
            named is not None
            and named_token_scores(named, numbers) is not None
            and forced is not None
            and forced_score(forced, tokens[0]) is not None
        )
    return replace(found, log_probabilities=likely or words, score=likely or words, score_words=words)


async def _try(
    engine: Asks,
    question: Question,
    fields: Mapping[str, Any],
    answer: str | None = None,
    no: frozenset[str] = _REFUSALS,
) -> Completion | None:
    """The completion, or None where the server does not take such a request."""
    try:
        sent = await engine.complete(question, fields, seconds=_SECONDS, answer=answer, words=False)
    except FaultError as fault:
        if fault.failure.kind in no:
            return None
        raise
    return sent.answer


def _question(text: str, clip: Audio | None = None) -> Question:
    return Question((Turn("user", (text,) if clip is None else (clip, text)),))


def _first_tokens(completion: Completion) -> tuple[str, ...]:
    return tuple(token for token, _ in (completion.first_tokens or ())[:2])


def _keeps(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"zq": "qz"})
    except (ValueError, RecursionError):
        return False
