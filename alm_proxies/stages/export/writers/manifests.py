"""emobox, speechbrain, nemo, lhotse, s3prl: manifests of speech toolkits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alm_proxies.stages.export.items import Items, by_split_name

VALID = {"train": "train", "development": "valid", "dev": "valid", "validation": "valid", "test": "test"}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, one object per line."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def distribution(row: Mapping[str, Any], labels: Iterable[str]) -> dict[str, float]:
    """A row's shares by label."""
    return {label: round(row[f"p_{label}"], 6) for label in labels}


def emobox(items: Items, folder: Path) -> None:
    """data/<name>/fold_1: JSON lines and JSON of each split, and label_map.json."""
    name = items.settings.name
    place = folder / "data" / name
    fold = place / "fold_1"
    fold.mkdir(parents=True)
    known: list[dict[str, Any]] = []
    for split, part in by_split_name(items, VALID):
        rows = [
            {
                "key": row["key"], "dataset": name, "wav": items.resolved(row["file"]), "type": "raw",
                "sample_rate": row["rate"], "num_frame": float(row["frames"]), "task": "category",
                "length": row["duration"], "emo": row["label"], "channel": 1,
                "emo_distribution": distribution(row, items.labels), "weight": row["weight"],
            }
            for row in part.frame.iter_rows(named=True)
        ]  # fmt: skip
        known += rows
        write_lines(fold / f"{name}_{split}_fold_1.jsonl", rows)
        twin = {r["key"]: {k: r[k] for k in ("wav", "length", "emo", "dataset", "channel")} for r in rows}
        (fold / f"{name}_{split}_fold_1.json").write_text(json.dumps(twin, ensure_ascii=False), encoding="utf-8")
    write_lines(place / f"{name}.jsonl", known)
    labels = {label: label for label in items.labels}
    (place / "label_map.json").write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")


def speechbrain(items: Items, folder: Path) -> None:
    """train.json, valid.json, test.json: an entry for each item."""
    for split, part in by_split_name(items, VALID):
        rows = {
            row["key"]: {
                "wav": items.resolved(row["file"]), "length": row["duration"], "emo": row["label"],
                "emo_distribution": distribution(row, items.labels), "weight": row["weight"], "spk_id": row["speaker"],
            }
            for row in part.frame.iter_rows(named=True)
        }  # fmt: skip
        (folder / f"{split}.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")


def nemo(items: Items, folder: Path) -> None:
    """A manifest of JSON lines for each split."""
    for split, part in by_split_name(items, VALID):
        write_lines(
            folder / f"{split}.json",
            (
                {
                    "audio_filepath": items.resolved(row["file"]), "duration": _seconds(row), "label": row["label"],
                    "offset": row["start"] or 0.0, "label_distribution": distribution(row, items.labels),
                    "weight": row["weight"],
                }
                for row in part.frame.iter_rows(named=True)
            ),
        )  # fmt: skip


def lhotse(items: Items, folder: Path) -> None:
    """Recordings and supervisions of each split."""
    for split, part in by_split_name(items, {"development": "dev", "validation": "dev"}):
        recordings: dict[str, dict[str, Any]] = {}
        segments = []
        for row in part.frame.iter_rows(named=True):
            path = items.resolved(row["file"])
            if path not in recordings:
                identity = row["key"] if row["start"] is None else f"recording-{len(recordings)}"
                recordings[path] = {
                    "id": identity, "sources": [{"type": "file", "channels": [0], "source": path}],
                    "sampling_rate": row["rate"], "num_samples": row["frames"],
                    "duration": row["frames"] / row["rate"], "channel_ids": [0],
                }  # fmt: skip
            custom = {
                "emotion": row["label"], "distribution": distribution(row, items.labels), "weight": row["weight"],
                "concentration": row["concentration"], "ambiguity": row["ambiguity"],
            }  # fmt: skip
            segments.append(
                {
                    "id": row["key"], "recording_id": recordings[path]["id"], "start": row["start"] or 0.0,
                    "duration": _seconds(row), "channel": 0, "text": row["transcript"], "language": row["language"],
                    "speaker": row["speaker"], "gender": row["gender"], "custom": custom,
                }
            )  # fmt: skip
        for kind, rows in (("recordings", list(recordings.values())), ("supervisions", segments)):
            with gzip.open(folder / f"{items.settings.name}_{kind}_{split}.jsonl.gz", "wt", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def s3prl(items: Items, folder: Path) -> None:
    """Session1/<split>_meta_data.json."""
    place = folder / "Session1"
    place.mkdir()
    numbers = {label: number for number, label in enumerate(items.labels)}
    for split, part in by_split_name(items, {"train": "train", "development": "dev", "validation": "dev"}):
        rows = [
            {"path": items.resolved(row["file"]), "label": row["label"], "speaker": row["speaker"]}
            for row in part.frame.iter_rows(named=True)
        ]
        meta = {"labels": numbers, "meta_data": rows}
        (place / f"{split}_meta_data.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")


def _seconds(row: Mapping[str, Any]) -> float:
    if row["start"] is None and row["end"] is None:
        return float(row["duration"])
    end = row["end"] if row["end"] is not None else row["frames"] / row["rate"]
    return float(end) - float(row["start"] or 0.0)
