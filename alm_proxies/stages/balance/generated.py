"""Generated items: two neighbours, close in target and features, are mixed, and checked for drift."""

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
from alm_proxies.audio.vectors import Vectors, vectors_of
from alm_proxies.measures.divergence import jsd_nats
from alm_proxies.measures.resampling import whole_copies
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.drift import STAGE, Control, controls_of, drift_check
from alm_proxies.stages.balance.mixtures import Pair, described, labels_of, opened
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.tables import Finding, Labels, Utterances

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Index = NDArray[np.int64]

FEWEST = 60
"""The lowest number of utterances for training a listener; with fewer, no items are generated."""
_FEWEST_SPEAKERS = 3
_LEAST, _MOST = 0.5, 0.9  # share of the first parent


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Generated rows for the tables of labels and utterances, and the results of the drift check."""

    labels: pl.DataFrame
    utterances: pl.DataFrame
    items: pl.DataFrame
    """One row per item: utterance_id, parent, second, effect ("mix") and its parameters as text."""
    tried: int
    distances: Array
    """The distance from the mixture of its parents, for every item tried."""
    threshold: float
    controls: tuple[Control, ...]
    findings: list[Finding]


def hear(rows: pl.DataFrame, sounds: Sounds, folder: Path) -> Vectors:
    """The measured features of every row; unknown where its recording cannot be used."""
    ids = rows["utterance_id"].to_list()
    return vectors_of(ids, sounds, measuring(STAGE), width=len(NAMES), digest=DIGEST, folder=folder / "features")


def generate(
    part: Labels,
    rows: pl.DataFrame,
    utterances: Utterances,
    weights: Array,
    settings: BalanceSettings,
    sounds: Sounds,
    vectors: Vectors,
) -> Generated | Finding:
    """Generate items by mixing the utterances in `rows`, with first parents drawn by weight; a finding if none can be
    made. `vectors` are the rows' features (`hear`).

    The drift check rejects items for which a listener that was trained on neither parent predicts another emotion.
    """
    ids = rows["utterance_id"].to_list()
    speakers = pl.select(pl.coalesce(rows["speaker"], rows["utterance_id"])).to_series().to_list()
    heard = {speakers[row] for row in np.flatnonzero(vectors.known)}
    if int(vectors.known.sum()) < FEWEST or len(heard) < _FEWEST_SPEAKERS:
        message = (
            f"no items are generated: {counted(int(vectors.known.sum()), 'recording')} of {len(heard)} speakers are "
            "too few to train the listener that checks them"
        )
        fix = f"Give {FEWEST} recordings of {_FEWEST_SPEAKERS} speakers or more, or leave generated.size out."
        return Finding(STAGE, "not_generated", message, fix)
    targets = part.distributions()
    drift = drift_check(vectors.rows, vectors.known, targets, speakers, seed=settings.seed)
    sentences = [
        (speaker, words) if speaker is not None and words is not None else None
        for speaker, words in rows.select("speaker", "transcript").iter_rows()
    ]
    controls = controls_of(
        drift, ids, sounds, targets, sentences, seed=settings.seed, count=settings.generated.controls
    )
    findings = _blind(controls)
    pairs, lonely = _pairs(
        rows, vectors.rows, targets, drift.fold, weights, settings, set(utterances.frame["utterance_id"])
    )
    if lonely:
        message = (
            f"{counted(lonely, 'item has', 'items have')} no second parent: there is no other recording of the same "
            "or a compatible speaker"
        )
        findings.append(
            Finding(STAGE, "without_neighbour", message, 'Set generated.speaker = "compatible".', count=lonely)
        )
    measured = measuring(STAGE)
    features: list[Floats | None] = []
    seconds, uncut = [], []
    for mixture in opened(pairs, rows, sounds, settings.seed):
        feature = None
        findings += mixture.findings
        if mixture.clip is not None:
            feature, more = measured(mixture.clip, mixture.pair.name)
            findings += more
        features.append(feature)
        seconds.append(mixture.clip.duration if mixture.clip is not None else 0.0)
        uncut.append(mixture.whole)
    able = [place for place, row_features in enumerate(features) if row_features is not None]
    d = np.full(len(pairs), np.nan)
    if able:
        parents = [[(pairs[p].first, pairs[p].share), (pairs[p].second, 1 - pairs[p].share)] for p in able]
        d[able] = drift.distances(
            np.stack([row_features for row_features in features if row_features is not None]), parents
        )
    passed = d <= drift.threshold
    out = int((d > drift.threshold).sum())
    if out:
        message = (
            f"{out:,} of {len(able):,} generated items are left out: the listener predicts another emotion for them"
        )
        findings.append(Finding(STAGE, "drifted", message, "No action is needed.", count=out))
    kept = np.flatnonzero(passed).tolist()
    chosen = [pairs[place] for place in kept]
    new_rows = described(chosen, rows, utterances, settings.seed).with_columns(
        duration=pl.Series([seconds[place] for place in kept], dtype=pl.Float64),
        transcript=pl.when(pl.Series([uncut[place] for place in kept], dtype=pl.Boolean)).then(pl.col("transcript")),
    )  # a transcript only if both parents have the same one and none of it is cut
    items = pl.DataFrame(
        [(p.name, ids[p.first], ids[p.second], "mix", f"{p.share:.0%} of the first") for p in chosen],
        schema=dict.fromkeys(("utterance_id", "parent", "second", "effect", "parameters"), pl.String),
        orient="row",
    )
    return Generated(labels_of(chosen, part), new_rows, items, len(pairs), d[able], drift.threshold, controls, findings)


def _blind(controls: Sequence[Control]) -> list[Finding]:
    findings = []
    for control in controls:
        if control.tried and control.blind:
            message = (
                f"the drift check is blind for {control.name}: it rejects {control.rate:.0%} of {control.tried} clips "
                "changed so"
            )
            fix = "Listen to the items in the page; a blind check is no evidence about such changes."
            findings.append(Finding(STAGE, "drift_check_blind", message, fix, where=control.name))
    return findings


def _pairs(
    rows: pl.DataFrame, features: Floats, targets: Array, fold: Index, weights: Array, settings: BalanceSettings,
    taken: set[str],
) -> tuple[list[Pair], int]:  # fmt: skip
    """First parents drawn by weight, each with one of its nearest neighbours; and the number without one."""
    spectral = [place for place, feature in enumerate(FEATURES) if feature.group == "spectral"]
    able = fold >= 0
    sound = features[:, spectral].astype(np.float64)
    centre, spread = np.nanmean(sound[able], axis=0), np.nanstd(sound[able], axis=0)
    sound = np.nan_to_num((sound - centre) / np.where(spread > 0, spread, np.inf))
    rng = generator(settings.seed, "balance", "neighbours")
    sample = rng.choice(np.flatnonzero(able), (1_000, 2))
    alone, other = sample.T
    usual_sound = float(np.median(np.linalg.norm(sound[alone] - sound[other], axis=1))) or 1.0
    usual_target = float(np.median(jsd_nats(targets[alone], targets[other]))) or 1.0
    columns = list(dict.fromkeys(["corpus", "gender", "language", *(settings.groups or ())]))
    kind = [*zip(*(rows[name].to_list() for name in columns), strict=True)]
    alike: dict[object, list[int]] = {}
    keys: list[object] = []
    splits = rows["split"].to_list()  # the sound of one must not get into another
    used = rows["weight"].to_numpy() > 0  # nor that of an utterance that is not used into one that is
    for row, speaker in enumerate(rows["speaker"].to_list()):
        own = (speaker,) if settings.generated.speaker == "same" else (int(fold[row]),)
        own = (*own, *kind[row], splits[row])
        keys.append(own)
        if able[row] and used[row] and (speaker is not None or settings.generated.speaker == "compatible"):
            alike.setdefault(own, []).append(row)
    wanted = np.where(able, weights, 0.0)
    wanted *= float(settings.generated.size or 0.0) * len(rows) / max(float(wanted.sum()), 1e-12)
    pairs: list[Pair] = []
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
            pairs.append(Pair(name, first, int(second), round(_LEAST + (_MOST - _LEAST) * float(rng.random()), 3)))
    return pairs, lonely
