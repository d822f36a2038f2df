"""The outputs in a folder of results, written by a pipeline or by one or several commands."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.files import open_file, refuse_unreadable_folder
from alm_proxies.finding import placed
from alm_proxies.pipeline.perform import FINDINGS, RUNNING
from alm_proxies.pipeline.recorded import Recorded
from alm_proxies.pipeline.result_files import MARKER
from alm_proxies.pipeline.run import MANIFEST
from alm_proxies.remote.at_hand import refuse_elsewhere
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import repeated
from alm_proxies.tables import Findings

_DEEP = 6
"""Maximum depth of sub-folders that are searched."""
_ASIDE = frozenset(
    {"features", "wav", "audio", "recordings", "remembered", "checkpoints", "checkpoint", "runs_of_torch"}
)
"""Folders of audio, features or checkpoints, which contain no tables, unless a block of a pipeline has such a name."""
_OF_A_STAGE = (MARKER, RUNNING, "ledger*.sqlite")
_KINDS = ("utterances", "votes", "labels", "findings")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The output files in a folder and below it, sorted by path."""

    folder: Path
    place: Path
    """The folder or the file that was named."""
    tables: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Files by kind: utterances, votes, labels, findings."""
    ledgers: tuple[Path, ...] = ()
    markers: tuple[Path, ...] = ()
    """Markers of finished stages of a pipeline."""
    running: tuple[Path, ...] = ()
    """Files of stages that are running, or were when their process was killed."""
    pages: tuple[Path, ...] = ()
    manifest: Path | None = None

    @classmethod
    def of(cls, place: str | Path) -> Outputs:
        """Find the outputs in a folder, or next to a file; raises InputError if there are none."""
        refuse_elsewhere([place])
        place = Path(place)
        if not place.exists():
            missing = "file" if place.suffix == ".parquet" else "folder"
            raise InputError(f"there is no such {missing}", where=str(place), fix="Name a folder of results.")
        if place.is_dir():
            refuse_unreadable_folder(place)
        files = sorted(_files(place)) if place.is_dir() else [place, *sorted(_beside(place))]
        tables: dict[str, list[Path]] = {kind: [] for kind in _KINDS}
        for path in files:
            if path.suffix == ".parquet" and (kind := _kind_of(path)) is not None:
                tables[kind].append(path)
        outputs = cls(
            folder=place if place.is_dir() else place.parent,
            place=place,
            tables={kind: tuple(paths) for kind, paths in tables.items()},
            ledgers=tuple(path for path in files if path.suffix == ".sqlite" and path.name.startswith("ledger")),
            markers=tuple(path for path in files if path.name == MARKER),
            running=tuple(path for path in files if path.name == RUNNING),
            pages=tuple(path for path in files if path.suffix == ".html"),
            manifest=next((path for path in files if path == place / MANIFEST), None),
        )
        if not (any(tables.values()) or outputs.ledgers or outputs.markers or outputs.running):
            fix = "Name the folder of a pipeline, or what a command wrote to with -o."
            raise InputError("contains no results of alm-proxies", where=str(place), fix=fix)
        return outputs

    def findings(self) -> pl.DataFrame:
        """All findings, by severity and then by frequency, with the file of each; those of a pipeline name its keys."""
        recorded = Recorded()
        frames = []
        for path in self.tables["findings"]:
            findings = Findings.read(path)
            findings = recorded.findings(findings, path.parent) if path.name == FINDINGS else findings
            frames.append(findings.frame.with_columns(file=pl.lit(self.named(path))))
        if not frames:
            empty: pl.DataFrame = Findings.gather([]).frame
            return empty.with_columns(file=pl.lit(None, pl.String))
        order = pl.col("severity").replace_strict({"problem": 0, "warning": 1, "info": 2}, return_dtype=pl.Int8)
        return pl.concat(frames).sort(order, -pl.col("count"), maintain_order=True)

    def distinct_findings(self) -> pl.DataFrame:
        """Each finding once, with the stages and the files that have it: several stages open a recording that is
        missing, and runs of a [vary] find the same.
        """
        rows = self.findings()
        texts = [placed(message, where) for message, where in rows.select("message", "where").iter_rows()]
        same = ["severity", "kind", "utterance_id", "text", "fix", "count"]
        others = [name for name in rows.columns if name not in same]
        grouped = rows.with_columns(text=pl.Series(texts, dtype=pl.String)).group_by(same, maintain_order=True)
        folded = grouped.agg(pl.col(others).first(), stages=pl.col("stage").unique(maintain_order=True), files="file")
        return folded.select(*rows.columns, "stages", "files")

    def clips(self) -> pl.DataFrame:
        """Errors of single utterances: votes that are not ok, recordings that could not be used.

        A row for each utterance, stage, annotator and error: utterance_id, stage, annotator, kind, message, count.
        """
        twice = repeated(self.ledgers)
        rows = [row for path in self.ledgers if path not in twice for row in _of_ledger(path)]
        annotated = {path.parent for path in self.ledgers}
        frames = [pl.DataFrame(rows, schema=_CLIPS)]
        frames += [_of_votes(path) for path in self.tables["votes"] if path.parent not in annotated]
        findings = self.findings().filter(pl.col("utterance_id").is_not_null() & (pl.col("severity") != "info"))
        findings = findings.filter(pl.col("count") == 1)  # one of several utterances names only an example
        if annotated:  # the ledger has all of them, the findings only an example of each kind
            findings = findings.filter(pl.col("stage") != "annotate")
        frames.append(
            findings.select("utterance_id", "stage", pl.lit("").alias("annotator"), "kind", "message", "count")
        )
        together = pl.concat([frame.cast(_CLIPS) for frame in frames])
        key = ["utterance_id", "stage", "annotator", "kind", "message"]
        return together.group_by(key, maintain_order=True).agg(pl.col("count").sum()).sort(key)

    def named(self, path: Path) -> str:
        """A path relative to the folder."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)


_CLIPS = pl.Schema({
    "utterance_id": pl.String(), "stage": pl.String(), "annotator": pl.String(), "kind": pl.String(),
    "message": pl.String(), "count": pl.Int64(),
})  # fmt: skip
_LONGEST = 300
"""Maximum letters of a reply that are shown."""


def _files(folder: Path) -> Iterator[Path]:
    top, seen = len(folder.parts), set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        deep = len(Path(place).parts) - top >= _DEEP
        folders[:] = [] if deep or real in seen else [name for name in folders if _is_searched(Path(place) / name)]
        if real in seen:  # by another link
            continue
        seen.add(real)
        yield from (Path(place) / name for name in files if not name.startswith("."))


def _is_searched(folder: Path) -> bool:
    """Whether a folder may have results in it; a link is followed only to those of a stage, such as on another disk."""
    if folder.is_symlink() and not any(
        True for pattern in _OF_A_STAGE for _ in (*folder.glob(pattern), *folder.glob(f"*/{pattern}"))
    ):
        return False
    if folder.name in _ASIDE:
        return (folder / MARKER).is_file() or (folder / RUNNING).is_file()
    return not folder.name.startswith(".")


def _beside(file: Path) -> Iterator[Path]:
    """The name of a file beside the main output of a command, e.g. labels.findings.parquet."""
    named = file.parent.glob(f"{glob.escape(file.stem)}.*")
    yield from (path for path in named if path != file and path.is_file())


def _kind_of(path: Path) -> str | None:
    try:
        with open_file(path) as stream:  # polars takes brackets in a path for a pattern
            names = set(pl.read_parquet_schema(stream))
    except (OSError, pl.exceptions.PolarsError):
        return "findings" if "findings" in path.name.split(".") else None  # those that cannot be read are not none
    if {"kind", "message", "severity"} <= names or {"kind", "what", "severity"} <= names:
        return "findings"
    if {"utterance_id", "annotator", "label"} <= names:
        return "votes"
    if "utterance_id" in names and any(name.startswith("p_") for name in names):
        return "labels"
    return "utterances" if {"utterance_id", "audio", "speaker"} <= names else None


def _of_ledger(path: Path) -> list[dict[str, object]]:
    with Ledger.look(path) as ledger:
        return [
            {
                "utterance_id": row["utterance_id"],
                "stage": "annotate",
                "annotator": row["annotator"],
                "kind": f"{row['status']} ({row['kind']})" if row["kind"] else row["status"],
                "message": str(row["raw"] or "")[:_LONGEST],
                "count": row["count"],
            }
            for row in ledger.not_ok_votes()
        ]


def _of_votes(path: Path) -> pl.DataFrame:
    try:
        lazy = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
        there = [name for name in ("utterance_id", "annotator", "status", "stated") if name in lazy.collect_schema()]
        lost = lazy.select(there).filter(pl.col("status") != "ok").collect()
    except (OSError, pl.exceptions.PolarsError, AlmProxiesError):
        return pl.DataFrame(schema=_CLIPS)
    stated = pl.col("stated") if "stated" in there else pl.lit(None, pl.String)
    varied = "=" in path.parent.name  # the folder of a run of [vary] is in that of the stage
    folder = path.parent.parent if varied else path.parent
    message = pl.when(stated.is_not_null()).then(pl.lit("stated: ") + stated).otherwise(pl.lit(""))
    return lost.select(
        "utterance_id",
        pl.lit(folder.name if path.stem == "votes" else path.stem).alias("stage"),
        "annotator",
        kind="status",
        message=message,
        count=pl.lit(1, pl.Int64),
    )
