"""Evidence: measured prosody in words, relative to what is usual for the speaker."""

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
class Told:
    """How a feature is put into words: its name, and the words for more and for less of it."""

    feature: str
    name: str
    more: str
    less: str


TOLD = (
    Told("pitch_level", "pitch", "higher", "lower"),
    Told("pitch_range", "pitch range", "wider", "narrower"),
    Told("pitch_slope", "pitch movement over the utterance", "more rising", "more falling"),
    Told("energy_level", "loudness", "louder", "softer"),
    Told("energy_sd", "change of loudness", "stronger", "weaker"),
    Told("speaking_rate", "speaking rate", "faster", "slower"),
    Told("pause_share", "share of pauses", "larger", "smaller"),
    Told("spectral_tilt", "voice colour", "brighter, more tense", "darker, more relaxed"),
    Told("harmonicity", "clearness of the voice", "clearer", "rougher or breathier"),
)
_DEGREES = ((0.5, "about as usual"), (1.0, "slightly {}"), (2.0, "{}"), (float("inf"), "much {}"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measured prosody in words by utterance, and what could not be measured."""

    by_utterance: dict[str, str]
    findings: tuple[Finding, ...]


def evidence_of(frame: pl.DataFrame, cache: Path | None = None) -> Evidence:
    """The evidence about every row of a frame with utterance_id, path, start, end and speaker.

    A feature is described by its robust z-score within the speaker: below 0.5 it is as usual, up to 1 slightly, up to 2
    plainly, beyond that much higher, louder ... One that could not be measured is left out.
    """
    sources = [
        Source(row["utterance_id"], Path(row["path"]), row["start"], row["end"])
        for row in frame.select("utterance_id", "path", "start", "end").iter_rows(named=True)
    ]
    measured = measure_all(
        sources, lambda source: open_source(source, stage=STAGE), stage=STAGE, groups=("prosody", "voice"), cache=cache
    )
    scores = relative_to_speaker(measured.frame, frame["speaker"])
    said: dict[str, str] = {}
    for utterance_id, *values in scores.select("utterance_id", *(one.feature for one in TOLD)).iter_rows():
        if text := in_words(values):
            said[utterance_id] = text
    return Evidence(said, measured.findings)


def in_words(scores: Sequence[float | None]) -> str:
    """The scores of TOLD, in its order, as one line each; unknown ones are left out."""
    lines = []
    for one, score in zip(TOLD, scores, strict=True):
        if score is None:
            continue
        degree = next(words for bound, words in _DEGREES if abs(score) < bound)
        lines.append(f"- {one.name}: {degree.format(one.more if score > 0 else one.less)}")
    return "\n".join(lines)
