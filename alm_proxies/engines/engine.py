"""The interface of engines, which serve a model: Request, Reply and Abilities."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.plain_wav import samples_of_pcm
from alm_proxies.errors import AlmProxiesError

Elicit = Literal["sample", "score", "state"]
EngineName = str
"""vllm, openai, transformers, scripted, or the name of a plug-in."""

Trouble = Literal[
    "refused",  # the model or its filter declined
    "rate_limited",  # 429
    "server_error",  # 5xx, or the engine broke on this request
    "code_error",  # a function or plug-in that answers in this process raised an error, or gave no answer
    "timeout",  # no answer in time
    "cut_body",  # the response was cut off
    "malformed",  # the response is complete but not a valid completion
    "reset",  # the connection was closed
    "unreachable",  # no server listens
    "empty",  # 200 without any text
    "bad_request",  # 400, 404, 422: a retry would not help
    "unauthorised",  # 401, 402, or 403 again and again
    "forbidden",  # 403: the key or this request is refused
    "no_trust",  # no TLS connection, for example an untrusted certificate
    "too_long",  # audio or prompt beyond the model's window
    "corrupt_audio",  # the engine could not decode the audio
    "unsupported",  # the engine does not support the request
    "no_scores",  # the log-probabilities of this answer do not include every choice
    "engine_died",  # the engine process has ended
    "gone",  # every server was unreachable for too long
    "called_off",  # cancelled, because the run stops
]
ASKED_AGAIN: frozenset[str] = frozenset(
    {"rate_limited", "server_error", "timeout", "cut_body", "malformed", "reset", "unreachable", "empty"}
)
ENDS_THE_JOB: frozenset[str] = frozenset({"unauthorised", "no_trust", "unsupported", "engine_died", "gone"})
REFUSAL = "refusal"
"""The finish of a text that the server marks as a refusal."""
LEFT_OPEN: frozenset[str] = frozenset({"gone", "called_off"})
"""Kinds for requests that were not sent: the draw stays missing, and another run requests it."""
MAY_BE_PAID: frozenset[str] = frozenset(
    {
        "server_error",
        "code_error",
        "timeout",
        "cut_body",
        "malformed",
        "reset",
        "empty",
        "refused",
        "unsupported",
        "no_scores",
    }
)
"""The request had arrived when it went wrong, so that the provider may charge for it. What was turned away (429,
400, 401 and the like) and what never arrived costs nothing."""

SEED_LIMIT = 2**31
"""Seeds are below this: every server takes them."""


@dataclass(frozen=True, eq=False)
class Audio:
    """One clip, mono at `rate` Hz; its samples and its encoded form are made once, when they are needed."""

    sound: NDArray[np.float32] | bytes
    """Samples from -1 to 1, or 16-bit PCM where the recording holds it: servers get it as it is."""
    rate: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return (len(self.sound) // 2 if isinstance(self.sound, bytes) else len(self.sound)) / self.rate

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """The samples, float32 from -1 to 1."""
        return samples_of_pcm(self.sound) if isinstance(self.sound, bytes) else self.sound

    @property
    def wav(self) -> bytes:
        """A 16-bit WAV file of the clip."""
        if isinstance(self.sound, bytes):
            data = self.sound
        else:
            scaled = self.sound * np.float32(32768.0)
            np.clip(np.rint(scaled, out=scaled), -32768, 32767, out=scaled)
            data = scaled.astype("<i2").tobytes()
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, self.rate, 2 * self.rate, 2, 16)
        riff = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE")
        return b"".join((riff, form, struct.pack("<4sI", b"data", len(data)), data))

    @cached_property
    def base64(self) -> bytes:
        """The WAV file in base64, as servers expect it."""
        return base64.b64encode(self.wav)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn of a conversation: text and audio parts in order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Audio, ...]


@dataclass(frozen=True, eq=False)
class Question:
    """A conversation to be answered; choices[k] is the answer for label k (a code or a word)."""

    turns: tuple[Turn, ...]
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """The label of each choice; empty if it is not known."""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """All parts that are text."""
        return tuple(part for turn in self.turns for part in turn.parts if isinstance(part, str))

    @cached_property
    def audio(self) -> tuple[Audio, ...]:
        """All clips, in order."""
        return tuple(part for turn in self.turns for part in turn.parts if isinstance(part, Audio))

    @cached_property
    def seconds(self) -> float:
        """Seconds of audio."""
        return sum(clip.seconds for clip in self.audio)

    @cached_property
    def letters(self) -> int:
        """Letters of text."""
        return sum(map(len, self.texts))

    @cached_property
    def text_bytes(self) -> int:
        """Bytes of text."""
        return sum(len(text.encode("utf-8", "replace")) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings; every field is sent, so that a model's own defaults never apply (top_k -1 = all)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_tokens: int = 16


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One request to an engine.

    sample, state: one question, one text for every seed. With `constrained`, answers can only be one of its choices
    (sample) where abilities.structured says so; likewise `schema` (state) and abilities.schema.
    score: one question per label order, beginning alike up to and with the audio (which is then encoded once); for
    each the log-probability of every choice. One-token choices are scored as they stand; if any choice has several
    tokens, every choice is scored together with the end of the turn, so that "sad" is not the start of "saddened".
    """

    key: str
    utterance_id: str
    elicit: Elicit
    questions: tuple[Question, ...]
    seeds: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    constrained: bool = False
    schema: Mapping[str, Any] | None = None
    seconds: float = 600.0
    """Timeout in seconds over all tries, without the time in which no server has room."""

    def __post_init__(self) -> None:
        if self.elicit == "score":
            if not self.questions or any(len(question.choices) < 2 for question in self.questions):
                raise ValueError(f"{self.key}: score needs questions with two or more choices")
        elif len(self.questions) != 1 or not self.seeds:
            raise ValueError(f"{self.key}: {self.elicit} needs one question and a seed for every draw")
        if not all(0 <= seed < SEED_LIMIT for seed in self.seeds):
            raise ValueError(f"{self.key}: seeds must be from 0 to {SEED_LIMIT - 1}")

    @property
    def audio(self) -> tuple[Audio, ...]:
        """The clips of the first question, in order."""
        return self.questions[0].audio


def draw_seeds(cell_seed: int, first: int, count: int) -> tuple[int, ...]:
    """Consecutive seeds for draws first .. first+count-1 of a cell, which one n=count request can serve.

    `cell_seed` is seeds.seed_of(seed, utterance, annotator, cell): a draw's seed depends on nothing but its own place.
    """
    start = cell_seed % (SEED_LIMIT - 2**20)
    return tuple(range(start + first, start + first + count))


def consecutive_runs(seeds: tuple[int, ...]) -> list[tuple[int, int]]:
    """Seeds as (start, length) runs: 7, 8, 9, 20 is [(7, 3), (20, 1)]."""
    runs: list[tuple[int, int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((seed, 1))
    return runs


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a request: its kind and the engine's message (never a key, never audio)."""

    kind: Trouble
    message: str
    error: AlmProxiesError | None = None
    """The error of a function or plug-in, caused by what it raised."""


class Reported(NamedTuple):
    """The tokens that a server has reported for tries without an answer, and the number of these tries."""

    tries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    implausible: int = 0
    """Of the tries, those with an impossible token count: the most that can be is in its place."""

    def and_(self, other: Reported) -> Reported:
        """The sum."""
        return Reported(*(mine + more for mine, more in zip(self, other, strict=True)))


NOT_REPORTED = Reported()


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: `texts` in the order of the seeds (sample, state) or `log_probabilities` per question (score)."""

    key: str
    texts: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    """Per text: stop, length (cut by max_tokens), refusal (the text is one), failed (this draw alone has no answer), or
    the server's own word."""
    reasoning: tuple[str, ...] = ()
    """Per text: reasoning that the server reported separately from the answer, or empty."""
    log_probabilities: tuple[tuple[float, ...], ...] = ()
    """Per question, per choice: log P(choice | prompt), natural, not normalised over the choices."""
    failure: Failure | None = None
    failures: tuple[Failure | None, ...] = ()
    """Per text: the failure of this draw; empty if all draws have an answer."""
    tokens_in: int = 0
    tokens_out: int = 0
    audio_seconds: float = 0.0
    """Seconds of audio that may be charged for, counted once per paid try."""
    latency: float = 0.0
    tries: int = 1
    paid_tries: int = 1
    """Tries that may be charged for: those with an answer, and failed ones whose kind is in MAY_BE_PAID."""
    counted: int = 1
    """Of the paid tries, those whose tokens the engine has reported; the tokens of the others have to be estimated."""
    implausible: int = 0
    """Of the counted tries, those with an impossible token count: the most that can be is in its place."""
    without_answer: Reported = NOT_REPORTED
    """What the engine has reported of tries without an answer, which are not among the counted ones."""
    seeds_honoured: bool = False
    model: str = ""
    """The model name in the response, for provenance."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of an engine, found by probing if possible."""

    engine: EngineName
    model: str
    local: bool
    """Audio does not leave this machine (in process, or every address is loopback)."""
    audio: bool = True
    answers: bool = True
    """Whether the model answers in text; False = a head of its own gives its labels' probabilities, which are scored.
    """
    several: bool = True
    """n > 1 answers from one request."""
    seeds: Literal["each", "request", "none"] = "none"
    """each: every draw has its own seed; request: only draws asked for alone are reproducible."""
    log_probabilities: bool = False
    score: bool = False
    score_words: bool = False
    """Whether score supports choices of several tokens."""
    structured: bool = False
    """Whether `constrained` was tested and is honoured."""
    schema: bool = False
    """Whether `schema` was tested and is honoured."""
    sampling: tuple[str, ...] = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")
    """Sampling fields that are sent and accepted."""
    max_audio_seconds: float | None = None
    rate: int = 16_000
    """Sample rate of clips in Hz."""
    in_flight: int = 64
    """Useful number of concurrent requests."""
    tries: int = 1
    """Maximum number of tries per request."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        def yes(message: bool) -> str:
            return "yes" if message else "no"

        longest = f"{self.max_audio_seconds:g} s" if self.max_audio_seconds is not None else "not known"
        facts = [
            f"{self.engine} {self.model}",
            f"audio {yes(self.audio)} (longest {longest})",
            f"n {yes(self.several)}",
            f"seeds {self.seeds}",
            f"score {'words and codes' if self.score_words else 'codes' if self.score else 'no'}",
            f"codes imposed {yes(self.structured)}",
            f"JSON schema {yes(self.schema)}",
            f"sampling {' '.join(self.sampling)}",
            "stays on this machine" if self.local else "leaves this machine",
            *self.notes,
        ]
        return "; ".join(facts)


class Engine(Protocol):
    """An engine, which serves a model. `ask` may be called concurrently; batching and retries happen inside."""

    @property
    def abilities(self) -> Abilities:
        """The engine's abilities."""
        ...

    async def ask(self, request: Request) -> Reply:
        """Answer a request; errors are returned in reply.failure, not raised."""
        ...

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """Number of tokens of each text as an answer, or None if the engine does not report it."""
        ...

    async def close(self) -> None:
        """Release connections, processes and memory."""
        ...
