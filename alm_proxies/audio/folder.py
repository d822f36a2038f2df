"""A folder of recordings as a table of utterances."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from alm_proxies.about import About
from alm_proxies.errors import InputError
from alm_proxies.tables import Utterances

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif", ".au")
"""The suffixes of recordings."""


def recordings_in(folder: str | Path) -> Utterances:
    """The recordings in a folder and its sub-folders as utterances, by their path."""
    root = Path(folder)
    if not root.is_dir():
        fix = "Give a folder of recordings, or an Utterances table."
        raise InputError("is not a folder", where=str(root), fix=fix)
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SOUNDS and path.is_file())
    if not paths:
        raise InputError("has no recordings", where=str(root), fix=f"Supported are: {', '.join(SOUNDS)}.")
    corpus = root.resolve().name
    names = [path.relative_to(root).as_posix() for path in paths]
    frame = pl.DataFrame({"utterance_id": [f"{corpus}/{name}" for name in names], "corpus": corpus, "audio": names})
    return Utterances.of(frame, about=About(roots={corpus: str(root.resolve())}))
