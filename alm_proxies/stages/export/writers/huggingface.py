"""huggingface, huggingface_parquet: an audiofolder with metadata, or Parquet with the recordings in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from alm_proxies.printable import counted
from alm_proxies.stages.export.items import Items, apart, by_split_name, refuse_split_names
from alm_proxies.stages.export.writers.manifests import write_lines
from alm_proxies.tables import ATTRIBUTES, Finding

_SPLITS = {"development": "validation", "dev": "validation", "valid": "validation", "all": "all_"}
_ROWS = 2_000


def split_names(splits: Iterable[str]) -> dict[str, str]:
    """The name that `datasets` takes for each split: letters, digits, underscores and single dots; "all" is its own."""
    return {split: _SPLITS.get(split, re.sub(r"[^\w.]|\.(?=\.|$)|^\.", "_", split)) for split in splits}


def _by_split(items: Items) -> tuple[Iterator[tuple[str, Items]], list[Finding]]:
    """The items of each split under its name for `datasets`, and a finding on those that got another name."""
    splits = list(items.by_split())
    refuse_split_names(splits)
    names = split_names(splits)
    other = {split: name for split, name in names.items() if split not in _SPLITS and name != split}
    other |= {"all": names["all"]} if "all" in names else {}
    renamed = ", ".join(f"{split!r} is {name!r}" for split, name in other.items())
    message = f"{counted(len(other), 'split has', 'splits have')} another name, which datasets takes: {renamed}"
    findings = [Finding.of("split_renamed", message, count=len(other))] if other else []
    return by_split_name(items, names), findings


def audiofolder(items: Items, folder: Path) -> list[Finding]:
    """data/<split>/ with the recordings and metadata.jsonl; with metadata.parquet where JSON lines lack a type."""
    by_split, findings = _by_split(items)
    parts = {split: (part, _described(part, items)) for split, part in by_split}
    lacking = _lack_a_type([described for _, described in parts.values()])
    for split, (part, described) in parts.items():
        place = folder / "data" / split
        place.mkdir(parents=True)
        names = [Path(file).name for file in part.frame["file"]]
        for file, name in zip(part.frame["file"], names, strict=True):
            (folder / file).rename(place / name)
        frame = described.select(pl.Series("file_name", names, dtype=pl.String), pl.all())
        if lacking:
            frame.write_parquet(place / "metadata.parquet")
        else:
            write_lines(place / "metadata.jsonl", frame.iter_rows(named=True))
    audio = folder / "audio"
    if audio.is_dir() and not any(audio.iterdir()):
        audio.rmdir()
    return findings


def _lack_a_type(tables: list[pl.DataFrame]) -> bool:
    """Whether a column is empty in a split, or in its first rows, but not in all: datasets infers the types of JSON
    lines from these rows, and refuses splits of different types.
    """
    filled = pl.concat(tables).select(pl.all().count() > 0).row(0)
    at_first = [table.head(_ROWS).select(pl.all().count() > 0).row(0) for table in tables]
    return any(filled != each for each in at_first)


def parquet(items: Items, folder: Path) -> list[Finding]:
    """data/<split>-*.parquet with the recordings as bytes."""
    place = folder / "data"
    place.mkdir(parents=True)
    sound = pl.Struct({"bytes": pl.Binary, "path": pl.String})
    by_split, findings = _by_split(items)
    for split, part in by_split:
        count = -(-len(part) // _ROWS)
        described = _described(part, items)
        for number in range(count):
            files = [folder / file for file in part.frame["file"].slice(number * _ROWS, _ROWS)]
            sounds = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
            frame = described.slice(number * _ROWS, _ROWS).select(pl.Series("audio", sounds, dtype=sound), pl.all())
            frame.write_parquet(place / f"{split}-{number:05d}-of-{count:05d}.parquet")
    for path in (folder / "audio").glob("*"):
        path.unlink()
    (folder / "audio").rmdir()
    return findings


def _described(part: Items, items: Items) -> pl.DataFrame:
    """What is written of the items of one split. All splits have the same columns, which datasets needs."""
    there = [name for name in (*ATTRIBUTES, "votes") if items.frame[name].count()]
    return part.frame.select(
        "utterance_id", "label", *(f"p_{label}" for label in items.labels), "weight", "concentration", "ambiguity",
        "speaker", "gender", "language", "transcript", *there,
    )  # fmt: skip


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
                rows = part.frame.slice(first, _ROWS)
                described = _described(part, items).slice(first, _ROWS).iter_rows(named=True)
                for row, record in zip(rows.iter_rows(named=True), described, strict=True):
                    path = folder / row["file"]
                    known = {
                        name: value for name, value in record.items() if value is not None or name not in ATTRIBUTES
                    }
                    text = json.dumps(known, ensure_ascii=False).encode()
                    for kind, content in ((path.suffix.lstrip("."), path.read_bytes()), ("json", text)):
                        entry = tarfile.TarInfo(f"{row['key']}.{kind}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    for path in (folder / "audio").glob("*"):
        path.unlink()
    (folder / "audio").rmdir()
