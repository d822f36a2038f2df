"""Random generators that depend only on a seed and names, so that the order of work never changes a result."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed from a seed and names: the same on every machine, different for every combination."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{_plain(name)}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _plain(name: str | int) -> str:
    """A name without the character that is between names, which would make two names of one."""
    return str(name).replace("\x1b", "\x1b\x1b").replace("\x1f", "\x1b_")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator from a seed and names, e.g. generator(7, "listeners", "sim/0001")."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *names)))
