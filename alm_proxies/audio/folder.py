"""A folder of recordings as a table of utterances."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import polars as pl

from alm_proxies.about import About
from alm_proxies.errors import InputError
from alm_proxies.tables import Utterances

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au")
"""The suffixes of recordings."""


def recordings_in(folder: str | Path) -> Utterances:
    """The recordings in a folder and its sub-folders as utterances, by their path without suffix, as readers name them.

    The suffix stays where the path without it would name two recordings. Hidden files and folders, whose names begin
    with a dot, are no recordings: systems put their own there, such as "._clip.wav".
    """
    root = Path(folder)
    if not root.is_dir():
        fix = "Give a folder of recordings, or an Utterances table."
        raise InputError("is not a folder", where=str(root), fix=fix)
    paths = sorted(
        path for path in files_below(root) if path.suffix.lower() in SOUNDS and not _is_hidden(path.relative_to(root))
    )
    if not paths:
        raise InputError("has no recordings", where=str(root), fix=f"Supported are: {', '.join(SOUNDS)}.")
    corpus = root.resolve().name
    names = [path.relative_to(root).as_posix() for path in paths]
    ids = [f"{corpus}/{name}" for name in _own_ids(names)]
    frame = pl.DataFrame({"utterance_id": ids, "corpus": corpus, "audio": names})
    return Utterances.of(frame, about=About(roots={corpus: str(root.resolve())}))


def files_below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """The files in a folder and below it, in linked folders too; `above` are the folders that it is in, which a link
    does not lead back to. Folders that may not be opened are passed over.
    """
    state = folder.stat()
    if (own := (state.st_dev, state.st_ino)) in above:
        return
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in listed:
        if entry.is_dir():
            yield from files_below(Path(entry.path), (*above, own))
        elif entry.is_file():
            yield Path(entry.path)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _own_ids(names: list[str]) -> list[str]:
    """The ids of recordings: their paths, without suffix where no two would be the same."""
    plain = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    taken = Counter([*plain, *names])
    return [own if taken[own] == 1 else name for own, name in zip(plain, names, strict=True)]
