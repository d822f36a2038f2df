"""Reading of the votes table, to restore votes that the ledger has lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.about import AnnotatorCard
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import digest_file
from alm_proxies.tables import ATTRIBUTES, Votes

_ANSWERED = pl.col("status") != "failed"


@dataclass(frozen=True, slots=True)
class TableState:
    """Size, time and digest of a votes table, so that a later run detects another file in its place."""

    size: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> TableState | None:
        """The state of the file; None if there is none."""
        try:
            file = path.stat()
            return cls(file.st_size, file.st_mtime_ns, digest_file(path))
        except (OSError, AlmProxiesError):
            return None

    def as_json(self) -> str:
        """The state as JSON, for the ledger."""
        return json.dumps([self.size, self.changed, self.digest])

    def is_that(self, noted: str | None) -> bool:
        """Whether the state in the ledger has the same content."""
        try:
            size, _, digest = json.loads(noted or "[]")
        except (ValueError, TypeError):
            return False
        return (size, digest) == (self.size, self.digest)


@dataclass(frozen=True, slots=True)
class KeptVote:
    """One vote of the table, with the ledger's columns."""

    utterance: str
    draw: int
    status: str
    label: str | None
    more: str | None
    stated: str | None


@dataclass(frozen=True, slots=True)
class KeptVotes:
    """The annotators' votes in a votes table."""

    cards: dict[str, AnnotatorCard]
    taxonomy: tuple[str, ...]
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> KeptVotes | None:
        """The answered votes in a table that annotate has written; None if there is no readable table."""
        if not path.is_file():
            return None
        try:
            votes = Votes.read(path)
        except AlmProxiesError:
            return None
        if (votes.frame["source"] == "human").any():
            raise InputError(
                "contains human votes, which annotate would overwrite",
                where=str(path),
                fix="Choose another folder with -o.",
            )
        frame = votes.frame.filter(_ANSWERED & pl.col("annotator").is_in(list(votes.about.annotators)))
        return cls(dict(votes.about.annotators), votes.taxonomy, frame)

    def __len__(self) -> int:
        return self.frame.select(pl.struct("utterance_id", "annotator", "draw").n_unique()).item() if self.names else 0

    @property
    def names(self) -> list[str]:
        """Annotators with answered votes."""
        return sorted(self.frame["annotator"].unique().to_list())

    def of(self, name: str) -> Iterator[KeptVote]:
        """The votes of one annotator."""
        own = self.frame.filter(pl.col("annotator") == name)
        key = ["utterance_id", "draw"]
        votes = own.group_by(key, maintain_order=True).agg(
            pl.col("status").first(), "label", "weight", pl.col("secondary", "stated", *ATTRIBUTES).first()
        )
        for row in votes.iter_rows(named=True):
            labels, weights = row["label"], row["weight"]
            several = len(labels) > 1
            attributes = [row[name] for name in ATTRIBUTES]
            more: dict[str, object] = {}
            if several:
                more["shares"] = list(zip(labels, weights, strict=True))
            if row["secondary"] is not None:
                more["secondary"] = row["secondary"]
            if any(value is not None for value in attributes):
                more["attributes"] = attributes
            yield KeptVote(
                row["utterance_id"],
                row["draw"],
                row["status"],
                None if several else labels[0],
                json.dumps(more) if more else None,
                row["stated"],
            )
