"""A vector per clip, computed once for each content of a recording, whichever command asks for it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
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
_GROUP = 8  # batches whose clips are opened, then sorted by length
_PADDING = 0.2  # of a batch, at most
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


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A computation of vectors by a model: of clips of similar length at once, if its device waits for single ones."""

    refused: Callable[[Clip, str], Finding | None]
    """The finding for a clip that the model does not take."""
    vectors: Callable[[Sequence[Clip]], Floats]
    """A row for each clip."""
    at_once: int = 1
    """The largest number of clips at once. Their vectors may differ in the last digits with the others of a batch."""

    def __call__(self, clip: Clip, utterance_id: str) -> tuple[Floats | None, tuple[Finding, ...]]:
        """The vector of one clip."""
        finding = self.refused(clip, utterance_id)
        return (self.vectors([clip])[0], ()) if finding is None else (None, (finding,))


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
    compute: Compute | Encoding,
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
    threads, one clip at a time; an encoding of several clips at once runs in this thread, while others open them.
    `remarks`: whether the findings include what of a vector could not be computed.
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


@dataclass(frozen=True, slots=True)
class _Sound:
    """The clip of an utterance whose vector is to be computed."""

    utterance_id: str
    clip: Clip
    findings: tuple[Finding, ...]
    mark: str | None
    key: str


def vectors_ahead(
    ids: Iterable[str], sounds: Sounds, compute: Compute | Encoding, store: Store, *, threads: int = 2
) -> Generator[ClipVector, None, None]:
    """The vectors of utterances in order, computed ahead where the store has none; new ones are added to it.

    The key is the content of the recording and its slice, whatever its path, without decoding; of a generated utterance
    its samples. What is computed of a file that changes meanwhile is not kept.
    """

    def sound_of(utterance_id: str) -> _Sound | ClipVector:
        mark = sounds.mark(utterance_id)
        if mark is not None and (kept := _kept(store, mark, sounds, utterance_id)) is not None:
            return kept
        opened = sounds.open(utterance_id)
        if opened.clip is None:
            return ClipVector(utterance_id, None, opened.findings, (), made=False)
        key = mark or _samples_digest(opened.clip)
        if mark is None and (kept := _kept(store, key, sounds, utterance_id)) is not None:
            return kept
        clip = replace(opened.clip, pcm=None)  # which is the same samples once more
        return _Sound(utterance_id, clip, opened.findings, mark, key)

    def vector_of(sound: _Sound, vector: Floats | None, computed: tuple[Finding, ...]) -> tuple[ClipVector, str]:
        if vector is None:
            return ClipVector(sound.utterance_id, None, (*sound.findings, *computed), (), made=False), ""
        key = "" if sounds.has_changed(sound.utterance_id, sound.mark) else sound.key
        return ClipVector(sound.utterance_id, vector, sound.findings, computed, made=True), key

    def alone(utterance_id: str) -> tuple[ClipVector, str]:
        sound = sound_of(utterance_id)
        if isinstance(sound, ClipVector):
            return sound, ""
        return vector_of(sound, *compute(sound.clip, utterance_id))

    def together(encoding: Encoding) -> Generator[tuple[ClipVector, str], None, None]:
        size = _GROUP * encoding.at_once
        ahead = decode_ahead(ids, sound_of, threads=threads, ahead=size)
        while group := list(islice(ahead, size)):
            vectors = _encoded(encoding, [sound for sound in group if isinstance(sound, _Sound)])
            for sound in group:
                if isinstance(sound, ClipVector):
                    yield sound, ""
                else:
                    yield vector_of(sound, *vectors[sound.utterance_id])

    if isinstance(compute, Encoding) and compute.at_once > 1:
        ahead = together(compute)
    else:
        ahead = decode_ahead(ids, alone, threads=threads, ahead=4 * threads)
    try:
        for clip, key in ahead:
            if clip.made and clip.vector is not None and key:
                store.add(key, sounds.kept_as(clip.utterance_id), (clip.vector, _written(clip)))
            yield clip
    finally:
        store.flush()


def _encoded(encoding: Encoding, group: Sequence[_Sound]) -> dict[str, tuple[Floats | None, tuple[Finding, ...]]]:
    """The vectors of clips by utterance, those of similar length at once."""
    vectors: dict[str, tuple[Floats | None, tuple[Finding, ...]]] = {}
    usable: list[tuple[str, Clip]] = []
    for sound in group:
        finding = encoding.refused(sound.clip, sound.utterance_id)
        if finding is None:
            usable.append((sound.utterance_id, sound.clip))
        else:
            vectors[sound.utterance_id] = None, (finding,)
    usable.sort(key=lambda pair: len(pair[1].samples))
    for part in bounded_parts([len(clip.samples) for _, clip in usable], _PADDING, encoding.at_once):
        rows = encoding.vectors([clip for _, clip in usable[part]])
        vectors |= {name: (row, ()) for (name, _), row in zip(usable[part], rows, strict=True)}
    return vectors


def bounded_parts(lengths: Sequence[int], padding: float, most: int | None) -> list[slice]:
    """Divide clips sorted by length into as few consecutive parts as possible such that padding is at most this share
    of each part, and no part has more than `most` clips.
    """
    parts: list[slice] = []
    end = len(lengths)
    while end:
        start, total = end - 1, lengths[end - 1]
        longest = lengths[end - 1]
        while start and (most is None or end - start < most):
            grown = total + lengths[start - 1]
            if 1 - grown / (longest * (end - start + 1)) > padding:
                break
            start, total = start - 1, grown
        parts.append(slice(start, end))
        end = start
    return parts[::-1]


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
