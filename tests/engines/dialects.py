"""The responses of public services, from their documentation and users' reports, because tests cannot reach them.

What each refuses and in which words, and what it leaves out of an answer; nobody here has ever spoken to the real ones.
    gpt-audio   OpenAI's chat completions with an audio model: unknown fields, JSON schemas and requests without any
                audio are refused (400), formats are wav and mp3, n goes up to 128, seeds are best effort
    gpt-limits  the same, refusing max_tokens in favour of max_completion_tokens, as its reasoning models do
    gemini      generativelanguage.googleapis.com/v1beta/openai: unknown fields, seed among them, are refused; errors
                come in a list with status and details; a wrong key is a 400; the wait of a 429 is a detail, no header;
                n goes up to 8
    gemini-2.5  the same, thinking first: within a short limit the message has no content at all
    vertex      Google's aiplatform endpoint: what it does not know is ignored, without a word
"""

from __future__ import annotations

import json
from typing import Any

KEY = "sesame"
SHARED = {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "response_format"}
KNOWN = {
    "gpt-audio": SHARED | {"seed", "logprobs", "top_logprobs", "modalities", "audio"},
    "gpt-limits": SHARED | {"seed", "logprobs", "top_logprobs", "modalities", "audio"},
    "gemini": SHARED,
    "gemini-2.5": SHARED,
}
DIALECTS = (*KNOWN, "vertex")
THOUGHT = 300
"""Reasoning tokens of gemini-2.5 before its first word."""

Answer = tuple[int, Any, str]
"""Status, body, further header lines."""


def openai_error(status: int, message: str, code: str | None = None, param: str | None = None) -> Answer:
    kind = "tokens" if status == 429 else "invalid_request_error"
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, ""


def google_error(status: int, name: str, message: str, *details: dict[str, Any]) -> Answer:
    return status, [{"error": {"code": status, "message": message, "status": name, "details": list(details)}}], ""


def refusal(asked: dict[str, Any], parts: list[dict[str, Any]], headers: dict[str, str]) -> Answer | None:
    """The response of the service to a request that it refuses."""
    google = not asked["model"].startswith("gpt")
    unknown = sorted(set(asked) - KNOWN.get(asked["model"], set(asked)))
    if headers.get("authorization") != f"Bearer {KEY}":
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        if asked["model"] == "vertex":
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if google:
            return google_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info)
        return openai_error(401, "Incorrect API key provided: wrong.", "invalid_api_key")
    if google:
        messages = [f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.' for name in unknown]
        violations = {"fieldViolations": [{"description": line} for line in messages]}
        if unknown:
            return google_error(400, "INVALID_ARGUMENT", "\n".join(messages), violations)
        if asked.get("n", 1) > 8:
            message = (
                f"Unable to submit request because it has a candidateCount value of {asked['n']} but the supported"
            )
            return google_error(400, "INVALID_ARGUMENT", f"{message} range is from 1 (inclusive) to 9 (exclusive).")
        return None
    if unknown:
        return openai_error(400, f"Unrecognized request argument supplied: {unknown[0]}")
    if asked["model"] == "gpt-limits" and "max_tokens" in asked:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
        return openai_error(400, f"{message} instead.", "unsupported_parameter", "max_tokens")
    if asked.get("n", 1) > 128:
        message = "Invalid 'n': integer above maximum value. Expected a value <= 128."
        return openai_error(400, message, "integer_above_max_value", "n")
    sounds = [part["input_audio"] for part in parts if part["type"] == "input_audio"]
    if not sounds and "audio" not in asked.get("modalities", ()):
        message = "This model requires that either input content or output modality contain audio."
        return openai_error(400, message, "invalid_value", "model")
    if any(sound["format"] not in ("wav", "mp3") for sound in sounds):
        return openai_error(400, "Invalid value. Supported values are: 'wav' and 'mp3'.", "invalid_value")
    if asked.get("response_format", {}).get("type") == "json_schema":
        return openai_error(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported.")
    return None


def too_many(model: str) -> Answer:
    """The 429 of a service, with a wait of 0.02 s."""
    if model.startswith("gpt"):
        status, body, _ = openai_error(429, "Rate limit reached. Please try again in 20ms.", "rate_limit_exceeded")
        limits = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 20ms\r\n"
        return status, body, limits + "retry-after: 0.02\r\n"
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}
    return google_error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", wait)


def shaped(asked: dict[str, Any], completion: dict[str, Any]) -> dict[str, Any]:
    """A completion without the fields that the service leaves out."""
    if asked["model"].startswith("gpt"):
        return completion
    for choice in completion["choices"]:
        choice.pop("logprobs")
        if asked["model"] == "gemini-2.5" and asked.get("max_tokens", 10_000) <= THOUGHT:
            choice |= {"message": {"role": "assistant"}, "finish_reason": "length"}
    return completion


def text_for(asked: dict[str, Any], labels: list[str], child: int, chance: float) -> str:
    """JSON if requested, otherwise a label from the question or words; they depend on the seed if it has an effect."""
    if "response_format" in asked:
        properties = asked["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps({name: form.get("enum", [0])[0] for name, form in properties.items()})
    seeded = "seed" in asked and child == 0
    if asked.get("temperature") == 0:
        chance, seeded = 0.0, False
    if labels:
        return labels[asked["seed"] % len(labels) if seeded else int(chance * len(labels))]
    return f"seed {asked['seed']}" if seeded else f"text {chance}"
