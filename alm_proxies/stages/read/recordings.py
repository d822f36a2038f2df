"""Whether the recordings a table names are where it says: each folder is listed once, however many files it holds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from alm_proxies.files import is_there
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import Finding

_NAMED = 3
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def recordings_absent(paths: Iterable[str], root: Path) -> list[Finding]:
    """A finding if recordings are not there, with the first few names and the folder they were looked for in."""
    named = [path for path in dict.fromkeys(paths) if not _ELSEWHERE.match(path.removeprefix("file://"))]
    listed: dict[str, frozenset[str]] = {}
    absent = []
    for path in named:
        own = path.removeprefix("file://")
        folder, _, name = (own if own.startswith("/") else f"{root.absolute()}/{own}").rpartition("/")
        if folder not in listed:
            listed[folder] = _files_in(folder)
        # A name that a file system spells otherwise, such as in small letters, is not among those listed.
        if name not in listed[folder] and not is_there(f"{folder}/{name}", file=True):
            absent.append(path)
    if not absent:
        return []
    shown = ", ".join(map(repr, absent[:_NAMED])) + (" ..." if len(absent) > _NAMED else "")
    message = f"{len(absent)} of {len(named)} recordings are not there: {shown}; looked for under {root.absolute()}"
    fix = "Put them there, or say where they lie: --columns 'audio=wav/{column}.wav' (columns), or a whole path."
    return [finding("no_audio", message, fix=fix, where=str(root), count=len(absent))]


def _files_in(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or "/") as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):
        return frozenset()
