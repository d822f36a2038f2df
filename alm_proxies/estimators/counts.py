"""Votes as counts: one row an utterance, human counts, and one block of counts for each base model of the proxies.

Everything an estimator may not see is left out here, once, and counted: held-out votes, votes that failed,
published consensus labels, and a proxy that is an exact copy of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.errors import InputError
from alm_proxies.estimators.merge import Merge, human_counts, summed
from alm_proxies.tables import About, Finding, Utterances, Votes

Array = NDArray[np.float64]
Index = NDArray[np.int64]
__all__ = ["COLUMNS", "CONSENSUS", "Block", "Counts", "LeftOut", "Merge", "counts_of", "unique_rows"]

FLOOR = 1e-3
CONSENSUS = "/consensus"
COLUMNS = "columns"
"""The name the numeric columns of the utterances go by among the proxies."""
_COPY_NEEDS = 30


@dataclass(frozen=True, slots=True)
class Block:
    """The votes of every annotator of one base model: correlated sources, so one piece of evidence."""

    name: str
    annotators: tuple[str, ...]
    kind: Literal["votes", "shares"]
    counts: Array
    """votes: how often each label was cast. shares: normalised mean of floored log shares, zero where absent."""
    votes: Array
    """Votes cast for each utterance; 0 = absent."""

    def rows(self, rows: Index | NDArray[np.bool_]) -> Block:
        """The block for some utterances."""
        return replace(self, counts=self.counts[rows], votes=self.votes[rows])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Human votes left out one at a time: equal (utterance, vote) pairs stand once, with their mass."""

    rows: Index
    contexts: Array
    """The utterance's other human votes."""
    targets: Array
    """The vote left out, of mass 1."""
    mass: Array
    """How many votes the pair stands for."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What estimators see of Votes: aligned arrays, one row an utterance, in the order of utterance ids."""

    labels: tuple[str, ...]
    utterances: pl.Series
    human: Array
    blocks: tuple[Block, ...]
    columns: Array
    """Numeric columns of the utterances that may steer the gate, standardised later; NaN = unknown."""
    speakers: Index
    """A code for each speaker; every utterance its own where speakers are not known."""
    speakers_known: bool
    draws: tuple[Index, Array] | None
    """Row and vote vector of every human draw, kept only where draws share their mass among labels."""
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.human)

    def rows(self, rows: Index) -> Counts:
        """The same for some utterances, given by increasing row number."""
        draws = None
        if self.draws is not None:
            place = np.full(len(self), -1, dtype=np.int64)
            place[rows] = np.arange(len(rows))
            kept = place[self.draws[0]] >= 0
            draws = (place[self.draws[0][kept]], self.draws[1][kept])
        return replace(
            self,
            utterances=self.utterances[rows],
            human=self.human[rows],
            blocks=tuple(block.rows(rows) for block in self.blocks),
            columns=self.columns[rows],
            speakers=self.speakers[rows],
            draws=draws,
        )

    def only(self, names: Sequence[str]) -> Counts:
        """The same with only the blocks named, and the columns if COLUMNS is named."""
        blocks = tuple(block for block in self.blocks if block.name in names)
        columns = self.columns if COLUMNS in names else self.columns[:, :0]
        return replace(self, blocks=blocks, columns=columns)

    def aligned(self, names: Sequence[str]) -> Counts:
        """The same with exactly these blocks in this order; one that is not there is absent everywhere."""
        by_name = {block.name: block for block in self.blocks}
        absent = np.zeros_like(self.human)
        blocks = [by_name.get(name) or Block(name, (), "votes", absent, np.zeros(len(self))) for name in names]
        return replace(self, blocks=tuple(blocks))

    @property
    def steering(self) -> tuple[str, ...]:
        """The names of all that may steer a gate: the blocks, and COLUMNS if there are any."""
        return (*(block.name for block in self.blocks), *((COLUMNS,) if self.columns.shape[1] else ()))

    def with_human(self, human: Array) -> Counts:
        """The same utterances and proxies beside other human counts."""
        return replace(self, human=human, draws=None)

    def without_proxies(self) -> Counts:
        """The same utterances with every proxy absent."""
        blocks = tuple(replace(b, counts=np.zeros_like(b.counts), votes=np.zeros_like(b.votes)) for b in self.blocks)
        return replace(self, blocks=blocks, columns=np.full_like(self.columns, np.nan))

    def left_one_out(self) -> LeftOut:
        """Every human vote beside the other votes of its utterance."""
        if self.draws is not None:
            rows, vectors = self.draws
            contexts = np.maximum(self.human[rows] - vectors, 0.0)
            return LeftOut(rows, contexts, vectors / vectors.sum(1, keepdims=True), vectors.sum(1))
        rows, label = np.nonzero(self.human)
        targets = np.eye(self.human.shape[1])[label]
        mass = self.human[rows, label]
        return LeftOut(rows.astype(np.int64), self.human[rows] - targets, targets, mass)

    @property
    def shares(self) -> Array:
        """The corpus shares of the labels among human votes, with one vote spread evenly so that none is zero."""
        total = self.human.sum(0) + 1.0 / self.human.shape[1]
        return np.asarray(total / total.sum(), dtype=np.float64)


def unique_rows(counts: Array) -> tuple[Array, Index]:
    """The distinct rows of an array, sorted, and which of them each row is."""
    if not len(counts) or not counts.shape[1]:
        return counts[:1], np.zeros(len(counts), dtype=np.int64)
    names = [f"c{j}" for j in range(counts.shape[1])]
    frame = pl.from_numpy(counts, schema=names)
    distinct = frame.unique().sort(names)
    place = frame.join(distinct.with_row_index("row"), on=names, how="left", maintain_order="left")
    return distinct.to_numpy(), place["row"].to_numpy().astype(np.int64)


def counts_of(
    votes: Votes | Counts,
    *,
    merge: Merge | None = None,
    utterances: Utterances | None = None,
    columns: Sequence[str] = (),
    consensus: bool = False,
) -> Counts:
    """Votes as counts; Counts as they are. `columns` names numeric columns of the utterances that may steer a gate."""
    if isinstance(votes, Counts):
        return votes
    frame = votes.frame
    labels = votes.taxonomy
    if not frame.height or not labels:
        raise InputError("there are no label votes to fuse", where="votes", mend="Give a Votes file with labels.")
    ids, code = _codes(frame["utterance_id"])
    names = frame["annotator"].unique().sort().to_list()
    agreed = [] if consensus else [i for i, name in enumerate(names) if name.endswith(CONSENSUS)]
    coded = frame.select(
        pl.Series("u", code),
        label=pl.col("label").cast(pl.Enum(labels)).to_physical().cast(pl.Int64),
        annotator=pl.col("annotator").cast(pl.Enum(names)).to_physical(),
        human=pl.col("source") == "human",
        usable=(pl.col("status") == "ok") & ~pl.col("held_out") & pl.col("label").is_not_null(),
    )
    findings = _left_out(frame, consensus)
    if agreed:
        coded = coded.with_columns(usable=pl.col("usable") & ~pl.col("annotator").is_in(agreed))
    coded = coded.with_columns(frame["weight"], frame["draw"], frame["secondary"])
    human_votes = coded.filter(pl.col("usable") & pl.col("human"))
    proxy_votes = coded.filter(pl.col("usable") & ~pl.col("human"))
    human, draws, more = human_counts(human_votes, len(ids), labels, merge or Merge())
    blocks, copies = _blocks(proxy_votes, len(ids), labels, names, votes.about)
    speakers, known = _speakers(ids, utterances)
    return Counts(
        labels=labels,
        utterances=ids,
        human=human,
        blocks=blocks,
        columns=_columns(ids, utterances, columns),
        speakers=speakers,
        speakers_known=known,
        draws=draws,
        findings=(*findings, *more, *copies),
    )


def _codes(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    if ids.is_sorted():
        runs = ids.rle_id()
        first = runs.is_first_distinct() if ids.len() < 2 else pl.concat([runs.head(1) >= 0, runs.diff().slice(1) > 0])
        return ids.filter(first), runs.cast(pl.Int64).to_numpy()
    distinct = ids.unique().sort()
    code = ids.to_frame().join(
        distinct.to_frame().with_row_index("row"), on=ids.name, how="left", maintain_order="left"
    )["row"]
    return distinct, code.cast(pl.Int64).to_numpy()


def _left_out(frame: pl.DataFrame, consensus: bool) -> list[Finding]:
    findings = []
    held = int(frame["held_out"].sum())
    if held:
        findings.append(Finding("fuse", "held_out", "human votes held out for scoring, never fitted", count=held))
    bad = frame.filter(pl.col("status") != "ok").group_by("source", "status").len().sort("source", "status")
    for source, status, count in bad.iter_rows():
        findings.append(Finding("fuse", status, f"{source} votes that gave no label ({status})", count=count))
    if not consensus:
        agreed = int(frame["annotator"].str.ends_with(CONSENSUS).sum())
        if agreed:
            what = "published consensus labels, which are not votes"
            findings.append(
                Finding("fuse", "consensus", what, mend="Set consensus = true to count them.", count=agreed)
            )
    return findings


def _blocks(
    votes: pl.DataFrame, n: int, labels: Sequence[str], names: Sequence[str], about: About
) -> tuple[tuple[Block, ...], list[Finding]]:
    copies = _copies(votes)
    groups: dict[tuple[str, Literal["votes", "shares"]], list[int]] = {}
    for code in votes["annotator"].unique().sort():
        card = about.annotators.get(names[code])
        kind: Literal["votes", "shares"] = "votes" if card is None or card.elicit == "sample" else "shares"
        groups.setdefault(((card.model if card is not None else None) or names[code], kind), []).append(code)
    # by every card, cast or not: a block keeps its name where only some of the annotators are there to be predicted
    known = {(card.model or name, card.elicit == "sample") for name, card in about.annotators.items()}
    known |= {(model, kind == "votes") for model, kind in groups}
    blocks = []
    for (model, kind), members in groups.items():
        counted = [code for code in members if code not in copies]
        if not counted:
            continue
        both = {(model, True), (model, False)} <= known
        cast = votes.filter(pl.col("annotator").is_in(counted))
        made = _cast(cast, n, len(labels)) if kind == "votes" else _shares(cast, n, len(labels))
        blocks.append(Block(f"{model} ({kind})" if both else model, tuple(names[c] for c in counted), kind, *made))
    what = "its votes are exactly those of {!r}, and count once"
    findings = [
        Finding("fuse", "copied_annotator", what.format(names[first]), where=names[copy])
        for copy, first in copies.items()
    ]
    return tuple(blocks), findings


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


def _copies(votes: pl.DataFrame) -> dict[int, int]:
    """Annotators whose votes are exactly those of another, by a digest of all their (utterance, label, weight)."""
    if votes["annotator"].n_unique() < 2:
        return {}
    mixed = pl.struct("u", "label", "weight").hash(seed=17)
    marks = votes.group_by("annotator").agg(mixed.sum().alias("mark"), pl.len().alias("rows"))
    first: dict[tuple[int, int], int] = {}
    copies = {}
    for code, mark, rows in marks.filter(pl.col("rows") >= _COPY_NEEDS).sort("annotator").iter_rows():
        original = first.setdefault((mark, rows), code)
        if original != code:
            copies[code] = original
    return copies


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
        mend = "Give the Utterances file that holds them."
        raise InputError(f"the columns {', '.join(columns)} are asked for without utterances", mend=mend)
    for name in columns:
        if name not in utterances.frame.columns or not utterances.frame[name].dtype.is_numeric():
            raise InputError(
                f"there is no numeric column {name!r}",
                where="utterances",
                mend="Name numeric columns such as duration, or leave columns out.",
            )
    table = utterances.frame.select("utterance_id", *(pl.col(c).cast(pl.Float64) for c in columns))
    joined = ids.rename("utterance_id").to_frame().join(table, on="utterance_id", how="left", maintain_order="left")
    return joined.select(columns).fill_null(float("nan")).to_numpy()
