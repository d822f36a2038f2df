"""The chat-completions interface: request bodies, what answers mean, what kind of fault an answer is. No traffic."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alm_proxies.engines.engine import Audio, Failure, Question, Request, Sampling, Trouble
from alm_proxies.engines.traffic import FaultError

_MARK = "\x00audio{}\x00"
_TOO_LONG = (
    "context_length_exceeded",
    "context length",
    "context size",
    "maximum model length",
    "max_model_len",
    "maximum number of tokens",
    "too long",
)
_AUDIO_WORDS = (
    "decode",
    "corrupt",
    "invalid or unsupported",
    "failed to load",
    "could not load",
    "open audio",
    "not of valid",
)
_N = re.compile(r"\bn\b|\bn_cmpl\b|candidate_?count", re.IGNORECASE)
_MOST_SAID = 300
_TOO_MUCH = (502, 503, 529)


@dataclass(frozen=True, slots=True)
class Completion:
    """One 200 answer: texts with their finish and reasoning, the raw choices, and what was counted."""

    texts: tuple[str, ...]
    finish: tuple[str, ...]
    reasoning: tuple[str, ...]
    raw: Mapping[str, Any]
    tokens_in: int
    """0 where the server does not say."""
    tokens_out: int
    model: str


def body(model: str, question: Question, fields: Mapping[str, Any], *, answer: str | None = None) -> bytes:
    """A request body: the conversation (and the beginning of its answer, where given) and further fields."""
    clips: list[Audio] = []
    messages: list[dict[str, Any]] = []
    for turn in question.turns:
        if len(turn.parts) == 1 and isinstance(turn.parts[0], str):
            messages.append({"role": turn.role, "content": turn.parts[0]})
            continue
        parts: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
            else:
                mark = _MARK.format(len(clips))
                parts.append({"type": "input_audio", "input_audio": {"data": mark, "format": "wav"}})
                clips.append(part)
        messages.append({"role": turn.role, "content": parts})
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    made = json.dumps({"model": model, "messages": messages, **fields}).encode("utf-8")
    for number, clip in enumerate(clips):
        mark_bytes = json.dumps(_MARK.format(number)).strip('"').encode("ascii")
        made = made.replace(mark_bytes, clip.base64, 1)
    return made


def sampling_fields(sampling: Sampling, accepted: Sequence[str]) -> dict[str, Any]:
    """The sampling of a request in fields, all of those the server takes, under its names for them."""
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_tokens,
        "max_completion_tokens": sampling.max_tokens,
    }
    return {name: value for name, value in fields.items() if name in accepted}


def limit(tokens: int, accepted: Sequence[str]) -> dict[str, Any]:
    """The field that ends an answer after so many tokens."""
    return {"max_completion_tokens" if "max_completion_tokens" in accepted else "max_tokens": tokens}


def json_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field that asks for JSON of a schema."""
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    }


def form_fields(request: Request, *, structured: bool, schema: bool) -> dict[str, Any]:
    """The fields that hold an answer to its form, where asked for and possible."""
    if request.schema is not None and schema:
        return json_form(request.schema)
    if request.constrained and structured:
        return {"structured_outputs": {"choice": list(request.questions[0].choices)}}
    return {}


def read_completion(content: bytes, *, words: bool = True) -> Completion:
    """What a 200 answer says; a fault if it is no completion or, where words are wanted, says nothing at all."""
    try:
        found = json.loads(content)
        choices = found["choices"]
        messages = [choice["message"] for choice in choices]
        texts = tuple(message.get("content") or "" for message in messages)
        finish = tuple(str(choice.get("finish_reason") or "stop") for choice in choices)
        reasoning = tuple(message.get("reasoning_content") or message.get("reasoning") or "" for message in messages)
        declined = [message["refusal"] for message in messages if message.get("refusal")]
        used = found.get("usage") or {}
        tokens = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FaultError("cut_body", f"the answer is no chat completion ({type(error).__name__})") from None
    if declined and not any(texts):
        raise FaultError("refused", str(declined[0])[:_MOST_SAID])
    if "content_filter" in finish and not any(texts):
        raise FaultError("refused", "the server's content filter stopped the answer")
    if words and not any(texts) and not any(reasoning) and "length" not in finish:
        raise FaultError("empty", "200 without any text")
    return Completion(texts, finish, reasoning, found, *tokens, str(found.get("model") or ""))


def fault_of(status: int, headers: Mapping[str, str], content: bytes) -> FaultError:
    """The kind of fault an answer other than 200 is."""
    message, code, wait = _said(content)
    message = f"HTTP {status}" + (f": {message[:_MOST_SAID]}" if message else "")
    again = wait if "retry-after" not in headers else _retry_after(headers["retry-after"])
    if status in (401, 403) or code == "API_KEY_INVALID":
        return FaultError("unauthorised", f"HTTP {status}: the server does not accept the key")
    if status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
        return FaultError("unauthorised", "HTTP 429: the account has no credit left")
    if status == 429:
        return FaultError("rate_limited", message, again)
    if status in (408, 504):
        return FaultError("timeout", message, again)
    if status >= 500:
        return FaultError("server_error", message, again, busy=status in _TOO_MUCH)
    if code == "content_filter" or code == "content_policy_violation":
        return FaultError("refused", message, paid=False)
    lower = f"{code} {message}".lower()
    kind: Trouble = "bad_request"
    if status == 413 or any(word in lower for word in _TOO_LONG):
        kind = "too_long"
    elif status == 415 or ("audio" in lower and any(word in lower for word in _AUDIO_WORDS)):
        kind = "corrupt_audio"
    return FaultError(kind, message)


def is_about_n(failure: Failure) -> bool:
    """Whether a request was refused for the number of answers it wants: "Invalid 'n'", n_cmpl, candidateCount."""
    return failure.kind == "bad_request" and _N.search(failure.message) is not None


def first_token_scores(raw: Mapping[str, Any], choices: Sequence[str]) -> tuple[float, ...] | None:
    """log P of one-token choices among the likeliest first tokens; None if more than 1e-4 of them is missing."""
    try:
        top = raw["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {str(entry["token"]): float(entry["logprob"]) for entry in top}
    except (KeyError, IndexError, TypeError):
        return None
    known = [found[choice] for choice in choices if choice in found]
    missing = len(choices) - len(known)
    if not known or (missing and missing * math.exp(min(found.values()) - max(known)) > 1e-4):
        return None
    return tuple(found.get(choice, float("-inf")) for choice in choices)


def named_token_scores(raw: Mapping[str, Any], tokens: Sequence[int]) -> tuple[float, ...] | None:
    """log P of tokens asked for by number (vLLM's logprob_token_ids), or None where one is missing."""
    try:
        top = raw["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {str(entry["token"]): float(entry["logprob"]) for entry in top}
    except (KeyError, IndexError, TypeError):
        return None
    names = [f"token_id:{token}" for token in tokens]
    return tuple(found[name] for name in names) if all(name in found for name in names) else None


def forced_score(raw: Mapping[str, Any], answer: Sequence[int]) -> float | None:
    """log P of an answer and the token after it (the end of the turn) at the end of a scored prompt (vLLM)."""
    try:
        places = [
            {int(token): float(entry["logprob"]) for token, entry in place.items()}
            for place in raw["prompt_logprobs"][1:]
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    size = len(answer)
    for start in range(len(places) - size - 1, -1, -1):
        window = places[start : start + size]
        if all(token in place for token, place in zip(answer, window, strict=True)):
            end = places[start + size]
            return sum(place[token] for token, place in zip(answer, window, strict=True)) + next(iter(end.values()))
    return None


def _said(content: bytes) -> tuple[str, str, float | None]:
    """The message, the code and the seconds to wait of an error body, in any of the shapes servers use.

    Google wraps it in a list, gives the HTTP status as its code, and keeps the reason and the wait among the details.
    """
    try:
        found = json.loads(content)
    except ValueError:
        return content[:_MOST_SAID].decode("utf-8", "replace").strip(), "", None
    found = found[0] if isinstance(found, list) and found else found
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return str(error), "", None
    told = error.get("details")
    details = [detail for detail in told if isinstance(detail, dict)] if isinstance(told, list) else []
    reasons = [str(detail["reason"]) for detail in details if detail.get("reason")]
    code = error.get("code") if isinstance(error.get("code"), str) else next(iter(reasons), error.get("status"))
    waits = [_retry_after(str(detail["retryDelay"]).removesuffix("s")) for detail in details if "retryDelay" in detail]
    return str(error.get("message") or error.get("detail") or ""), str(code or ""), next(iter(waits), None)


def _retry_after(value: str) -> float | None:
    """Seconds from a Retry-After header: a number, or a date; None where it is neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
