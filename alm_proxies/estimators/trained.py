"""Proxies trained on human votes: those that saw the same votes are refused, the folds of others are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.errors import InputError
from alm_proxies.tables import About, Utterances

Index = NDArray[np.int64]
_NEEDED = 0.5
"""The share of the utterances that must have a known fold."""
FEWEST_SPEAKERS = 3
"""The fewest speakers for folds of speakers; proxies trained on fewer have folds of utterances."""


@dataclass(frozen=True, slots=True)
class ProxyFolds:
    """The folds that a proxy was trained in, for the utterances of some counts."""

    annotator: str
    fold: Index | None
    """Fold of each utterance, -1 if not known; None if a fit makes its own folds: most are not known, or they are of
    utterances although there are speakers enough.
    """
    parted: bool = False
    """Whether some speaker is in several folds."""

    def rows(self, rows: NDArray[np.int64]) -> ProxyFolds:
        """The same for some utterances."""
        return self if self.fold is None else replace(self, fold=self.fold[rows])


def refuse_trained(annotators: Iterable[str], about: About) -> None:
    """Raise for proxies with metadata saying that they were trained on the human votes of the same utterances."""
    for name in sorted(annotators):
        card = about.annotators.get(name)
        if card is not None and card.trained_on_these_votes == "yes":
            raise InputError(
                f"the proxy {name!r} was trained on the human votes that it is fused with: it would count them twice",
                where="votes",
                fix="Give votes of models trained without the utterance's speaker (out_of_fold), or leave it out.",
            )


def folds_of_proxies(
    annotators: Iterable[str], about: About, ids: pl.Series, utterances: Utterances | None
) -> ProxyFolds | None:
    """The folds of the first proxy that has folds, by speaker or, if speakers are not known, by utterance."""
    for name in sorted(annotators):
        card = about.annotators.get(name)
        if card is None or not card.folds:
            continue
        keys = ids.rename("utterance_id").to_frame().with_columns(key=pl.col("utterance_id"))
        if utterances is not None:
            people = utterances.frame.select("utterance_id", "speaker")
            joined = keys.join(people, on="utterance_id", how="left", maintain_order="left")
            keys = joined.with_columns(key=pl.coalesce("speaker", "utterance_id"))
        schema = {"key": pl.String(), "fold": pl.Int64()}
        table = pl.DataFrame({"key": list(card.folds), "fold": list(card.folds.values())}, schema=schema)
        if len(table.filter(pl.col("key").is_in(keys["key"].unique().implode()))) == 0:
            keys = keys.with_columns(key=pl.col("utterance_id"))
        folds = keys.join(table, on="key", how="left", maintain_order="left")["fold"]
        if folds.null_count() > _NEEDED * len(folds):
            return ProxyFolds(name, None)
        parted = "speaker" in keys.columns and _parted(keys["speaker"], folds)
        if parted and keys["speaker"].n_unique() >= FEWEST_SPEAKERS:
            return ProxyFolds(name, None, parted)
        return ProxyFolds(name, folds.fill_null(-1).to_numpy().astype(np.int64), parted)
    return None


def _parted(speakers: pl.Series, fold: pl.Series) -> bool:
    """Whether some speaker is in several folds, so that the folds are not speaker-disjoint."""
    known = pl.DataFrame({"speaker": speakers, "fold": fold}).drop_nulls()
    return bool(known.group_by("speaker").agg(pl.col("fold").n_unique() > 1)["fold"].any())
