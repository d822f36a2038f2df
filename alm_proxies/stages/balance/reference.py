"""The DiME-Aug of arXiv 2601.14620 as a baseline: SMOTE within classes, in a space of audio and text features, with its
defects corrected.

1. The class of an utterance is its most likely label. A class with fewer utterances than `ratio` times the largest is
   filled up to that. 2. An item is made from a random utterance of the class and one of its nearest in the class:
   Euclidean, over standardised means and deviations of 13 MFCC, 12 chroma, 7 spectral contrasts, zero crossings,
   roll-off, centroid and level, and 10 counts of the transcript. 3. a ~ U(0, 1): the sound is x1 + a (x2 - x1), cut to
   the shorter one, the target t1 + a (t2 - t1), the transcript that of the nearer parent. With probability `augmented`
   the pitch is moved by up to a semitone, or the rate by up to 5 %.

Defects of the authors' released code, and what is done here instead:

- The chosen transcript is never used in the prompt. Here it is the item's transcript in the table of utterances,
  which prompts and exports read; it is null if words were cut off.
- A weighted sampler is built and never used. Here its weights, the inverse of the class's count, are in the labels.
- Class weights are set by hand for each data set. Here there are none besides those of the sampler.
- A recording without features becomes a row of zeros, and a possible neighbour. Here it is left out, with a finding.
- An utterance is counted among its own k nearest, so that an item may be a copy of it. Here it is not its own partner.
- Pitch and rate are changed in the training loop, of all utterances. Here they are part of the item's recipe, so that
  the item is the same in every epoch and run; recorded utterances stay as they are.

Both parents are scaled to equal loudness first, as in every mixture here. The method's limits remain: it balances
counts of most likely labels, not distributions, ignores ambiguity, mixes any two speakers of a corpus and checks no
item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.features import FEATURES
from alm_proxies.audio.measured import DIGEST, NAMES, measuring
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.vectors import vectors_of
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.mixtures import CUT, STAGE, Effects, Pair, described, labels_of, opened
from alm_proxies.stages.balance.needed import Recordings
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.tables import Finding, Labels, Utterances

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_SEMITONES, _RATE = 1.0, 0.05  # the most that pitch and rate are changed by
_VOWELS = "aeiouAEIOU"


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """The rows of the items that fill up rare classes, the numbers per class, and findings."""

    labels: pl.DataFrame
    utterances: pl.DataFrame
    items: pl.DataFrame
    """One row per item: utterance_id, parent, second, effect and its parameters as text."""
    classes: dict[str, tuple[int, int]]
    findings: list[Finding]
    recordings: Recordings
    """The recordings of the classes that are filled up."""


def filled(part: Labels, rows: pl.DataFrame, utterances: Utterances, settings: BalanceSettings, folder: Path) -> Filled:
    """Items for every class that has fewer utterances than `settings.reference.ratio` times the largest."""
    ids = rows["utterance_id"].to_list()
    top = part.distributions().argmax(1)
    used = part.frame["weight"].to_numpy() > 0
    counts = np.bincount(top[used], minlength=len(part.taxonomy))
    wanted = np.ceil(settings.reference.ratio * counts.max()).astype(np.int64)
    lacking = {int(c): int(wanted - counts[c]) for c in np.flatnonzero((counts > 0) & (counts < wanted))}
    findings = _without_utterances(part, counts)
    pairs: list[Pair] = []
    recordings = Recordings()
    sounds = Sounds(utterances, stage=STAGE, cards=settings.cards)
    if lacking:
        chosen = np.flatnonzero(np.isin(top, list(lacking)) & used)
        vectors = vectors_of(
            [ids[row] for row in chosen], sounds, measuring(STAGE), width=len(NAMES), digest=DIGEST,
            folder=folder / "features",
        )  # fmt: skip
        findings += vectors.findings
        spectral = [place for place, feature in enumerate(FEATURES) if feature.group == "spectral"]
        sound = vectors.rows[:, spectral].astype(np.float64)
        able = vectors.known & np.isfinite(sound).all(1)
        recordings = Recordings.of([ids[row] for row in chosen], able.tolist())
        words = _counted(rows["transcript"].gather(chosen).to_list())
        space = _standardised(np.concatenate([sound[able], words[able]], 1))
        apart = rows.select(pl.struct("corpus", "split").rank("dense")).to_series().to_numpy()
        taken = set(utterances.frame["utterance_id"])
        pairs, more = _pairs(chosen[able], top, space, apart, lacking, ids, taken, settings)
        findings += [
            Finding(STAGE, "without_neighbour", f"{part.taxonomy[c]}: {counted(count, 'item')} not made, as fewer than "
                    "two of its utterances in a corpus's split have a recording", "Give their recordings.", count=count)
            for c, count in more.items()
        ]  # fmt: skip
    new_rows, kept, failed = _described(pairs, rows, utterances, sounds, settings)
    added = np.bincount(top[[pair.first for pair in kept]], minlength=len(counts)) if kept else np.zeros_like(counts)
    classes = {name: (int(counts[c]), int(added[c])) for c, name in enumerate(part.taxonomy)}
    items = pl.DataFrame(
        [(p.name, ids[p.first], ids[p.second], "mix", _said(p)) for p in kept],
        schema=dict.fromkeys(("utterance_id", "parent", "second", "effect", "parameters"), pl.String),
        orient="row",
    )
    return Filled(labels_of(kept, part), new_rows, items, classes, [*findings, *failed], recordings)


def class_weights(part: Labels) -> Array:
    """Weights of mean 1 that give every most likely label the same weight: inverse counts, times the given weights."""
    top, given = part.distributions().argmax(1), part.frame["weight"].to_numpy().astype(np.float64)
    mass = np.bincount(top, given)
    weights = np.where(mass[top] > 0, given / np.maximum(mass[top], 1e-300), 0.0)
    balanced: Array = weights * (len(weights) / weights.sum())
    return balanced


def _without_utterances(part: Labels, counts: NDArray[np.int64]) -> list[Finding]:
    lacking = [name for name, count in zip(part.taxonomy, counts, strict=True) if not count]
    if not lacking:
        return []
    message = f"{', '.join(lacking)}: the most likely label of no utterance; it cannot be filled up"
    return [Finding(STAGE, "class_without_utterances", message, 'Use method = "dime", which balances distributions.')]


def _counted(transcripts: Sequence[str | None]) -> Array:
    """Ten counts of each transcript; NaN if there is none."""
    counts = np.full((len(transcripts), 10), np.nan)
    for row, text in enumerate(transcripts):
        if text is None:
            continue
        letters = [letter for letter in text if letter.isalpha()]
        words = text.split()
        vowels = sum(letter in _VOWELS for letter in letters)
        counts[row] = [
            len(text), len(words), *(text.count(mark) for mark in "!?.,"), vowels, len(letters) - vowels,
            sum(map(len, words)) / max(len(words), 1), sum(map(str.isupper, letters)) / max(len(letters), 1),
        ]  # fmt: skip
    return counts


def _standardised(values: Array) -> Array:
    """Columns with mean 0 and deviation 1; unknown values and columns without deviation are 0, the mean."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    centre = np.where(known, values, 0.0).sum(0) / count
    away = np.where(known, values - centre, 0.0)
    spread = np.sqrt(np.square(away).sum(0) / count)
    scores: Array = away / np.where(spread > 0, spread, np.inf)
    return scores


def _pairs(
    able: NDArray[np.int64], top: NDArray[np.int64], space: Array, apart: Index, lacking: dict[int, int],
    ids: Sequence[str], taken: set[str], settings: BalanceSettings,
) -> tuple[list[Pair], dict[int, int]]:  # fmt: skip
    """Pairs of neighbours in one corpus and split, and the number of items that each class still needs."""
    rng = generator(settings.seed, "balance", "reference")
    pairs: list[Pair] = []
    short: dict[int, int] = {}
    for label, count in lacking.items():
        inside = np.flatnonzero(top[able] == label)
        if len(inside) < 2:
            short[label] = count
            continue
        for place in rng.integers(0, len(inside), count).tolist():
            far = np.linalg.norm(space[inside] - space[inside[place]], axis=1)
            far[place] = np.inf
            far[apart[able[inside]] != apart[able[inside[place]]]] = np.inf
            others = int(np.isfinite(far).sum())
            if not others:
                short[label] = short.get(label, 0) + 1
                continue
            near = inside[np.argsort(far, kind="stable")[: min(settings.reference.neighbours - 1, others)]]
            first, second = int(able[inside[place]]), int(able[near[int(rng.integers(len(near)))]])
            share = round(min(max(float(rng.random()), 0.001), 0.999), 3)
            number = 1
            while (name := f"{ids[first]}#mix{number}") in taken:
                number += 1
            taken.add(name)
            pairs.append(Pair(name, first, second, share, _effects(rng, settings.reference.augmented)))
    return pairs, short


def _effects(rng: np.random.Generator, chance: float) -> Effects:
    if rng.random() >= chance:
        return ()
    amount = round(2 * float(rng.random()) - 1, 3)
    if rng.random() < 0.5:
        return (("pitch", {"semitones": _SEMITONES * amount}),)
    return (("speed", {"factor": 1 + _RATE * amount}),)


def _described(
    pairs: Sequence[Pair], rows: pl.DataFrame, utterances: Utterances, sounds: Sounds, settings: BalanceSettings
) -> tuple[pl.DataFrame, list[Pair], list[Finding]]:
    """Rows of the items with audio, with their duration and the transcript of the nearer parent."""
    kept, seconds = [], []
    findings: list[Finding] = []
    transcripts: list[str | None] = []
    for mixture in opened(pairs, rows, sounds, settings.seed):
        findings += mixture.findings
        if mixture.clip is None:
            continue
        pair = mixture.pair
        nearer = 0 if pair.share >= 0.5 else 1
        uncut = min(mixture.seconds) >= CUT * mixture.seconds[nearer]
        kept.append(pair)
        seconds.append(mixture.clip.duration)
        transcripts.append(rows["transcript"][(pair.first, pair.second)[nearer]] if uncut else None)
    items = described(kept, rows, utterances, settings.seed).with_columns(
        duration=pl.Series(seconds, dtype=pl.Float64), transcript=pl.Series(transcripts, dtype=pl.String)
    )
    return items, kept, findings


def _said(pair: Pair) -> str:
    done = "".join(f", {name} {value:.3g}" for name, given in pair.effects for value in given.values())
    return f"{pair.share:.0%} of the first{done}"
