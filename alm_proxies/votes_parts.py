"""Big votes files, read part by part and checked as tables are; all votes of an utterance are in one part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from alm_proxies.about import about_of, together
from alm_proxies.columns import missing_column
from alm_proxies.content import ContentDigest
from alm_proxies.progress import Progress
from alm_proxies.table_parts import PART_ROWS, columns_in, rows_in, side_by_side
from alm_proxies.table_sorting import sorted_copy
from alm_proxies.tables import Finding, Utterances, Votes, combine

WHOLE_ROWS = 2 * PART_ROWS
"""Files with at most this many rows together are held in memory."""


def are_big(paths: Sequence[Path], rows: int) -> bool:
    """Whether these are Parquet files with more rows together than may be held in memory."""
    sizes = [rows_in(path) for path in paths]
    known = [size for size in sizes if size is not None]
    return len(known) == len(sizes) and sum(known) > rows


@dataclass(frozen=True, slots=True)
class VotesInParts:
    """Votes files and utterances that are read part by part."""

    votes: tuple[Path, ...]
    utterances: Path | None
    taxonomy: str | None
    columns: tuple[str, ...]
    part_rows: int
    names: Mapping[Path, str] = field(default_factory=dict)
    """The names of sorted copies in messages."""

    @property
    def wanted(self) -> dict[Path, list[str]]:
        """The columns to read of each file."""
        wanted = {path: [column.name for column in Votes.COLUMNS if column.name != "stated"] for path in self.votes}
        if self.utterances is not None:
            wanted[self.utterances] = ["corpus", "speaker", *self.columns]
        return wanted

    @property
    def findings(self) -> list[Finding]:
        """A finding for each file that had to be sorted."""
        message = "is not sorted by utterance_id, so a sorted copy was made to fuse it a part at a time"
        fix = "Sort its rows by utterance_id to save the time."
        return [
            Finding.of("sorted_copy", message, fix, where=name.removesuffix(" (sorted)"))
            for name in self.names.values()
        ]

    def with_sorted(self, name: str, folder: Path, *, quiet: bool) -> VotesInParts:
        """The same with a sorted copy in place of one file."""
        path = next(path for path in self.wanted if str(path) == name)
        columns = columns_in(path) if path == self.utterances else self.wanted[path]
        copy = sorted_copy(path, columns, folder, rows=self.part_rows, quiet=quiet)
        return replace(
            self,
            votes=tuple(copy if file == path else file for file in self.votes),
            utterances=copy if self.utterances == path else self.utterances,
            names={**self.names, copy: f"{name} (sorted)"},
        )

    def described(self) -> str | None:
        """The digest of the utterances, those without votes included."""
        if self.utterances is None:
            return None
        digest, about = ContentDigest(Utterances.KEY), about_of(self.utterances)
        table = Utterances.of(pl.DataFrame(schema={"utterance_id": pl.String()}), about=about)
        for part in side_by_side({self.utterances: columns_in(self.utterances)}, self.part_rows):
            rows = part[self.utterances]
            where = f"{self.utterances} after row {rows.first:,}"
            table = Utterances.of(rows.frame, about=about, where=where)
            digest.update(table.content())
        return digest.hexdigest(table.stated())

    def parts(self, progress: Progress) -> Iterator[tuple[Votes, Utterances | None]]:
        """Votes of some utterances and the rows of these utterances, checked as whole tables are."""
        abouts = {path: about_of(path) for path in self.votes}
        about = together(list(abouts.values()))
        for path in self.votes:
            names = columns_in(path)
            for column in Votes.COLUMNS:
                if column.needed and column.name not in names:
                    raise missing_column(column.name, names, str(path))
        for part in side_by_side(self.wanted, self.part_rows):
            tables = [
                Votes.of(
                    part[path].frame, taxonomy=self.taxonomy, about=abouts[path],
                    where=f"{self.names.get(path, path)} after row {part[path].first:,}",
                )
                for path in self.votes
                if part[path].frame.height
            ]  # fmt: skip
            people = None
            if self.utterances is not None:
                rows = part[self.utterances]
                people = Utterances.of(
                    rows.frame, where=f"{self.names.get(self.utterances, self.utterances)} after row {rows.first:,}"
                )
            if tables:
                votes = combine(*tables)
                # a part may have only votes without labels, from files without a taxonomy
                yield Votes(votes.frame, about.with_(taxonomy=votes.taxonomy or about.taxonomy)), people
                progress.advance(len(votes))
