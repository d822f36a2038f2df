"""A cache of one vector per clip, by the content of its recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip, decode_ahead
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.rows import read_rows, write_rows
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.progress import Progress
from alm_proxies.tables import Finding

Floats = NDArray[np.float32]
Compute = Callable[[Clip, str], tuple[Floats | None, tuple[Finding, ...]]]
"""A function of a clip and its utterance id: its vector (NaN = not known), or None and findings with the reason."""
_VERSION = 1
_FLUSH = 500  # new vectors written at once


@dataclass(frozen=True, slots=True)
class Vectors:
    """One row per utterance, in the given order; all NaN where there is no vector."""

    rows: Floats
    known: NDArray[np.bool_]
    """Which utterances have a vector."""
    made: int
    """The number computed now; the others were read from the cache."""
    findings: tuple[Finding, ...]


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
    quiet: bool = True,
) -> Vectors:
    """The vector of every utterance; `digest` identifies the computation, `folder` is the cache.

    The cache key is the content of the recording and its slice, whatever its path, without decoding; of a generated
    utterance its samples. `compute` runs in `threads` threads, one clip at a time.
    """
    store = _Store(folder / digest_of([_VERSION, digest, width]), width)

    def vector_of(utterance_id: str) -> tuple[str, str, Floats | None, tuple[Finding, ...], bool]:
        mark = sounds.mark(utterance_id)
        kept = store.get(mark or "")
        if mark is not None and kept is not None:
            return utterance_id, mark, *kept, False
        opened = sounds.open(utterance_id)
        if opened.clip is None:
            return utterance_id, "", None, opened.findings, False
        key = mark or _samples_digest(opened.clip)
        kept = store.get(key)
        if kept is not None:
            return utterance_id, key, *kept, False
        vector, findings = compute(opened.clip, utterance_id)
        return utterance_id, key, vector, (*opened.findings, *findings), True

    rows = np.full((len(ids), width), np.nan, dtype=np.float32)
    known = np.zeros(len(ids), dtype=np.bool_)
    findings: list[Finding] = list(store.findings)
    computed = 0
    with Progress(message, len(ids), quiet=quiet) as progress:
        for place, result in enumerate(decode_ahead(ids, vector_of, threads=threads, ahead=4 * threads)):
            utterance_id, key, vector, clip_findings, new = result
            findings.extend(_of(finding, utterance_id) for finding in clip_findings)
            progress.advance()
            if vector is None:
                continue
            rows[place], known[place] = vector, True
            if new:
                computed += 1
                store.add(key, vector, clip_findings)
    store.flush()
    return Vectors(rows, known, computed, tuple(findings))


def _of(finding: Finding, utterance_id: str) -> Finding:
    return Finding(**(asdict(finding) | {"utterance_id": utterance_id}))


def _samples_digest(clip: Clip) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(clip.samples).view(np.uint8).data)
    digest.update(str(clip.rate).encode())
    return digest.hexdigest()[:32]


class _Store:
    """Vectors by a digest of the recording: Parquet files in a folder, each written atomically."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._schema: dict[str, Any] = {
            "key": pl.String(),
            "findings": pl.String(),
            "vector": pl.Array(pl.Float32(), width),
        }
        self._new: list[tuple[str, str, Floats]] = []
        self._known: dict[str, tuple[Floats, str]] = {}
        self.findings: list[Finding] = []
        for path in sorted(folder.glob("*.parquet")):
            frame, reason = read_rows(path, self._schema, "findings", _findings)
            if frame is None:
                message = f"cached features cannot be read ({reason}); they are computed again"
                self.findings.append(Finding("", "cache_unreadable", message, "Delete the file.", where=str(path)))
                continue
            table = frame["vector"].to_numpy()
            self._known |= dict(zip(frame["key"], zip(table, frame["findings"], strict=True), strict=True))

    def get(self, key: str) -> tuple[Floats, tuple[Finding, ...]] | None:
        """The cached vector of a key, if any."""
        if key not in self._known:
            return None
        vector, written = self._known[key]
        return vector, _findings(written)

    def add(self, key: str, vector: Floats, findings: Sequence[Finding]) -> None:
        """Add a vector; vectors are written in batches."""
        rows = [asdict(finding) | {"utterance_id": None} for finding in findings]
        self._new.append((key, canonical_json(rows), vector))
        if len(self._new) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write the new vectors."""
        if not self._new:
            return
        keys, findings, vectors = zip(*self._new, strict=True)
        frame = pl.DataFrame(
            [
                pl.Series("key", keys, dtype=pl.String()),
                pl.Series("findings", findings, dtype=pl.String()),
                pl.Series("vector", np.stack(vectors).astype(np.float32), dtype=self._schema["vector"]),
            ]
        )
        frame = frame.unique("key", keep="first").sort("key")
        write_rows(self._folder, frame)
        self._new.clear()


def _findings(written: str) -> tuple[Finding, ...]:
    return tuple(Finding(**fields) for fields in json.loads(written))
