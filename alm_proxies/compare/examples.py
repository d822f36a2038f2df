"""The most disputed utterances: votes and, if allowed and asked for, transcripts and recordings."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from alm_proxies.ballots import Array, Ballots
from alm_proxies.cards import stays_because
from alm_proxies.compare.material import Material
from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.report.charts import Series, votes_picture
from alm_proxies.report.page import Example, Examples, Section, Sound
from alm_proxies.tables import Finding, Utterances

if TYPE_CHECKING:
    from alm_proxies.audio.clip import Clip
    from alm_proxies.audio.recipe import Sounds

PER_PAIR = 2
_SMALL = 0.05
"""Smaller shares of a stated distribution are not shown."""
LONGEST = 30.0
"""Maximum length of a recording in the page, in seconds."""


def most_disputed(human: Array, proxy: Array, count: int) -> list[tuple[int, float]]:
    """The rows where human and proxy votes differ most, with the JSD (base 2) of their smoothed shares.

    One evenly spread vote is added to each side, so that few votes do not count as certainty. For each pair of the
    of the most frequent labels of humans and of proxies at most two rows are given, so one bias cannot fill the page.
    """
    both = np.flatnonzero((human.sum(1) > 0) & (proxy.sum(1) > 0))
    if not len(both):
        return []
    spread = 1.0 / human.shape[1]
    sides = [(counts[both] + spread) / (counts[both].sum(1, keepdims=True) + 1.0) for counts in (human, proxy)]
    distance = jsd_base2(*sides)
    order = np.lexsort((both, -np.round(distance, 12)))
    seen: Counter[tuple[int, int]] = Counter()
    chosen: list[tuple[int, float]] = []
    for place in order:
        row = int(both[place])
        pair = int(human[row].argmax()), int(proxy[row].argmax())
        if len(chosen) == count:
            break
        if seen[pair] < PER_PAIR:
            chosen.append((row, float(distance[place])))
            seen[pair] += 1
    return chosen


def examples(
    material: Material,
    utterances: Utterances,
    *,
    count: int,
    transcripts: bool,
    audio: bool,
    allowed: tuple[str, ...],
    cards: str | Path | None,
) -> tuple[tuple[Example, ...], list[Finding]]:
    """A card for each of the most disputed utterances, and findings on content that may not be shown."""
    human = material.human.counts() + material.held_out.counts()
    disputed = most_disputed(human, material.proxy.counts(), count)
    named = utterances.frame.filter(pl.col("utterance_id").is_in([str(material.ids[row]) for row, _ in disputed]))
    rows = {row["utterance_id"]: row for row in named.iter_rows(named=True)}
    findings: list[Finding] = []
    stays = {corpus: stays_because(corpus, named=allowed, folder=cards) for corpus in _corpora(utterances)}
    sounds = _sounds(utterances) if audio and disputed else None
    shown = []
    for row, distance in disputed:
        utterance = rows.get(str(material.ids[row]), {})
        reason = stays.get(str(utterance.get("corpus") or ""), "it is not among the utterances")
        transcript = utterance.get("transcript") if transcripts and reason is None else None
        sound = None
        if sounds is not None and reason is None:
            opened = sounds.open(str(material.ids[row]))
            sound = _played(opened.clip) if opened.clip is not None else None
            findings += opened.findings
        shown.append(_example(material, row, distance, human, utterance, transcript, sound))
    if transcripts or audio:
        findings += [
            Finding.of("kept_back", f"no recording or transcript is shown: {reason}", _RIGHTS, where=corpus)
            for corpus, reason in stays.items()
            if reason is not None
        ]
    return tuple(shown), findings


_RIGHTS = "If you have the right to copy the corpus into a page, name it in may_leave."


def _corpora(utterances: Utterances) -> list[str]:
    return [str(corpus) for corpus in utterances.frame["corpus"].unique().sort()]


def _example(
    material: Material,
    row: int,
    distance: float,
    human: Array,
    utterance: dict[str, Any],
    transcript: str | None,
    sound: Sound | None,
) -> Example:
    proxy = material.proxy.counts()[row]
    series = [
        Series.of("human", "human", human[row] / human[row].sum()),
        Series.of("proxy", "proxy", proxy / proxy.sum()),
        Series.of("fused", "fused", material.fused[row]),
    ]
    facts = {"Human votes": _votes(material.human, row, material.labels)}
    if len(material.held_out.rows):
        facts["Held out"] = _votes(material.held_out, row, material.labels)
    for name in material.proxy.names:
        facts[name] = _votes(material.proxy.of(name), row, material.labels)
    facts["JSD, smoothed"] = f"{distance:.2f}"
    if np.isfinite(material.concentration[row]):
        facts["Concentration"] = f"{material.concentration[row]:.1f} votes"
    for name in ("speaker", "gender"):
        if utterance.get(name):
            facts[name.capitalize()] = str(utterance[name])
    picture = votes_picture(material.labels, series, alt=f"Votes and fused label of {material.ids[row]}.")
    return Example(str(material.ids[row]), facts, picture, transcript, sound)


def _votes(ballots: Ballots, row: int, labels: tuple[str, ...]) -> str:
    counts = ballots.vectors[ballots.rows == row].sum(0)
    order = [k for k in np.argsort(-counts, kind="stable") if counts[k] > 1e-9]
    if np.allclose(counts, np.round(counts)):
        return ", ".join(f"{labels[k]} {counts[k]:.0f}" for k in order) or "none"
    parts = [f"{labels[k]} {counts[k]:.2f}" for k in order if counts[k] >= _SMALL * counts.sum()]
    return ", ".join(parts) + (" …" if len(parts) < len(order) else "")


def _sounds(utterances: Utterances) -> Sounds:
    from alm_proxies.audio.recipe import Sounds

    return Sounds(utterances, stage="", longest=LONGEST)


def _played(clip: Clip) -> Sound:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, clip.samples, clip.rate, format="FLAC", subtype="PCM_16")
    return Sound(buffer.getvalue(), "audio/flac")


def examples_section(examples: Sequence[Example]) -> Section | None:
    """The examples as a section; None if there are none."""
    if not examples:
        return None
    lead = (
        "By JSD (base 2) between all human and all proxy votes, one evenly spread vote added to each side so that few "
        "votes do not count as certainty; at most two utterances per pair of human and proxy label."
    )
    return Section("Where humans and proxies disagree most", lead, (Examples(tuple(examples)),))
