"""csv, parquet, jsonl: one flat table with distributions, the most likely label, split, speaker and weight."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from alm_proxies.stages.export.items import Items

_FIRST = ("utterance_id", "file", "start", "end", "duration", "split", "speaker", "gender", "language", "label")
_LAST = ("weight", "concentration", "entropy", "ambiguity", "human_votes", "proxy_votes")
_ATTRIBUTES = ("valence", "arousal", "dominance", "transcript")


def flat(items: Items) -> pl.DataFrame:
    """One row per item: metadata, its distribution as p_<label>, and votes_<label> if votes were given."""
    shares = [f"p_{label}" for label in items.labels]
    frame = items.frame.select(*_FIRST, *shares, *_LAST, *_ATTRIBUTES, "votes")
    if frame["votes"].null_count() == frame.height:
        return frame.drop("votes")
    counts = [pl.col("votes").list.get(place).alias(f"votes_{label}") for place, label in enumerate(items.labels)]
    return frame.with_columns(counts).drop("votes")


def csv(items: Items, folder: Path) -> None:
    """<name>.csv."""
    flat(items).write_csv(folder / f"{items.settings.name}.csv")


def parquet(items: Items, folder: Path) -> None:
    """<name>.parquet."""
    flat(items).write_parquet(folder / f"{items.settings.name}.parquet")


def jsonl(items: Items, folder: Path) -> None:
    """<name>.jsonl."""
    flat(items).write_ndjson(folder / f"{items.settings.name}.jsonl")
