"""What the report is made from: one row an utterance, and every vote as a vector, human, held out and proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.errors import InputError
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Labels, Utterances, Votes

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Words = NDArray[np.str_]

MOST_VALUES = 12
"""A column with more values than this is no group column."""
_GROUPS = ("gender", "corpus", "language")


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """Draws, one row each: which utterance, whose, which draw, and its mass over the labels (sum 1)."""

    rows: Index
    vectors: Array
    annotators: Index
    draws: Index
    names: tuple[str, ...]
    utterances: int

    def counts(self) -> Array:
        """Votes for each label, utterances x labels."""
        total = np.zeros((self.utterances, self.vectors.shape[1]))
        np.add.at(total, self.rows, self.vectors)
        return total

    def sizes(self) -> Index:
        """How many draws each utterance has."""
        return np.bincount(self.rows, minlength=self.utterances).astype(np.int64)

    @property
    def shared(self) -> bool:
        """Whether any draw shares its mass among labels, as scored and stated distributions do."""
        return bool((self.vectors.max(1, initial=0.0) < 1.0 - 1e-9).any())

    def of(self, annotator: str) -> Ballots:
        """One annotator's draws."""
        return self.where(self.annotators == self.names.index(annotator))

    def where(self, kept: NDArray[np.bool_]) -> Ballots:
        """Some of the draws."""
        return replace(
            self,
            rows=self.rows[kept],
            vectors=self.vectors[kept],
            annotators=self.annotators[kept],
            draws=self.draws[kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Fused labels beside the votes of the same utterances; groups map a column's name to a value an utterance."""

    labels: tuple[str, ...]
    table: Labels
    ids: Words
    human: Ballots
    held_out: Ballots
    proxy: Ballots
    fused: Array
    concentration: Array
    concentration_gain: Array
    speakers: Words | None
    groups: dict[str, Words]
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.ids)


def material_of(labels: Labels, votes: Votes, utterances: Utterances, *, at_most: int, seed: int) -> Material:
    """The utterances of `labels` with their votes; of more than `at_most`, a sample that does not depend on order."""
    if labels.taxonomy != votes.taxonomy:
        raise InputError(
            f"the labels know {', '.join(labels.taxonomy)} and the votes {', '.join(votes.taxonomy)}",
            where="labels",
            fix="Give the votes these labels were fused from.",
        )
    known = votes.frame["utterance_id"].unique()
    both = labels.frame.filter(pl.col("utterance_id").is_in(known.implode())).sort("utterance_id")
    if not both.height:
        raise InputError("no utterance has both a label and a vote", where="labels", fix="Check --votes.")
    findings = _unmatched(labels, votes, both)
    if both.height > at_most:
        chosen = np.sort(generator(seed, "align sample").choice(both.height, at_most, replace=False))
        message = f"the report is made from a random {at_most:,} of {both.height:,} utterances"
        findings.append(Finding("align", "sampled", message, "Raise at_most to use more.", count=both.height - at_most))
        both = both[chosen]
    ids = both["utterance_id"]
    frame = _usable(votes.frame, ids)
    ballots = {
        name: _ballots(frame.filter(condition), len(ids), votes.taxonomy)
        for name, condition in {
            "human": (pl.col("source") == "human") & ~pl.col("held_out"),
            "held_out": pl.col("held_out"),
            "proxy": pl.col("source") == "proxy",
        }.items()
    }
    speakers, groups, more = _columns(ids, utterances)
    shares = [f"p_{label}" for label in labels.taxonomy]
    return Material(
        labels=labels.taxonomy,
        table=Labels(both, labels.about),
        ids=ids.to_numpy().astype(np.str_),
        fused=both.select(shares).to_numpy(),
        concentration=both["concentration"].fill_null(np.nan).to_numpy(),
        concentration_gain=both["concentration_gain"].to_numpy(),
        speakers=speakers,
        groups=groups,
        findings=(*findings, *more),
        **ballots,
    )


def _unmatched(labels: Labels, votes: Votes, both: pl.DataFrame) -> list[Finding]:
    findings = []
    if missing := len(labels) - both.height:
        fix = "Give every Votes file these labels were fused from."
        findings.append(Finding("align", "no_votes", "labels whose utterance has no vote", fix, count=missing))
    others = votes.frame["utterance_id"].n_unique() - both.height
    if others:
        findings.append(Finding("align", "no_label", "utterances with votes and without a label", count=others))
    return findings


def _usable(frame: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    rows = pl.DataFrame({"utterance_id": ids}).with_row_index("row")
    kept = frame.filter((pl.col("status") == "ok") & pl.col("label").is_not_null())
    columns = ["utterance_id", "annotator", "source", "draw", "label", "weight", "held_out"]
    return kept.select(columns).join(rows, on="utterance_id").sort("row", "annotator", "draw", "label")


def _ballots(frame: pl.DataFrame, utterances: int, labels: Sequence[str]) -> Ballots:
    names = tuple(frame["annotator"].unique().sort().to_list())
    keys = frame.select(pl.struct("row", "annotator", "draw").rle_id().alias("ballot"))["ballot"].to_numpy()
    first = np.flatnonzero(np.diff(keys, prepend=-1)) if len(keys) else np.zeros(0, dtype=np.int64)
    label = frame["label"].replace_strict({name: k for k, name in enumerate(labels)}, return_dtype=pl.Int64).to_numpy()
    vectors = np.zeros((len(first), len(labels)))
    np.add.at(vectors, (keys, label), frame["weight"].to_numpy())
    total = vectors.sum(1, keepdims=True)
    codes = frame["annotator"].replace_strict({name: a for a, name in enumerate(names)}, return_dtype=pl.Int64)
    return Ballots(
        rows=frame["row"].to_numpy().astype(np.int64)[first],
        vectors=vectors / np.where(total > 0, total, 1.0),
        annotators=codes.to_numpy().astype(np.int64)[first],
        draws=frame["draw"].to_numpy().astype(np.int64)[first],
        names=names,
        utterances=utterances,
    )


def _columns(ids: pl.Series, utterances: Utterances) -> tuple[Words | None, dict[str, Words], list[Finding]]:
    frame = pl.DataFrame({"utterance_id": ids}).join(
        utterances.frame, on="utterance_id", how="left", maintain_order="left"
    )
    speakers = None
    if frame["speaker"].null_count() < frame.height:
        speakers = frame["speaker"].fill_null(frame["utterance_id"]).to_numpy().astype(np.str_)
    groups: dict[str, Words] = {}
    findings = []
    for name in (*_GROUPS, *utterances.group_columns):
        column = frame[name]
        if not (column.dtype == pl.String or column.dtype == pl.Boolean or column.dtype.is_integer()):
            continue
        values = column.cast(pl.String).fill_null("not known")
        if values.n_unique() > MOST_VALUES:
            message = f"the column {name!r} has {values.n_unique():,} values and is not shown as groups"
            findings.append(Finding("align", "many_values", message, f"Bring it to {MOST_VALUES} values or fewer."))
        elif values.n_unique() > 1:
            groups[name] = values.to_numpy().astype(np.str_)
    return speakers, groups, findings
