"""Placement of an export's recordings: referenced, copied, linked, cut from longer files, or rendered."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import polars as pl

from alm_proxies.audio.clip import RecordingError, open_clip
from alm_proxies.audio.folder import SOUNDS
from alm_proxies.audio.header import header_of, header_of_usable
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.remote.copies import copy_to
from alm_proxies.remote.fault import FetchError
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items
from alm_proxies.stages.export.lost import Placed
from alm_proxies.uris import is_remote, name_of

AUDIO = "audio"
"""The folder of the recordings in an export."""
_THREADS = 4
_BATCH = 1024  # rows of one task


def place(items: Items, kind: Format, folder: Path) -> tuple[Items, list[Placed]]:
    """The items with the column `file` (and rate, frames, duration), and how each was placed.

    `file` is an absolute path, or one relative to the export if the recording is in it; null where no recording can be
    used, which leaves the item out of formats that need one.
    """
    parents = set(items.utterances.frame.filter(pl.col("corpus").is_in(_stay(items)))["utterance_id"])
    renders = items.frame.filter(pl.col("audio").is_null() & pl.col("recipe").is_not_null()).height
    sounds = Sounds(items.utterances, stage="export") if renders else None
    columns = ["utterance_id", "key", "audio", "start", "end", "duration", "recipe", "restricted"]
    rows = list(items.frame.select(columns).iter_rows(named=True))

    def place_batch(first: int) -> list[Placed]:
        batch = rows[first : first + _BATCH]
        return [_placed(row, kind, items.settings.audio, folder, sounds, parents) for row in batch]

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
    placed_items = items.with_frame(frame)
    return placed_items.where(frame["file"].is_not_null()) if kind.needs_audio else placed_items, placed


def _stay(items: Items) -> list[str]:
    return items.frame.filter(pl.col("restricted"))["corpus"].unique().to_list()


def _placed(
    row: dict[str, Any], kind: Format, mode: str, folder: Path, sounds: Sounds | None, restricted: set[str]
) -> Placed:
    audio, start, end, key, duration = row["audio"], row["start"], row["end"], row["key"], row["duration"]
    stays = row["restricted"]
    cuts = (start is not None or end is not None) and (kind.whole_files or kind.inside)
    if audio is None and row["recipe"] is not None and sounds is not None:
        recipe = Recipe.read(row["recipe"], where=row["utterance_id"])
        if stays or any(parent in restricted for parent, _ in recipe.parents):
            return Placed(None, "kept_back", "it would be made from recordings that may not be copied")
        return _rendered(row["utterance_id"], key, folder, sounds)
    if audio is None:
        return Placed(None, "no_audio", "it has no recording", duration=duration)
    if is_remote(audio):
        if not (kind.inside or kind.needs_header or cuts):
            return Placed(audio, "remote_audio", "its recording is remote", duration=duration)
        if stays:
            return Placed(None, "kept_back", "its recording may not be copied, and the format needs a copy")
        return _cut(audio, start, end, key, folder) if cuts else _fetched(audio, start, end, key, kind, folder)
    if not os.path.isfile(audio):  # noqa: PTH113  # an eighth of pathlib's time, for every row
        return Placed(None, "missing", f"{audio}: there is no such file", "Check the path.", duration=duration)
    if stays and (kind.inside or cuts):
        return Placed(None, "kept_back", "its recording may not be copied, and the format needs a copy")
    if cuts:
        return _cut(audio, start, end, key, folder)
    refers = mode == "reference" and not kind.inside
    links = mode == "link" and not kind.embeds
    if refers and not kind.needs_audio:
        placed = _referred(audio, duration)
    else:
        placed = _usable(audio, start, end, kind, decoded=not (refers or links or stays))
    if duration is not None and not (kind.needs_header and placed.duration is not None):
        placed = replace(placed, duration=duration)
    if placed.file is None or refers:
        return placed
    if stays:
        return replace(placed, kind="referred_to", reason=mode)
    return replace(placed, file=(_linked if links else _copied)(audio, key, folder))


def _referred(path: str, duration: float | None) -> Placed:
    """A recording that a table of labels refers to; it is opened only for its duration."""
    with suppress(RecordingError):
        return Placed(path, duration=header_of(path)[0] if duration is None else duration)
    return Placed(path)


def _usable(path: str, start: float | None, end: float | None, kind: Format, *, decoded: bool) -> Placed:
    """A recording with its header, or the reason why it cannot be used. Its samples count where it is `decoded`.

    Containers that are not read here, such as mp4, are for the trainer to judge, unless the format needs the header.
    """
    try:
        seconds, rate, frames = (header_of_usable if decoded else header_of)(path, start, end)
    except RecordingError as error:
        if error.kind == "not_audio" and not kind.needs_header and PurePath(path).suffix.lower() not in SOUNDS:
            return Placed(path)
        return _lost(error)
    return Placed(path, rate=rate, frames=frames, duration=seconds if start is None and end is None else None)


def _lost(error: RecordingError | FetchError) -> Placed:
    return Placed(None, error.kind, f"{error.where}: {error.message}", error.fix or "")


def _fetched(uri: str, start: float | None, end: float | None, key: str, kind: Format, folder: Path) -> Placed:
    """A remote recording's copy in the export, or its address with the header of the copy."""
    name = f"{AUDIO}/{key}{PurePosixPath(name_of(uri)).suffix.lower()}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy_to(uri, path)
    except FetchError as error:
        return _lost(error)
    placed = _usable(str(path), start, end, kind, decoded=True)
    if placed.file is None or not kind.inside:
        path.unlink()
    if placed.file is None:
        return replace(placed, reason=placed.reason.replace(str(path), uri))
    return replace(placed, file=name if kind.inside else uri)


def _rendered(utterance_id: str, key: str, folder: Path, sounds: Sounds) -> Placed:
    opened = sounds.open(utterance_id)
    if opened.clip is None:
        first = opened.findings[0]
        return Placed(None, first.kind, first.message, first.fix)
    return _written(opened.clip.samples, opened.clip.rate, key, folder, "rendered", "PCM_24")


def _cut(path: str, start: float | None, end: float | None, key: str, folder: Path) -> Placed:
    try:
        clip = open_clip(path, start=start, end=end)
    except RecordingError as error:
        return _lost(error)
    return _written(clip.samples, clip.rate, key, folder, "cut")


def _written(samples: Any, rate: int, key: str, folder: Path, kind: str, subtype: str = "PCM_16") -> Placed:
    import soundfile

    name = f"{AUDIO}/{key}.flac"
    (folder / AUDIO).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, samples, rate, subtype=subtype)
    return Placed(name, kind, "", "", rate, len(samples), len(samples) / rate)


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
