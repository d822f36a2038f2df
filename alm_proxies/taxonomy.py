"""Taxonomies: ordered labels, their synonyms, maps from words to labels, VAD scales and anchors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from alm_proxies.errors import SettingsError
from alm_proxies.nearest import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

OUTSIDE = "outside"

TAXONOMIES: dict[str, tuple[str, ...]] = {
    "iemocap4": ("angry", "happy", "neutral", "sad"),
    "iemocap9": ("angry", "happy", "sad", "neutral", "frustrated", "excited", "fear", "surprise", "disgust"),
    "msp8": ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral"),
    "msp9": ("angry", "sad", "happy", "surprise", "fear", "disgust", "contempt", "neutral", "other"),
    "crema6": ("angry", "disgust", "fear", "happy", "neutral", "sad"),
    "emodb7": ("angry", "bored", "disgust", "fear", "happy", "neutral", "sad"),
    "ravdess8": ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"),
}

# The words, three-letter codes and (upper-case only) letters that label files use for the same label.
_WORDS: dict[str, str] = {
    "angry": "anger ang",
    "happy": "happiness hap joy joyful",
    "sad": "sadness",
    "neutral": "neu neutrality",
    "fear": "fearful afraid fea scared",
    "disgust": "disgusted dis",
    "surprise": "surprised sur",
    "contempt": "contemptuous con",
    "frustrated": "frustration fru",
    "excited": "excitement exc",
    "bored": "boredom bor",
    "calm": "calmness cal",
    "other": "oth",
}
_LETTERS = dict(zip("ASHUFDCNO", TAXONOMIES["msp9"], strict=True))
_MEANS = {word: label for label, words in _WORDS.items() for word in (label, *words.split())}

# Valence, arousal and dominance of the labels in 0..1: the ratings of Russell and Mehrabian (1977) for the words
# nearest in meaning, scaled from -1..1 to 0..1 and rounded to .05; the places of contempt, calm and neutral are our
# choice.
ANCHORS: dict[str, tuple[float, float, float]] = {
    "angry": (0.25, 0.80, 0.60),
    "happy": (0.90, 0.75, 0.75),
    "sad": (0.20, 0.35, 0.35),
    "neutral": (0.50, 0.50, 0.50),
    "fear": (0.20, 0.80, 0.30),
    "disgust": (0.20, 0.65, 0.55),
    "surprise": (0.70, 0.85, 0.45),
    "contempt": (0.30, 0.60, 0.65),
    "frustrated": (0.20, 0.75, 0.35),
    "excited": (0.80, 0.90, 0.70),
    "bored": (0.20, 0.20, 0.35),
    "calm": (0.75, 0.30, 0.60),
}


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Ordered labels with a name."""

    name: str
    labels: tuple[str, ...]


def taxonomy_of(named: str | Sequence[str]) -> Taxonomy:
    """A taxonomy by name ("msp8"), as a comma list ("angry,happy,sad") or as the labels themselves."""
    if isinstance(named, str) and named in TAXONOMIES:
        return Taxonomy(named, TAXONOMIES[named])
    parts = named.split(",") if isinstance(named, str) else list(named)
    if odd := [part for part in parts if not isinstance(part, str)]:
        raise SettingsError(f"{odd[0]!r} cannot be a label", fix="Labels are words.")
    labels = tuple(part.strip() for part in parts)
    known = ", ".join(TAXONOMIES)
    if isinstance(named, str) and len(labels) == 1:
        raise SettingsError(
            f"there is no taxonomy {named!r}",
            fix=f"{did_you_mean(named, TAXONOMIES)} There are: {known}; or give the labels: angry,happy,sad.".strip(),
        )
    if len(labels) < 2:
        raise SettingsError("a taxonomy needs two labels or more", fix=f"Known ones: {known}.")
    labels_checked(labels)
    by_labels = {value: name for name, value in TAXONOMIES.items()}
    return Taxonomy(by_labels.get(labels, "own"), labels)


def labels_checked(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels themselves if all can be labels; every table's labels pass here, whatever wrote it.

    Commas, quotes and line breaks are refused: labels stand in lists (`--taxonomy angry,happy`) and in CSV files.
    """
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise SettingsError(f"the taxonomy names {repeated!r} twice", fix="Name each label once.")
    for label in labels:
        if label == OUTSIDE:
            fix = "Choose another word: maps use it for words that are not labels."
            raise SettingsError(f"{OUTSIDE!r} cannot be a label", fix=fix)
        if not label or label != label.strip() or re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029,\"]", label):
            raise SettingsError(f"{label!r} cannot be a label", fix="Use words without commas, quotes or line breaks.")
    return labels


def checked_taxonomy(named: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """The value itself if valid; else a ValueError with the fix, as pydantic expects."""
    try:
        taxonomy_of(named)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return named


def checked_names(names: dict[str, str]) -> dict[str, str]:
    """New names of labels if they can be labels too; else a ValueError with the fix, as pydantic expects."""
    for label, name in names.items():
        try:
            labels_checked((name,))
        except SettingsError as error:
            raise ValueError(f"{label} = {name!r}: {error}") from None
    return names


def canonical(word: str) -> str:
    """The label a word means ("Happiness", "hap", "H" -> "happy"), or the word itself in lower case."""
    stripped = word.strip()
    if stripped in _LETTERS:
        return _LETTERS[stripped]
    return _MEANS.get(folded(word), folded(word))


def folded(word: str) -> str:
    """The normalised spelling of a word: composed, lower case, no outer spaces, spaces for underscores."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", word).strip().lower())


def label_for(word: str, labels: Sequence[str]) -> str | None:
    """The label of a taxonomy that a word means, or None: the word itself, its case aside, or a synonym."""
    if word in labels:
        return word
    lowered = word.strip().lower()
    meant = canonical(word)
    for label in labels:
        if label.lower() == lowered:
            return label
    for label in labels:
        if label == meant or canonical(label) == meant:
            return label
    return None


How = Literal["same", "mapped", "outside", "unknown"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a corpus's word: a label or None, and how it was found."""

    label: str | None
    how: How


def covering(words: Iterable[str], labels: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The (normalised) key of a map for each word: the word itself, else the name of its label."""
    keys = set(map(folded, mapping))
    own = {label: folded(label) for label in labels if folded(label) in keys}
    by_word: dict[str, str] = {}
    for word in words:
        if folded(word) in keys:
            by_word[word] = folded(word)
        elif own and (label := label_for(word, labels)) in own:
            by_word[word] = own[label]
    return by_word


def meanings(words: Iterable[str], labels: Sequence[str], mapping: Mapping[str, str]) -> dict[str, Meaning]:
    """The label of each word of a corpus under a map; only words that the map names are merged, moved or left outside.

    A key that is a label's own name covers that label and its synonyms; any other key covers that word only, and takes
    precedence. Case is ignored. A word without a key keeps the label that it is or is a synonym of; without one it is
    unknown, and its votes are counted as out_of_vocabulary.
    """
    targets: dict[str, str] = {}
    for source, target in mapping.items():
        if target != OUTSIDE and target not in labels:
            near = did_you_mean(target, [*labels, OUTSIDE])
            raise SettingsError(
                f"the map sends {source!r} to {target!r}, which is not a label",
                fix=f"{near} The labels are {', '.join(labels)}, or {OUTSIDE}.".strip(),
            )
        if (other := targets.setdefault(folded(source), target)) != target:
            message = f"the map sends {source!r} to {target!r} in one spelling, to {other!r} in another"
            raise SettingsError(message, fix="Keep one of them: words must differ in more than their case.")
    words = list(words)
    covered = covering(words, labels, mapping)
    meanings: dict[str, Meaning] = {}
    for word in words:
        label = label_for(word, labels)
        sent_to = targets[covered[word]] if word in covered else label
        if sent_to is None:
            meanings[word] = Meaning(None, "unknown")
        elif sent_to == OUTSIDE:
            meanings[word] = Meaning(None, "outside")
        else:
            meanings[word] = Meaning(sent_to, "same" if sent_to == label else "mapped")
    return meanings


def to_unit(value: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Ratings on a scale low..high as 0..1, higher = more: (value - low) / (high - low); low > high reverses it."""
    import numpy as np

    if low == high:
        raise SettingsError(f"a scale from {low} to {high} has no width", fix="Give its lowest and highest rating.")
    return np.asarray((np.asarray(value, dtype=np.float64) - low) / (high - low)) + 0.0  # -0.0 becomes 0.0


def from_unit(value: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Ratings in 0..1 on the scale low..high; the inverse of to_unit."""
    import numpy as np

    return np.asarray(low + np.asarray(value, dtype=np.float64) * (high - low))


def anchors(labels: Sequence[str]) -> NDArray[np.float64]:
    """Valence, arousal, dominance of each label, labels x 3; refuses labels that have no anchor."""
    import numpy as np

    missing = [label for label in labels if canonical(label) not in ANCHORS]
    if missing:
        raise SettingsError(
            f"the label {missing[0]!r} has no place in valence, arousal and dominance",
            fix=f"Labels with anchors: {', '.join(ANCHORS)}.",
        )
    return np.array([ANCHORS[canonical(label)] for label in labels], dtype=np.float64)


def vad_of(distributions: ArrayLike, labels: Sequence[str]) -> NDArray[np.float64]:
    """The valence, arousal and dominance of a distribution: sum over labels of p * anchor."""
    import numpy as np

    return np.asarray(distributions, dtype=np.float64) @ anchors(labels)


def distribution_of(vad: ArrayLike, labels: Sequence[str], width: float = 0.2) -> NDArray[np.float64]:
    """A distribution for a point in VAD: softmax over labels of -|vad - anchor|^2 / (2 width^2)."""
    import numpy as np

    if width <= 0:
        raise SettingsError(f"a width of {width} is not positive", fix="Use 0.2 or so.")
    distance = np.square(np.asarray(vad, dtype=np.float64)[..., None, :] - anchors(labels)).sum(-1)
    logit = -distance / (2 * width**2)
    share = np.exp(logit - logit.max(-1, keepdims=True))
    distribution: NDArray[np.float64] = share / share.sum(-1, keepdims=True)
    return distribution
