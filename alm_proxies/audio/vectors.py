"""A vector per clip, computed once for each content of a recording, whichever command asks for it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip, decode_ahead
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.store import Store
from alm_proxies.files import canonical_json, digest_of, make_folder, writing
from alm_proxies.progress import Progress
from alm_proxies.tables import Finding

Floats = NDArray[np.float32]
Compute = Callable[[Clip, str], tuple[Floats | None, tuple[Finding, ...]]]
"""A function of a clip and its utterance id: its vector (NaN = not known), or None and findings with the reason."""
_VERSION = 2
_ON_DISK = 4 * 2**30  # bytes of vectors from which on they are in a file


@dataclass(frozen=True, slots=True)
class Vectors:
    """One row per utterance, in the given order; all NaN where there is no vector."""

    rows: Floats
    """In memory, or from 4 GiB on in a file that is gone with them."""
    known: NDArray[np.bool_]
    """Which utterances have a vector."""
    made: int
    """The number computed now; the others were kept."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ClipVector:
    """The vector of an utterance, or None, and findings."""

    utterance_id: str
    vector: Floats | None
    findings: tuple[Finding, ...]
    """Of its recording, with the reason where there is no vector."""
    remarks: tuple[Finding, ...]
    """Of a vector that there is: what of it could not be computed."""
    made: bool
    """Whether it was computed now."""


def vectors_of(
    ids: Sequence[str],
    sounds: Sounds,
    compute: Compute,
    *,
    width: int,
    digest: str,
    folder: Path,
    message: str = "features",
    threads: int = 2,
    remarks: bool = True,
    quiet: bool = True,
) -> Vectors:
    """The vector of every utterance; `digest` identifies the computation.

    They are kept in the cache, or in `folder` if copies of the corpus are forbidden. `compute` runs in `threads`
    threads, one clip at a time. `remarks`: whether the findings include what of a vector could not be computed.
    """
    store = store_of(width, digest, folder)
    rows = _room(len(ids), width, folder)
    known = np.zeros(len(ids), dtype=np.bool_)
    findings: list[Finding] = []
    computed = 0
    with Progress(message, len(ids), quiet=quiet) as progress:
        for place, clip in enumerate(vectors_ahead(ids, sounds, compute, store, threads=threads)):
            findings += [*clip.findings, *(clip.remarks if remarks else ())]
            computed += clip.made
            if clip.vector is not None:
                rows[place], known[place] = clip.vector, True
            else:
                rows[place] = np.nan
            progress.advance()
    return Vectors(rows, known, computed, (*store.findings(), *findings))


def _room(count: int, width: int, folder: Path) -> Floats:
    """Room for vectors, to be filled: in memory, or in a file without a name in the folder if they are many."""
    size = 4 * count * width
    if size < _ON_DISK:
        return np.empty((count, width), dtype=np.float32)
    make_folder(folder)
    with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a disk that is full is an error here; later it would end the process
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(count, width))


def store_of(width: int, digest: str, folder: Path | None, *, beside: Path | None = None) -> Store:
    """The kept vectors of a computation; without a folder, those that may not be in the cache are not kept.

    Those that another run keeps in `beside` are read.
    """
    return Store(digest_of([_VERSION, digest, width]), width, folder, beside=beside)


def vectors_ahead(
    ids: Iterable[str], sounds: Sounds, compute: Compute, store: Store, *, threads: int = 2
) -> Generator[ClipVector, None, None]:
    """The vectors of utterances in order, computed ahead where the store has none; new ones are added to it.

    The key is the content of the recording and its slice, whatever its path, without decoding; of a generated utterance
    its samples. What is computed of a file that changes meanwhile is not kept.
    """

    def vector_of(utterance_id: str) -> tuple[ClipVector, str]:
        mark = sounds.mark(utterance_id)
        if mark is not None and (kept := _kept(store, mark, sounds, utterance_id)) is not None:
            return kept, mark
        opened = sounds.open(utterance_id)
        if opened.clip is None:
            return ClipVector(utterance_id, None, opened.findings, (), made=False), ""
        key = mark or _samples_digest(opened.clip)
        if mark is None and (kept := _kept(store, key, sounds, utterance_id)) is not None:
            return kept, key
        vector, computed = compute(opened.clip, utterance_id)
        if vector is None:
            return ClipVector(utterance_id, None, (*opened.findings, *computed), (), made=False), ""
        key = "" if sounds.has_changed(utterance_id, mark) else key
        return ClipVector(utterance_id, vector, opened.findings, computed, made=True), key

    try:
        for clip, key in decode_ahead(ids, vector_of, threads=threads, ahead=4 * threads):
            if clip.made and clip.vector is not None and key:
                store.add(key, sounds.kept_as(clip.utterance_id), (clip.vector, _written(clip)))
            yield clip
    finally:
        store.flush()


def _kept(store: Store, key: str, sounds: Sounds, utterance_id: str) -> ClipVector | None:
    row = store.get(key, sounds.kept_as(utterance_id))
    if row is None:
        return None
    findings, remarks = (
        tuple(sounds.of_file(Finding("", **fields), utterance_id) for fields in part) for part in json.loads(row[1])
    )
    return ClipVector(utterance_id, row[0], findings, remarks, made=False)


def _written(clip: ClipVector) -> str:
    """The findings of a clip, as those of any recording with the same content."""
    fields = ("kind", "message", "fix", "count")
    parts = [
        [{name: asdict(finding)[name] for name in fields} | {"where": finding.where and ""} for finding in part]
        for part in (clip.findings, clip.remarks)
    ]
    return canonical_json(parts)


def _samples_digest(clip: Clip) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(clip.samples).view(np.uint8).data)
    digest.update(str(clip.rate).encode())
    return digest.hexdigest()[:32]
