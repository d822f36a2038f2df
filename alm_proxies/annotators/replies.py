"""Replies: from what a model wrote to a label, a distribution or attributes, or to the status that says why not.

A reply is read in this order, and the first that fits decides:
1. cut by max_tokens: unparsable. Reasoning (<think> ... </think> and the like, also when cut) is no part of the answer.
2. exactly one of the answers offered (code, label, or a declared synonym), case, quotes and closing dots aside: ok.
3. a refusal ("I can't determine ...", "no audio was provided"): refused.
4. one word that is an emotion and no label: out_of_vocabulary.
5. prose that asserts exactly one label and no other emotion: ok. What stands behind a negation in its clause is not
   asserted: "not happy, sad" is sad; "not happy", "happy or sad", "sad and jealous" and "happy?" give nothing.
   A code before its label ("B: sad") counts if the two agree.
6. prose that asserts exactly one emotion, and that one is no label: out_of_vocabulary.
7. anything else: unparsable.
JSON replies hold exactly one object, which is validated in stated.py. No reply is asked again because of what it says.
"""

from __future__ import annotations

import re

from alm_proxies.annotators.stated import read_json
from alm_proxies.annotators.wording import Asked, Reading, read_label, refusal

_TAG = "think|thinking|thought|thoughts|reasoning|reflection"
_WHOLE_REASONING = re.compile(rf"<({_TAG})\b[^<>]*>.*?</\1\s*>|\[THINK\].*?\[/THINK\]", re.DOTALL | re.IGNORECASE)
_END_OF_REASONING = re.compile(rf"</(?:{_TAG})\s*>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_START_OF_REASONING = re.compile(rf"<(?:{_TAG})\b[^<>]*>|\[THINK\]|<\|channel\|>analysis<\|message\|>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def without_reasoning(text: str) -> str:
    """The answer alone: finished reasoning is taken out, reasoning that was cut leaves nothing behind it."""
    if "<" in text or "[" in text:
        text = _WHOLE_REASONING.sub(" ", text)
        if ends := list(_END_OF_REASONING.finditer(text)):
            text = text[ends[-1].end() :]
        if start := _START_OF_REASONING.search(text):
            text = text[: start.start()]
        if answers := _ANSWER.findall(text):
            text = answers[-1]
    return text.strip()


def read_reply(text: str, asked: Asked, finish: str = "stop") -> Reading:
    """What a reply says, read by the rules above; any text at all has a reading."""
    whole = text.strip()
    if finish == "content_filter":
        return Reading("refused", "filter", stated=whole or None)
    if finish == "length":
        return Reading("unparsable", "cut", stated=whole or None)
    answer = whole if whole in asked.labels else without_reasoning(text)
    if not answer:
        return Reading("unparsable", "cut_reasoning" if whole else "empty", stated=whole or None)
    if asked.elicits == "label":
        return read_label(answer, asked)
    reading = read_json(answer, asked)
    if reading.status == "unparsable" and (kind := refusal(answer)):
        return Reading("refused", kind, stated=answer)
    return reading
