"""Replies in JSON: a primary label with secondaries, a stated distribution, stated attributes; each validated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from alm_proxies.annotators.wording import Asked, Reading, exact_answer, is_emotion
from alm_proxies.taxonomy import to_unit

_SUM_TOLERANCE = 0.05
"""How far a stated distribution may be from 1 (or from 100) in all, rounding being what it is."""
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL | re.IGNORECASE)
_ATTRIBUTES = ("valence", "arousal", "dominance")
_PERCENT = re.compile(r"^\s*([+-]?\d+(?:\.\d+)?)\s*%?\s*$")


class _WrongError(ValueError):
    """Why a JSON reply cannot be read, in a word."""


def read_json(answer: str, asked: Asked) -> Reading:
    """What a JSON reply says: exactly one object, no key twice, every number finite and in its range."""
    try:
        found = _the_object(answer)
        if asked.elicits == "distribution":
            return _distribution(found, answer, asked)
        if asked.elicits == "attributes":
            return _attributes(found, answer, asked)
        return _primary_secondary(found, answer, asked)
    except _WrongError as wrong:
        return Reading("unparsable", str(wrong), stated=answer)


def schema(asked: Asked) -> dict[str, Any]:
    """The JSON schema of a wanted reply, for engines that can be held to one."""
    answers = list(asked.codes or asked.labels)
    if asked.elicits == "distribution":
        properties: dict[str, Any] = {answer: {"type": "number", "minimum": 0} for answer in answers}
    elif asked.elicits == "attributes":
        low, high = asked.scale
        properties = {name: {"type": "number", "minimum": low, "maximum": high} for name in _ATTRIBUTES}
    else:
        one = {"type": "string", "enum": answers}
        properties = {"primary": one, "secondary": {"type": "array", "items": one}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _the_object(answer: str) -> dict[str, Any]:
    fenced = _FENCE.findall(answer)
    text = fenced[0] if len(fenced) == 1 else answer
    start = text.find("{")
    if start < 0:
        raise _WrongError("no_json")
    decoder = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    try:
        found, end = decoder.raw_decode(text, start)
    except _WrongError:
        raise
    except (ValueError, RecursionError):
        raise _WrongError("no_json") from None
    if "{" in text[end:]:
        raise _WrongError("several_objects")
    if not isinstance(found, dict):
        raise _WrongError("no_json")
    return found


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _WrongError("key_twice")
    return made


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


def _distribution(found: Mapping[str, Any], answer: str, asked: Asked) -> Reading:
    if len(found) == 1 and isinstance(inner := next(iter(found.values())), dict):
        found = inner
    shares: dict[str, float] = {}
    outside: list[str] = []
    for key, value in found.items():
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
    whole = 1.0 if total <= 2.0 else 100.0
    if not abs(total / whole - 1.0) <= _SUM_TOLERANCE:
        raise _WrongError("sum")
    kept = tuple((label, shares[label] / total) for label in asked.labels if shares.get(label, 0.0) / total > 0.0)
    return Reading("ok", shares=kept)


def _attributes(found: Mapping[str, Any], answer: str, asked: Asked) -> Reading:
    by_name = {key.strip().casefold(): value for key, value in found.items()}
    if "activation" in by_name and "arousal" not in by_name:
        by_name["arousal"] = by_name["activation"]
    low, high = asked.scale
    made: list[float] = []
    for name in _ATTRIBUTES:
        if name not in by_name:
            raise _WrongError("attribute_missing")
        number = _number(by_name[name])
        if not low <= number <= high:
            raise _WrongError("outside_scale")
        made.append(min(1.0, max(0.0, float(to_unit(number, low, high)))))
    return Reading("ok", attributes=(made[0], made[1], made[2]))


def _primary_secondary(found: Mapping[str, Any], answer: str, asked: Asked) -> Reading:
    by_name = {key.strip().casefold(): value for key, value in found.items()}
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
    heard = [exact_answer(word, asked) for word in secondary]
    kept = tuple(dict.fromkeys(word for word in heard if word is not None and word != label))
    all_read = None not in heard
    return Reading("ok", shares=((label, 1.0),), secondary=kept, stated=None if all_read else answer)
