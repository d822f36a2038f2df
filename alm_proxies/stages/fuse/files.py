"""fuse from files to a file: small files in memory, big ones sorted if needed and fused a part at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import About, MadeBy, about_of, together
from alm_proxies.ambiguity import THIRDS, cuts_of, level
from alm_proxies.columns import missing_column
from alm_proxies.content import ContentDigest
from alm_proxies.files import make_folder, whole
from alm_proxies.progress import Progress
from alm_proxies.stages.fuse.kept import kept
from alm_proxies.stages.fuse.sorting import sorted_copy
from alm_proxies.stages.fuse.stage import Fused, FuseSettings, fuse
from alm_proxies.table_files import refuse_other_suffix
from alm_proxies.table_parts import PART_ROWS, NotSortedError, columns_in, rows_in, side_by_side
from alm_proxies.tables import Finding, Findings, Utterances, Votes, combine, metadata_of

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator
    from alm_proxies.stages.fuse.survey import Part

WHOLE_ROWS = 2 * PART_ROWS
"""Votes files with at most this many rows together are held in memory."""
_ROW_GROUP = 2**18


@dataclass(frozen=True, slots=True)
class FusedFile:
    """The result of fuse from a votes file to a labels file."""

    labels: int
    """Number of labels written."""
    trials: pl.DataFrame
    findings: Findings
    estimator: Estimator | DawidSkene
    made_by: MadeBy | None = None

    @property
    def fitted(self) -> dict[str, Any] | None:
        """The estimator as it is kept beside the labels, for `explain`; None for one of another package."""
        return kept(self.estimator, self.made_by, self.findings)

    @property
    def counts(self) -> dict[str, float]:
        """The number of labels."""
        return {"labels": self.labels}

    @property
    def line(self) -> str:
        """A summary in one line."""
        return f"{self.labels:,} labels by {self.estimator.name}"


def fuse_files(
    votes: Sequence[Path],
    output: Path,
    settings: FuseSettings | None = None,
    *,
    utterances: Path | None = None,
    taxonomy: str | None = None,
    quiet: bool = False,
    part_rows: int = PART_ROWS,
    whole_rows: int = WHOLE_ROWS,
) -> FusedFile:
    """Fuse votes files into a labels file; the labels are those of `fuse`, whatever the size of the parts.

    The order of rows does not matter: small files are sorted in memory; for bigger ones a sorted copy is written beside
    the output.
    """
    refuse_other_suffix(output)
    settings = settings or FuseSettings()
    sizes = [rows_in(path) for path in (*votes, *([utterances] if utterances is not None else []))]
    known = [size for size in sizes if size is not None]
    big = len(known) == len(sizes) and sum(known) > whole_rows and settings.method != "dawid_skene"
    if not big:
        return _of(_whole(votes, settings, utterances, taxonomy, quiet), output)
    return _in_parts(_Big(tuple(votes), utterances, taxonomy, settings.columns, part_rows), output, settings, quiet)


def _whole(
    votes: Sequence[Path], settings: FuseSettings, utterances: Path | None, taxonomy: str | None, quiet: bool
) -> Fused:
    table = combine(*(Votes.read(path, taxonomy=taxonomy) for path in votes))
    # rounding of sums depends on the order: once sorted, the same rows in any order give the same labels
    table = Votes(table.frame.sort("utterance_id", "annotator", "draw", "label", maintain_order=True), table.about)
    people = Utterances.read(utterances) if utterances is not None else None
    return fuse(table, settings, utterances=people, quiet=quiet)


def _of(fused: Fused, output: Path) -> FusedFile:
    fused.labels.write(output)
    return FusedFile(len(fused.labels), fused.trials, fused.findings, fused.estimator, fused.labels.about.made_by)


def _in_parts(big: _Big, output: Path, settings: FuseSettings, quiet: bool) -> FusedFile:
    from alm_proxies.stages.fuse.labels import Fusion

    folder = output.parent / f".{output.name}.parts"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    # a separate folder: parts of another run that writes the same file are never mixed with these
    own = Path(tempfile.mkdtemp(dir=folder))
    try:
        fusion = None
        while fusion is None:
            try:
                with Progress("reading votes", quiet=quiet) as progress:
                    fusion = Fusion.of(big.parts(progress), settings, quiet=quiet, described=big.described())
            except NotSortedError as error:
                unsorted = str(error.where)
            if fusion is None:  # outside the except clause: the error keeps a reference to the parts
                big = big.with_sorted(unsorted, own, quiet=quiet)
        written, count, about = [], 0, About()
        entropies: list[NDArray[np.float64]] = []
        with Progress("fusing", quiet=quiet) as progress:
            for number, (votes, people) in enumerate(big.parts(progress)):
                labels = fusion.labels(votes, people)
                path = own / f"{number:06d}.parquet"
                with whole(path) as temporary:
                    labels.frame.write_parquet(temporary, compression="lz4")
                written.append(path)
                count, about = count + len(labels), labels.about
                if settings.ambiguity == "quantiles":
                    entropies.append(labels.frame["entropy"].to_numpy())
        cuts = cuts_of(settings.ambiguity, np.concatenate([np.zeros(0), *entropies]))
        about = about.with_(ambiguity=None if cuts == THIRDS else cuts)
        with whole(output) as temporary:
            together_ = pl.scan_parquet([path.absolute() for path in written], glob=False)
            together_ = together_.with_columns(ambiguity=level(pl.col("entropy"), cuts))
            together_.sink_parquet(temporary, metadata=metadata_of(about), row_group_size=_ROW_GROUP)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    findings = Findings.gather([*fusion.findings, *big.findings], "fuse")
    return FusedFile(count, fusion.trials, findings, fusion.estimator, about.made_by)


@dataclass(frozen=True, slots=True)
class _Big:
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

    def with_sorted(self, name: str, folder: Path, *, quiet: bool) -> _Big:
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

    def parts(self, progress: Progress) -> Iterator[Part]:
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
