"""Parsing of a server's responses into typed data; anything else is a fault of the kind malformed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from alm_proxies.engines.bounds import Most
from alm_proxies.engines.chat_api import fault_within
from alm_proxies.engines.engine import REFUSAL, Reported
from alm_proxies.engines.faults import FaultError

_LONGEST_MESSAGE = 300
_HIGHEST, _LOWEST = 1e-3, -1e5
"""Valid range of log-probabilities; servers write -9999 for an impossible token."""
_SUM_AT_MOST = 1.02
"""Maximum sum of the probabilities of first tokens; rounding may bring it above 1."""
_LONGEST_WORD = 64
"""Maximum length of a finish reason or a model's name; longer ones are truncated."""
_FILTERED = ("safety", "recitation", "blocklist", "prohibited_content", "spii")
_FINISH = {"error": "failed", "model_length": "length", "max_tokens": "length"} | dict.fromkeys(
    _FILTERED, "content_filter"
)
"""Finish reasons of gateways and other servers (OpenRouter, Mistral, Google) by ours, whatever their case."""

M = TypeVar("M", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Content(_Part):
    """One part of a content that is a list; its text, or the parts of its reasoning."""

    type: str
    text: str | None = None
    refusal: str | None = None
    thinking: str | tuple[_Content, ...] | None = None


class _Message(_Part):
    content: str | tuple[_Content, ...] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return self.content if isinstance(self.content, str) else _text_of(self.content or ())

    @property
    def thought(self) -> str:
        """The reasoning, if it is reported separately from the answer."""
        separate = self.reasoning_content or self.reasoning or ""
        if separate or not isinstance(self.content, tuple):
            return separate
        thoughts = [part.thinking for part in self.content if part.thinking is not None]
        return "".join(thought if isinstance(thought, str) else _text_of(thought) for thought in thoughts)

    @property
    def declined(self) -> str:
        """The model's refusal, if there is one."""
        parts = self.content if isinstance(self.content, tuple) else ()
        return self.refusal or next((part.refusal for part in parts if part.refusal), "")


class _Choice(_Part):
    index: int | None = None
    message: _Message
    finish_reason: str | None = None


class _Body(_Part):
    model: str | None = None
    choices: tuple[_Choice, ...]
    usage: Any = None


class _Score(_Part):
    token: str
    logprob: float


class _FirstToken(_Part):
    top_logprobs: tuple[_Score, ...] = ()


class _LogProbs(_Part):
    content: tuple[_FirstToken, ...] | None = None


class _ScoredChoice(_Choice):
    logprobs: _LogProbs | None = None


class _PlaceScore(_Part):
    logprob: float


class _ScoredBody(_Body):
    choices: tuple[_ScoredChoice, ...]
    prompt_logprobs: tuple[dict[str, _PlaceScore] | None, ...] | None = None


class _Tokens(_Part):
    tokens: tuple[int, ...] | None = None


class _Model(_Part):
    id: str


class _Models(_Part):
    data: tuple[_Model, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One chat completion: texts with their finish and reasoning, requested log-probabilities, and token counts."""

    texts: tuple[str, ...]
    finish: tuple[str, ...]
    reasoning: tuple[str, ...]
    tokens_in: int
    """0 if the server does not report it."""
    tokens_out: int
    implausible: bool
    """Whether the server's counts were impossible and were replaced by the upper bound."""
    model: str
    first_tokens: tuple[tuple[str, float], ...] | None = None
    """Log-probabilities of the most likely first tokens of the first answer, each token once."""
    prompt_tokens: tuple[Mapping[int, float], ...] | None = None
    """Per position of the prompt after the first: log P of its token, and possibly of others, by token id."""


def read_completion(content: bytes, most: Most, *, words: bool = True) -> Completion:
    """Parse a 200 response; a fault if it is not a completion within its bounds or, with `words`, if it is empty.

    The fault has the token counts that the response reports.
    """
    try:
        body = _parse(_ScoredBody if most.scores else _Body, content, "chat completion")
    except FaultError as fault:
        raise fault_within(content) or fault from None
    try:
        return _completion(body, most, words=words)
    except FaultError as fault:
        tokens_in, tokens_out, implausible = _counts(body.usage, most)
        if tokens_in:
            fault.reported = Reported(1, tokens_in, tokens_out, int(implausible))
        raise


def _completion(body: _Body, most: Most, *, words: bool) -> Completion:
    if not 0 < len(body.choices) <= most.answers:
        raise malformed(f"{len(body.choices)} answers instead of {most.answers}")
    choices = _in_order(body.choices)
    messages = [choice.message for choice in choices]
    texts = tuple(message.text for message in messages)
    reasoning = tuple(message.thought for message in messages)
    longest = max(map(len, (*texts, *reasoning)))
    if longest > most.letters:
        raise malformed(f"an answer of {longest:,} letters to a question for {most.tokens_each:,} tokens")
    finish = tuple(_finish(choice.finish_reason or "stop") for choice in choices)
    if all(reason == "failed" for reason in finish):
        raise FaultError("server_error", "the server broke off its answer (finish_reason: error)")
    declined = next((message.declined for message in messages if message.declined), "")
    if declined and not any(texts):
        raise FaultError("refused", declined[:_LONGEST_MESSAGE])
    if "content_filter" in finish and not any(texts):
        raise FaultError("refused", "the server's content filter blocked the answer")
    if words and not any(texts) and not any(reasoning) and "length" not in finish:
        raise FaultError("empty", "200 without any text")
    refusals = tuple("" if message.text else message.declined[:_LONGEST_MESSAGE] for message in messages)
    texts = tuple(refusal or text for refusal, text in zip(refusals, texts, strict=True))
    finish = tuple(REFUSAL if refusal else reason for refusal, reason in zip(refusals, finish, strict=True))
    tokens_in, tokens_out, implausible = _counts(body.usage, most)
    return Completion(
        texts,
        finish,
        reasoning,
        tokens_in,
        tokens_out,
        implausible,
        (body.model or "")[:_LONGEST_WORD],
        *(_scores_of(body) if isinstance(body, _ScoredBody) else ()),
    )


def first_token_scores(completion: Completion, choices: Sequence[str]) -> tuple[float, ...] | None:
    """log P of one-token choices among the most likely first tokens; None if more than 1e-4 of it may be missing."""
    scores = dict(completion.first_tokens or ())
    known = [scores[choice] for choice in choices if choice in scores]
    missing = len(choices) - len(known)
    if not known or (missing and missing * math.exp(min(scores.values()) - max(known)) > 1e-4):
        return None
    return tuple(scores.get(choice, float("-inf")) for choice in choices)


def named_token_scores(completion: Completion, tokens: Sequence[int]) -> tuple[float, ...] | None:
    """log P of tokens requested by id (vLLM's logprob_token_ids); None if one of them is missing."""
    scores = dict(completion.first_tokens or ())
    names = [f"token_id:{token}" for token in tokens]
    return tuple(scores[name] for name in names) if all(name in scores for name in names) else None


def forced_score(completion: Completion, answer: Sequence[int]) -> float | None:
    """log P of an answer and the token after it (the end of the turn) at the end of a scored prompt (vLLM)."""
    positions, size = completion.prompt_tokens or (), len(answer)
    for start in range(len(positions) - size - 1, -1, -1):
        window = positions[start : start + size]
        if all(token in scores for token, scores in zip(answer, window, strict=True)):
            end = next(iter(positions[start + size].values()))
            return sum(scores[token] for token, scores in zip(answer, window, strict=True)) + end
    return None


def read_tokens(content: bytes) -> tuple[int, ...] | None:
    """The tokens in a response of vLLM's /tokenize; None if it is the response of a server that has no such address."""
    return _parse(_Tokens, content, "list of tokens").tokens


def read_models(content: bytes) -> tuple[str, ...]:
    """The names of the models in a response of /models."""
    return tuple(model.id for model in _parse(_Models, content, "list of models").data)


def _parse(model: type[M], content: bytes, name: str) -> M:
    """A response body as its model; anything else is malformed."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise malformed(f"the response is not a {name} ({_reason(error)})") from None


def malformed(message: str) -> FaultError:
    """The fault of a response with unexpected content."""
    return FaultError("malformed", message)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:_LONGEST_MESSAGE]
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _text_of(parts: Sequence[_Content]) -> str:
    return "".join(part.text for part in parts if part.text is not None and part.type in ("text", "output_text"))


def _finish(reason: str) -> str:
    return _FINISH.get(reason.casefold(), reason[:_LONGEST_WORD])


def _in_order(choices: Sequence[_Choice]) -> Sequence[_Choice]:
    """The answers in the order of their index, if all have one: the order decides which seed an answer has."""
    indices = [choice.index for choice in choices if choice.index is not None]
    if sorted(indices) != list(range(len(choices))):
        return choices
    return tuple(sorted(choices, key=lambda choice: choice.index or 0))


def _counts(usage: object, most: Most) -> tuple[int, int, bool]:
    """Tokens in and out, and whether a count was impossible; the upper bound takes its place.

    Some servers count reasoning in the total only, and some reason for longer than they were allowed to.
    """
    if not isinstance(usage, dict):
        return (0, 0, False) if usage is None else (most.tokens_in, most.tokens_out, True)
    tokens_in, wrong_in = _count(usage.get("prompt_tokens"), most.tokens_in)
    tokens_out, wrong_out = _count(usage.get("completion_tokens"), most.tokens_out)
    total, wrong_total = _count(usage.get("total_tokens"), most.tokens_in + most.tokens_out)
    if tokens_in and not (wrong_in or wrong_out):
        wrong_out = wrong_total or total - tokens_in > most.tokens_out
        tokens_out = most.tokens_out if wrong_out else max(tokens_out, total - tokens_in)
    return tokens_in, tokens_out, wrong_in or wrong_out


def _count(value: object, most: int) -> tuple[int, bool]:
    if value is None:
        return 0, False
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value, False
    return most, True


def _scores_of(
    body: _ScoredBody,
) -> tuple[tuple[tuple[str, float], ...] | None, tuple[Mapping[int, float], ...] | None]:
    """Log-probabilities of the first answer's first token, and of the prompt."""
    first = body.choices[0].logprobs
    top = first.content[0].top_logprobs if first is not None and first.content else None
    scores = None if top is None else _by_text([(entry.token, _log_p(entry.logprob)) for entry in top])
    if scores and math.fsum(math.exp(score) for _, score in scores) > _SUM_AT_MOST:
        raise malformed("the log-probabilities of the first token sum to more than 1")
    if body.prompt_logprobs is None:
        return scores, None
    try:
        return scores, tuple(
            {int(token): _log_p(entry.logprob) for token, entry in (place or {}).items()}
            for place in body.prompt_logprobs[1:]
        )
    except ValueError:
        raise malformed("a token of the prompt has no id") from None


def _by_text(entries: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """log P of each text: several tokens may have the same one, such as A with and without the space before it.

    An entry that is listed twice counts once.
    """
    scores: dict[str, list[float]] = {}
    for text, score in dict.fromkeys(entries):
        scores.setdefault(text, []).append(score)
    return tuple((text, _log_sum(several)) for text, several in scores.items())


def _log_sum(scores: Sequence[float]) -> float:
    largest = max(scores)
    return min(0.0, largest + math.log(math.fsum(math.exp(score - largest) for score in scores)))


def _log_p(value: float) -> float:
    if not _LOWEST <= value <= _HIGHEST:  # false for NaN
        raise malformed(f"{value:g} is not a log-probability")
    return min(value, 0.0)
