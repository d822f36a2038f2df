"""Human votes that no fit may see: whole splits, and all but a few votes of every other utterance."""

from __future__ import annotations

from typing import Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from alm_proxies.columns import did_you_mean
from alm_proxies.errors import SettingsError
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Utterances, Votes


class HoldOut(BaseModel):
    """Which human votes are kept out of every fit, to score against: a pipeline file's [hold_out]."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    splits: tuple[str, ...] = ()
    """All human votes of these splits are held out."""
    keep: int | None = Field(default=None, ge=0)
    """Elsewhere an utterance keeps this many human votes for the fit, chosen by the seed; all, if it is left out."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.splits and self.keep is None:
            raise ValueError('holds nothing out: write keep = 3, splits = ["test"] or both')
        return self


def hold_out_of(said: str) -> HoldOut:
    """The setting as the command line says it: "keep=3", "splits=test,test2" or "splits=test keep=3"."""
    mend = 'Write "keep=3", "splits=test,test2" or "splits=test keep=3".'
    values: dict[str, str] = {}
    for part in said.split():
        name, equals, value = part.partition("=")
        if name not in ("splits", "keep") or not equals or not value or name in values:
            raise SettingsError(f"{part!r} says nothing of what to hold out", mend=mend)
        values[name] = value
    keep = values.get("keep")
    splits = tuple(name for name in values.get("splits", "").split(",") if name)
    if (keep is None and not splits) or (keep is not None and not (keep.isascii() and keep.isdigit())):
        raise SettingsError(f"{said!r} says nothing of what to hold out", mend=mend)
    return HoldOut(splits=splits, keep=int(keep) if keep is not None else None)


def hold_out(votes: Votes, utterances: Utterances, wanted: HoldOut, seed: int) -> tuple[Votes, list[Finding]]:
    """The votes with `held_out` written: same seed, same choice for an utterance, whatever else is read with it.

    Counted are draws that are ok. A consensus label is no vote: it is held out where any vote behind it is.
    """
    _known_splits(wanted, utterances)
    away = utterances.frame.filter(pl.col("split").is_in(list(wanted.splits)))["utterance_id"]
    frame = votes.frame.drop("held_out").with_row_index("_row")
    human = frame.filter(pl.col("source") == "human").with_columns(
        _away=pl.col("utterance_id").is_in(away.implode()),
        _consensus=pl.col("annotator").str.ends_with("/consensus"),
    )
    held = human.filter("_away")["_row"].to_list()
    if wanted.keep is not None:
        held += _surplus(human.filter(~pl.col("_away")), wanted.keep, seed)
    frame = frame.with_columns(held_out=pl.col("_row").is_in(pl.Series(held, dtype=frame["_row"].dtype).implode()))
    made = Votes.of(frame.drop("_row").select(votes.frame.columns), about=votes.about)
    return made, _told(made, wanted)


def _surplus(human: pl.DataFrame, keep: int, seed: int) -> list[int]:
    """The rows beyond `keep` draws of each utterance, chosen by the seed."""
    draw = ["utterance_id", "annotator", "draw"]
    alone = pl.col("_consensus").all().over("utterance_id")
    counted = human.filter((pl.col("status") == "ok") & (~pl.col("_consensus") | alone))
    draws = counted.select(draw).unique().sort(draw)
    sizes = draws.group_by("utterance_id", maintain_order=True).len()
    chosen: list[np.ndarray] = []
    start = 0
    for utterance_id, size in sizes.iter_rows():
        if size > keep:
            order = generator(seed, "hold_out", utterance_id).permutation(size)
            chosen.append(start + np.sort(order[keep:]))
        start += size
    if not chosen:
        return []
    held = draws[np.concatenate(chosen)]
    rows = counted.join(held, on=draw, how="semi")["_row"].to_list()
    behind = human.filter(pl.col("_consensus") & ~alone & pl.col("utterance_id").is_in(held["utterance_id"].implode()))
    return rows + behind["_row"].to_list()


def _known_splits(wanted: HoldOut, utterances: Utterances) -> None:
    known = sorted(utterances.frame["split"].drop_nulls().unique().to_list())
    for name in wanted.splits:
        if name not in known:
            there = f"There are: {', '.join(known)}." if known else "No utterance has a split; ask for one: split."
            mend = f"{did_you_mean(name, known)} {there}".strip()
            raise SettingsError(f"no utterance is in the split {name!r} that is to be held out", mend=mend)


def _told(votes: Votes, wanted: HoldOut) -> list[Finding]:
    human = votes.frame.filter(pl.col("source") == "human")
    held = human.filter("held_out").select("utterance_id", "annotator", "draw").unique()
    told = [
        Finding(
            "read",
            "held_out",
            f"{held.height} human votes of {held['utterance_id'].n_unique()} utterances are held out",
            count=held.height,
        )
    ]
    bare = human.group_by("utterance_id").agg(pl.col("held_out").any()).filter(~pl.col("held_out")).height
    if wanted.keep is not None and bare:
        what = f"{bare} utterances have no vote beyond the {wanted.keep} kept for the fit, so nothing scores them"
        told.append(Finding("read", "nothing_held_out", what, "Keep fewer, or hold a split out.", count=bare))
    return told
