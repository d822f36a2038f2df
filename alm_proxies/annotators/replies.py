"""Replies: read a model's text as a label, a distribution or attributes, or give the status that says why not.

The rules are tried in this order, and the first that applies decides:
1. truncated by max_tokens: unparsable. Reasoning (<think> ... </think> etc., also truncated) is removed first.
2. exactly one offered answer (code, label or declared synonym), ignoring case, quotes and final punctuation: ok.
3. a refusal ("I can't determine ...", "no audio was provided", or one that the server marks as such): refused.
4. one word that is an emotion but not a label: out_of_vocabulary.
5. prose that asserts exactly one label and no other emotion: ok. Words after a negation in the same clause are not
   asserted: "not happy, sad" is sad; "not happy", "happy or sad", "sad and jealous" and "happy?" give nothing.
   A code beside words ("B: sad", "sad (B)", "Answer: B", {"answer": "B"}) counts if they agree with it.
6. prose that asserts exactly one emotion, which is not a label: out_of_vocabulary.
7. anything else: unparsable.
A JSON reply must contain exactly one object; stated.py validates it. A request is never repeated because of its reply.
"""

from __future__ import annotations

import re
from functools import lru_cache

from alm_proxies.annotators.stated import read_coded_object, read_json
from alm_proxies.annotators.wording import AnswerFormat, Reading, read_label, refusal
from alm_proxies.engines.engine import REFUSAL

_TAG = "think|thinking|thought|thoughts|reasoning|reflection"
_WHOLE_REASONING = re.compile(rf"<({_TAG})\b[^<>]*>.*?</\1\s*>|\[THINK\].*?\[/THINK\]", re.DOTALL | re.IGNORECASE)
_END_OF_REASONING = re.compile(rf"</(?:{_TAG})\s*>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_START_OF_REASONING = re.compile(rf"<(?:{_TAG})\b[^<>]*>|\[THINK\]|<\|channel\|>analysis<\|message\|>", re.IGNORECASE)
_SHORT = 40
"""Letters of a reply that is likely to come again."""
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def without_reasoning(text: str) -> str:
    """The answer without reasoning; truncated reasoning leaves an empty answer."""
    if "<" in text or "[" in text:
        text = _WHOLE_REASONING.sub(" ", text)
        if ends := list(_END_OF_REASONING.finditer(text)):
            text = text[ends[-1].end() :]
        if start := _START_OF_REASONING.search(text):
            text = text[: start.start()]
        if answers := _ANSWER.findall(text):
            text = answers[-1]
    return text.strip()


def read_reply(text: str, asked: AnswerFormat, finish: str = "stop") -> Reading:
    """The reading of a reply by the rules above; every text has a reading."""
    return _read_again(text, asked, finish) if len(text) <= _SHORT else _read(text, asked, finish)


def _read(text: str, asked: AnswerFormat, finish: str) -> Reading:
    reply = text.strip()
    if finish == "content_filter":
        return Reading("refused", "filter", stated=reply or None)
    if finish == REFUSAL:
        return Reading("refused", "declined", stated=reply or None)
    if finish == "length":
        return Reading("unparsable", "cut", stated=reply or None)
    answer = reply if reply in asked.labels else without_reasoning(text)
    if not answer:
        return Reading("unparsable", "cut_reasoning" if reply else "empty", stated=reply or None)
    if asked.elicits == "label":
        coded = None if refusal(answer) else read_coded_object(answer, asked)
        return coded or read_label(answer, asked)
    reading = read_json(answer, asked)
    if reading.status == "unparsable" and (kind := refusal(answer)):
        return Reading("refused", kind, stated=answer)
    return reading


_read_again = lru_cache(maxsize=4096)(_read)
"""Short replies are the same few thousands of times."""
