"""Loads an export by its program in the project's environment: load_light.py FORMAT FOLDER"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any


def tables(kind: str) -> Callable[[Path], int]:
    """A table by the program that reads its kind."""

    def load(folder: Path) -> int:
        import polars as pl

        read: dict[str, Any] = {"csv": pl.read_csv, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}
        return int(read[kind](next(folder.glob(f"*.{kind}"))).height)

    return load


def audiofolder(folder: Path) -> int:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        builder = datasets.load_dataset_builder(str(folder), cache_dir=cache)
        # Its reader of audio folders, up to where datasets 5 asks for torchcodec although nothing is decoded.
        splits = builder._split_generators(datasets.DownloadManager())
        rows = [row for split in splits for _, row in builder._generate_examples(**split.gen_kwargs)]
        assert all(Path(row["audio"]).is_file() for row in rows)
    return len(rows)


def embedded(folder: Path) -> int:
    import io

    import datasets
    import soundfile

    with tempfile.TemporaryDirectory() as cache:
        splits = datasets.load_dataset(str(folder), cache_dir=cache)
        for part in splits.values():
            for row in part.cast_column("audio", datasets.Audio(decode=False)):
                soundfile.info(io.BytesIO(row["audio"]["bytes"]))
        return sum(map(len, splits.values()))


def shards(folder: Path) -> int:
    import webdataset

    names = sorted(str(path) for path in folder.glob("*.tar"))
    return sum(1 for row in webdataset.WebDataset(names, shardshuffle=False) if row["wav"][:4] == b"RIFF")


def lhotse_cuts(folder: Path) -> int:
    import lhotse

    count = 0
    for path in sorted(folder.glob("*_recordings_*.jsonl.gz")):
        recordings = lhotse.RecordingSet.from_file(path)
        supervisions = lhotse.SupervisionSet.from_file(path.with_name(path.name.replace("recordings", "supervisions")))
        lhotse.validate(recordings)
        lhotse.validate(supervisions)
        cuts = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
        count += sum(1 for cut in cuts if cut.load_audio().size)
    return count


def audformat_tables(folder: Path) -> int:
    import audformat

    database = audformat.Database.load(str(folder))
    return sum(len(database[name].get()) for name in database.tables if name.startswith("emotion.distribution."))


def croissant(folder: Path) -> int:
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    return len(list(dataset.records(record_set="items")))


LOADERS: dict[str, tuple[str, Callable[[Path], int]]] = {
    **{kind: ("polars", tables(kind)) for kind in ("csv", "parquet", "jsonl")},
    "huggingface": ("datasets", audiofolder),
    "huggingface_parquet": ("datasets", embedded),
    "webdataset": ("webdataset", shards),
    "lhotse": ("lhotse", lhotse_cuts),
    "audformat": ("audformat", audformat_tables),
    "croissant": ("mlcroissant", croissant),
}

if __name__ == "__main__":
    program, loader = LOADERS[sys.argv[1]]
    rows = loader(Path(sys.argv[2]))
    print(json.dumps({"rows": rows, "step": None, "version": f"{program} {version(program)}"}))
