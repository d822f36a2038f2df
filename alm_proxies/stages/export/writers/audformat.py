"""audformat: a database of audEERING's format, labels as votes of a machine rater, with their distributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.stages.export.items import Items, refuse_split_names


def audformat(items: Items, folder: Path) -> None:
    """db.yaml and, for each split, a table of labels and one of distributions."""
    splits = items.frame["split"].fill_null("train").unique(maintain_order=True).to_list()
    refuse_split_names(splits)
    segmented = bool((items.frame["start"].is_not_null() | items.frame["end"].is_not_null()).any())
    shares = {label: {"scheme_id": "share", "rater_id": "fused"} for label in items.labels}
    header: dict[str, Any] = {
        "name": items.settings.name,
        "source": "alm-proxies",
        "usage": "research",
        "schemes": {
            "emotion": {"dtype": "str", "labels": list(items.labels)},
            "share": {"dtype": "float", "minimum": 0.0, "maximum": 1.0},
            "weight": {"dtype": "float", "minimum": 0.0},
            "concentration": {"dtype": "float", "minimum": 0.0},
            "speaker": {"dtype": "str"},
        },
        "raters": {"fused": {"type": "machine", "description": "human and proxy votes, fused"}},
        "splits": {split: {"type": _SPLITS.get(split, "other")} for split in splits},
        "tables": {},
    }
    files = [items.resolved(file) if Path(file).is_absolute() else file for file in items.frame["file"]]
    frame = items.frame.with_columns(file=pl.Series(files))
    column = frame["split"].fill_null("train")
    index = ["file", "start", "end"] if segmented else ["file"]
    if segmented:
        frame = frame.with_columns(
            _time(pl.col("start").fill_null(0.0)).alias("start"), _time(pl.col("end")).alias("end")
        )
    for split in splits:
        part = frame.filter(column == split)
        for name, columns in (("emotion", _LABELLED), ("emotion.distribution", None)):
            table = f"{name}.{split}"
            kind = "segmented" if segmented else "filewise"
            described = {**columns} if columns is not None else shares
            header["tables"][table] = {"type": kind, "split_id": split, "columns": described}
            if columns is not None:
                body = part.select(
                    *index, emotion="label", weight="weight", concentration="concentration", speaker="speaker"
                )
            else:
                body = part.select(*index, *(pl.col(f"p_{label}").alias(label) for label in items.labels))
            body.write_csv(folder / f"db.{table}.csv")
    # JSON is valid YAML.
    (folder / "db.yaml").write_text(json.dumps(header, indent=1, ensure_ascii=False), encoding="utf-8")


def _time(seconds: pl.Expr) -> pl.Expr:
    """Seconds in pandas' format of a time span."""
    return pl.when(seconds.is_null()).then(None).otherwise(pl.format("{}s", seconds))


_SPLITS = {"train": "train", "development": "dev", "dev": "dev", "validation": "dev", "test": "test"}
_LABELLED = {
    "emotion": {"scheme_id": "emotion", "rater_id": "fused"},
    "weight": {"scheme_id": "weight"},
    "concentration": {"scheme_id": "concentration"},
    "speaker": {"scheme_id": "speaker"},
}
