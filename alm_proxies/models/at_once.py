"""How many clips a model encodes at once: one on a processor, several on a device that waits for single ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.vectors import Encoding, Floats
from alm_proxies.tables import Finding

T = TypeVar("T")
_MANY = 16


def encoding_of(
    vectors: Callable[[Sequence[Clip]], Floats], refused: Callable[[Clip, str], Finding | None], device: str
) -> Encoding:
    """The encoding of clips on a device of this name; what does not fit into its memory is encoded in halves."""

    def in_halves(clips: Sequence[Clip]) -> Floats:
        if len(clips) == 1:
            return vectors(clips)
        rows = unless_memory_runs_out(lambda: vectors(clips))
        if rows is not None:
            return rows
        middle = (len(clips) + 1) // 2
        return np.concatenate([in_halves(clips[:middle]), in_halves(clips[middle:])])

    return Encoding(refused, in_halves, 1 if device.partition(":")[0] == "cpu" else _MANY)


def unless_memory_runs_out(compute: Callable[[], T]) -> T | None:
    """What is computed, or None if memory ran out; what the device holds in reserve is then released."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not _memory_ran_out(error):
            raise
    if torch.cuda.is_available():  # after the except clause, so that the error's frames no longer hold the states
        torch.cuda.empty_cache()
    return None


def _memory_ran_out(error: BaseException) -> bool:
    """Whether an error means that a device or the machine has no memory left."""
    words = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "Cannot allocate memory",
        "could not create a memory",  # oneDNN
        "could not create a primitive",  # oneDNN, if its scratch space cannot be allocated
    )
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
