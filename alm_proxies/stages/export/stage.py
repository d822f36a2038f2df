"""export: labels and utterances in, a folder in the format of a trainer out, with a card of what the labels are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import polars as pl

from alm_proxies.cards import card_of
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import InputError, OutputError, SettingsError
from alm_proxies.stages.export.format import Format
from alm_proxies.stages.export.items import Items, items_of, with_one_label
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Exported:
    """An export's folder, its files, how many items it holds in each split, and what was left out."""

    folder: Path
    files: tuple[Path, ...]
    counts: Mapping[str, int]
    findings: Findings


def formats() -> dict[str, Format]:
    """Every format by name."""
    import alm_proxies.stages.export.formats as package

    found: dict[str, Format] = {}
    for module in iter_modules(package.__path__):
        for one in import_module(f"{package.__name__}.{module.name}").FORMATS:
            found[one.name] = one
    return dict(sorted(found.items()))


def export(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: ExportSettings | None = None,
    *,
    votes: Votes | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Exported:
    """Write labels in a trainer's format into a new folder, whole or not at all.

    `votes` adds the human votes for each label where the format can hold them; `metrics` (of align) tells the card
    what the proxies were worth. A folder that has something in it is not touched.
    """
    from alm_proxies.stages.export.data_card import card_text
    from alm_proxies.stages.export.placing import place

    settings = settings or ExportSettings()
    kind = _format(settings.format)
    target = Path(folder).absolute()
    _refuse_existing(target)
    items, findings = items_of(labels, utterances, settings, votes)
    if kind.one_label:
        items, more = with_one_label(items)
        findings += more
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        items, more = place(replace(items, target=target), kind, part)
        findings += more
        if not len(items):
            reason = more[-1].message if more else "no item is left"
            raise InputError(f"nothing can be exported: {reason}", fix=more[-1].fix if more else None)
        if settings.pseudonyms:
            findings += _telling_paths(items)
            items = items.with_frame(items.frame.with_columns(utterance_id=pl.col("key")))
        licences = {corpus: card_of(corpus, settings.cards).licence for corpus in items.frame["corpus"].unique()}
        items = items.with_frame(items.frame.with_columns(licence=pl.col("corpus").replace(licences)))
        kind.write(items, part)
        found = Findings.gather(findings)
        (part / CARD).write_text(card_text(items, kind, labels.about, metrics, found.frame), encoding="utf-8")
        found.write(part / "findings.parquet")
        if target.exists():
            target.rmdir()
        part.chmod(0o755)
        part.rename(target)
    except OSError as error:
        message = f"the export cannot be written: {error.strerror or error}"
        fix = "Free some space or choose another folder; nothing half-written was left behind."
        raise OutputError(message, where=str(target), fix=fix) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    counts = dict(items.frame.group_by(pl.col("split").fill_null("train"), maintain_order=True).len().iter_rows())
    files = tuple(sorted(path for path in target.iterdir() if path.is_file()))
    return Exported(target, files, counts, found)


def _telling_paths(items: Items) -> list[Finding]:
    told = items.frame.filter(pl.col("file").str.starts_with("/")).height
    if not told:
        return []
    message = f"{told:,} rows name the original recordings, whose paths may tell who speaks"
    return [Finding("export", "paths_tell", message, "Write audio = copy.", count=told)]


def _format(name: str) -> Format:
    known = formats()
    if name not in known:
        fix = f"{did_you_mean(name, known)} There are: {', '.join(known)}.".strip()
        raise SettingsError(f"there is no export format {name!r}", fix=fix)
    return known[name]


def _refuse_existing(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        fix = "Choose another folder, or remove this one first."
        raise InputError("is there already and holds something, which is never overwritten", where=str(target), fix=fix)
