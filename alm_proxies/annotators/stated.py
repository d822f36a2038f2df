"""JSON replies: a primary label with secondary labels, a distribution or attributes; each is validated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from alm_proxies.annotators.wording import AnswerFormat, Reading, asserted, denied, exact_answer, is_emotion, takes_back
from alm_proxies.taxonomy import to_unit

_SUM_TOLERANCE = 0.05
"""Tolerance for the sum of a stated distribution, relative to 1 (or 100), because models round."""
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"\{\s*[\"}]")
"""The beginning of a JSON object; braces in prose are none."""
_ATTRIBUTES = ("valence", "arousal", "dominance")
_OF_A_LABEL = frozenset({"answer", "emotion", "label", "choice", "option", "letter", "code"})
"""Keys under which an answer with one label may have its code."""
_PERCENT = re.compile(r"^\s*([+-]?\d+(?:\.\d+)?)\s*%?\s*$")


class _WrongError(ValueError):
    """The reason why a JSON reply cannot be read, as one word."""


def read_json(answer: str, asked: AnswerFormat) -> Reading:
    """Read a JSON reply: exactly one object, no duplicate keys, every number finite and in its range."""
    try:
        stated = _the_object(answer)
        if asked.elicits == "distribution":
            return _distribution(stated, answer, asked)
        if asked.elicits == "attributes":
            return _attributes(stated, answer, asked)
        return _primary_secondary(stated, answer, asked)
    except _WrongError as wrong:
        return Reading("unparsable", str(wrong), stated=answer)


def read_coded_object(answer: str, asked: AnswerFormat) -> Reading | None:
    """The reading of an answer with one JSON object that has a code ({"answer": "B"}); None if it has none.

    The label of the code counts if no words of the answer are against it.
    """
    if asked.codes is None or "{" not in answer:
        return None
    try:
        texts = [(key.strip(), value.strip()) for key, value in _the_object(answer).items() if isinstance(value, str)]
    except _WrongError:
        return None
    given = [value for key, value in texts if key.casefold() in _OF_A_LABEL]
    given += [key for key, value in texts if not takes_back(value)]
    labels = {label for code, label in zip(asked.codes, asked.labels, strict=True) if code in given}
    if not labels:
        return None
    named, others = asserted(answer, asked)
    by_name, by_code = denied(answer, asked)
    if len(labels | named) > 1 or others or labels & (by_code | (by_name - named)):
        return Reading("unparsable", "code_against_words", stated=answer)
    return Reading("ok", shares=((labels.pop(), 1.0),), stated=answer)


def schema(asked: AnswerFormat) -> dict[str, Any]:
    """The JSON schema of a reply, for engines with structured outputs."""
    answers = list(asked.codes or asked.labels)
    if asked.elicits == "distribution":
        properties: dict[str, Any] = {answer: {"type": "number", "minimum": 0} for answer in answers}
    elif asked.elicits == "attributes":
        low, high = asked.scale
        properties = {name: {"type": "number", "minimum": low, "maximum": high} for name in _ATTRIBUTES}
    else:
        answer_type = {"type": "string", "enum": answers}
        properties = {"primary": answer_type, "secondary": {"type": "array", "items": answer_type}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _the_object(answer: str) -> dict[str, Any]:
    fences = list(_FENCE.finditer(answer))
    text = answer
    if len(fences) == 1:
        text = fences[0].group(1)
        if _OBJECT.search(answer[: fences[0].start()]) or _OBJECT.search(answer[fences[0].end() :]):
            raise _WrongError("several_objects")
    start = text.find("{")
    if start < 0:
        raise _WrongError("no_json")
    decoder = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    try:
        stated, end = decoder.raw_decode(text, start)
    except _WrongError:
        raise
    except (ValueError, RecursionError):
        raise _WrongError("no_json") from None
    if "{" in text[end:]:
        raise _WrongError("several_objects")
    if not isinstance(stated, dict):
        raise _WrongError("no_json")
    return stated


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    stated = dict(pairs)
    if len(stated) < len(pairs):
        raise _WrongError("key_twice")
    return stated


def _no_constant(name: str) -> float:
    raise _WrongError("not_a_number")


def _number(value: Any) -> float:
    if isinstance(value, str) and (match := _PERCENT.match(value)):
        value = match.group(1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongError("not_a_number")
    try:
        number = float(value)
    except OverflowError:
        raise _WrongError("not_a_number") from None
    if not math.isfinite(number):
        raise _WrongError("not_a_number")
    return number


def _distribution(stated: Mapping[str, Any], answer: str, asked: AnswerFormat) -> Reading:
    if len(stated) == 1 and isinstance(inner := next(iter(stated.values())), dict):
        stated = inner
    shares: dict[str, float] = {}
    outside: list[str] = []
    for key, value in stated.items():
        number = _number(value)
        if number < 0:
            raise _WrongError("negative")
        label = exact_answer(key, asked)
        if label is None:
            outside += [key] if number > 0 else []
        elif label in shares:
            raise _WrongError("label_twice")
        else:
            shares[label] = number
    if outside:
        if all(is_emotion(key) for key in outside):
            return Reading("out_of_vocabulary", "no_label", stated=answer)
        raise _WrongError("no_label")
    total = math.fsum(shares.values())
    scale = 1.0 if total <= 2.0 else 100.0
    if not abs(total / scale - 1.0) <= _SUM_TOLERANCE:
        raise _WrongError("sum")
    kept = tuple((label, shares[label] / total) for label in asked.labels if shares.get(label, 0.0) / total > 0.0)
    return Reading("ok", shares=kept)


def _by_name(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The values by key, case and spaces aside."""
    return _no_key_twice([(key.strip().casefold(), value) for key, value in stated.items()])


def _attributes(stated: Mapping[str, Any], answer: str, asked: AnswerFormat) -> Reading:
    by_name = _by_name(stated)
    if "activation" in by_name and "arousal" not in by_name:
        by_name["arousal"] = by_name["activation"]
    low, high = asked.scale
    values: list[float] = []
    for name in _ATTRIBUTES:
        if name not in by_name:
            raise _WrongError("attribute_missing")
        number = _number(by_name[name])
        if not low <= number <= high:
            raise _WrongError("outside_scale")
        values.append(min(1.0, max(0.0, float(to_unit(number, low, high)))))
    return Reading("ok", attributes=(values[0], values[1], values[2]))


def _primary_secondary(stated: Mapping[str, Any], answer: str, asked: AnswerFormat) -> Reading:
    by_name = _by_name(stated)
    primary = by_name.get("primary")
    secondary = by_name.get("secondary") or []
    if isinstance(secondary, str):
        secondary = [part for part in secondary.split(",") if part.strip()]
    if (
        not isinstance(primary, str)
        or not isinstance(secondary, list)
        or not all(isinstance(x, str) for x in secondary)
    ):
        raise _WrongError("wrong_form")
    label = exact_answer(primary, asked)
    if label is None:
        if is_emotion(primary):
            return Reading("out_of_vocabulary", "no_label", stated=answer)
        raise _WrongError("no_label")
    others = [exact_answer(word, asked) for word in secondary]
    kept = tuple(dict.fromkeys(word for word in others if word is not None and word != label))
    all_read = None not in others
    return Reading("ok", shares=((label, 1.0),), secondary=kept, stated=None if all_read else answer)
