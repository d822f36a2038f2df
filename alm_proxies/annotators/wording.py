"""The text of a reply: exact answers, labels asserted in prose, refusals, and emotions that are not labels."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from alm_proxies.annotators.prompts import Elicits
from alm_proxies.taxonomy import TAXONOMIES, canonical, label_for

Status = Literal["ok", "refused", "unparsable", "out_of_vocabulary", "failed"]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The format of an answer: the offered labels, with one code per label or None for the labels themselves."""

    elicits: Elicits
    labels: tuple[str, ...]
    codes: tuple[str, ...] | None = None
    scale: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of a reply: label shares that sum to 1, secondary labels, attributes in 0..1; or why it has none."""

    status: Status
    kind: str = ""
    """The reason why a reply is not ok, as one word."""
    shares: tuple[tuple[str, float], ...] = ()
    secondary: tuple[str, ...] | None = None
    attributes: tuple[float, float, float] | None = None
    stated: str | None = None
    """The exact text, if it differs from the label."""


@dataclass(frozen=True, slots=True)
class CodedAnswer:
    """The label of a code in an answer, None if it gives several; and the words beside the code."""

    label: str | None
    beside: str
    alone: bool
    """Whether no words come after it."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Emotion words of label sets and models; one that is not a label of the taxonomy is out of vocabulary.
_EMOTIONS = _words("""
    admiration agitated agitation aggressive amazed amused amusement anger annoyance annoyed anticipation
    anxiety anxious apathetic apathy apologetic apprehensive approving ashamed assertive astonished awe awkward
    bitter cheerful cold concern concerned confident confused confusion content contented contentment curious
    curiosity defeated defensive defiant delighted depressed depression desperate despair determined
    disappointed disappointment disapproving discomfort discouraged disinterested displeased distressed distress
    doubtful doubt eager ecstatic elated embarrassed embarrassment empathetic energetic enthusiasm enthusiastic
    envious euphoric exasperated exasperation exhausted friendly frightened furious gloomy grateful gratitude
    grief grieving guilt guilty hate hateful heartbroken helpless hesitant hopeful hopeless horrified hostile
    hurt impatient impatience indifferent indignant insecure inspired interested irritated irritation jealous
    jealousy lonely loneliness longing love loving mad melancholic melancholy miserable mocking mournful nervous
    nervousness nostalgic offended optimistic outraged overwhelmed panic panicked passionate pensive perplexed
    pessimistic playful pleading pleasant pleased pride proud puzzled rage regret regretful relaxed relief
    relieved reluctant remorse resentful resigned resignation sarcastic sarcasm satisfaction satisfied scared
    scornful sentimental serene serious shame shocked shy skeptical solemn sorrow sorrowful startled stressed
    suspicious sympathetic sympathy tender tense terrified terror threatening thoughtful thrilled tired touched
    tranquil troubled trusting uncomfortable uneasy unhappy upset urgent vulnerable weary wistful wonder worried
    worry
""")
_LABELS_ANYWHERE = frozenset(label for labels in TAXONOMIES.values() for label in labels) - {"other"}
_SHORT_WORDS = frozenset({"joy", "sad", "mad", "shy", "awe"})  # other words of three letters are codes, not prose

_NEGATIONS = _words(
    "not no never neither nor cannot without hardly barely scarcely lacks lack lacking nothing nobody none less far "
    "instead rather except excluding unlikely aint isnt doesnt dont didnt wasnt arent cant couldnt wont wouldnt"
)
_TAKES_BACK = _words("wrong incorrect unlikely excluded out inappropriate absent impossible false")
_DENIED = re.compile(
    r"(?:(?:is|was|seems|sounds|looks|feels|appears|would be|must be)\s+(?:\w+\s+){0,2})?"
    rf"(?:{'|'.join(sorted(_TAKES_BACK))})\b"
    r"|(?:\w+n't|cannot|(?:is|was|does|do|can|could|would|may) not)\b",
    re.IGNORECASE,
)
"""What denies the code before it: "is wrong", "does not fit"."""
_CLAUSE_ENDS = re.compile(r"[.,;:!\n()—–]+|\bbut\b|\bhowever\b|\balthough\b|\bthough\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_CODED = re.compile(r"^\W*([^\W_]+)(\W*[:.,;)\]([=–—\n-]\W*|\s+)(\w.*)$", re.DOTALL)
_NAMED = r"(?:(?:the|my) +)?(?:(?:final|correct|best) +)?(?:{})(?: +is)?\b[\s:=*_$`\"'(\[{{\\-]{{0,8}}(?:boxed\{{)?"
_ANNOUNCED = re.compile(
    rf"(?:\A\W{{0,8}}(?i:{_NAMED.format('answer|option|choice|label|letter|emotion')})+"
    rf"|[.!\n][\s*_#>]{{0,8}}(?i:{_NAMED.format('answer')})+)([^\W_]+)"
)
"""A code announced at the start ("Option B") or, as an answer, after a sentence ("... \\nAnswer: B")."""
_ALSO_WORDS = frozenset("AI")
"""Codes that are words too: before other words, these are meant."""
_QUOTES = "\"'`*_~“”‘’«»‹›"
_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial|large language|language model)\b"
    r"|\b(?:can ?not|can't|could ?n[o']t|could not|(?:un|not )able to|won't|will not|(?:refuse|decline) to)\b"
    r"(?: \w+){0,3}? (?:help|assist|comply|determine|identify|provide|answer|analy[sz]e|judge|process|access|fulfil?l"
    r"|do that|share|give|detect|classify|infer|assess|evaluate|recogni[sz]e|continue|engage|respond|discuss|rate)\b"
    r"|\bi(?:'m| am) (?:sorry|afraid),? (?:but )?i\b",
    re.IGNORECASE,
)
_OF_ANOTHER = re.compile(
    r"\b(?:s?he|they|who|speaker|person|(?:wo)?man|voice|caller|actor|actress)(?: (?!i\b|we\b)\w+)?$", re.IGNORECASE
)
"""What stands before "cannot continue" where the speaker, not the model, cannot."""
_NOT_HEARD = re.compile(
    r"\b(?:can ?not|can't|could ?n[o']t|could not|unable to|don't|do not|didn't|did not) (?:\w+ )?(?:hear|listen)"
    r"|\bno (?:audio|recording|sound|speech)\b (?:\w+ )*?(?:provided|attached|given|included|present|found|heard)"
    r"|\b(?:provide|upload|attach|share|send) (?:me )?(?:the|an|your) (?:audio|recording)",
    re.IGNORECASE,
)


def squeezed(text: str) -> str:
    """Text normalised for comparison: NFKC, case folded, single spaces, quotes and punctuation stripped."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_QUOTES + " .!:,;-()[]{}<>|/\\")


def exact_answer(answer: str, asked: AnswerFormat) -> str | None:
    """The label of an exact answer: an offered code or label, or a declared synonym; otherwise None."""
    answer = answer.strip()
    if answer in asked.labels:
        return answer
    normalised = squeezed(answer)
    if asked.codes is not None:
        by_code = {code.casefold(): label for code, label in zip(asked.codes, asked.labels, strict=True)}
        if normalised in by_code:
            return by_code[normalised]
    return _meant(normalised, asked.labels)


def coded_answer(answer: str, asked: AnswerFormat) -> CodedAnswer | None:
    """A code that an answer gives, and the words beside it: "B: sad", "B sad", "Answer: B", "sad (B)"; otherwise None.

    Where it stands among words, a code is written as it was offered.
    """
    if asked.codes is None:
        return None
    by_code = dict(zip(asked.codes, asked.labels, strict=True))
    if head := _CODED.match(answer):
        code, between, rest = head.groups()
        label = by_code.get(code) or {key.casefold(): label for key, label in by_code.items()}.get(code.casefold())
        is_word = between.isspace() and "\n" not in between and (code not in by_code or code in _ALSO_WORDS)
        denies = between.isspace() and _denies(rest, asked)
        if label is not None and not denies and not (is_word and exact_answer(rest, asked) is None):
            return CodedAnswer(label, rest, alone=False)
    named = [found for found in _ANNOUNCED.finditer(answer) if found.group(1) in by_code]
    announced = [found for found in named if not _denies(answer[found.end() :], asked)]
    if announced:
        first, last = announced[0], announced[-1]
        rest = answer[last.end() :]
        if not (last.group(1) in _ALSO_WORDS and rest[:1].isspace() and rest.strip() and not exact_answer(rest, asked)):
            label = by_code[last.group(1)] if len({found.group(1) for found in announced}) == 1 else None
            alone = "?" not in rest and _WORD.search(rest) is None
            return CodedAnswer(label, f"{answer[: first.start()]}\n{rest}", alone)
    words = list(_WORD.finditer(answer))
    if len(words) > 1 and (label := by_code.get(words[-1].group())):
        before = answer[: words[-1].start()]
        if _negates(words[-2].group().casefold()):
            return None
        if before[-1] in "([" or exact_answer(before, asked):
            return CodedAnswer(label, before, alone=False)
    return None


def refusal(answer: str) -> str | None:
    """The kind of refusal of an answer, or None."""
    plain = answer.replace("’", "'")
    for kind, words in (("not_heard", _NOT_HEARD), ("declined", _REFUSALS)):
        if any(not _OF_ANOTHER.search(plain[: found.start()].rstrip()) for found in words.finditer(plain)):
            return kind
    return None


def asserted(answer: str, asked: AnswerFormat) -> tuple[frozenset[str], frozenset[str]]:
    """The labels and the other emotions that prose asserts: mentioned and not negated in their clause."""
    labels: set[str] = set()
    others: set[str] = set()
    plain = unicodedata.normalize("NFKC", answer).casefold().replace("’", "'")
    plain = plain.replace("anything but", "not").replace("rather than", "not").replace("instead of", "not")
    longest = max((len(label.split()) for label in asked.labels), default=1)
    for clause in _CLAUSE_ENDS.split(plain):
        words: list[str] = _WORD.findall(clause)
        if not words or "?" in clause or any(word in _TAKES_BACK for word in words):
            continue
        position = 0
        while position < len(words):
            word = words[position]
            if _negates(word):
                break
            for length in range(min(longest, len(words) - position), 0, -1):
                meaning = _emotion(" ".join(words[position : position + length]), asked.labels)
                if meaning is not None:
                    label, other = meaning
                    labels.update({label} if label else ())
                    others.update({other} if other else ())
                    position += length
                    break
            else:
                position += 1
    return frozenset(labels), frozenset(others)


def denied(answer: str, asked: AnswerFormat) -> tuple[frozenset[str], frozenset[str]]:
    """The labels that an answer denies by name and those it denies by code: "not sad", "not B", "B is wrong"."""
    by_code = dict(zip(asked.codes or (), asked.labels, strict=False))
    named: set[str] = set()
    coded: set[str] = set()
    plain = unicodedata.normalize("NFKC", answer).replace("’", "'")
    for clause in _CLAUSE_ENDS.split(plain):
        words: list[str] = _WORD.findall(clause)
        first = next((place for place, word in enumerate(words) if _negates(word.casefold())), len(words))
        if any(word.casefold() in _TAKES_BACK for word in words):
            first = 0
        for place, word in enumerate(words):
            if word in by_code and _denies(" ".join(words[place + 1 : place + 9]), asked):
                coded.add(by_code[word])
            if place < first:
                continue
            if word in by_code and (word not in _ALSO_WORDS or place in (0, len(words) - 1)):
                coded.add(by_code[word])
            elif meaning := _emotion(word.casefold(), asked.labels):
                named.update({meaning[0]} if meaning[0] else ())
    return frozenset(named), frozenset(coded)


def _denies(rest: str, asked: AnswerFormat) -> bool:
    """Whether the words behind a code, up to the end of their clause, are against it and not about another answer."""
    clause = _CLAUSE_ENDS.split(unicodedata.normalize("NFKC", rest).replace("’", "'").lstrip(), maxsplit=1)[0]
    if _DENIED.match(clause) is None:
        return False
    words: list[str] = _WORD.findall(clause)
    return not any(word in (asked.codes or ()) or _emotion(word.casefold(), asked.labels) for word in words)


def takes_back(text: str) -> bool:
    """Whether text is a single word against what it is about: "no", "wrong"."""
    word = squeezed(text)
    return word in _TAKES_BACK or _negates(word)


def _negates(word: str) -> bool:
    plain = word.replace("'", "")
    return plain in _NEGATIONS or word.endswith("n't") or word == "non" or word.startswith("non-")


def is_emotion(word: str) -> bool:
    """Whether a word or a code names an emotion, in a known taxonomy or in general language."""
    normalised = squeezed(word)
    return normalised in _EMOTIONS or (len(normalised) > 1 and canonical(normalised) in _LABELS_ANYWHERE)


def read_label(answer: str, asked: AnswerFormat) -> Reading:
    """The reading of an answer as one label, or the reason why it gives none."""
    label = exact_answer(answer, asked)
    if label is not None:
        return Reading("ok", shares=((label, 1.0),), stated=_unlike(answer, label, asked))
    if kind := refusal(answer):
        return Reading("refused", kind, stated=answer)
    if is_emotion(answer):
        return Reading("out_of_vocabulary", "no_label", stated=answer)
    coded = coded_answer(answer, asked)
    labels, others = asserted(coded.beside if coded else answer, asked)
    if coded is not None:
        agree = labels == {coded.label} or (coded.alone and not labels)
        if coded.label is None or not agree or (coded.alone and others):
            return Reading("unparsable", "code_against_words", stated=answer)
        labels = labels or frozenset({coded.label})
    elif labels & denied(answer, asked)[1]:
        return Reading("unparsable", "code_against_words", stated=answer)
    if len(labels) == 1 and not others:
        return Reading("ok", shares=((next(iter(labels)), 1.0),), stated=answer)
    if len(others) == 1 and not labels:
        return Reading("out_of_vocabulary", "no_label", stated=answer)
    return Reading("unparsable", "several_labels" if labels or others else "no_label", stated=answer)


def _unlike(answer: str, label: str, asked: AnswerFormat) -> str | None:
    expected = label if asked.codes is None else asked.codes[asked.labels.index(label)]
    return None if answer == expected else answer


@lru_cache(maxsize=65_536)
def _meant(normalised: str, labels: tuple[str, ...]) -> str | None:
    """The label of a normalised text; a single letter is not an answer, unless it is a label."""
    for label in labels:
        if normalised and squeezed(label) == normalised:
            return label
    return label_for(normalised, labels) if len(normalised) > 1 else None


@lru_cache(maxsize=65_536)
def _emotion(normalised: str, labels: tuple[str, ...]) -> tuple[str | None, str | None] | None:
    if len(normalised) > 3 or normalised in _SHORT_WORDS or normalised in labels:
        label = _meant(normalised, labels)
        if label is not None:
            return label, None
        if is_emotion(normalised):
            return None, normalised
    return None
