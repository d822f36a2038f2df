"""odyssey, emo_superb: the tables of the MSP-Podcast challenges and of EMO-SUPERB, which take distributions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl

from alm_proxies.stages.export.items import Items
from alm_proxies.taxonomy import label_for

_CLASSES = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
_SPLITS = {"train": "Train", "development": "Development", "dev": "Development", "validation": "Development",
           "test": "Test1", "test1": "Test1", "test2": "Test2", "test3": "Test3"}  # fmt: skip
_SMOOTHING = 0.05


def odyssey(items: Items, folder: Path) -> None:
    """labels_categorical.csv, labels_attributes.csv if there are ratings, and config.json."""
    files, root = _relative(items)
    frame = items.frame.with_columns(FileName=pl.Series(files), Split_Set=_split_set(items))
    columns = _columns(items.labels)
    shares = [pl.col(f"p_{label}").round(6).alias(name) for name, label in columns.items()]
    frame.select("FileName", *shares, "Split_Set").write_csv(folder / "labels_categorical.csv")
    wanted = {"wav_dir": root, "label_path": str(items.target / "labels_categorical.csv")}
    for name in ("config.json", "config_cat.json"):  # one of their scripts opens the second name
        (folder / name).write_text(json.dumps(wanted, indent=2, ensure_ascii=False), encoding="utf-8")
    rated = frame.drop_nulls(["valence", "arousal", "dominance"])
    if rated.height:
        scale = {"EmoAct": "arousal", "EmoDom": "dominance", "EmoVal": "valence"}
        columns_of = [(1 + 6 * pl.col(mine)).round(4).alias(theirs) for theirs, mine in scale.items()]
        rated.select("FileName", *columns_of, "Split_Set").write_csv(folder / "labels_attributes.csv")


def emo_superb(items: Items, folder: Path) -> None:
    """<name>/Primary/labels_consensus_1.csv with smoothed shares, and config.json."""
    files, _ = _relative(items)
    place = folder / items.settings.name / "Primary"
    place.mkdir(parents=True)
    names = _columns(items.labels)
    many = len(items.labels)
    edge = _SMOOTHING / (many - 1)
    smooth = [(pl.col(f"p_{label}") * (1 - many * edge) + edge).round(6).alias(name) for name, label in names.items()]
    frame = items.frame.with_columns(
        FileName=pl.Series(files), Split_Set=_split_set(items), SpkrID=pl.col("speaker").fill_null("Unknown"),
        Gender=pl.col("gender").fill_null("Unknown").str.to_titlecase(),
    )  # fmt: skip
    frame.select("FileName", *smooth, "SpkrID", "Gender", "Split_Set").write_csv(place / "labels_consensus_1.csv")
    config = {"data_split_type": "Standard", "categorical": {"emo_type": list(names)}}
    (folder / items.settings.name / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _columns(labels: tuple[str, ...]) -> dict[str, str]:
    """The challenge's column for each label, in the challenge's order; other labels keep their name."""
    known = {name: own for name in _CLASSES if (own := label_for(name.lower(), labels)) is not None}
    rest = {label.capitalize(): label for label in labels if label not in known.values()}
    return {**known, **rest}


def _split_set(items: Items) -> pl.Series:
    splits = items.frame["split"].fill_null("train")
    return splits.replace_strict(_SPLITS, default=splits.str.to_titlecase(), return_dtype=pl.String)


def _relative(items: Items) -> tuple[list[str], str]:
    """The files' paths relative to their common folder, and that folder."""
    paths = [items.resolved(file) for file in items.frame["file"]]
    root = os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else "."
    return [os.path.relpath(path, root) for path in paths], root
