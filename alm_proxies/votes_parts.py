"""Big votes files, read part by part and checked as tables are; all votes of an utterance are in one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import polars as pl

from alm_proxies.about import About, about_of, together
from alm_proxies.columns import missing_column
from alm_proxies.content import ContentDigest
from alm_proxies.contracts import upgraded_frame
from alm_proxies.errors import TableError
from alm_proxies.files import remove
from alm_proxies.progress import Progress
from alm_proxies.table_parts import (
    ID,
    PART_ROWS,
    ROW,
    NotSortedError,
    Rows,
    about_rows,
    columns_in,
    rows_in,
    side_by_side,
)
from alm_proxies.table_sorting import parquet_copy, sorted_copy
from alm_proxies.tables import Finding, Utterances, Votes, combine

WHOLE_ROWS = 2 * PART_ROWS
"""Files with at most this many rows together are held in memory."""
_VOTES = tuple(column.name for column in Votes.COLUMNS if column.name != "stated")
T = TypeVar("T")
TableT = TypeVar("TableT", Votes, Utterances)


def are_big(paths: Sequence[Path], rows: int) -> bool:
    """Whether these are files with more rows together than may be held in memory."""
    sizes = [about_rows(path) for path in paths]
    known = [size for size in sizes if size is not None]
    return len(known) == len(sizes) and sum(known) > rows


@dataclass(frozen=True, slots=True)
class VotesInParts:
    """Votes files and utterances that are read part by part."""

    votes: tuple[Path, ...]
    utterances: Path | None
    taxonomy: str | Sequence[str] | None
    columns: tuple[str, ...]
    part_rows: int
    sort_rows: int | None = None
    """The number of rows in memory while a file is sorted; None = part_rows."""
    names: Mapping[Path, str] = field(default_factory=dict)
    """The names of copies in messages."""
    sorted_files: tuple[str, ...] = ()
    """The names of the files of which a sorted copy was made."""

    @property
    def wanted(self) -> dict[Path, list[str]]:
        """The columns to read of each file."""
        wanted = {path: [*_VOTES, ROW] for path in self.votes}
        if self.utterances is not None:
            wanted[self.utterances] = ["corpus", "speaker", *self.columns, ROW]
        return wanted

    def findings(self, purpose: str) -> list[Finding]:
        """A finding for each file that had to be sorted for a purpose, as in "fuse it"."""
        message = f"is not sorted by utterance_id, so a sorted copy was made to {purpose} a part at a time"
        fix = "Sort its rows by utterance_id to save the time."
        return [Finding.of("sorted_copy", message, fix, where=name) for name in self.sorted_files]

    def named(self, path: Path) -> str:
        """The name of a file, or of the file that this is a copy of."""
        return self.names.get(path, str(path))

    def as_parquet(self, folder: Path) -> VotesInParts:
        """The same with a Parquet copy in place of each file that is CSV, JSON lines, or has ids that are not text."""
        parts = self
        for path in self.wanted:
            if rows_in(path) is None:
                utterances = path == self.utterances
                text = (Utterances if utterances else Votes).text_columns()
                copy = parquet_copy(path, None if utterances else _VOTES, text, folder)
                parts = parts._with(path, copy)
        return parts

    def with_sorted(self, path: Path, folder: Path, *, quiet: bool) -> VotesInParts:
        """The same with a sorted copy in place of one file."""
        columns = columns_in(path) if path == self.utterances else _VOTES
        name, rows = self.named(path), self.sort_rows or self.part_rows
        copy = sorted_copy(path, columns, folder, rows=rows, name=name, quiet=quiet)
        if path in self.names:  # a copy itself
            remove(path)
        return replace(self._with(path, copy), sorted_files=(*self.sorted_files, name))

    def _with(self, path: Path, copy: Path) -> VotesInParts:
        return replace(
            self,
            votes=tuple(copy if file == path else file for file in self.votes),
            utterances=copy if self.utterances == path else self.utterances,
            names={**self.names, copy: self.named(path)},
        )

    def described(self) -> str | None:
        """The digest of the utterances, those without votes included."""
        if self.utterances is None:
            return None
        digest, about = ContentDigest(Utterances.KEY), about_of(self.utterances)
        table = Utterances.of(pl.DataFrame(schema={"utterance_id": pl.String()}), about=about)
        for part in side_by_side({self.utterances: columns_in(self.utterances)}, self.part_rows):
            table = self._table(Utterances, self.utterances, part[self.utterances], about)
            digest.update(table.content())
        return digest.hexdigest(table.stated())

    def parts(self, progress: Progress) -> Iterator[tuple[Votes, Utterances | None]]:
        """Votes of some utterances and the rows of these utterances, checked as whole tables are."""
        abouts = {path: about_of(path) for path in self.wanted}
        about = together([abouts[path] for path in self.votes])
        for path in self.votes:
            names = columns_in(path)
            for column in Votes.COLUMNS:
                if column.needed and column.name not in names:
                    raise missing_column(column.name, [name for name in names if name != ROW], self.named(path))
        for part in side_by_side(self.wanted, self.part_rows):
            tables = [
                self._table(Votes, path, part[path], abouts[path]) for path in self.votes if part[path].frame.height
            ]
            people = None
            if self.utterances is not None:
                people = self._table(Utterances, self.utterances, part[self.utterances], abouts[self.utterances])
            if tables:
                votes = combine(*tables)
                # a part may have only votes without labels, from files without a taxonomy
                yield Votes(votes.frame, about.with_(taxonomy=votes.taxonomy or about.taxonomy)), people
                progress.advance(len(votes))

    def votes_on(self, ids: pl.Series) -> Votes:
        """The votes on some utterances, in the order of the files."""
        kept = pl.col(ID).is_in(ids.implode())
        tables = []
        for path, wanted in self.wanted.items():
            if path != self.utterances:
                lazy = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False).filter(kept)
                there = lazy.collect_schema().names()
                frame = lazy.select([name for name in wanted if name in there]).collect()
                tables.append(self._table(Votes, path, Rows(frame, 0), about_of(path)))
        return combine(*tables)

    def _table(self, kind: type[TableT], path: Path, rows: Rows, about: About) -> TableT:
        """Rows of a file as a table; an error names their places in the file."""
        frame = upgraded_frame(rows.frame.drop(ROW, strict=False), kind.__name__)
        taxonomy = self.taxonomy if kind is Votes else None
        try:
            return kind.of(frame, taxonomy=taxonomy, about=about, where=self.named(path))
        except TableError as error:
            raise (error if error.row is None else error.of_row(rows.place(error.row - 1) + 1)) from None


def read_in_parts(votes: VotesInParts, folder: Path, use: Callable[[VotesInParts], T], *, quiet: bool) -> T:
    """The result of `use` on the files; copies of those that are not Parquet or not sorted are made in a folder."""
    votes = votes.as_parquet(folder)
    while True:
        try:
            return use(votes)
        except NotSortedError as error:
            unsorted = next(path for path in votes.wanted if str(path) == error.where)
        # outside the except clause: the error keeps a reference to the parts
        votes = votes.with_sorted(unsorted, folder, quiet=quiet)
