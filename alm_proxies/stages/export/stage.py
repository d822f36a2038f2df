"""export: write labels and utterances in the format of a trainer, with a data card."""

from __future__ import annotations

import glob
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.alone import WAIT, alone_beside
from alm_proxies.arguments import checked
from alm_proxies.cards import card_of
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import make_folder, read_text, refuse_remote, write_json, writing
from alm_proxies.plugins import plugin
from alm_proxies.printable import counted
from alm_proxies.shown import Shown
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items, items_of, with_one_label
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.table_checks import sum_across
from alm_proxies.tables import About, Finding, Findings, Labels, Utterances, Votes
from alm_proxies.taxonomy import label_for

CARD = "README.md"
MANIFEST = "export.json"
"""The files of an export and their sizes."""
_NOTE = "export-of-alm-proxies"
_RUNNERS = ("findings.parquet", "stage.json", "running.json")


@dataclass(frozen=True, slots=True, repr=False)
class Exported(Shown):
    """The result of export: the folder, its files, the number of items in each split, and findings."""

    folder: Path
    files: tuple[Path, ...]
    counts: Mapping[str, int]
    findings: Findings
    recordings: int | None = None
    """The number of recordings that the export needs; None if it needs none."""
    left_out: int = 0
    """The number of these that it does not have: with an item each, unless the format keeps labels alone."""

    @property
    def line(self) -> str:
        """A summary in one line."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        return f"{counted(sum(self.counts.values()), 'item')} ({parts})"


@checked
def export(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: ExportSettings | None = None,
    *,
    votes: Votes | None = None,
    metrics: Path | Mapping[str, Any] | None = None,
) -> Exported:
    """Write labels in a trainer's format into a new folder, atomically.

    `votes` adds the human votes for each label where the format can hold them; `metrics` (of align) gives the card
    what the proxies were worth. Only an unmodified earlier export is replaced; raises for a folder with other files.
    """
    settings = settings or ExportSettings()
    measured = json.loads(read_text(metrics)) if isinstance(metrics, Path) else metrics
    kind: Format = plugin("exports", settings.format).load()
    refuse_remote(Path(folder))
    target = Path(folder).absolute()
    target = target.resolve() if target.is_symlink() else target  # the folder is replaced, a link to it stays
    with _alone(target):
        _refuse_existing(target)
        items, findings = items_of(labels, utterances, settings, votes)
        findings += _unread(items, kind)
        if kind.one_label:
            items, more = with_one_label(items)
            findings += more
        return _written(items, findings, kind, target, labels.about, measured)


def _written(
    items: Items,
    findings: list[Finding],
    kind: Format,
    target: Path,
    about: About,
    measured: Mapping[str, Any] | None,
) -> Exported:
    """Write the items into a folder beside the target, and replace the target by it."""
    from alm_proxies.stages.export.data_card import card_text
    from alm_proxies.stages.export.lost import counts_of, findings_of, nothing_left
    from alm_proxies.stages.export.placing import place

    settings = items.settings
    with writing(target), _beside(target) as part:
        wanted = items
        items, placed = place(replace(items, target=target), kind, part)
        if not len(items):
            raise nothing_left(wanted, placed)
        findings += findings_of(wanted, placed, kind)
        recordings, lost = counts_of(wanted, placed, kind) or (None, 0)
        if settings.pseudonyms:
            findings += _telling_paths(items)
            items = items.with_frame(items.frame.with_columns(utterance_id=pl.col("key")))
        licences = {corpus: card_of(corpus, settings.cards).licence for corpus in items.frame["corpus"].unique()}
        items = items.with_frame(items.frame.with_columns(licence=pl.col("corpus").replace(licences)))
        findings += _write_files(kind, items, part)
        gathered = Findings.gather(findings, "export")
        (part / CARD).write_text(card_text(items, kind, about, measured, gathered.frame), encoding="utf-8")
        files = {
            str(path.relative_to(part)): path.lstat().st_size for path in sorted(part.rglob("*")) if not path.is_dir()
        }
        write_json(part / MANIFEST, {"format": kind.name, "name": settings.name, "files": files})
        _replace(target, part)
    counts = dict(items.frame.group_by(pl.col("split").fill_null("train"), maintain_order=True).len().iter_rows())
    return Exported(target, tuple(target / name for name in files), counts, gathered, recordings, lost)


def _write_files(kind: Format, items: Items, part: Path) -> list[Finding]:
    """Write the files of the format, and give its findings; an error if its function wrote no file."""
    before = {path for path in part.rglob("*") if not path.is_dir()}
    findings: object = kind.writer(items, part)
    where = f"the format {kind.name!r}"
    if findings is not None and not (isinstance(findings, list) and all(isinstance(own, Finding) for own in findings)):
        message = f"the function {kind.write} gave {type(findings).__name__}, not a list of findings or None"
        raise SettingsError(message, where=where, fix='Return [Finding.of("kind", "message")], or nothing.')
    if all(path.is_dir() or path in before for path in part.rglob("*")):
        fix = "It has to write into the folder that it is given."
        raise SettingsError(f"the function {kind.write} wrote no file", where=where, fix=fix)
    return findings or []


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lock the folder against a second export, and remove what a killed one left beside it."""
    with alone_beside(target, "export", WAIT):
        for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
            if (left / _NOTE).is_file():
                shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary folder beside a folder, which is gone at the end; it lies in one with a note that it is of export."""
    make_folder(target.parent)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        (part / _NOTE).touch()
        (part / target.name).mkdir()
        yield part / target.name
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(target: Path, part: Path) -> None:
    """Put a finished export in the place of an earlier one, each in one move: another export is never half removed."""
    with _beside(target) as aside:
        with suppress(FileNotFoundError):
            target.rename(aside / "earlier")
        part.rename(target)


def _unread(items: Items, kind: Format) -> list[Finding]:
    """A finding if there are labels that the format's readers do not know."""
    known = {own for name in kind.reads if (own := label_for(name.lower(), items.labels)) is not None}
    unread = [label for label in items.labels if label not in known] if kind.reads else []
    if not unread:
        return []
    share = items.frame.select(sum_across(f"p_{label}" for label in unread).mean()).item()
    message = (
        f"{kind.title} reads {', '.join(kind.reads)} only: {', '.join(unread)} ({share:.1%} of all shares) are "
        "written, and its targets then sum to less than 1"
    )
    fix = f'Merge them: map = {{{unread[0]} = "{next(iter(sorted(known)), kind.reads[-1])}"}}, or leave them out.'
    return [Finding("export", "unread_labels", message, fix, count=len(unread))]


def _telling_paths(items: Items) -> list[Finding]:
    paths = items.frame.filter(pl.col("file").str.starts_with("/")).height
    if not paths:
        return []
    message = f"{counted(paths, 'row has', 'rows have')} the original paths of recordings, which may identify speakers"
    return [Finding("export", "paths_tell", message, "Set audio to copy.", count=paths)]


def _refuse_existing(target: Path) -> None:
    """Raise for a folder with anything but an unmodified export of ours."""
    if not target.exists():
        return
    ours: dict[str, int] = {}
    if (target / MANIFEST).is_file():
        try:
            ours = {**json.loads((target / MANIFEST).read_text(encoding="utf-8"))["files"], MANIFEST: -1}
        except (ValueError, KeyError, TypeError):
            ours = {}  # no manifest of ours: it is refused below
    written = (target / MANIFEST).stat().st_mtime_ns if ours else 0  # the manifest is written last
    inside = [path for path in target.rglob("*") if not path.is_dir()] if target.is_dir() else [target]
    for path in inside:
        name = str(path.relative_to(target))
        state = path.lstat()
        size = -1 if name in (MANIFEST, *_RUNNERS) else state.st_size
        if name not in _RUNNERS and (ours.get(name) != size or state.st_mtime_ns > written):
            fix = "Choose another folder, or remove this one first."
            which = "which was changed since the export" if name in ours else "which export did not write"
            message = f"exists and has {name}, {which}: it is never overwritten"
            raise InputError(message, where=str(target), fix=fix)
