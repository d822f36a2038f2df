"""What a format has no place for, as findings of its writer: weights, ratings, and chats of small weight."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.printable import counted
from alm_proxies.stages.export.items import Items
from alm_proxies.tables import ATTRIBUTES, Finding

_EQUAL = 1e-9


def without_weights(items: Items, where: str) -> list[Finding]:
    """A finding if weights differ and `where` has none; `where` is a format or some of its files."""
    weights = items.frame["weight"]
    if _equal(weights):
        return []
    zero = int((weights == 0).sum())
    without = f", and {counted(zero, 'row', 'rows')} of weight 0 {'is' if zero == 1 else 'are'} written" if zero else ""
    message = f"{where} {'have' if where.endswith('jsonl') else 'has'} no weights, so all rows count the same{without}"
    fix = "Balance by whole copies (balance --copies size=1.5), or choose a format with weights, such as emobox or csv."
    if items.settings.ties == "spread" and _equal(items.frame.group_by("file").agg(pl.col("weight").sum())["weight"]):
        fix = "Set ties to first (--ties first): an utterance that is written once for each of its labels counts more."
    return [Finding.of("weights_not_written", message, fix, count=len(items))]


def _equal(weights: pl.Series) -> bool:
    return float(np.ptp(weights.to_numpy())) <= _EQUAL


def without_ratings(items: Items, rated: pl.DataFrame, table: str) -> list[Finding]:
    """A finding if items are left out of a table of ratings, where any item has a rating."""
    lost = len(items) - rated.height
    if not lost or all(items.frame[name].null_count() == len(items) for name in ATTRIBUTES):
        return []
    message = f"{counted(lost, 'utterance')} without a rating of {', '.join(ATTRIBUTES[:-1])} or {ATTRIBUTES[-1]} left "
    message += f"out of {table}"
    return [Finding.of("without_ratings", message, count=lost)]


def of_no_stated_scale(items: Items, rated: pl.DataFrame, scale: str) -> list[Finding]:
    """A finding if ratings are written on a scale, and the votes do not state which they were given on: those that were
    aligned by rank are ranks, and nothing else states that.
    """
    unknown = rated.filter(~pl.col("corpus").is_in(list(items.scales)))
    if not unknown.height:
        return []
    corpora = ", ".join(unknown["corpus"].unique().sort())
    message = (
        f"ratings of {counted(unknown.height, 'utterance')} of {corpora} are written on {scale}, and the scale that "
    )
    message += "they were given on is not stated: those read with align_ratings = rank are ranks, not ratings"
    fix = "Give the votes, which state the scale (--votes); read with align_ratings = linear for ratings."
    return [Finding.of("ratings_aligned", message, fix, count=unknown.height)]


def of_other_splits(splits: pl.Series, read: Collection[str], reader: str) -> list[Finding]:
    """A finding if rows are of splits that the format's reader does not read."""
    others = splits.filter(~splits.is_in(list(read)))
    if others.is_empty():
        return []
    names = ", ".join(others.unique().sort())
    read = dict.fromkeys(read)
    message = f"{counted(len(others), 'row is', 'rows are')} of splits that {reader} does not read: {names}"
    fix = f"Name the splits of the utterances {', '.join(name.lower() for name in read)} to use them there."
    return [Finding.of("split_not_read", message, fix, count=len(others))]


def without_a_chat(items: Items, copies: NDArray[np.int64], where: str) -> list[Finding]:
    """A finding if items get no chat because of their small weight."""
    lost = int((copies == 0).sum())
    if not lost:
        return []
    message = f"{counted(lost, 'utterance of small weight has', 'utterances of small weight have')} no chat in {where}"
    example = items.frame["utterance_id"][int(np.flatnonzero(copies == 0)[0])]
    return [Finding.of("without_a_copy", message, utterance_id=example, count=lost)]
