"""Placement of an export's recordings: referenced, copied, linked, cut from longer files, or rendered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import polars as pl

from alm_proxies.audio.clip import RATE, RecordingError, open_clip
from alm_proxies.audio.header import header_of
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.remote.copies import copy_to
from alm_proxies.remote.fault import FetchError
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items
from alm_proxies.tables import Finding
from alm_proxies.uris import is_remote, name_of

AUDIO = "audio"
"""The folder of the recordings in an export."""
_THREADS = 4
_BATCH = 1024  # rows of one task


@dataclass(frozen=True, slots=True)
class _Placed:
    """The placement of one item's recording: its path in the manifest, or the reason for none."""

    file: str | None
    kind: str = ""
    reason: str = ""
    rate: int | None = None
    frames: int | None = None
    duration: float | None = None


def place(items: Items, kind: Format, folder: Path) -> tuple[Items, list[Finding]]:
    """The items with the column `file` (and rate, frames, duration), without those that have no usable recording.

    `file` is an absolute path, or one relative to the export if the recording is in it.
    """
    parents = set(items.utterances.frame.filter(pl.col("corpus").is_in(_stay(items)))["utterance_id"])
    renders = items.frame.filter(pl.col("audio").is_null() & pl.col("recipe").is_not_null()).height
    sounds = Sounds(items.utterances, stage="export") if renders else None
    inside = kind.embeds or kind.beside
    rows = list(
        items.frame.select(
            "utterance_id", "key", "audio", "start", "end", "duration", "recipe", "restricted"
        ).iter_rows(named=True)
    )

    def place_batch(first: int) -> list[_Placed]:
        batch = rows[first : first + _BATCH]
        return [_placed(row, kind, inside, items.settings.audio, folder, sounds, parents) for row in batch]

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:
        placed = list(chain.from_iterable(pool.map(place_batch, range(0, len(rows), _BATCH))))
    frame = items.frame.with_columns(
        pl.Series("file", [placed_item.file for placed_item in placed], dtype=pl.String),
        pl.Series("rate", [placed_item.rate for placed_item in placed], dtype=pl.Int64),
        pl.Series("frames", [placed_item.frames for placed_item in placed], dtype=pl.Int64),
        pl.Series("duration", [placed_item.duration for placed_item in placed], dtype=pl.Float64),
    )
    if any(placed_item.kind == "cut" for placed_item in placed):  # a cut recording begins at 0
        cut = pl.Series([placed_item.kind == "cut" for placed_item in placed])
        frame = frame.with_columns(
            start=pl.when(cut).then(None).otherwise(pl.col("start")), end=pl.when(cut).then(None).otherwise("end")
        )
    findings = _findings(rows, placed)
    placed_items = items.with_frame(frame)
    return (placed_items.where(frame["file"].is_not_null()), findings) if kind.needs_audio else (placed_items, findings)


def _stay(items: Items) -> list[str]:
    return items.frame.filter(pl.col("restricted"))["corpus"].unique().to_list()


def _placed(
    row: dict[str, object],
    kind: Format,
    inside: bool,
    mode: str,
    folder: Path,
    sounds: Sounds | None,
    restricted: set[str],
) -> _Placed:
    duration = row["duration"] if isinstance(row["duration"], float) else None
    audio, start, end = row["audio"], row["start"], row["end"]
    key = str(row["key"])
    segment = start is not None or end is not None
    stays = bool(row["restricted"])
    if audio is None and row["recipe"] is not None and sounds is not None:
        recipe = Recipe.read(str(row["recipe"]), where=str(row["utterance_id"]))
        if stays or any(parent in restricted for parent, _ in recipe.parents):
            return _Placed(None, "kept_back", "it would be made from recordings that may not be copied")
        return _rendered(str(row["utterance_id"]), key, folder, sounds)
    if audio is None:
        return _Placed(None, "no_audio", "it has no recording", duration=duration)
    if is_remote(str(audio)):
        if not (inside or kind.needs_header or (segment and kind.whole_files)):
            return _Placed(str(audio), "remote_audio", "its recording is remote", duration=duration)
        if stays:
            return _Placed(None, "kept_back", "its recording may not be copied, and the format needs a copy")
        return _fetched(str(audio), row, kind, inside, folder)
    path = str(audio)
    if not os.path.isfile(path):  # noqa: PTH113  # an eighth of pathlib's time, for every row
        return _Placed(None, "missing", f"there is no file {path}", duration=duration)
    if stays and (inside or (segment and kind.whole_files)):
        return _Placed(None, "kept_back", "its recording may not be copied, and the format needs a copy")
    if segment and (kind.whole_files or inside):
        return _cut(path, start, end, key, folder)
    if (mode == "copy" or inside) and not stays and not (mode == "link" and not kind.embeds):
        return _headed(_copied(path, key, folder), path, kind, duration)
    if mode == "link" and not stays:
        return _headed(_linked(path, key, folder), path, kind, duration)
    return _headed(path, path, kind, duration)


def _fetched(uri: str, row: dict[str, object], kind: Format, inside: bool, folder: Path) -> _Placed:
    """A remote recording's copy in the export, or its address with the header of the copy."""
    key, start, end = str(row["key"]), row["start"], row["end"]
    if (start is not None or end is not None) and (kind.whole_files or inside):
        return _cut(uri, start, end, key, folder)
    name = f"{AUDIO}/{key}{PurePosixPath(name_of(uri)).suffix.lower()}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy_to(uri, path)
    except FetchError as error:
        return _Placed(None, error.kind, f"{error.where}: {error.message}")
    if inside:
        return _headed(name, str(path), kind, None)
    try:
        return _headed(uri, str(path), kind, None)
    finally:
        path.unlink()


def _rendered(utterance_id: str, key: str, folder: Path, sounds: Sounds) -> _Placed:
    opened = sounds.open(utterance_id)
    if opened.clip is None:
        first = opened.findings[0]
        return _Placed(None, first.kind, first.message)
    return _written(opened.clip.samples, opened.clip.rate, key, folder, "rendered", "PCM_24")


def _cut(path: str, start: object, end: object, key: str, folder: Path) -> _Placed:
    try:
        clip = open_clip(
            path,
            start=float(str(start)) if start is not None else None,
            end=float(str(end)) if end is not None else None,
        )
    except RecordingError as error:
        return _Placed(None, error.kind, error.message)
    return _written(clip.samples, clip.rate, key, folder, "cut")


def _written(samples: object, rate: int, key: str, folder: Path, kind: str, subtype: str = "PCM_16") -> _Placed:
    import soundfile

    name = f"{AUDIO}/{key}.flac"
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, samples, rate, subtype=subtype)
    frames = len(samples)  # type: ignore[arg-type]
    return _Placed(name, kind, "", rate, frames, frames / rate)


def _copied(path: str, key: str, folder: Path) -> str:
    name = f"{AUDIO}/{key}{Path(path).suffix.lower()}"
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / name)
    return name


def _linked(path: str, key: str, folder: Path) -> str:
    name = f"{AUDIO}/{key}{Path(path).suffix.lower()}"
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(path)
    return name


def _headed(file: str, path: str, kind: Format, duration: float | None) -> _Placed:
    if not kind.needs_header and duration is not None:
        return _Placed(file, duration=duration)
    import soundfile

    try:
        rate, frames = header_of(path)
    except soundfile.LibsndfileError as error:
        if not kind.needs_header:
            return _Placed(file, duration=duration)
        return _Placed(None, "unreadable", f"{path} cannot be read ({error})")
    return _Placed(file, "", "", rate, frames, frames / rate)


def _findings(rows: Iterable[dict[str, object]], placed: Iterable[_Placed]) -> list[Finding]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for row, placed_item in zip(rows, placed, strict=True):
        if placed_item.kind:
            groups.setdefault(placed_item.kind, []).append((str(row["utterance_id"]), placed_item.reason))
    findings = []
    for kind, items in groups.items():
        example, reason = items[0]
        count = len(items)
        if kind == "cut":
            message = f"{count:,} items are parts of longer files and were cut from them, at {RATE:,} Hz"
            findings.append(Finding("export", "cut", message, utterance_id=example, count=count))
        elif kind == "rendered":
            message = f"{count:,} generated items were rendered into the export"
            findings.append(Finding("export", "rendered", message, utterance_id=example, count=count))
        elif kind == "remote_audio":
            message = f"{count:,} recordings are remote, such as that of {example}"
            fix = "Fetch them and give their paths, if the format needs files."
            findings.append(Finding("export", "remote_audio", message, fix, utterance_id=example, count=count))
        else:
            name = kind if kind in ("missing", "kept_back", "no_audio", "not_fetched") else "unreadable"
            message = f"{count:,} items have no recording here, such as {example}: {reason}"
            fix = (
                "Write may_leave = [...] for corpora that you may copy, or choose a format that refers to files."
                if kind == "kept_back"
                else "Give the recordings; formats of labels alone (csv, parquet, jsonl) keep such items."
            )
            findings.append(Finding("export", name, message, fix, utterance_id=example, count=count))
    return findings
