"""Whole copies instead of weights: the number of copies of each utterance, and the effect on every copy after the
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.looking import faults_of
from alm_proxies.audio.recipe import Recipe
from alm_proxies.audio.strength import EMOTIONAL, WITHOUT_CHANCE, effect_at
from alm_proxies.errors import InputError
from alm_proxies.measures.resampling import whole_copies
from alm_proxies.printable import counted
from alm_proxies.seeds import generator, seed_of
from alm_proxies.stages.balance.needed import Recordings, has_recording
from alm_proxies.stages.balance.rendering import rendered
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.wishes import Wish
from alm_proxies.tables import Finding, Labels, Utterances

Array = NDArray[np.float64]
Index = NDArray[np.int64]

NEAR = 0.01
"""The tolerance of copies: a percentage point from the wanted shares."""
_STARTS = 32
"""The highest number of resampling starts that are tried for copies within the tolerance."""


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """The result of copying: labels, utterances, copies, and the reached shares."""

    labels: Labels
    utterances: Utterances
    items: pl.DataFrame
    """One row per copy after the first: utterance_id, parent, second (null), effect, and its parameters as text."""
    kept: int
    """The number of balanced utterances with at least one copy."""
    reached: Array
    """The share of each wish over all items."""
    wanted: Array
    findings: list[Finding]
    recordings: Recordings
    """The recordings that copies are made of."""

    @property
    def worst(self) -> int:
        """The wish farthest from its target."""
        return int(np.abs(self.reached - self.wanted).argmax())


def with_copies(
    labels: Labels,
    utterances: Utterances,
    rows: pl.DataFrame,
    weights: Array,
    wishes: Sequence[Wish],
    settings: BalanceSettings,
    folder: Path,
) -> Copied:
    """The labels with whole copies of the utterances in `rows`, by their weights; all others are unchanged.

    An utterance without a copy is left out of the labels. Every copy after the first is a separate row in both tables,
    `<id>#2` and so on, with a recipe of its parent and one effect. It keeps speaker, split, groups and target.
    """
    size = float(settings.copies.size or 1.0)
    counts = _counts(rows, labels.taxonomy, weights * size, wishes, settings)
    audible, recordings, findings = _audible(rows, counts, utterances)
    items, copies = _items(rows, np.where(audible, counts, np.minimum(counts, 1)), utterances, settings)
    if settings.render and copies.height:
        copies, more = rendered(copies, utterances, folder / "audio", settings.cards)
        findings += more
        has_sound = items["utterance_id"].is_in(copies["utterance_id"].implode())
        lost = items.filter(~has_sound).group_by("parent").len().rename({"parent": "utterance_id"})
        recordings |= Recordings(lost=frozenset(lost["utterance_id"]))
        lost = rows.join(lost, on="utterance_id", how="left", maintain_order="left")
        counts = counts - lost["len"].fill_null(0).to_numpy().astype(np.int64)
        items = items.filter(has_sound)
    reached, wanted = _reached(counts, wishes), np.array([wish.target for wish in wishes])
    by_weights = _reached(weights, wishes)
    findings += _findings(rows, counts, reached, by_weights, wishes) + _emotional(items)
    first = pl.DataFrame({"utterance_id": rows["utterance_id"], "_copies": counts, "_audible": audible})
    joined = labels.frame.join(first, on="utterance_id", how="left", maintain_order="left")
    whole_weight = pl.when("_audible").then(1.0).otherwise(pl.col("_copies").cast(pl.Float64))
    joined = joined.filter(pl.col("_copies").fill_null(1) > 0).with_columns(
        weight=pl.when(pl.col("_copies").is_null()).then("weight").otherwise(whole_weight)
    )
    joined = joined.drop("_copies", "_audible")
    parents = items.select("utterance_id", "parent").join(
        joined.rename({"utterance_id": "parent"}), on="parent", how="left", maintain_order="left"
    )
    frame = pl.concat([joined, parents.drop("parent").select(joined.columns)])
    described = pl.concat([utterances.frame, copies]) if copies.height else utterances.frame
    return Copied(
        Labels.of(frame, about=labels.about, where="labels"),
        Utterances.of(described, about=utterances.about, where="utterances"),
        items,
        int((counts > 0).sum()),
        reached,
        wanted,
        findings,
        recordings,
    )


def _counts(
    rows: pl.DataFrame, taxonomy: Sequence[str], weights: Array, wishes: Sequence[Wish], settings: BalanceSettings
) -> Index:
    """The number of copies of each row, by systematic resampling with similar rows adjacent.

    The first start with all shares within a point of the wanted ones is used; if there is none, the nearest of 32.
    """
    shares = rows.select(f"p_{label}" for label in taxonomy).to_numpy()
    groups = [rows[kind].fill_null("").rank("dense").to_numpy() for kind in _group_columns(rows, wishes)]
    level = rows["ambiguity"].cast(pl.String).fill_null("").rank("dense").to_numpy()
    order = np.lexsort((shares.max(1), *groups, level, shares.argmax(1)))
    rng = generator(settings.seed, "balance", "copies")
    wanted = np.array([wish.target for wish in wishes])
    best, nearest = np.zeros(len(rows), dtype=np.int64), np.inf
    for _ in range(_STARTS):
        counts = np.empty(len(rows), dtype=np.int64)
        counts[order] = whole_copies(weights[order], float(rng.random()))
        if not counts.any():
            continue
        worst = float(np.abs(_reached(counts, wishes) - wanted).max(initial=0.0))
        if worst < nearest:
            best, nearest = counts, worst
        if nearest <= NEAR:
            break
    if not best.any():
        fix = "Raise copies.size."
        raise InputError(
            "the requested number of copies is so low that there would be none", where="copies.size", fix=fix
        )
    return best


def _group_columns(rows: pl.DataFrame, wishes: Sequence[Wish]) -> list[str]:
    named = dict.fromkeys(wish.kind for wish in wishes)
    return [kind for kind in named if kind in rows.columns and rows.schema[kind] == pl.String and kind != "ambiguity"]


def _reached(counts: Index | Array, wishes: Sequence[Wish]) -> Array:
    share = counts / max(float(counts.sum()), 1.0)
    return np.array([float(share @ wish.feature) for wish in wishes])


def _findings(
    rows: pl.DataFrame, counts: Index, reached: Array, by_weights: Array, wishes: Sequence[Wish]
) -> list[Finding]:
    """Findings for shares that copies miss and weights do not, or by less; and for utterances without a copy."""
    findings = []
    wanted = np.array([wish.target for wish in wishes])
    away, weights_away = np.abs(reached - wanted), np.abs(by_weights - wanted)
    for place in np.flatnonzero(away > NEAR + np.where(weights_away > NEAR, weights_away, 0.0)):
        wish = wishes[int(place)]
        message = (
            f"{wish.kind} {wish.name}: the wanted share is {wish.target:.1%}, whole copies reach {reached[place]:.1%}"
        )
        fix = "Ask for more copies (copies.size = 2), or keep weights."
        findings.append(Finding("balance", "copies_off_target", message, fix, where=f"{wish.kind} {wish.name}"))
    without = counts == 0
    if without.any():
        count = int(without.sum())
        message = f"{counted(count, 'utterance')} of small weight without a copy left out"
        example = rows["utterance_id"].filter(pl.Series(without))[0]
        fix = "Ask for more copies (copies.size = 2), or keep weights, to have all of them."
        findings.append(Finding("balance", "without_a_copy", message, fix, utterance_id=example, count=count))
    return findings


def _emotional(items: pl.DataFrame) -> list[Finding]:
    """A finding for each effect that changes a cue of emotion."""
    findings = []
    for effect, count in items.group_by("effect").len().sort("effect").iter_rows():
        if cue := EMOTIONAL.get(effect):
            message = (
                f"{count:,} copies have the effect {effect}, which changes their {cue}: listeners may vote otherwise "
                "than for the utterance whose target they keep"
            )
            fix = f"Leave {effect} out of copies.effects."
            findings.append(Finding("balance", "effect_changes_emotion", message, fix, where=effect, count=count))
    return findings


def _audible(
    rows: pl.DataFrame, counts: Index, utterances: Utterances
) -> tuple[NDArray[np.bool_], Recordings, list[Finding]]:
    """Which rows can be copied, the recordings looked at for this, and findings about rows that cannot."""
    has = rows.select(has_recording()).to_series().to_numpy()
    ids = rows["utterance_id"]
    wanted = ids.filter(pl.Series(has & (counts > 1)))
    parents = utterances.frame.filter(pl.col("utterance_id").is_in(wanted.implode()))
    findings = faults_of(Utterances(parents, utterances.about), stage="balance")
    lost = frozenset(finding.utterance_id for finding in findings if finding.utterance_id is not None)
    usable = ~ids.is_in(list(lost)).to_numpy()
    without = ~(has & usable) & (counts > 1)
    if without.any():
        count = int(without.sum())
        message = f"{counted(count, 'utterance')} without a recording that can be used here: weights in place of copies"
        example = ids.filter(pl.Series(without))[0]
        fix = "Give the recordings."
        findings.append(Finding("balance", "not_copied", message, fix, utterance_id=example, count=count))
    return has & usable, Recordings(frozenset(wanted), lost), findings


def _items(
    rows: pl.DataFrame, counts: Index, utterances: Utterances, settings: BalanceSettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The copies after the first, and their rows for the table of utterances."""
    taken = set(utterances.frame["utterance_id"])
    names = settings.copies.effects
    rows_of_copies: list[tuple[str, str, None, str, str, str, float]] = []
    for row in np.flatnonzero(counts > 1):
        parent = str(rows["utterance_id"][int(row)])
        number = 1
        done: list[tuple[str, dict[str, Any]]] = []
        for _ in range(int(counts[row]) - 1):
            number += 1
            while f"{parent}#{number}" in taken:
                number += 1
            rng = generator(settings.seed, "copy", parent, number)
            name = names[int(rng.integers(len(names)))]
            effect = effect_at(name, settings.copies.strength, rng)
            while effect in done and name in WITHOUT_CHANCE:  # the same once more would be the same sound
                effect = effect_at(name, settings.copies.strength * (1 - 0.5 * float(rng.random())), rng)
            done.append(effect)
            seed = seed_of(settings.seed, "effects", parent, number)
            recipe = Recipe(parents=((parent, 1.0),), effects=(effect,), seed=seed)
            parameters = ", ".join(f"{key} {f'{value:.3g}' if isinstance(value, float) else value}"
                             for key, value in effect[1].items())  # fmt: skip
            faster = float(effect[1]["factor"]) if effect[0] == "speed" else 1.0
            rows_of_copies.append((f"{parent}#{number}", parent, None, effect[0], parameters, recipe.written(), faster))
    columns = {
        "utterance_id": pl.String, "parent": pl.String, "second": pl.String, "effect": pl.String,
        "parameters": pl.String, "recipe": pl.String, "faster": pl.Float64,
    }  # fmt: skip
    items = pl.DataFrame(rows_of_copies, schema=columns, orient="row")
    beside = utterances.frame.rename({"utterance_id": "parent"}).drop("recipe")
    joined = items.join(beside, on="parent", how="left", maintain_order="left")
    seconds = pl.coalesce(pl.col("end") - pl.col("start").fill_null(0.0), "duration") / pl.col("faster")
    hides = pl.col("effect") == "mask_time"
    joined = joined.with_columns(
        audio=pl.lit(None, pl.String),
        start=pl.lit(None, pl.Float64),
        end=pl.lit(None, pl.Float64),
        duration=seconds,
        transcript=pl.when(hides).then(None).otherwise("transcript"),  # a word may be masked
    )
    return items.drop("recipe", "faster"), joined.select(utterances.frame.columns)
