"""What became of an export's recordings: which are left out, kept back or only referred to, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alm_proxies.audio.clip import RATE
from alm_proxies.cards import how_to_allow, stays_because
from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items
from alm_proxies.tables import Finding


@dataclass(frozen=True, slots=True)
class Placed:
    """The placement of one item's recording: its path in the manifest, or the kind of finding and reason for none."""

    file: str | None
    kind: str = ""
    reason: str = ""
    fix: str = ""
    rate: int | None = None
    frames: int | None = None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Items with the same kind of placement: one of them with its reason, and their number."""

    kind: str
    corpus: str
    example: str
    placed: Placed
    count: int = 1


_DONE = {
    "cut": ("item", "items", f"cut from longer files, at {RATE:,} Hz"),
    "rendered": ("generated item was", "generated items were", "rendered into the export"),
    "remote_audio": ("recording is", "recordings are", "remote, such as that of {example}"),
}
_CARD = ("kept_back", "referred_to")
"""Kinds that a corpus's card decides."""


def findings_of(items: Items, placed: Sequence[Placed], kind: Format) -> list[Finding]:
    """A finding for each recording that leaves its item out, and one for each other kind of placement."""
    findings = []
    for group in _groups(items, placed, one_by_one=kind.needs_audio):
        lost = group.placed
        if group.kind in _DONE:
            one, many, rest = _DONE[group.kind]
            message = f"{counted(group.count, one, many)} {rest.format(example=group.example)}"
            fix = "Fetch them and give their paths, if the format needs files." if group.kind == "remote_audio" else ""
        elif group.kind == "referred_to":
            did = "linked" if lost.reason == "link" else "copied"
            message = f"{counted(group.count, 'recording')} not {did}, only paths are written: {_why(items, group)}"
            fix = how_to_allow(group.corpus, items.settings.cards)
        elif group.kind == "kept_back":
            message = (
                f"{counted(group.count, 'item has', 'items have')} no recording here, such as {group.example}: "
                f"{lost.reason}; {_why(items, group)}"
            )
            fix = f"{how_to_allow(group.corpus, items.settings.cards)} Or choose a format that refers to files."
        elif _alone(group.kind) and kind.needs_audio:
            message, fix = lost.reason, lost.fix
        elif not kind.needs_audio:
            rows = counted(group.count, "row is", "rows are")
            message = f"{rows} written without a recording, such as {group.example}: {lost.reason}"
            fix = lost.fix or "Give the recordings, if they are needed."
        else:
            message = (
                f"{counted(group.count, 'item has', 'items have')} no recording here, such as {group.example}: "
                f"{lost.reason}"
            )
            fix = "Give the recordings; formats of labels alone (csv, parquet, jsonl) keep such items."
        where = group.corpus if group.kind in _CARD else None
        named = "no_audio" if _only_referred_to(group, items, kind) else group.kind
        findings.append(
            Finding("export", named, message, fix, utterance_id=group.example, where=where, count=group.count)
        )
    return findings


def _only_referred_to(group: Group, items: Items, kind: Format) -> bool:
    """Whether no more is lost than the path of a recording that was not asked for: nothing of the export is missing."""
    return _alone(group.kind) and not kind.needs_audio and items.settings.audio == "reference"


def counts_of(items: Items, placed: Sequence[Placed], kind: Format) -> tuple[int, int] | None:
    """The number of recordings that the export needs, and of those that it does not have; None if it needs none."""
    if kind.needs_audio:
        return len(placed), sum(item.file is None for item in placed)
    if items.settings.audio == "reference":
        return None
    wanted = [item for item in placed if item.kind != "no_audio"]
    return len(wanted), sum(item.file is None for item in wanted)


def nothing_left(items: Items, placed: Sequence[Placed]) -> InputError:
    """The error for an export without an item, with the most frequent reasons."""
    groups = sorted(_groups(items, placed, one_by_one=False), key=lambda group: -group.count)
    reasons = [
        f"{counted(group.count, 'item is', 'items are')} left out, such as {group.example}: {group.placed.reason}"
        + f" ({_why(items, group)})" * (group.kind == "kept_back")
        for group in groups
        if group.placed.file is None
    ]
    if not reasons:
        return InputError("nothing can be exported: no item is left")
    first = groups[0]
    fix = how_to_allow(first.corpus, items.settings.cards) if first.kind == "kept_back" else first.placed.fix
    return InputError(f"nothing can be exported: {'; '.join(reasons)}", fix=fix or "Give the recordings.")


def _groups(items: Items, placed: Sequence[Placed], *, one_by_one: bool) -> Iterable[Group]:
    """The items by kind of placement, and by corpus where its card decides; lost recordings one by one, on request."""
    groups: dict[tuple[str, str], Group] = {}
    names = zip(items.frame["utterance_id"], items.frame["corpus"], placed, strict=True)
    for name, corpus, item in names:
        if not item.kind:
            continue
        apart = corpus if item.kind in _CARD else name if one_by_one and _alone(item.kind) else ""
        known = groups.get((item.kind, apart))
        count = 1 if known is None else known.count + 1
        groups[item.kind, apart] = Group(item.kind, corpus, known.example if known else name,
                                         known.placed if known else item, count)  # fmt: skip
    return groups.values()


def _alone(kind: str) -> bool:
    """Whether every such item is a finding of its own: its recording is damaged or cannot be found."""
    return kind not in _DONE and kind not in _CARD and kind != "no_audio"


def _why(items: Items, group: Group) -> str:
    settings = items.settings
    reason = stays_because(group.corpus, named=settings.may_leave, folder=settings.cards)
    return reason or "it is made of recordings of a corpus that has to stay on this machine"
