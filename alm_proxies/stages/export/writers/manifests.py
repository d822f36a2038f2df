"""emobox, speechbrain, nemo, lhotse, s3prl: manifests of speech toolkits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.stages.export.items import Items, by_split_name
from alm_proxies.stages.export.writers.reported import without_weights
from alm_proxies.tables import Finding

VALID = {"train": "train", "development": "valid", "dev": "valid", "validation": "valid", "test": "test"}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, one object per line."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def paths(items: Items) -> pl.Series:
    """The path of every recording in the finished export."""
    return pl.Series("path", [items.resolved(file) for file in items.frame["file"]], dtype=pl.String)


def emobox(items: Items, folder: Path) -> None:
    """data/<name>: JSON lines and JSON of all items, in fold_1 of each split, and label_map.json."""
    name = items.settings.name
    place = folder / "data" / name
    fold = place / "fold_1"
    fold.mkdir(parents=True)
    twin = ("wav", "length", "emo", "dataset", "channel")
    for file, part in [
        (place / name, items),
        *((fold / f"{name}_{split}_fold_1", part) for split, part in by_split_name(items, VALID)),
    ]:
        rows = part.frame.select(
            "key", dataset=pl.lit(name), wav=paths(part), type=pl.lit("raw"), sample_rate="rate",
            num_frame=pl.col("frames").cast(pl.Float64), task=pl.lit("category"), length="duration", emo="label",
            channel=pl.lit(1), emo_distribution=_distribution(part), weight="weight",
        )  # fmt: skip
        _write(Path(f"{file}.jsonl"), rows.write_ndjson())
        _write(Path(f"{file}.json"), _keyed(rows["key"], rows.select(twin)))
    labels = {label: label for label in items.labels}
    _write(place / "label_map.json", json.dumps(labels, ensure_ascii=False))


def speechbrain(items: Items, folder: Path) -> None:
    """train.json, valid.json, test.json: an entry for each item."""
    for split, part in by_split_name(items, VALID):
        rows = part.frame.select(
            wav=paths(part), length="duration", emo="label", emo_distribution=_distribution(part), weight="weight",
            spk_id="speaker",
        )  # fmt: skip
        _write(folder / f"{split}.json", _keyed(part.frame["key"], rows))


def nemo(items: Items, folder: Path) -> None:
    """A manifest of JSON lines for each split."""
    for split, part in by_split_name(items, VALID):
        rows = part.frame.select(
            audio_filepath=paths(part), duration=_SECONDS, label="label", offset=pl.col("start").fill_null(0.0),
            label_distribution=_distribution(part), weight="weight",
        )  # fmt: skip
        _write(folder / f"{split}.json", rows.write_ndjson())


def lhotse(items: Items, folder: Path) -> None:
    """Recordings and supervisions of each split."""
    named = items.frame.with_columns(paths(items))
    every = named.unique("path", keep="first", maintain_order=True).with_row_index("number")
    cut = pl.format("recording-{}", "number")  # numbered over all splits, which may be read together
    every = every.select("path", recording_id=pl.when(pl.col("start").is_null()).then("key").otherwise(cut))
    named = named.join(every, on="path", how="left", maintain_order="left")
    for split, part in by_split_name(items.with_frame(named), {"development": "dev", "validation": "dev"}):
        files = part.frame.unique("path", keep="first", maintain_order=True)
        source = pl.struct(type=pl.lit("file"), channels=pl.concat_list(pl.lit(0)), source="path")
        recordings = files.select(
            id="recording_id", sources=pl.concat_list(source), sampling_rate="rate", num_samples="frames",
            duration=pl.col("frames") / pl.col("rate"), channel_ids=pl.concat_list(pl.lit(0)),
        )  # fmt: skip
        custom = pl.struct(
            pl.col("label").alias("emotion"), _distribution(part).alias("distribution"), "weight", "concentration",
            pl.col("ambiguity").cast(pl.String),
        )  # fmt: skip
        segments = part.frame.select(
            id="key", recording_id="recording_id", start=pl.col("start").fill_null(0.0), duration=_SECONDS,
            channel=pl.lit(0), text="transcript", language="language", speaker="speaker", gender="gender",
            custom=custom,
        )  # fmt: skip
        for kind, rows in (("recordings", recordings), ("supervisions", segments)):
            packed = gzip.compress(rows.write_ndjson().encode(), compresslevel=6, mtime=0)
            (folder / f"{items.settings.name}_{kind}_{split}.jsonl.gz").write_bytes(packed)


def s3prl(items: Items, folder: Path) -> list[Finding]:
    """Session1/<split>_meta_data.json."""
    place = folder / "Session1"
    place.mkdir()
    numbers = json.dumps({label: number for number, label in enumerate(items.labels)}, ensure_ascii=False)
    for split, part in by_split_name(items, {"train": "train", "development": "dev", "validation": "dev"}):
        rows = part.frame.select(path=paths(part), label="label", speaker="speaker")
        listed = ",\n".join(_lines(rows))
        _write(place / f"{split}_meta_data.json", f'{{"labels": {numbers},\n"meta_data": [\n{listed}\n]}}\n')
    return without_weights(items, "the format")


def _distribution(items: Items) -> pl.Expr:
    """The shares by label."""
    return pl.struct(pl.col(f"p_{label}").round(6).alias(label) for label in items.labels)


def _lines(frame: pl.DataFrame) -> list[str]:
    """The JSON object of every row."""
    return frame.write_ndjson().split("\n")[:-1]


def _keyed(keys: pl.Series, rows: pl.DataFrame) -> str:
    """A JSON object of the rows by their keys, a line each."""
    named = (f"{json.dumps(key)}: {line}" for key, line in zip(keys, _lines(rows), strict=True))
    return "{\n" + ",\n".join(named) + "\n}\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


_SECONDS = (
    pl.when(pl.col("start").is_null() & pl.col("end").is_null())
    .then("duration")
    .otherwise(pl.coalesce("end", pl.col("frames") / pl.col("rate")) - pl.col("start").fill_null(0.0))
)
"""The duration of an item, which may be a part of its recording."""
