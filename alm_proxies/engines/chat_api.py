"""The chat-completions API: request bodies, and the fault of a response other than 200. No network traffic."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from alm_proxies.engines.engine import Audio, Failure, Question, Request, Sampling, Trouble
from alm_proxies.engines.faults import FaultError

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
_LONGEST_MESSAGE = 300
_OVERLOADED = (502, 503, 529)


def body(model: str, question: Question, fields: Mapping[str, Any], *, answer: str | None = None) -> bytes:
    """A request body: the conversation, the given beginning of the answer, and further fields."""
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
    body = json.dumps({"model": model, "messages": messages, **fields}).encode("utf-8")
    for number, clip in enumerate(clips):
        mark_bytes = json.dumps(_MARK.format(number)).strip('"').encode("ascii")
        body = body.replace(mark_bytes, clip.base64, 1)
    return body


def sampling_fields(sampling: Sampling, accepted: Sequence[str]) -> dict[str, Any]:
    """The sampling settings as body fields, limited to those the server accepts, under its names."""
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
    """The field that limits the number of tokens of an answer."""
    return {"max_completion_tokens" if "max_completion_tokens" in accepted else "max_tokens": tokens}


def score_fields(accepted: Sequence[str]) -> dict[str, Any]:
    """The fields of a request for log-probabilities of the first token, on which no sampling default may act."""
    return {"logprobs": True} | sampling_fields(Sampling(max_tokens=1), accepted) | limit(1, accepted)


def json_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field that requests JSON with a schema."""
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    }


def form_fields(request: Request, *, structured: bool, schema: bool) -> dict[str, Any]:
    """The fields for structured outputs, if requested and supported."""
    if request.schema is not None and schema:
        return json_form(request.schema)
    if request.constrained and structured:
        return {"structured_outputs": {"choice": list(request.questions[0].choices)}}
    return {}


NO_CREDIT = "the account has no credit left"
"""The end of the message of a fault that another key or another file does not solve."""
_WITHOUT_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def fault_of(status: int, headers: Mapping[str, str], content: bytes) -> FaultError:
    """The fault of a response other than 200."""
    message, code, wait = _message_of(content)
    message = f"HTTP {status}" + (f": {message[:_LONGEST_MESSAGE]}" if message else "")
    again = wait if "retry-after" not in headers else _retry_after(headers["retry-after"])
    if 300 <= status < 400:
        return FaultError(
            "bad_request", f"HTTP {status}: the server redirects to another address, which is not followed"
        )
    if status < 300:
        return FaultError("malformed", f"HTTP {status} instead of 200")
    if status == 401 or code == "API_KEY_INVALID":
        return FaultError("unauthorised", f"HTTP {status}: the server does not accept the key")
    if status == 402 or (status in (400, 403, 429) and code in _WITHOUT_CREDIT):
        return FaultError("unauthorised", f"HTTP {status}: {NO_CREDIT}")
    if status == 429:
        return FaultError("rate_limited", message, again)
    if status in (409, 425):  # a conflict that passes, such as a lock that timed out
        return FaultError("server_error", message, again, paid=False)
    if status in (408, 504):
        return FaultError("timeout", message, again)
    if status >= 500:
        return FaultError("server_error", message, again, busy=status in _OVERLOADED)
    if code == "content_filter" or code == "content_policy_violation" or (status == 403 and _is_flagged(content)):
        return FaultError("refused", message, paid=False)
    if status == 403:
        return FaultError("forbidden", message)
    lower = f"{code} {message}".lower()
    kind: Trouble = "bad_request"
    if status == 413 or any(word in lower for word in _TOO_LONG):
        kind = "too_long"
    elif status == 415 or ("audio" in lower and any(word in lower for word in _AUDIO_WORDS)):
        kind = "corrupt_audio"
    return FaultError(kind, message)


def fault_within(content: bytes) -> FaultError | None:
    """The fault of a 200 response that has an error in place of an answer, as gateways send it; None if it has none.

    It may be charged for, as any 200.
    """
    try:
        payload = from_json(content)
    except ValueError:
        return None
    error = payload.get("error") if isinstance(payload, dict) else None
    if not isinstance(error, dict) or "choices" in payload:
        return None
    code, (message, _, _) = error.get("code"), _message_of(content)
    if isinstance(code, int) and 400 <= code < 600:
        fault = fault_of(code, {}, content)
        fault.paid = True
        return fault
    return FaultError("malformed", f"HTTP 200 with an error: {message[:_LONGEST_MESSAGE]}")


def is_about_n(failure: Failure) -> bool:
    """Whether a request was refused because of n, the number of answers: "Invalid 'n'", n_cmpl, candidateCount."""
    return failure.kind == "bad_request" and _N.search(failure.message) is not None


def _message_of(content: bytes) -> tuple[str, str, float | None]:
    """Message, code and seconds to wait from an error body in any of the common formats.

    Google sends a list, with the HTTP status as the code, and the reason and the wait among the details.
    """
    try:
        payload = from_json(content)
    except ValueError:
        return content[:_LONGEST_MESSAGE].decode("utf-8", "replace").strip(), "", None
    payload = payload[0] if isinstance(payload, list) and payload else payload
    error = payload.get("error", payload) if isinstance(payload, dict) else payload
    if not isinstance(error, dict):
        return str(error), "", None
    listed = error.get("details")
    details = [detail for detail in listed if isinstance(detail, dict)] if isinstance(listed, list) else []
    reasons = [str(detail["reason"]) for detail in details if isinstance(detail.get("reason"), str)]
    code = error.get("code") if isinstance(error.get("code"), str) else next(iter(reasons), error.get("status"))
    waits = [_retry_after(str(detail["retryDelay"]).removesuffix("s")) for detail in details if "retryDelay" in detail]
    return str(error.get("message") or error.get("detail") or ""), str(code or ""), next(iter(waits), None)


def _is_flagged(content: bytes) -> bool:
    """Whether an error body says that moderation has flagged the input, as OpenRouter does."""
    try:
        metadata = from_json(content)["error"]["metadata"]
    except (ValueError, TypeError, LookupError):
        return False
    return isinstance(metadata, dict) and "flagged_input" in metadata


def _retry_after(value: str) -> float | None:
    """Seconds from a Retry-After header, which is a number or a date; None if it is neither."""
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return None if math.isnan(seconds) else max(0.0, seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
