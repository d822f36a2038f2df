"""fuse from files to a file: small files in memory, big ones sorted if needed and fused a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import About, MadeBy
from alm_proxies.ambiguity import THIRDS, cuts_of, level
from alm_proxies.audio.folder import recordings_in
from alm_proxies.files import whole
from alm_proxies.printable import counted
from alm_proxies.progress import Progress
from alm_proxies.stages.fuse.kept import kept
from alm_proxies.stages.fuse.stage import Fused, FuseSettings, fuse
from alm_proxies.table_files import refuse_other_suffix
from alm_proxies.table_parts import PART_ROWS
from alm_proxies.table_sorting import folder_of_parts
from alm_proxies.tables import Findings, Utterances, Votes, combine, metadata_of
from alm_proxies.votes_parts import WHOLE_ROWS, VotesInParts, are_big, read_in_parts

if TYPE_CHECKING:
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator

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
        return f"{counted(self.labels, 'label')} by {self.estimator.name}"


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
    the output, as it is for big CSV and JSON-lines files.
    """
    refuse_other_suffix(output)
    settings = settings or FuseSettings()
    if utterances is not None and utterances.is_dir():
        with TemporaryDirectory() as place:
            table = Path(place) / "utterances.parquet"
            recordings_in(utterances).write(table)
            return fuse_files(
                votes, output, settings, utterances=table, taxonomy=taxonomy, quiet=quiet, part_rows=part_rows,
                whole_rows=whole_rows,
            )  # fmt: skip
    files = [*votes, *([utterances] if utterances is not None else [])]
    if settings.method == "dawid_skene" or not are_big(files, whole_rows):
        return _of(_whole(votes, settings, utterances, taxonomy, quiet), output)
    big = VotesInParts(tuple(votes), utterances, taxonomy, settings.columns, part_rows)
    with folder_of_parts(output) as folder:
        return read_in_parts(big, folder, partial(_in_parts, output, folder, settings, quiet), quiet=quiet)


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


def _in_parts(output: Path, folder: Path, settings: FuseSettings, quiet: bool, big: VotesInParts) -> FusedFile:
    from alm_proxies.stages.fuse.labels import Fusion

    with Progress("reading votes", quiet=quiet) as progress:
        fusion = Fusion.of(big.parts(progress), settings, quiet=quiet, described=big.described())
    written, count, about = [], 0, About()
    entropies: list[NDArray[np.float64]] = []
    with Progress("fusing", quiet=quiet) as progress:
        for number, (votes, people) in enumerate(big.parts(progress)):
            labels = fusion.labels(votes, people)
            path = folder / f"{number:06d}.parquet"
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
    findings = Findings.gather([*fusion.findings, *big.findings("fuse it")], "fuse")
    return FusedFile(count, fusion.trials, findings, fusion.estimator, about.made_by)
