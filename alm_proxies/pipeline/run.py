"""Run a pipeline file: every stage of every run, shared where equal, skipped where unchanged, and one manifest."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alm_proxies import __version__
from alm_proxies.alone import alone_in, locked_for_stages
from alm_proxies.errors import OutputError
from alm_proxies.files import digest_file, write_json
from alm_proxies.pipeline.file import Pipeline, read_pipeline
from alm_proxies.pipeline.graph import nodes_of
from alm_proxies.pipeline.keys import findings_in_file, sentences_in_file
from alm_proxies.pipeline.perform import FINDINGS
from alm_proxies.pipeline.refusing import refuse_tables
from alm_proxies.pipeline.task import Record, do
from alm_proxies.pipeline.tasks import task_of
from alm_proxies.shown import Shown
from alm_proxies.tables import Findings, combine

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, repr=False)
class Ran(Shown):
    """The result of a pipeline: a record for every stage, all findings, and the paths of the reports."""

    folder: Path
    records: tuple[Record, ...]
    findings: Findings
    pages: tuple[Path, ...]

    @property
    def skipped(self) -> int:
        """Number of unchanged stages."""
        return sum(record.skipped for record in self.records)


def run(
    file: str | Path,
    *,
    folder: str | Path | None = None,
    settings: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Ran:
    """Run a pipeline file, or a shipped one by name; stages that are done and unchanged are skipped.

    `folder` overrides the file's `folder`. `settings` is a file whose values override those of
    the pipeline file, `changes` ({"fuse.method": "pool"}) override both. After an interruption, the same call
    continues.
    """
    pipeline = read_pipeline(file, folder, settings=settings, changes=changes)
    records: dict[Path, Record] = {}
    runs: list[dict[str, Any]] = []
    findings: list[Findings] = []
    lock = alone_in(pipeline.folder, "run", "Wait for it, stop it, or choose another folder: --folder.")
    with lock, locked_for_stages(pipeline.folder):
        for run in pipeline.runs:
            used = []
            nodes = nodes_of(run)
            first = next((node for node in nodes if node.stage.verb not in ("simulate", "read")), None)
            for node in nodes:
                if node is first:
                    refuse_tables(nodes, run)
                if node.folder not in records:
                    with sentences_in_file(node, run):
                        records[node.folder] = do(task_of(node, run), quiet=quiet)
                    findings.append(findings_in_file(Findings.read(node.folder / FINDINGS), node, run))
                used.append(_within(node.folder, pipeline))
            runs.append({"chosen": run.chosen, "stages": used})
        unchanged = all(record.skipped for record in records.values())  # then the disk may be one that is only read
        with suppress(OutputError) if unchanged else nullcontext():
            _write_manifest(pipeline, runs, records)
        compared = None
        if len(runs) > 1 and all(record.complete for record in records.values()):
            from alm_proxies.pipeline.comparing import PAGE, compare_varied

            with sentences_in_file(nodes_of(pipeline.runs[-1])[-1], pipeline.runs[-1]):
                try:
                    compared = compare_varied(pipeline.folder)
                except OutputError:
                    compared = pipeline.folder / PAGE
                    if not unchanged or not compared.is_file():
                        raise
    pages = tuple(
        place / name for place, record in records.items() for name in record.outputs if name.endswith(".html")
    )
    pages += (compared,) if compared is not None else ()
    return Ran(pipeline.folder, tuple(records.values()), combine(*findings), pages)


def _write_manifest(pipeline: Pipeline, runs: list[dict[str, Any]], records: dict[Path, Record]) -> None:
    stages = {}
    for place, record in records.items():
        entry = asdict(record)
        del entry["folder"]
        stages[_within(place, pipeline)] = entry
    write_json(
        pipeline.folder / MANIFEST,
        {
            "file": {"path": str(pipeline.path), "digest": digest_file(pipeline.path)},
            "versions": {"alm_proxies": __version__, "python": platform.python_version(), **_packages()},
            "runs": runs,
            "stages": stages,
        },
    )


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("numpy", "polars", "scipy", "librosa", "torch", "transformers", "vllm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _within(folder: Path, pipeline: Pipeline) -> str:
    return str(folder.relative_to(pipeline.folder))
