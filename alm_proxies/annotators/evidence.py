"""Evidence: measured prosody described in words, relative to the speaker's usual values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.audio.clip import Source, open_source
from alm_proxies.audio.features import measure_all, relative_to_speaker
from alm_proxies.tables import Finding

STAGE = "annotate"


@dataclass(frozen=True, slots=True)
class FeatureWords:
    """The words for a feature: its name, and the words for higher and for lower values."""

    feature: str
    name: str
    more: str
    less: str


FEATURE_WORDS = (
    FeatureWords("pitch_level", "pitch", "higher", "lower"),
    FeatureWords("pitch_range", "pitch range", "wider", "narrower"),
    FeatureWords("pitch_slope", "pitch movement over the utterance", "more rising", "more falling"),
    FeatureWords("energy_level", "loudness", "louder", "softer"),
    FeatureWords("energy_sd", "change of loudness", "stronger", "weaker"),
    FeatureWords("speaking_rate", "speaking rate", "faster", "slower"),
    FeatureWords("pause_share", "share of pauses", "larger", "smaller"),
    FeatureWords("spectral_tilt", "voice colour", "brighter, more tense", "darker, more relaxed"),
    FeatureWords("harmonicity", "clearness of the voice", "clearer", "rougher or breathier"),
)
_DEGREES = ((0.5, "about as usual"), (1.0, "slightly {}"), (2.0, "{}"), (float("inf"), "much {}"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measured prosody in words by utterance, and findings on recordings that could not be measured."""

    by_utterance: dict[str, str]
    findings: tuple[Finding, ...]


def evidence_of(frame: pl.DataFrame, cache: Path | None = None) -> Evidence:
    """The evidence for every row of a frame with utterance_id, corpus, path, start, end, keep and speaker.

    A feature is described by its robust z-score within the speaker: below 0.5 "about as usual", up to 1 "slightly
    higher", up to 2 "higher", above 2 "much higher". A feature that could not be measured is left out.
    """
    sources = [
        Source(row["utterance_id"], row["path"], row["start"], row["end"], row["keep"])
        for row in frame.select("utterance_id", "path", "start", "end", "keep").iter_rows(named=True)
    ]
    corpora = dict(frame.filter("keep").select("utterance_id", "corpus").iter_rows())
    measured = measure_all(
        sources,
        lambda source: open_source(source, stage=STAGE),
        stage=STAGE,
        groups=("prosody", "voice"),
        kept_as=lambda source: corpora.get(source.utterance_id),
        cache=cache,
    )
    scores = relative_to_speaker(measured.frame, frame["speaker"])
    by_utterance: dict[str, str] = {}
    for utterance_id, *values in scores.select("utterance_id", *(words.feature for words in FEATURE_WORDS)).iter_rows():
        if text := in_words(values):
            by_utterance[utterance_id] = text
    return Evidence(by_utterance, measured.findings)


def in_words(scores: Sequence[float | None]) -> str:
    """The scores of the features, in the order of FEATURE_WORDS, as one line each; unknown scores are left out."""
    lines = []
    for feature, score in zip(FEATURE_WORDS, scores, strict=True):
        if score is None:
            continue
        degree = next(words for bound, words in _DEGREES if abs(score) < bound)
        lines.append(f"- {feature.name}: {degree.format(feature.more if score > 0 else feature.less)}")
    return "\n".join(lines)
