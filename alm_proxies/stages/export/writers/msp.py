"""odyssey, emo_superb: the tables of the MSP-Podcast challenges and of EMO-SUPERB, which take distributions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl

from alm_proxies.stages.export.formats import MSP_CLASSES
from alm_proxies.stages.export.items import Items
from alm_proxies.stages.export.writers.reported import (
    of_no_stated_scale,
    of_other_splits,
    without_ratings,
    without_weights,
)
from alm_proxies.tables import Finding
from alm_proxies.taxonomy import label_for
from alm_proxies.uris import is_remote

_SPLITS = {"train": "Train", "development": "Development", "dev": "Development", "validation": "Development",
           "test": "Test1", "test1": "Test1", "test2": "Test2", "test3": "Test3"}  # fmt: skip
_SETS = {"train": "Train", "dev": "Development", "test": "Test"}
_OWN_SPLITS = {**_SETS, "development": "Development", "validation": "Development"}
_SMOOTHING = 0.05


def odyssey(items: Items, folder: Path) -> list[Finding]:
    """labels_categorical.csv, config_cat.json; if there are ratings, labels_attributes.csv, config.json."""
    files, root = _relative(items)
    frame = items.frame.with_columns(FileName=pl.Series(files), Split_Set=_split_set(items, _SPLITS))
    columns = _columns(items.labels)
    zero = [pl.lit(0.0).alias(name) for name in MSP_CLASSES if name not in columns]  # their reader needs all eight
    shares = [pl.col(f"p_{label}").round(6).alias(name) for name, label in columns.items()]
    table = frame.select("FileName", *shares, *zero, "Split_Set")
    rest = [name for name in columns if name not in MSP_CLASSES]
    table.select("FileName", *MSP_CLASSES, *rest, "Split_Set").write_csv(folder / "labels_categorical.csv")

    def configure(name: str, table: str) -> None:
        wanted = {"wav_dir": root, "label_path": str(items.target / table)}
        (folder / name).write_text(json.dumps(wanted, indent=2, ensure_ascii=False), encoding="utf-8")

    configure("config_cat.json", "labels_categorical.csv")
    rated = frame.drop_nulls(["valence", "arousal", "dominance"])
    if rated.height:
        configure("config.json", "labels_attributes.csv")
        scale = {"EmoAct": "arousal", "EmoDom": "dominance", "EmoVal": "valence"}
        columns_of = [(1 + 6 * pl.col(mine)).round(4).alias(theirs) for theirs, mine in scale.items()]
        rated.select("FileName", *columns_of, "Split_Set").write_csv(folder / "labels_attributes.csv")
    findings = without_weights(items, "the format") + without_ratings(items, rated, "labels_attributes.csv")
    findings += of_no_stated_scale(items, rated, "1 to 7")
    return findings + of_other_splits(frame["Split_Set"], _SPLITS.values(), "the challenge's code")


def emo_superb(items: Items, folder: Path) -> list[Finding]:
    """<name>/Primary: smoothed shares and config.json; <name>/Audios if all files are in the export."""
    files = [items.resolved(file) for file in items.frame["file"]]
    if not any(Path(file).is_absolute() or is_remote(file) for file in items.frame["file"]):
        audios = folder / items.settings.name / "Audios"
        audios.mkdir(parents=True)
        files = [Path(file).name for file in items.frame["file"]]
        for file in items.frame["file"]:
            (folder / file).rename(audios / Path(file).name)
        (folder / "audio").rmdir()
    place = folder / items.settings.name / "Primary"
    place.mkdir(parents=True)
    names = _columns(items.labels)
    many = len(items.labels)
    edge = _SMOOTHING / (many - 1)
    smooth = [(pl.col(f"p_{label}") * (1 - many * edge) + edge).round(6).alias(name) for name, label in names.items()]
    frame = items.frame.with_columns(
        FileName=pl.Series(files), Split_Set=_split_set(items, _OWN_SPLITS),
        SpkrID=pl.col("speaker").fill_null("Unknown"),
        Gender=pl.col("gender").fill_null("Unknown").str.to_titlecase(),
    )  # fmt: skip
    frame.select("FileName", *smooth, "SpkrID", "Gender", "Split_Set").write_csv(place / "labels_consensus_1.csv")
    config = {"data_split_type": _SETS, "categorical": {"emo_type": list(names)}}
    (place / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    others = of_other_splits(frame["Split_Set"], _SETS.values(), "EMO-SUPERB")
    return without_weights(items, "the format") + others


def _columns(labels: tuple[str, ...]) -> dict[str, str]:
    """The challenge's column for each label, in the challenge's order; other labels keep their name."""
    known = {name: own for name in MSP_CLASSES if (own := label_for(name.lower(), labels)) is not None}
    rest = {label.capitalize(): label for label in labels if label not in known.values()}
    return {**known, **rest}


def _split_set(items: Items, names: dict[str, str]) -> pl.Series:
    splits = items.frame["split"].fill_null("train")
    return splits.replace_strict(names, default=splits.str.to_titlecase(), return_dtype=pl.String)


def _relative(items: Items) -> tuple[list[str], str]:
    """The files' paths relative to their common folder, and that folder; as they are if any is an address."""
    paths = [items.resolved(file) for file in items.frame["file"]]
    if any(map(is_remote, paths)):
        return paths, ""
    root = os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else "."
    return [os.path.relpath(path, root) for path in paths], root
