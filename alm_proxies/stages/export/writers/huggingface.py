"""huggingface, huggingface_parquet: an audiofolder with metadata, or Parquet with the recordings in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.stages.export.items import Items, apart, by_split_name
from alm_proxies.stages.export.writers.manifests import write_lines

SPLITS = {"development": "validation", "dev": "validation", "valid": "validation"}
_ROWS = 2_000


def audiofolder(items: Items, folder: Path) -> None:
    """data/<split>/ with the recordings and metadata.jsonl."""
    for split, part in by_split_name(items, SPLITS):
        place = folder / "data" / split
        place.mkdir(parents=True)
        rows = []
        for row in part.frame.iter_rows(named=True):
            name = Path(row["file"]).name
            (folder / row["file"]).rename(place / name)
            rows.append({"file_name": name, **_described(row, items)})
        write_lines(place / "metadata.jsonl", rows)
    audio = folder / "audio"
    if audio.is_dir() and not any(audio.iterdir()):
        audio.rmdir()


def parquet(items: Items, folder: Path) -> None:
    """data/<split>-*.parquet with the recordings as bytes."""
    place = folder / "data"
    place.mkdir(parents=True)
    for split, part in by_split_name(items, SPLITS):
        count = -(-len(part) // _ROWS)
        for number in range(count):
            rows = []
            for row in part.frame.slice(number * _ROWS, _ROWS).iter_rows(named=True):
                path = folder / row["file"]
                sound = {"bytes": path.read_bytes(), "path": path.name}
                rows.append({"audio": sound, **_described(row, items)})
            schema: dict[str, Any] = {
                "audio": pl.Struct({"bytes": pl.Binary, "path": pl.String}),
                **dict.fromkeys(("label", "speaker", "gender", "language", "transcript", "ambiguity"), pl.String),
                **dict.fromkeys(("concentration", *(f"p_{label}" for label in items.labels)), pl.Float64),
            }
            frame = pl.DataFrame(rows, schema_overrides=schema)
            frame.write_parquet(place / f"{split}-{number:05d}-of-{count:05d}.parquet")
    for path in (folder / "audio").glob("*"):
        path.unlink()
    (folder / "audio").rmdir()


def _described(row: dict[str, Any], items: Items) -> dict[str, Any]:
    record = {"utterance_id": row["utterance_id"], "label": row["label"]}
    record |= {f"p_{label}": row[f"p_{label}"] for label in items.labels}
    record |= {name: row[name] for name in ("weight", "concentration", "ambiguity", "speaker", "gender", "language")}
    record |= {"transcript": row["transcript"]}
    record |= {name: row[name] for name in ("valence", "arousal", "dominance") if row[name] is not None}
    if row["votes"] is not None:
        record["votes"] = row["votes"]
    return record


def webdataset(items: Items, folder: Path) -> None:
    """<split>-*.tar with the recording and the JSON of each item."""
    import io
    import tarfile

    # the part of a name after its first dot is the type of content
    items = items.with_frame(
        items.frame.with_columns(apart(items.frame["key"].str.replace_all(".", "_", literal=True)))
    )
    for split, part in by_split_name(items, {"development": "dev", "validation": "dev"}):
        for number, first in enumerate(range(0, len(part), _ROWS)):
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w") as tar:
                for row in part.frame.slice(first, _ROWS).iter_rows(named=True):
                    path = folder / row["file"]
                    text = json.dumps(_described(row, items), ensure_ascii=False).encode()
                    for kind, content in ((path.suffix.lstrip("."), path.read_bytes()), ("json", text)):
                        entry = tarfile.TarInfo(f"{row['key']}.{kind}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    for path in (folder / "audio").glob("*"):
        path.unlink()
    (folder / "audio").rmdir()
