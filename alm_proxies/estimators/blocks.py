"""Proxies as evidence: annotators grouped by base model, copies of annotators, and votes as counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array, summed
from alm_proxies.tables import About, Finding

Kind = Literal["votes", "shares"]
FLOOR = 1e-3
_COPY_NEEDS = 30


@dataclass(frozen=True, slots=True)
class Block:
    """The votes of all annotators of one base model: they are correlated, so they count as one source."""

    name: str
    annotators: tuple[str, ...]
    kind: Kind
    counts: Array
    """votes: how often each label was cast. shares: normalised mean of floored log shares, zero where absent."""
    votes: Array
    """Votes cast for each utterance; 0 = absent."""
    base: str = ""
    """The base model, and the kind where both are known: what earlier estimators call the block."""

    def rows(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Block:
        """The block for some utterances."""
        return replace(self, counts=self.counts[rows], votes=self.votes[rows])


@dataclass(frozen=True, slots=True)
class Layout:
    """The annotators of each block; the same for every part of a table of votes."""

    blocks: tuple[tuple[str, str, Kind, tuple[str, ...]], ...]
    """Name, base, kind and annotators."""
    copies: tuple[tuple[str, str], ...]
    """Annotators that do not count, each with the annotator it copies."""

    @property
    def findings(self) -> list[Finding]:
        """One finding for each copy."""
        message = "its votes are equal to those of {!r}, so they count once"
        return [Finding.of("copied_annotator", message.format(first), where=copy) for copy, first in self.copies]

    def of(self, votes: pl.DataFrame, n: int, labels: int, names: Sequence[str]) -> tuple[Block, ...]:
        """The blocks of rows u, annotator (a place in names), draw, label, weight; empty where there are no votes."""
        place = {name: code for code, name in enumerate(names)}
        blocks = []
        for name, base, kind, annotators in self.blocks:
            codes = [place[annotator] for annotator in annotators if annotator in place]
            cast = votes.filter(pl.col("annotator").is_in(codes))
            counts = _cast(cast, n, labels) if kind == "votes" else _shares(cast, n, labels)
            blocks.append(Block(name, annotators, kind, *counts, base))
        return tuple(blocks)


def block_of(blocks: Sequence[Block], name: str) -> Block | None:
    """The block that a fit means by the name: that of this name, else of this base, else with such an annotator."""
    for is_meant in (
        lambda block: block.name == name,
        lambda block: block.base == name,
        lambda block: name in block.annotators,
    ):
        if found := [block for block in blocks if is_meant(block)]:
            return replace(found[0], name=name)
    return None


def layout_of(annotators: Collection[str], about: About, copies: Mapping[str, str]) -> Layout:
    """The layout of the proxies that cast a usable vote.

    A block has the name of its annotator; where the metadata know several of one base model, that of the model.
    """
    groups: dict[tuple[str, Kind], list[str]] = {}
    for name in sorted(annotators):
        groups.setdefault(_model_of(name, about), []).append(name)
    # by every annotator's metadata, with votes or not: a block keeps its name if only some annotators are present
    known: dict[tuple[str, Kind], set[str]] = {}
    for name in {*about.annotators, *annotators}:
        known.setdefault(_model_of(name, about), set()).add(name)
    bases = {
        (model, kind): f"{model} ({kind})" if {(model, "votes"), (model, "shares")} <= known.keys() else model
        for model, kind in groups
    }
    blocks = []
    for group, members in groups.items():
        counted = tuple(name for name in members if name not in copies)
        if counted:
            others = {base for other, base in bases.items() if other != group}
            alone = len(known[group]) == 1 and counted[0] not in others
            blocks.append((counted[0] if alone else bases[group], bases[group], group[1], counted))
    return Layout(tuple(blocks), tuple(copies.items()))


def _model_of(name: str, about: About) -> tuple[str, Kind]:
    card = about.annotators.get(name)
    if card is None:
        return name, "votes"
    return card.model or name, "votes" if card.elicit == "sample" else "shares"


class Marks:
    """Digests of each annotator's votes, accumulated part by part: annotators with equal votes have equal digests."""

    def __init__(self) -> None:
        self.marks: dict[str, tuple[int, int]] = {}

    def add(self, votes: pl.DataFrame, names: Sequence[str]) -> None:
        """Add rows u (unlike those of other parts), annotator (a place in names), label, weight."""
        mixed = pl.struct("u", "label", "weight").hash(seed=17).sum()
        for code, mark, rows in (
            votes.group_by("annotator").agg(mixed.alias("mark"), pl.len().alias("rows")).iter_rows()
        ):
            before = self.marks.get(names[code], (0, 0))
            self.marks[names[code]] = ((before[0] + mark) % 2**64, before[1] + rows)

    def copies(self) -> dict[str, str]:
        """Annotators with votes equal to those of another, and that other."""
        first: dict[tuple[int, int], str] = {}
        originals = {}
        for name in sorted(self.marks):
            original = first.setdefault(self.marks[name], name)
            if original != name and self.marks[name][1] >= _COPY_NEEDS:
                originals[name] = original
        return originals


def _cast(votes: pl.DataFrame, n: int, labels: int) -> tuple[Array, Array]:
    place = votes["u"].to_numpy() * labels + votes["label"].to_numpy()
    counts = summed(place, votes["weight"].to_numpy(), n * labels).reshape(n, labels)
    return counts, counts.sum(1)


def _shares(votes: pl.DataFrame, n: int, labels: int) -> tuple[Array, Array]:
    """Normalised mean over draws of log max(share, FLOOR), and the number of draws."""
    keys = votes.select("u", "annotator", "draw").unique().sort("u", "annotator", "draw").with_row_index("d")
    row = votes.join(keys, on=["u", "annotator", "draw"], how="left", maintain_order="left")
    place = row["d"].to_numpy().astype(np.int64) * labels + row["label"].to_numpy()
    each = summed(place, row["weight"].to_numpy(), keys.height * labels)
    logs = np.log(np.maximum(each.reshape(-1, labels), FLOOR))
    owner = keys["u"].to_numpy()
    draws = np.bincount(owner, minlength=n).astype(np.float64)
    mean = np.stack([summed(owner, logs[:, j], n) for j in range(labels)], axis=1)
    shares = np.exp(mean / np.maximum(draws, 1.0)[:, None])
    shares /= shares.sum(1, keepdims=True)
    return np.where(draws[:, None] > 0, shares, 0.0), draws
