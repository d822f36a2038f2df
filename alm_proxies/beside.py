"""Recordings in a folder of results are found where they are now after it was copied or moved as a whole.

A table states its recordings by absolute paths, and in `beside` the paths, as seen from the table, of the folders that
belong to its results. A reader takes the latter if the first recording is there.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from alm_proxies.about import About

_UP = 2
"""How many folders up from a table another stage's results may be: read/seed=1/ and simulate/seed=1/ in one folder."""
_TABLE = "utterances.parquet"
"""A file in the folder of results to which recordings belong."""


def with_beside(frame: pl.DataFrame, about: About, path: Path) -> About:
    """The metadata of a table that is written to this path."""
    folders = dict.fromkeys((str(path.parent.absolute()), str(path.parent.resolve())))
    beside = {root: rel for root in about.roots.values() if (rel := _seen_from(root, folders)) is not None}
    audio = frame["audio"].drop_nulls()
    beside |= {folder: "." for folder in folders if audio.str.starts_with(f"{folder}/").any()}
    return about.with_(beside=beside)


def where_they_are(frame: pl.DataFrame, about: About, path: Path) -> tuple[pl.DataFrame, About]:
    """A table read from this path, with its recordings where they are now."""
    for stated, seen in about.beside.items():
        there = place_of(path, seen)
        if os.path.realpath(there) != os.path.realpath(stated) and _is_in(frame, about, stated, there):
            audio = pl.col("audio")
            moved = pl.lit(there) + audio.str.strip_prefix(stated)
            frame = frame.with_columns(audio=pl.when(audio.str.starts_with(f"{stated}/")).then(moved).otherwise(audio))
            about = about.with_(roots={corpus: _moved(root, stated, there) for corpus, root in about.roots.items()})
    return frame, about.with_(beside={})


def place_of(path: Path, seen: str) -> str:
    """The folder that a table at this path sees under a relative path."""
    return os.path.normpath(path.parent.absolute() / seen)


def without_places(frame: pl.DataFrame, about: About) -> pl.DataFrame:
    """A table whose recordings in its own folder are stated as seen from it."""
    audio = pl.col("audio")
    for stated in (stated for stated, seen in about.beside.items() if seen == "."):
        inside = pl.lit(".") + audio.str.strip_prefix(stated)
        frame = frame.with_columns(audio=pl.when(audio.str.starts_with(f"{stated}/")).then(inside).otherwise(audio))
    return frame


def _seen_from(root: str, folders: dict[str, None]) -> str | None:
    """The relative path of a root that belongs to the results of a table in one of these folders (two names of one)."""
    if not root:
        return None
    seen = [os.path.relpath(root, folder) for folder in folders]
    inside = [path for path in seen if not path.startswith("..")]
    near = [path for path in seen if Path(path).parts[: _UP + 1].count("..") <= _UP]
    if inside:
        return inside[0]
    return near[0] if near and (Path(root) / _TABLE).is_file() else None


def _is_in(frame: pl.DataFrame, about: About, stated: str, there: str) -> bool:
    """Whether the first recording that is stated in a folder lies in the other one."""
    of_corpus = pl.col("corpus").is_in([name for name, root in about.roots.items() if _is_below(root, stated)])
    absolute = pl.col("audio").str.starts_with("/")
    named = (of_corpus & ~absolute) | pl.col("audio").str.starts_with(f"{stated}/")
    for corpus, audio in frame.lazy().filter(named).select("corpus", "audio").head(1).collect().iter_rows():
        whole = Path(about.roots.get(corpus, "")) / audio.removeprefix("file://")
        return Path(_moved(str(whole), stated, there)).is_file()
    return False


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _moved(path: str, stated: str, there: str) -> str:
    return there + path.removeprefix(stated) if _is_below(path, stated) else path
