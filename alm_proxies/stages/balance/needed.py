"""The recordings that a method of balance needed, and those of them that could not be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import polars as pl


@dataclass(frozen=True, slots=True)
class Recordings:
    """The utterances whose recordings were needed, and those whose recording could not be used."""

    needed: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    @classmethod
    def of(cls, ids: Iterable[str], usable: Iterable[bool]) -> Self:
        """The recordings of these utterances, by whether each could be used."""
        pairs = list(zip(ids, usable, strict=True))
        return cls(frozenset(name for name, _ in pairs), frozenset(name for name, able in pairs if not able))

    def __or__(self, other: Recordings) -> Recordings:
        """What two steps needed, each recording once."""
        return Recordings(self.needed | other.needed, self.lost | other.lost)


def has_recording() -> pl.Expr:
    """Whether a row has a recording or a recipe."""
    return pl.col("audio").is_not_null() | pl.col("recipe").is_not_null()
