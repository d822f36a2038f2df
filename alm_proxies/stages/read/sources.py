"""The result of a format's reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alm_proxies.tables import About, Finding


@dataclass(frozen=True, slots=True)
class Part:
    """The tables of one source: frames in the contract's columns, with ids prefixed and words mapped to labels."""

    utterances: pl.DataFrame
    votes: pl.DataFrame
    inputs: tuple[Path, ...]
    findings: list[Finding]
    labels: pl.DataFrame | None = None
    root: Path | None = None
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    bare: bool = False
    """Whether it has votes or labels only, and no description of the utterances."""
    about: About | None = None
    """The metadata of its tables: scales, roots and annotators of several corpora."""


def finding(kind: str, message: str, *, fix: str = "", where: str | None = None, count: int = 1) -> Finding:
    """A finding of this stage."""
    return Finding(stage="read", kind=kind, message=message, fix=fix, where=where, count=count)


def prefixed(name: str, corpus: str) -> pl.Expr:
    """A column of ids with the corpus as prefix; ids that have the prefix are unchanged."""
    own = pl.col(name)
    return pl.when(own.str.starts_with(f"{corpus}/")).then(own).otherwise(pl.lit(f"{corpus}/") + own).alias(name)
