"""Votes in the ledger that no longer hold: failed ones, and those on recordings, texts or annotators that changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import digest_file
from alm_proxies.printable import counted
from alm_proxies.remote.copies import marks_of, open_copy
from alm_proxies.stages.annotate.ledger import LACKING, Ledger
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.tables import Finding
from alm_proxies.uris import is_remote

_AT_ONCE = 20_000
"""Utterances that are compared with the ledger at a time."""


def set_aside(
    ledger: Ledger,
    frame: pl.DataFrame,
    members: Mapping[int, Annotator],
    injected: Sequence[tuple[pl.DataFrame, Mapping[int, Annotator]]],
) -> tuple[list[Finding], list[Finding]]:
    """Set votes that no longer hold aside, so that they are requested again: findings on the plan and on the injection.

    `members` are the annotators by their number in the ledger, `injected` those with a sentence in the transcripts.
    """
    of_plan = _failed(ledger, frame, members)
    of_injection = _failed(ledger, frame, {}, injected=True)
    of_plan += _changed(ledger, frame, members)
    of_plan += _earlier_versions(ledger, members)
    for part, with_sentence in injected:
        of_injection += _changed(ledger, part, with_sentence)
    return of_plan, of_injection


def lacks(annotator: Annotator, row: Mapping[str, Any]) -> str | None:
    """What the annotator's prompt requires of an utterance and this one does not have; None if it has all."""
    requires = annotator.prompt.requires
    lacking = PromptContext.of(row, annotator.prompt.turns).missing(requires) if requires else ()
    return next(iter(lacking), None)


def _failed(
    ledger: Ledger, frame: pl.DataFrame, members: Mapping[int, Annotator], *, injected: bool = False
) -> list[Finding]:
    """Set failed votes on planned utterances aside; those on a missing recording, or without what their prompt
    requires, stay failed as long as it is missing.
    """
    without = ledger.failed_as("missing", injected=injected)
    gone = frame.filter(pl.col("gone") & pl.col("number").is_in(without))["number"].unique(maintain_order=True)
    requiring = {number: annotator for number, annotator in members.items() if annotator.prompt.requires}
    failed = ledger.failed_as(*LACKING, injected=injected) if requiring else []
    rows = frame.filter(pl.col("number").is_in(failed)).iter_rows(named=True)
    lacking = [(number, row["number"]) for row in rows for number, each in requiring.items() if lacks(each, row)]
    count = ledger.set_aside_failed(gone.to_list(), lacking, injected=injected)
    if not count:
        return []
    which = " with an injected transcript" if injected else ""
    message = f"{counted(count, 'vote')}{which} had failed and {'is' if count == 1 else 'are'} asked again"
    return [Finding(STAGE, "asked_again", message, count=count)]


def _changed(ledger: Ledger, frame: pl.DataFrame, members: Mapping[int, Annotator]) -> list[Finding]:
    """Set votes on changed recordings or texts aside."""
    changed: list[tuple[int, int]] = []
    for start in range(0, frame.height, _AT_ONCE):
        part = frame[start : start + _AT_ONCE]
        known = ledger.material(members, part["number"].to_list())
        if known:
            paths = part["path"].unique().to_list()
            recordings = ledger.recordings(paths)
            marks = marks_of([path for path in recordings if is_remote(path)])
            changed += _with_changes(part, known, recordings, members, marks)
    count = ledger.set_aside_changed(changed) if changed else 0
    if not count:
        return []
    message = f"{counted(count, 'vote')} about recordings or texts that have changed since, kept apart and asked again"
    return [Finding(STAGE, "changed", message, count=count)]


def _with_changes(
    part: pl.DataFrame,
    known: Mapping[int, Mapping[int, str]],
    recordings: Mapping[str, tuple[int, int, str]],
    members: Mapping[int, Annotator],
    marks: Mapping[str, int | None],
) -> Iterator[tuple[int, int]]:
    """Numbers of annotators and utterances with changed material; a missing recording has not changed."""
    digests_now: dict[str, str | None] = {}
    for row in part.iter_rows(named=True):
        for number, digests in known.items():
            before = digests.get(row["number"])
            if before is None:
                continue
            path = row["path"]
            if path not in digests_now:
                known_digest = recordings.get(path)
                if is_remote(path):
                    digests_now[path] = _remote_digest_now(path, known_digest, marks.get(path), keep=row["keep"])
                else:
                    digests_now[path] = _digest_now(path, known_digest)
            digest, annotator = digests_now[path], members[number]
            if digest is None:
                continue
            context = PromptContext.of(row, annotator.prompt.turns)
            if annotator.material(digest, row["start"], row["end"], context) != before:
                yield number, row["number"]


def _digest_now(path: str, known: tuple[int, int, str] | None) -> str | None:
    """The digest of a recording: the known one if size and time are unchanged; None if it cannot be read."""
    try:
        status = Path(path).stat()
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return str(known[2])
        return digest_file(path)
    except (OSError, AlmProxiesError):
        return None


def _remote_digest_now(path: str, known: tuple[int, int, str] | None, mark: int | None, *, keep: bool) -> str | None:
    """The same for a remote recording: it is fetched only where the store states that it has changed."""
    if known is None or mark is None or known[1] == mark:
        return known[2] if known is not None else None
    try:
        copy = open_copy(path, keep=keep)
    except AlmProxiesError:
        return None
    os.close(copy.handle)
    return copy.digest[:16]


def _earlier_versions(ledger: Ledger, members: Mapping[int, Annotator]) -> list[Finding]:
    """Findings on votes of earlier annotators with the same names but other settings or another seed."""
    findings = []
    for number, annotator in members.items():
        count = ledger.votes_of_earlier_versions(number, annotator.name)
        if count:
            changed = f"{annotator.name} has changed (model, prompt, sampling, labels or seed)"
            message = f"{changed}: {counted(count, 'vote')} cast before {'is' if count == 1 else 'are'} kept apart"
            findings.append(Finding(STAGE, "annotator_changed", message, where=annotator.where, count=count))
    return findings
