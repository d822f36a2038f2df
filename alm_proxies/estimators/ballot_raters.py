"""The rater of each human vote, where raters are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from alm_proxies.ballots import Array, Draws, Index, is_rater

FEWEST_VOTES = 10
"""Raters with fewer votes do not make it worth while to tell raters apart (`telling`)."""
_KNOWN = 0.5
_RATERS = 3


@dataclass(frozen=True, slots=True)
class BallotRaters:
    """Human ballots one by one, in the order of utterances, with the rater of each."""

    names: tuple[str, ...]
    rows: Index
    """The utterance."""
    raters: Index
    """Index into names; -1 where the rater is not known."""
    vectors: Array
    """Weights over the labels."""

    def of(self, rows: Index, size: int) -> BallotRaters:
        """The ballots of some of `size` utterances, given by increasing row number."""
        place = np.full(size, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.rows] >= 0
        return replace(self, rows=place[self.rows[kept]], raters=self.raters[kept], vectors=self.vectors[kept])

    def only(self, ballots: Index, rows: Index) -> BallotRaters:
        """A selection of ballots, each assigned to the given row."""
        return replace(self, rows=rows, raters=self.raters[ballots], vectors=self.vectors[ballots])

    @property
    def telling(self) -> bool:
        """Whether half of the votes or more are by raters with enough votes to be modelled individually."""
        cast = np.bincount(self.raters[self.raters >= 0], minlength=len(self.names))
        many = cast[cast >= FEWEST_VOTES]
        return len(many) >= _RATERS and int(many.sum()) >= _KNOWN * max(len(self.rows), 1)


def ballot_raters(human: pl.DataFrame, annotators: list[str], labels: int, draws: Draws | None) -> BallotRaters | None:
    """The raters of rows u, annotator (a place in annotators), draw, label, weight; None where no rater is known."""
    known = np.array([is_rater(name) for name in annotators], dtype=np.bool_)
    if not human.height or not known[human["annotator"].to_numpy()].any():
        return None
    keys = ["u", "annotator", "draw"]
    ordered = human.select(*keys, "label", "weight").sort(keys)
    if draws is not None:
        rows, vectors = draws
        rater = ordered.select(keys).unique(maintain_order=True)["annotator"].to_numpy().astype(np.int64)
    else:
        rows = ordered["u"].to_numpy().astype(np.int64)
        rater = ordered["annotator"].to_numpy().astype(np.int64)
        vectors = np.eye(labels)[ordered["label"].to_numpy()] * ordered["weight"].to_numpy()[:, None]
    return BallotRaters(tuple(annotators), rows, np.where(known[rater], rater, -1), vectors)
