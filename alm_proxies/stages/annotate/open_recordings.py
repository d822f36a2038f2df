"""Recordings of the planned utterances: decoded by threads, a few ahead of the requests."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from alm_proxies.audio.clip import LONGEST, Clip, RecordingError, clip_of, open_clip, remote_copy
from alm_proxies.engines.engine import Audio
from alm_proxies.errors import InputError
from alm_proxies.files import digest_file
from alm_proxies.remote.copies import AT_ONCE
from alm_proxies.uris import is_remote

_BATCH = 4
"""Recordings that a thread opens at once."""
_BATCHES_AHEAD = 4
"""Batches that are opened ahead."""
Rows = Iterator[tuple[int, dict[str, Any]]]
"""Position in the plan and columns of utterances."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The recording of one utterance; `wrong` is the kind and message of the reason if it could not be opened."""

    place: int
    row: Mapping[str, Any]
    audio: Audio | None
    digest: str
    size: int
    changed: int
    wrong: tuple[str, str] | None = None


async def opened_ahead(rows: Rows, rate: int, *, remote: bool) -> AsyncGenerator[Recording]:
    """The recordings of these utterances in their order, at this sample rate; `remote` if some have to be fetched."""
    loop = asyncio.get_running_loop()
    threads = AT_ONCE if remote else min(4, (os.cpu_count() or 1) + 1)
    ahead = 2 * AT_ONCE if remote else _BATCHES_AHEAD
    size = 1 if remote else _BATCH
    digest = lru_cache(maxsize=256)(_digest)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="open-recordings")
    waiting: deque[asyncio.Future[list[Recording]]] = deque()
    try:
        while True:
            while len(waiting) < ahead and (batch := list(islice(rows, size))):
                waiting.append(loop.run_in_executor(pool, _open_all, batch, rate, digest))
            if not waiting:
                return
            for recording in await waiting.popleft():
                yield recording
    finally:
        # One that is being fetched may take minutes, in which no answer could be recorded, and no signal handled.
        pool.shutdown(wait=False, cancel_futures=True)


def _digest(path: str, size: int, changed: int) -> str:
    """The digest of a file; size and time of change are part of the key under which it is cached."""
    return digest_file(path)


def _open_all(
    rows: Sequence[tuple[int, Mapping[str, Any]]], rate: int, digest_of: Callable[[str, int, int], str]
) -> list[Recording]:
    return [_open(place, row, rate, digest_of) for place, row in rows]


def _open(place: int, row: Mapping[str, Any], rate: int, digest_of: Callable[[str, int, int], str]) -> Recording:
    path = row["path"]
    if is_remote(path):
        return _open_remote(place, row, rate)
    try:
        status = Path(path).stat()
        digest = digest_of(path, status.st_size, status.st_mtime_ns)
        clip = open_clip(path, start=row["start"], end=row["end"], rate=rate, longest=LONGEST)
    except RecordingError as error:
        return Recording(place, row, None, "", 0, 0, (error.kind, error.message))
    except OSError as error:
        return Recording(place, row, None, "", 0, 0, ("missing", f"{path}: {error.strerror or error}"))
    except InputError as error:
        return Recording(place, row, None, "", 0, 0, ("unreadable", error.message))
    return Recording(place, row, _audio(clip), digest, status.st_size, status.st_mtime_ns)


def _open_remote(place: int, row: Mapping[str, Any], rate: int) -> Recording:
    try:
        copy = remote_copy(row["path"], row["keep"])
        try:
            clip = clip_of(copy.handle, row["path"], start=row["start"], end=row["end"], rate=rate, longest=LONGEST)
        finally:
            os.close(copy.handle)
    except RecordingError as error:
        return Recording(place, row, None, "", 0, 0, (error.kind, f"{error.where}: {error.message}"))
    return Recording(place, row, _audio(clip), copy.digest[:16], copy.size, copy.mark)


def _audio(clip: Clip) -> Audio:
    """The clip for an engine, as it lies in the file where that is 16-bit PCM."""
    return Audio(clip.samples if clip.pcm is None else clip.pcm, clip.rate)
