"""Generated items: two neighbours, close in target and in sound, mixed in audio and target, and checked for drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.features import FEATURES
from alm_proxies.audio.measured import DIGEST, NAMES, measuring
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.audio.vectors import vectors_of
from alm_proxies.measures.divergence import jsd_nats
from alm_proxies.measures.resampling import whole_copies
from alm_proxies.seeds import generator, seed_of
from alm_proxies.stages.balance.drift import STAGE, Control, controls_of, drift_check
from alm_proxies.stages.balance.rendering import rendered
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.tables import ATTRIBUTES, Finding, Labels, Utterances

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Index = NDArray[np.int64]

FEWEST = 60
"""Fewer utterances than this teach a listener nothing, and no items are generated."""
_FEWEST_SPEAKERS = 3
_LEAST, _MOST = 0.5, 0.9  # share of the first parent
_CUT = 0.95  # a mixture shorter than this part of its first parent may lack words of it


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Generated rows for the tables of labels and utterances, and how the drift check judged."""

    labels: pl.DataFrame
    utterances: pl.DataFrame
    items: pl.DataFrame
    """One row an item: utterance_id, parent, second, effect ("mix") and its parameters as text."""
    tried: int
    distances: Array
    """Of every item that was tried: how far it is from the mixture of its parents."""
    threshold: float
    controls: tuple[Control, ...]
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two rows to be mixed, the share of the first, and the item's id."""

    name: str
    first: int
    second: int
    share: float


def generate(
    part: Labels, rows: pl.DataFrame, utterances: Utterances, weights: Array, settings: BalanceSettings, folder: Path
) -> Generated | Finding:
    """Items mixed of the utterances in `rows`, first parents drawn by weight; a finding where none can be made.

    A machine drift check rejects items in which a listener that was trained on neither parent hears another emotion.
    """
    ids = rows["utterance_id"].to_list()
    sounds = Sounds(utterances, stage=STAGE)
    vectors = vectors_of(ids, sounds, measuring(STAGE), width=len(NAMES), digest=DIGEST, folder=folder / "features")
    speakers = pl.select(pl.coalesce(rows["speaker"], rows["utterance_id"])).to_series().to_list()
    heard = {speakers[row] for row in np.flatnonzero(vectors.known)}
    if int(vectors.known.sum()) < FEWEST or len(heard) < _FEWEST_SPEAKERS:
        message = (
            f"no items are generated: {int(vectors.known.sum())} recordings of {len(heard)} speakers are too few to "
            "train the listener that has to check them"
        )
        fix = f"Give {FEWEST} recordings of {_FEWEST_SPEAKERS} speakers or more, or leave generated.size out."
        return Finding(STAGE, "not_generated", message, fix)
    targets = part.distributions()
    drift = drift_check(vectors.rows, vectors.known, targets, speakers, seed=settings.seed)
    said = [
        (speaker, words) if speaker is not None and words is not None else None
        for speaker, words in rows.select("speaker", "transcript").iter_rows()
    ]
    controls = controls_of(drift, ids, sounds, targets, said, seed=settings.seed, count=settings.generated.controls)
    findings = [*vectors.findings, *_blind(controls)]
    pairs, lonely = _pairs(
        rows, vectors.rows, targets, drift.fold, weights, settings, set(utterances.frame["utterance_id"])
    )
    if lonely:
        message = f"{lonely:,} items have no second parent: no other recording is of the same or a compatible speaker"
        findings.append(
            Finding(STAGE, "without_neighbour", message, 'Set generated.speaker = "compatible".', count=lonely)
        )
    made = _described(pairs, rows, utterances, settings)
    features, seconds, failed = _measured(made, utterances)
    findings += failed
    able = [place for place, one in enumerate(features) if one is not None]
    d = np.full(len(pairs), np.nan)
    if able:
        parents = [[(pairs[p].first, pairs[p].share), (pairs[p].second, 1 - pairs[p].share)] for p in able]
        d[able] = drift.distances(np.stack([one for one in features if one is not None]), parents)
    passed = d <= drift.threshold
    out = int((d > drift.threshold).sum())
    if out:
        message = f"{out:,} of {len(able):,} generated items are left out: the listener hears another emotion in them"
        findings.append(Finding(STAGE, "drifted", message, "Nothing has to be done.", count=out))
    kept = np.flatnonzero(passed).tolist()
    made = _with_words(made[kept], [pairs[p] for p in kept], [seconds[p] for p in kept], rows, sounds)
    items = pl.DataFrame(
        [(p.name, ids[p.first], ids[p.second], "mix", f"{p.share:.0%} of the first") for p in (pairs[k] for k in kept)],
        schema=dict.fromkeys(("utterance_id", "parent", "second", "effect", "parameters"), pl.String),
        orient="row",
    )
    labels = _labels([pairs[p] for p in kept], part)
    return Generated(labels, made, items, len(pairs), d[able], drift.threshold, controls, findings)


def _blind(controls: Sequence[Control]) -> list[Finding]:
    findings = []
    for control in controls:
        if control.tried and control.blind:
            message = (
                f"the drift check is blind for {control.name}: it rejects {control.rate:.0%} of {control.tried} clips "
                "changed so"
            )
            fix = "Listen to the items in the page; a check that is blind proves nothing about such changes."
            findings.append(Finding(STAGE, "drift_check_blind", message, fix, where=control.name))
    return findings


def _pairs(
    rows: pl.DataFrame, features: Floats, targets: Array, fold: Index, weights: Array, settings: BalanceSettings,
    taken: set[str],
) -> tuple[list[_Pair], int]:  # fmt: skip
    """First parents by weight, each with one of its nearest neighbours; and how many had none."""
    spectral = [place for place, feature in enumerate(FEATURES) if feature.group == "spectral"]
    able = fold >= 0
    sound = features[:, spectral].astype(np.float64)
    centre, spread = np.nanmean(sound[able], axis=0), np.nanstd(sound[able], axis=0)
    sound = np.nan_to_num((sound - centre) / np.where(spread > 0, spread, np.inf))
    rng = generator(settings.seed, "balance", "neighbours")
    sample = rng.choice(np.flatnonzero(able), (1_000, 2))
    one, other = sample.T
    usual_sound = float(np.median(np.linalg.norm(sound[one] - sound[other], axis=1))) or 1.0
    usual_target = float(np.median(jsd_nats(targets[one], targets[other]))) or 1.0
    columns = ["corpus", "gender", "language"]
    kind = [*zip(*(rows[name].to_list() for name in columns), strict=True)]
    alike: dict[object, list[int]] = {}
    keys: list[object] = []
    for row, speaker in enumerate(rows["speaker"].to_list()):
        own = (speaker,) if settings.generated.speaker == "same" else (*kind[row], int(fold[row]))
        keys.append(own)
        if able[row] and (speaker is not None or settings.generated.speaker == "compatible"):
            alike.setdefault(own, []).append(row)
    wanted = np.where(able, weights, 0.0)
    wanted *= float(settings.generated.size or 0.0) * len(rows) / max(float(wanted.sum()), 1e-12)
    pairs: list[_Pair] = []
    lonely = 0
    for first, count in enumerate(whole_copies(wanted, float(rng.random())).tolist()):
        pool = np.array([row for row in alike.get(keys[first], []) if row != first], dtype=np.int64)
        if not count or not len(pool):
            lonely += count
            continue
        far = np.linalg.norm(sound[pool] - sound[first], axis=1) / usual_sound
        far = far + jsd_nats(targets[pool], targets[first]) / usual_target
        near = pool[np.argsort(far, kind="stable")[: settings.generated.neighbours]]
        for second in rng.choice(near, count).tolist():
            number = 1
            while (name := f"{rows['utterance_id'][first]}#mix{number}") in taken:
                number += 1
            taken.add(name)
            pairs.append(_Pair(name, first, int(second), round(_LEAST + (_MOST - _LEAST) * float(rng.random()), 3)))
    return pairs, lonely


def _described(
    pairs: Sequence[_Pair], rows: pl.DataFrame, utterances: Utterances, settings: BalanceSettings
) -> pl.DataFrame:
    """Rows for the table of utterances: what both parents have in common, and the recipe."""
    firsts, seconds = ([rows["utterance_id"][row] for row in side] for side in
                       ([p.first for p in pairs], [p.second for p in pairs]))  # fmt: skip
    frame = utterances.frame
    sides = [
        pl.DataFrame({"utterance_id": pl.Series(names, dtype=pl.String)}).join(
            frame, on="utterance_id", how="left", maintain_order="left"
        )
        for names in (firsts, seconds)
    ]
    recipes = [
        Recipe(
            parents=((one, p.share), (other, round(1 - p.share, 3))), seed=seed_of(settings.seed, "mix", p.name)
        ).written()
        for p, one, other in zip(pairs, firsts, seconds, strict=True)
    ]
    common = {
        name: pl.select(
            pl.when(sides[0][name].eq_missing(sides[1][name])).then(sides[0][name]).otherwise(None)
        ).to_series()
        for name in frame.columns
    }
    own = {
        "utterance_id": pl.Series([p.name for p in pairs], dtype=pl.String),
        "split": sides[0]["split"],
        "corpus": sides[0]["corpus"],
        "recipe": pl.Series(recipes, dtype=pl.String),
        **{
            name: pl.Series([None] * len(pairs), dtype=frame.schema[name])
            for name in ("audio", "start", "end", "duration")
        },
    }
    return pl.DataFrame({name: own.get(name, common[name]) for name in frame.columns}, schema=frame.schema)


def _measured(made: pl.DataFrame, utterances: Utterances) -> tuple[list[Floats | None], list[float], list[Finding]]:
    """The features and seconds of every generated item, and why there are none."""
    sounds = Sounds(Utterances(pl.concat([utterances.frame, made]), utterances.about), stage=STAGE)
    measured = measuring(STAGE)
    features: list[Floats | None] = []
    seconds: list[float] = []
    findings: list[Finding] = []
    for opened in sounds.ahead(made["utterance_id"]):
        if opened.clip is None:
            findings += opened.findings
            features.append(None)
            seconds.append(0.0)
            continue
        vector, found = measured(opened.clip, opened.utterance_id)
        findings += found
        features.append(vector)
        seconds.append(opened.clip.duration)
    return features, seconds, findings


def _with_words(
    made: pl.DataFrame, pairs: Sequence[_Pair], seconds: Sequence[float], rows: pl.DataFrame, sounds: Sounds
) -> pl.DataFrame:
    """The items with their durations, and with a transcript only where both parents say it and none of it is cut."""
    ids = rows["utterance_id"]
    whole = []
    for pair, length in zip(pairs, seconds, strict=True):
        clips = [sounds.open(ids[row]).clip for row in (pair.first, pair.second)]
        whole.append(all(clip is not None and length >= _CUT * clip.duration for clip in clips))
    said = pl.when(pl.Series(whole, dtype=pl.Boolean)).then(pl.col("transcript")).otherwise(None)
    return made.with_columns(duration=pl.Series(seconds, dtype=pl.Float64), transcript=said)


def _labels(pairs: Sequence[_Pair], part: Labels) -> pl.DataFrame:
    """Rows for the table of labels: targets, concentrations and attributes mixed by share; no votes of their own."""
    first, second = [p.first for p in pairs], [p.second for p in pairs]
    share = np.array([p.share for p in pairs], dtype=np.float64)

    def mixed(name: str) -> pl.Series:
        column = part.frame[name].cast(pl.Float64)
        return pl.Series(name, share) * column.gather(first) + pl.Series(name, 1 - share) * column.gather(second)

    names = [f"p_{label}" for label in part.taxonomy] + ["concentration", *ATTRIBUTES]
    frame = pl.DataFrame({"utterance_id": pl.Series([p.name for p in pairs], dtype=pl.String),
                          **{name: mixed(name) for name in names}})  # fmt: skip
    return Labels.of(frame, about=part.about, where="generated items").frame


def with_generated(
    labels: Labels, utterances: Utterances, generated: Generated, settings: BalanceSettings, folder: Path
) -> tuple[Labels, Utterances]:
    """Both tables with the generated items, whose sound is written to files where the settings ask for it."""
    made, own = generated.utterances, generated.labels
    if settings.render and made.height:
        made, failed = rendered(made, utterances, folder / "audio")
        generated.findings.extend(failed)
        own = own.filter(pl.col("utterance_id").is_in(made["utterance_id"].implode()))
    frame = pl.concat([labels.frame, own.select(labels.frame.columns)])
    described = pl.concat([utterances.frame, made])
    return (
        Labels.of(frame, about=labels.about, where="labels"),
        Utterances.of(described, about=utterances.about, where="utterances"),
    )
