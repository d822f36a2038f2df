"""Proxies that were trained on human votes: those that saw the very votes are refused, the folds of others are kept."""

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
"""The share of the utterances whose fold must be known."""


@dataclass(frozen=True, slots=True)
class ProxyFolds:
    """The folds that a proxy was trained in, for the utterances of some counts."""

    annotator: str
    fold: Index | None
    """-1 where it is not known; None where it is not known of most: a fit then makes folds of its own."""

    def rows(self, rows: NDArray[np.int64]) -> ProxyFolds:
        """The same for some utterances."""
        return self if self.fold is None else replace(self, fold=self.fold[rows])


def refuse_trained(annotators: Iterable[str], about: About) -> None:
    """Refuse proxies whose card says that they were trained on the human votes of the utterances they vote on."""
    for name in sorted(annotators):
        card = about.annotators.get(name)
        if card is not None and card.trained_on_these_votes == "yes":
            raise InputError(
                f"the proxy {name!r} was trained on the human votes that it stands beside: it would count them twice",
                where="votes",
                fix="Give votes of models trained without the utterance's speaker (out_of_fold), or leave it out.",
            )


def folds_of_proxies(
    annotators: Iterable[str], about: About, ids: pl.Series, utterances: Utterances | None
) -> ProxyFolds | None:
    """The folds of the first proxy that brings some, by speaker or, where speakers are not known, by utterance."""
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
        found = keys.join(table, on="key", how="left", maintain_order="left")["fold"]
        if found.null_count() > _NEEDED * len(found):
            return ProxyFolds(name, None)
        if "speaker" in keys.columns and _parted(keys["speaker"], found):
            return ProxyFolds(name, None)
        return ProxyFolds(name, found.fill_null(-1).to_numpy().astype(np.int64))
    return None


def _parted(speakers: pl.Series, fold: pl.Series) -> bool:
    """Whether some speaker is in several folds: these folds cannot keep speakers whole."""
    known = pl.DataFrame({"speaker": speakers, "fold": fold}).drop_nulls()
    return bool(known.group_by("speaker").agg(pl.col("fold").n_unique() > 1)["fold"].any())
