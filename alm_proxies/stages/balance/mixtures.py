"""Mixtures of two utterances: their rows in the tables of labels and utterances, and their audio."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.audio.clip import SILENT, Clip, decode_ahead
from alm_proxies.audio.recipe import Recipe, Sounds, render
from alm_proxies.seeds import seed_of
from alm_proxies.stages.balance.rendering import rendered
from alm_proxies.tables import ATTRIBUTES, Finding, Labels, Utterances

STAGE = "balance"
CUT = 0.95
"""A mixture shorter than this part of a parent may miss words of it."""
Effects = tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows to mix, the share of the first, the item's id, and the effects on the mixture."""

    name: str
    first: int
    second: int
    share: float
    effects: Effects = ()


@dataclass(frozen=True, slots=True)
class Mixture:
    """The audio of a mixture and the durations of both parents; findings if one cannot be opened, or it is silent."""

    pair: Pair
    clip: Clip | None
    seconds: tuple[float, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether hardly anything of either parent was cut off."""
        return self.clip is not None and self.clip.duration >= CUT * max(self.seconds)


def described(pairs: Sequence[Pair], rows: pl.DataFrame, utterances: Utterances, seed: int) -> pl.DataFrame:
    """Rows for the table of utterances: the values common to both parents, and the recipe."""
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
        _recipe(pair, first, other, seed).written() for pair, first, other in zip(pairs, firsts, seconds, strict=True)
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


def _recipe(pair: Pair, first: str, second: str, seed: int) -> Recipe:
    parents = ((first, pair.share), (second, round(1 - pair.share, 3)))
    return Recipe(parents=parents, effects=pair.effects, seed=seed_of(seed, "mix", pair.name))


def opened(pairs: Sequence[Pair], rows: pl.DataFrame, sounds: Sounds, seed: int) -> Generator[Mixture, None, None]:
    """The audio of every mixture, in order, rendered ahead by threads; each parent of it is opened once."""
    ids = rows["utterance_id"]

    def mixture_of(pair: Pair) -> Mixture:
        first, second = ids[pair.first], ids[pair.second]
        clips, findings = [], []
        for parent in (first, second):
            opened_parent = sounds.open(parent)
            if opened_parent.clip is None:
                why = "; ".join(f"{finding.kind}: {finding.message}" for finding in opened_parent.findings)
                fix = opened_parent.findings[0].fix
                message = f"its parent {parent} cannot be opened ({why})"
                findings.append(Finding(STAGE, "parent_failed", message, fix, utterance_id=pair.name))
            else:
                clips.append(opened_parent.clip)
        if findings:
            return Mixture(pair, None, findings=tuple(findings))
        clip = render(_recipe(pair, first, second, seed), clips)
        if np.ptp(clip.samples) / 2 < SILENT:
            message = f"left out: it would be silent, as {first} is for as long as {second} lasts"
            return Mixture(pair, None, findings=(Finding(STAGE, "silent_item", message, utterance_id=pair.name),))
        return Mixture(pair, clip, tuple(clip.duration for clip in clips))

    yield from decode_ahead(pairs, mixture_of)


def labels_of(pairs: Sequence[Pair], part: Labels) -> pl.DataFrame:
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


def with_mixtures(
    labels: Labels,
    utterances: Utterances,
    own: pl.DataFrame,
    rows: pl.DataFrame,
    folder: Path | None,
    cards: Path | None,
) -> tuple[Labels, Utterances, list[Finding]]:
    """Both tables with the rows of mixtures; their audio is written to files below `folder`, if one is given."""
    findings: list[Finding] = []
    if folder is not None and rows.height:
        rows, findings = rendered(rows, utterances, folder / "audio", cards)
        own = own.filter(pl.col("utterance_id").is_in(rows["utterance_id"].implode()))
    frame = pl.concat([labels.frame, own], how="diagonal").select(labels.frame.columns)  # others are null
    return (
        Labels.of(frame, about=labels.about, where="labels"),
        Utterances.of(pl.concat([utterances.frame, rows]), about=utterances.about, where="utterances"),
        findings,
    )
