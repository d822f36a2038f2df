"""Votes as counts: one row per utterance, with human counts and one block of counts for each base model of the proxies.

Which votes count is decided in `ballots`; a proxy that is an exact copy of another is left out here, and counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from alm_proxies.ballots import Array, Index, Merge, human_counts, usable_of
from alm_proxies.columns import did_you_mean, holds_numbers
from alm_proxies.errors import InputError
from alm_proxies.estimators.ballot_raters import BallotRaters, ballot_raters
from alm_proxies.estimators.blocks import Block, Layout, Marks, block_of, layout_of
from alm_proxies.estimators.trained import ProxyFolds, folds_of_proxies, refuse_trained
from alm_proxies.printable import counted
from alm_proxies.tables import Finding, Utterances, Votes
from alm_proxies.whole_votes import whole_counts

__all__ = ["COLUMNS", "Array", "Block", "Counts", "Index", "LeftOut", "Merge", "counts_of", "unique_rows"]

COLUMNS = "columns"
"""The name of the utterances' numeric columns in lists of proxies."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Leave-one-out pairs of human votes: equal (utterance, vote) pairs are merged, with their total weight."""

    rows: Index
    contexts: Array
    """The utterance's other human votes."""
    targets: Array
    """The held-out vote, of weight 1."""
    mass: Array
    """Number of votes in the pair."""

    @classmethod
    def merged(cls, rows: Index, left_out: Array, contexts: Array, targets: Array) -> LeftOut:
        """Single votes; those of an utterance that leave out the same vote become a pair, with their mean target."""
        vote = unique_rows(left_out)[1]
        _, first, pair = np.unique(rows * (vote.max() + 1) + vote, return_index=True, return_inverse=True)
        mass, together = np.bincount(pair).astype(np.float64), np.zeros((len(first), targets.shape[1]))
        np.add.at(together, pair, targets)
        return cls(rows[first], contexts[first], together / mass[:, None], mass)

    def beside(self, counts: Counts) -> Counts:
        """The utterances of the pairs with their other human votes, as estimators take them."""
        return counts.rows(self.rows).with_human(self.contexts)


@dataclass(frozen=True, slots=True)
class Counts:
    """Votes as aligned arrays for estimators, one row per utterance, in the order of utterance ids."""

    labels: tuple[str, ...]
    utterances: pl.Series
    human: Array
    blocks: tuple[Block, ...]
    columns: Array
    """Numeric columns of the utterances for the gate, standardised later; NaN = unknown."""
    speakers: Index
    """A code for each speaker; one per utterance where speakers are not known."""
    speakers_known: bool
    draws: tuple[Index, Array] | None
    """Row and vote vector of every human draw, kept only where draws are shared among labels."""
    findings: tuple[Finding, ...]
    folds: ProxyFolds | None = None
    """The folds in which a proxy was trained: cross-validation uses the same folds."""
    raters: BallotRaters | None = None
    """The rater of each human vote, where raters are known."""

    def __len__(self) -> int:
        return len(self.human)

    def rows(self, rows: Index) -> Counts:
        """The same for some utterances, given by increasing row number."""
        draws = None
        if self.draws is not None:
            place = np.full(len(self), -1, dtype=np.int64)
            place[rows] = np.arange(len(rows))
            kept = place[self.draws[0]] >= 0
            draws = _shared(place[self.draws[0][kept]], self.draws[1][kept])
        return replace(
            self,
            utterances=self.utterances[rows],
            human=self.human[rows],
            blocks=tuple(block.rows(rows) for block in self.blocks),
            columns=self.columns[rows],
            speakers=self.speakers[rows],
            draws=draws,
            folds=self.folds.rows(rows) if self.folds is not None else None,
            raters=self.raters.of(rows, len(self)) if self.raters is not None else None,
        )

    def only(self, names: Sequence[str]) -> Counts:
        """The same with only the blocks named, and the columns if COLUMNS is named."""
        blocks = tuple(block for block in self.blocks if block.name in names)
        columns = self.columns if COLUMNS in names else self.columns[:, :0]
        return replace(self, blocks=blocks, columns=columns)

    def without(self, annotators: Collection[str]) -> Counts:
        """The same without base models all of whose annotators are named; all of them if none would be left."""
        kept = [block.name for block in self.blocks if not set(block.annotators) <= set(annotators)]
        return self.only((*kept, COLUMNS)) if kept else self

    def aligned(self, names: Sequence[str]) -> Counts:
        """The same with exactly these blocks in this order; a missing one becomes a block without votes."""
        absent = np.zeros_like(self.human)
        missing = (Block(name, (), "votes", absent, np.zeros(len(self))) for name in names)
        found = [block_of(self.blocks, name) or block for name, block in zip(names, missing, strict=True)]
        return replace(self, blocks=tuple(found))

    @property
    def steering(self) -> tuple[str, ...]:
        """The names of the gate's inputs: the blocks, and COLUMNS if there are any."""
        return (*(block.name for block in self.blocks), *((COLUMNS,) if self.columns.shape[1] else ()))

    def with_human(self, human: Array, raters: BallotRaters | None = None) -> Counts:
        """The same utterances and proxies with other human counts and raters."""
        return replace(self, human=human, draws=None, raters=raters)

    def without_proxies(self) -> Counts:
        """The same utterances with every proxy absent."""
        blocks = tuple(replace(b, counts=np.zeros_like(b.counts), votes=np.zeros_like(b.votes)) for b in self.blocks)
        return replace(self, blocks=blocks, columns=np.full_like(self.columns, np.nan))

    def left_one_out(self) -> LeftOut:
        """Leave-one-out pairs: every human vote and the other votes of its utterance."""
        if self.draws is not None:
            rows, vectors = self.draws
            contexts = np.maximum(self.human[rows] - vectors, 0.0)
            return LeftOut(rows, contexts, vectors / vectors.sum(1, keepdims=True), vectors.sum(1))
        rows, label = np.nonzero(self.human)
        targets = np.eye(self.human.shape[1])[label]
        mass = self.human[rows, label]
        return LeftOut(rows.astype(np.int64), self.human[rows] - targets, targets, mass)

    def whole(self, seed: int = 0) -> Array:
        """The human counts with one label for every vote that is shared among labels, for likelihoods."""
        return self.human if self.draws is None else whole_counts(*self.draws, len(self), seed)

    @property
    def shares(self) -> Array:
        """The corpus shares of the labels among human votes, smoothed by one evenly spread vote."""
        total = self.human.sum(0) + 1.0 / self.human.shape[1]
        return np.asarray(total / total.sum(), dtype=np.float64)


def _shared(rows: Index, vectors: Array) -> tuple[Index, Array] | None:
    """The draws, or None where each is a whole vote for one label."""
    return (rows, vectors) if (vectors.max(1, initial=0.0) < 1.0).any() else None


def unique_rows(counts: Array) -> tuple[Array, Index]:
    """The sorted distinct rows of an array, and the index of each row among them."""
    if not len(counts) or not counts.shape[1]:
        return counts[:1], np.zeros(len(counts), dtype=np.int64)
    order = np.lexsort(counts.T[::-1])  # the first column counts most
    ordered = counts[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(1))
    place = np.empty(len(counts), dtype=np.int64)
    place[order] = np.cumsum(first) - 1
    return ordered[first], place


def counts_of(
    votes: Votes | Counts,
    *,
    merge: Merge | None = None,
    utterances: Utterances | None = None,
    columns: Sequence[str] = (),
    consensus: bool = False,
    layout: Layout | None = None,
) -> Counts:
    """Votes as counts; Counts are unchanged. `columns` names numeric columns of the utterances for a gate.

    `layout` is that of the whole table where these votes are a part of one.
    """
    if isinstance(votes, Counts):
        return votes
    usable = usable_of(votes, consensus=consensus)
    ids, labels = usable.utterances, votes.taxonomy
    human, draws, more = human_counts(usable.human, len(ids), labels, merge or Merge())
    if layout is None:
        marks = Marks()
        marks.add(usable.proxy, usable.annotators)
        layout = layout_of(marks.marks, votes.about, marks.copies())
    voting = [name for *_, annotators in layout.blocks for name in annotators] + [name for name, _ in layout.copies]
    refuse_trained(voting, votes.about)
    speakers, known = _speakers(ids, utterances)
    return Counts(
        labels=labels,
        utterances=ids,
        human=human,
        blocks=layout.of(usable.proxy, len(ids), len(labels), usable.annotators),
        columns=_columns(ids, utterances, columns),
        speakers=speakers,
        speakers_known=known,
        draws=draws,
        findings=(*usable.findings, *more, *layout.findings),
        folds=folds_of_proxies(voting, votes.about, ids, utterances),
        raters=ballot_raters(usable.human, usable.annotators, len(labels), draws),
    )


def refuse_other_utterances(ids: pl.Series, utterances: Utterances | None) -> None:
    """Raise where none of the utterances with votes is in the table."""
    if utterances is not None and len(ids) and not ids.is_in(utterances.frame["utterance_id"].implode()).any():
        fix = "Give the utterances and the votes of one corpus (--utterances, --votes)."
        message = f"none of the {counted(len(ids), 'utterance')} with votes is in this table, such as {ids[0]!r}"
        raise InputError(message, where="utterances", fix=fix)


def _speakers(ids: pl.Series, utterances: Utterances | None) -> tuple[Index, bool]:
    alone = np.arange(len(ids), dtype=np.int64)
    if utterances is None:
        return alone, False
    table = utterances.frame.select("utterance_id", "speaker")
    joined = ids.rename("utterance_id").to_frame().join(table, on="utterance_id", how="left", maintain_order="left")
    if joined["speaker"].null_count() > 0.5 * len(ids):
        return alone, False
    named = joined["speaker"].fill_null(pl.lit("?") + joined["utterance_id"])
    return (named.rank("dense").to_numpy() - 1).astype(np.int64), True


def _columns(ids: pl.Series, utterances: Utterances | None, columns: Sequence[str]) -> Array:
    if not columns:
        return np.zeros((len(ids), 0))
    if utterances is None:
        fix = "Give the Utterances file that has them."
        raise InputError(f"the columns {', '.join(columns)} are asked for without utterances", fix=fix)
    numbers = [_number(utterances.frame, name) for name in columns]
    table = utterances.frame.select("utterance_id", *numbers)
    joined = ids.rename("utterance_id").to_frame().join(table, on="utterance_id", how="left", maintain_order="left")
    return joined.select(columns).fill_null(float("nan")).to_numpy()


def _number(frame: pl.DataFrame, name: str) -> pl.Expr:
    """A column as numbers; text that holds nothing else is taken as them."""
    if name not in frame.columns:
        fix = (
            f"{did_you_mean(name, frame.columns)} Name numeric columns such as duration, or leave columns out.".strip()
        )
        raise InputError(f"there is no numeric column {name!r}", where="utterances", fix=fix)
    column = frame[name]
    if column.dtype.is_numeric():
        return pl.col(name).cast(pl.Float64)
    if column.dtype == pl.String and holds_numbers(column):
        return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    shown = ""
    if column.dtype == pl.String:
        plain = column.drop_nulls().str.strip_chars()
        words = plain.filter(plain.cast(pl.Float64, strict=False).is_null() & (plain != ""))
        shown = f": it holds {words[0]!r}" if len(words) else ""
        if len(words) and len(words) < len(plain):
            shown += f" ({len(words):,} of {len(plain):,} values are no numbers)"
    fix = "Name numeric columns such as duration, empty those cells, or leave columns out."
    raise InputError(f"the column {name!r} is no number{shown}", where="utterances", fix=fix)
