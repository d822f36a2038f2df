"""Checks that the recordings a table names exist, or finds them in a separate folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import polars as pl

from alm_proxies.audio.folder import SOUNDS, files_below
from alm_proxies.errors import InputError
from alm_proxies.files import is_there
from alm_proxies.printable import counted
from alm_proxies.stages.read.remote import joined, recordings_at
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.tables import Finding
from alm_proxies.uris import remote_of

_NAMED = 3
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def recordings_absent(paths: Iterable[str], root: Path) -> list[Finding]:
    """A finding if recordings are missing, with the first few names and the folder searched."""
    named = [path for path in dict.fromkeys(paths) if not _ELSEWHERE.match(path.removeprefix("file://"))]
    listed: dict[str, frozenset[str]] = {}
    absent = []
    for path in named:
        own = path.removeprefix("file://")
        folder, _, name = (own if own.startswith("/") else f"{root.absolute()}/{own}").rpartition("/")
        if folder not in listed:
            listed[folder] = _files_in(folder)
        # A name that differs from the file system's, such as in case, is not among those listed.
        if name not in listed[folder] and not is_there(f"{folder}/{name}", file=True):
            absent.append(path)
    if not absent:
        return []
    shown = ", ".join(map(repr, absent[:_NAMED])) + (" ..." if len(absent) > _NAMED else "")
    message = f"{len(absent)} of {len(named)} recordings are missing: {shown}; looked for under {root.absolute()}"
    fix = (
        "Put them there, or name the folder that holds them: --recordings FOLDER (recordings). A table can give their "
        "place: --columns 'audio=wav/{column}.wav' (columns)."
    )
    return [finding("no_audio", message, fix=fix, where=str(root), count=len(absent))]


def _files_in(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or "/") as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):
        return frozenset()


def recordings_under(folder: Path) -> list[str]:
    """The recordings in a folder and below it, by their paths there, sorted."""
    if (uri := remote_of(folder)) is not None:
        return recordings_at(uri)
    if not folder.is_dir():
        raise InputError("is no folder of recordings", where=str(folder), fix="Check recordings (--recordings).")
    paths = [path for path in files_below(folder) if path.suffix.lower() in SOUNDS]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def found_in_folder(part: Part, folder: Path, where: str) -> Part:
    """The part with each utterance's recording in a folder: by the name that the source gives, else by its own id."""
    there = recordings_under(folder)
    known = _by_name(there, str)
    composed = known if all(map(str.isascii, there)) else _by_name(there, _composed)
    frame = part.utterances
    named = frame["audio"] if "audio" in frame.columns else pl.Series([None] * frame.height, dtype=pl.String)
    names = [
        str(name) if name is not None else str(utterance_id).partition("/")[2] or str(utterance_id)
        for utterance_id, name in zip(frame["utterance_id"], named, strict=True)
    ]
    audio = _each_its_own(names, [_found(own, known, composed) for own in names], str(folder))
    lost = [utterance_id for utterance_id, path in zip(frame["utterance_id"], audio, strict=True) if path is None]
    if frame.height and len(lost) == frame.height:
        example = f"it holds {there[0]!r}" if there else f"it holds no file that ends in {', '.join(SOUNDS)}"
        message = f"holds no recording of any of {counted(frame.height, 'utterance')}, such as {lost[0]!r}; {example}"
        fix = "Name the folder that holds them, or the column that names them: --columns audio=..."
        raise InputError(message, where=remote_of(folder) or str(folder), fix=fix)
    findings = [reported for reported in part.findings if reported.kind != "no_audio"]
    if lost:
        shown = ", ".join(map(repr, lost[:_NAMED])) + (" ..." if len(lost) > _NAMED else "")
        message = f"{len(lost)} of {frame.height} utterances have no recording in {folder}: {shown}"
        findings.append(finding("no_audio", message, fix="Put them there.", where=where, count=len(lost)))
    about = part.about
    if remote_of(folder) is not None:
        audio = [None if path is None else joined(folder, path) for path in audio]
    elif about is not None:
        corpora = frame["corpus"].unique().to_list()
        about = about.with_(roots={**about.roots, **dict.fromkeys(corpora, str(folder.absolute()))})
    frame = frame.with_columns(audio=pl.Series(audio, dtype=pl.String))
    root = None if remote_of(folder) is not None else folder
    return replace(part, utterances=frame, findings=findings, root=root, about=about)


def _each_its_own(names: Sequence[str], found: Sequence[list[str]], folder: str) -> list[str | None]:
    """The recording of each name, of those found. One that another name has by its path is not taken by name alone; an
    error where several are left, or where two names that differ in their folder have one by name alone.
    """
    elsewhere = [bool(paths) and _of_another_folder(name, paths[0]) for name, paths in zip(names, found, strict=True)]
    by_path = {path for paths, other in zip(found, elsewhere, strict=True) if not other for path in paths}
    by_name: dict[str, str] = {}
    audio: list[str | None] = []
    fix = "Name them by their path in the folder: --columns audio=..."
    for name, paths, other in zip(names, found, elsewhere, strict=True):
        left = [path for path in paths if not (other and path in by_path)]
        if len(left) > 1:
            raise InputError(f"holds {left[0]!r} and {left[1]!r}: which is {name!r}?", where=folder, fix=fix)
        if left and other and (first := by_name.setdefault(left[0], name)) != name:
            raise InputError(f"holds {left[0]!r}: is it {first!r} or {name!r}?", where=folder, fix=fix)
        audio.append(left[0] if left else None)
    return audio


def _of_another_folder(name: str, path: str) -> bool:
    """Whether a recording at a path was found by the last part of a name that has a folder."""
    if "/" not in name or path.startswith(name):  # most names, and much faster
        return False
    plain = PurePosixPath(name.removeprefix("file://"))
    named = _composed(plain.as_posix()), _composed(_without_ending(plain))
    return not {_composed(path), _composed(_without_ending(PurePosixPath(path)))} & set(named)


def _without_ending(path: PurePosixPath) -> str:
    return (path.with_suffix("") if path.suffix.lower() in SOUNDS else path).as_posix()


def _by_name(paths: Iterable[str], spelled: Callable[[str], str]) -> dict[str, list[str]]:
    """The recordings by each of the names that they may have, as `spelled`."""
    known: dict[str, list[str]] = {}
    for path in paths:
        for name in dict.fromkeys(_names(spelled(path))):
            known.setdefault(name, []).append(path)
    return known


def _composed(name: str) -> str:
    """A name with one character for a letter and its accent: file systems differ in whether they write one or two."""
    return unicodedata.normalize("NFC", name)


def _names(path: str) -> Iterator[str]:
    """What a recording may be called, the most exact first: its path, that without its ending, its name, its stem."""
    pure = PurePosixPath(path)
    yield from (path, pure.with_suffix("").as_posix(), pure.name, pure.stem)


def _found(name: str, known: dict[str, list[str]], composed: dict[str, list[str]]) -> list[str]:
    """The recordings of the most exact name: by its path before its name alone, as it is spelled before composed."""
    plain = PurePosixPath(name.removeprefix("file://"))
    stem = _without_ending(plain)
    for wanted in dict.fromkeys((plain.as_posix(), stem, plain.name, PurePosixPath(stem).name)):
        if paths := known.get(wanted) or composed.get(_composed(wanted)):
            return paths
    return []
