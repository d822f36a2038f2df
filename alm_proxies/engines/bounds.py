"""Upper bounds of a question or request: bytes of the answer, tokens, seconds of audio.

A server's report is accepted only within these bounds, and a budget reserves them before anything is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alm_proxies.engines.engine import Abilities, Question, Request, consecutive_runs

_TOKENS_OF_A_TEMPLATE = 2048
"""Prompt tokens that a chat template, and a model that pads short clips, may add."""
_TOKENS_A_SECOND = 100
"""Maximum prompt tokens per second of audio (32 for most models, 75 for the densest codecs)."""
_LETTERS_OF_A_TOKEN = 64
_LETTERS_AT_LEAST = 4096
_BYTES_OF_A_LETTER = 6
"""Bytes per character if JSON escapes every letter (\\uXXXX)."""
_BYTES_OF_A_SCORE = 400
"""Bytes of one token with its log-probability in JSON."""
_BYTES_AROUND = 64 * 1024
BYTES_OF_AN_ERROR = 64 * 1024
"""Bytes that are read of an error response."""


@dataclass(frozen=True, slots=True)
class Most:
    """Upper bounds of one HTTP response to a question, and of its charge."""

    answers: int = 1
    tokens_each: int = 1
    tokens_in: int = 0
    scores: int = 0
    """Tokens whose log-probabilities are reported."""

    @property
    def tokens_out(self) -> int:
        """Total tokens of all answers."""
        return self.answers * self.tokens_each

    @property
    def letters(self) -> int:
        """Characters of one answer."""
        return max(_LETTERS_AT_LEAST, _LETTERS_OF_A_TOKEN * self.tokens_each)

    @property
    def bytes(self) -> int:
        """Bytes of the whole body, decompressed."""
        texts = 2 * self.answers * self.letters * _BYTES_OF_A_LETTER
        return _BYTES_AROUND + texts + _BYTES_OF_A_SCORE * self.scores


def most_of_question(question: Question, fields: Mapping[str, Any]) -> Most:
    """The bounds of one chat completion, from the question and the fields it is sent with."""
    answers = int(fields.get("n", 1))
    tokens_each = int(fields.get("max_tokens") or fields.get("max_completion_tokens") or 1)
    tokens_in = tokens_of_prompt(question)
    scores = (1 + int(fields.get("top_logprobs") or 0)) * answers * tokens_each if fields.get("logprobs") else 0
    scores += len(fields.get("logprob_token_ids", ())) * answers
    scores += 2 * tokens_in if fields.get("prompt_logprobs") is not None else 0
    return Most(answers, tokens_each, tokens_in, scores)


def tokens_of_prompt(question: Question) -> int:
    """Upper bound of a question's prompt tokens; a byte of text is at most one token."""
    return _TOKENS_OF_A_TEMPLATE + question.text_bytes + math.ceil(_TOKENS_A_SECOND * question.seconds)


@dataclass(frozen=True, slots=True)
class Booking:
    """Upper bound of the charge of a request, including all its tries."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    audio_seconds: float = 0.0


def booking_of(request: Request, can: Abilities) -> Booking:
    """The upper bound to reserve before a request is sent: all its HTTP requests with all allowed tries.

    An engine in this process asks once. For scored words, one request is sent per word.
    """
    tries = max(1, can.tries)
    sends = _sends(request, can)
    each = 1 if request.elicit == "score" else request.sampling.max_tokens
    return Booking(
        requests=tries * sum(count for _, count, _ in sends),
        tokens_in=tries * sum(count * tokens_of_prompt(question) for question, count, _ in sends),
        tokens_out=tries * sum(answers * each for *_, answers in sends),
        audio_seconds=tries * sum(count * question.seconds for question, count, _ in sends),
    )


def _sends(request: Request, can: Abilities) -> list[tuple[Question, int, int]]:
    """The HTTP requests of a request: the question, how many of them, and how many answers they have in all."""
    if request.elicit == "score":
        in_process = can.engine != "openai"
        words = [1 if in_process or all(len(c) == 1 for c in q.choices) else len(q.choices) for q in request.questions]
        return [(question, count, count) for question, count in zip(request.questions, words, strict=True)]
    runs = len(consecutive_runs(request.seeds)) if can.seeds == "each" else 1
    return [(request.questions[0], runs if can.several else len(request.seeds), len(request.seeds))]


def runs_of(seeds: tuple[int, ...], can: Abilities, most: int | None, *, alike: bool) -> list[tuple[int, int]]:
    """Which (seed, n) requests serve these draws, none with more than `most` of them."""
    if alike:
        return [(seeds[0], 1)]
    if not can.several:
        return [(seed, 1) for seed in seeds]
    runs = consecutive_runs(seeds) if can.seeds == "each" else [(seeds[0], len(seeds))]
    if most is None:
        return runs
    return [(seed + start, min(most, count - start)) for seed, count in runs for start in range(0, count, most)]
