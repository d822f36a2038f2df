"""The plan: the votes to request, without those that the ledger has already."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import digest_file, digest_of, whole
from alm_proxies.remote.copies import marks_of, open_copy
from alm_proxies.seeds import generator
from alm_proxies.stages.annotate.askable import (
    HAS_TRANSCRIPT,
    askable,
    chosen,
    context_of,
    injection_sample,
    is_gone,
    shard_of,
    shows_transcripts,
    with_turns,
)
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import STAGE, not_asked
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.tables import Finding, Utterances
from alm_proxies.uris import is_remote

ANSWER = "The answer is {label}."
CONTROL = "The weather is fine."
_AT_ONCE = 20_000
"""Utterances that are compared with the ledger at a time."""


@dataclass(frozen=True, slots=True)
class PanelMember:
    """An annotator in the panel: its number in the ledger, and which draws of which planned utterance are missing."""

    annotator: Annotator
    number: int
    missing: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """The votes to request: utterances in their order, the members of the panel, and findings."""

    utterances: pl.DataFrame
    members: tuple[PanelMember, ...]
    findings: tuple[Finding, ...]

    @property
    def planned(self) -> int:
        """Votes planned, cast or not."""
        return sum(member.missing.size for member in self.members)

    @property
    def missing(self) -> int:
        """Planned votes without an outcome."""
        return sum(int(member.missing.sum()) for member in self.members)

    @property
    def remote(self) -> bool:
        """Whether recordings have to be fetched."""
        return bool(self.utterances["path"].str.contains("://", literal=True).any())

    def rows(self, members: Sequence[PanelMember]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Position and columns of every utterance with a missing vote of one of these members, in order."""
        wanted = np.zeros(self.utterances.height, dtype=np.bool_)
        for member in members:
            wanted |= member.missing.any(axis=1)
        positions = np.flatnonzero(wanted)
        for start in range(0, len(positions), 1024):
            part = positions[start : start + 1024]
            yield from zip(part.tolist(), self.utterances[part].iter_rows(named=True), strict=True)


@dataclass(frozen=True, slots=True)
class Plans:
    """All votes to request: the plan, and the plan of the votes with an injected sentence."""

    plan: Plan
    injection: Plan
    every: pl.DataFrame
    """All utterances that can be asked about, including those beyond the limit of a pilot."""
    missing: int
    """Votes of the plan that had no outcome before."""
    gone: tuple[str, ...]
    """Recordings that do not exist."""

    @property
    def both(self) -> tuple[Plan, Plan]:
        """The plan and the injection."""
        return self.plan, self.injection


def make_plans(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    human: HumanVotes | None = None,
) -> Plans:
    """Plan all votes, write the plan into the ledger, and record votes on missing recordings as failed."""
    plan, every = make_plan(utterances, panel, ledger, settings, human)
    injection, missing = plan_injection(plan, ledger, settings), plan.missing
    return Plans(plan, injection, every, missing, (*fail_missing(plan, ledger), *fail_missing(injection, ledger)))


def make_plan(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    human: HumanVotes | None = None,
) -> tuple[Plan, pl.DataFrame]:
    """The plan, which is written into the ledger, and all utterances that can be asked about.

    Failed votes and votes on changed recordings or texts are set aside, each with a finding.
    """
    every, findings = askable(utterances, settings.cards)
    evidence = _evidence(every, panel, ledger.path.parent, findings)
    frame = chosen(every, settings, human)
    frame = with_turns(frame, utterances.frame, max((annotator.prompt.turns for annotator in panel), default=0))
    if evidence is not None:
        frame = frame.join(evidence, on="utterance_id", how="left", maintain_order="left")
    numbers = ledger.utterance_ids(frame["utterance_id"])
    frame = frame.with_columns(number=pl.Series(numbers, dtype=pl.Int64))
    members = {ledger.annotator_id(annotator.card(settings.seed), annotator.name): annotator for annotator in panel}
    ledger.set_plan(numbers, {number: annotator.votes for number, annotator in members.items()})
    findings += set_aside_failed(ledger, frame)
    findings += set_aside_changed(ledger, frame, members)
    findings += _earlier_versions(ledger, members)
    panel_members = tuple(
        PanelMember(annotator, number, ~ledger.done(number, annotator.votes)[numbers])
        for number, annotator in members.items()
    )
    return Plan(frame, panel_members, tuple(findings)), every


def plan_injection(plan: Plan, ledger: Ledger, settings: AnnotateSettings) -> Plan:
    """The votes with an injected sentence, written into the ledger.

    Each utterance has two rows: one with a sentence that gives a random label, one with the control sentence.
    """
    members = [member for member in plan.members if shows_transcripts(member.annotator)]
    sample = injection_sample(plan.utterances, settings.injection, shard_of(settings.shard))
    frame, seed = sample if members else sample.head(0), settings.seed
    labels = [_random_label(members[0].annotator.labels, seed, name) for name in frame["utterance_id"]]
    with_answer = _injected(frame, [ANSWER.format(label=label) for label in labels])
    with_control = _injected(frame, [CONTROL] * frame.height)
    numbers = [(_number(ledger, member, seed, ANSWER), _number(ledger, member, seed, CONTROL)) for member in members]
    ledger.set_injections(
        (member.number, utterance, label, speaker, *pair)
        for member, pair in zip(members, numbers, strict=True)
        for utterance, label, speaker in zip(frame["number"], labels, frame["speaker"], strict=True)
    )
    findings = set_aside_failed(ledger, plan.utterances, injected=True)
    injected_members = []
    for place, part in enumerate((with_answer, with_control)):
        annotators = {pair[place]: member.annotator for member, pair in zip(members, numbers, strict=True)}
        findings += set_aside_changed(ledger, part, annotators)
        injected_members += [
            PanelMember(annotator, number, _missing(ledger, part, annotator, number, place))
            for number, annotator in annotators.items()
        ]
    if settings.injection != 0:
        findings += _nothing_to_inject(plan, members)
    alternating = np.arange(2 * frame.height).reshape(2, -1).T.ravel()
    rows = pl.concat([with_answer, with_control])[alternating]
    return Plan(rows, tuple(injected_members), tuple(findings))


def _evidence(
    frame: pl.DataFrame, panel: Sequence[Annotator], folder: Path, findings: list[Finding]
) -> pl.DataFrame | None:
    """Measured prosody in words, also written beside the ledger; None if no prompt shows it."""
    if not any("evidence" in annotator.prompt.context_fields for annotator in panel):
        return None
    from alm_proxies.annotators.evidence import evidence_of

    evidence = evidence_of(frame, folder / "features")
    findings += evidence.findings
    columns = {"utterance_id": list(evidence.by_utterance), "evidence": list(evidence.by_utterance.values())}
    table = pl.DataFrame(columns, schema={"utterance_id": pl.String, "evidence": pl.String})
    with whole(folder / "evidence.parquet") as temporary:
        table.write_parquet(temporary)
    return table


def set_aside_failed(ledger: Ledger, frame: pl.DataFrame, *, injected: bool = False) -> list[Finding]:
    """Set failed votes on planned utterances aside, so that they are requested again.

    Votes that failed because of a missing recording stay failed while it is missing.
    """
    without = frame.filter(pl.col("number").is_in(ledger.without_recording(injected=injected)))
    gone = [number for number, path in without.select("number", "path").unique().iter_rows() if is_gone(path)]
    count = ledger.set_aside_failed(gone, injected=injected)
    if not count:
        return []
    which = " with an injected transcript" if injected else ""
    message = f"{counted(count, 'vote')}{which} had failed and {'is' if count == 1 else 'are'} asked again"
    return [Finding(STAGE, "asked_again", message, count=count)]


def fail_missing(plan: Plan, ledger: Ledger) -> list[str]:
    """Record the votes on missing recordings as failed, so that no engine is opened for them; gives the paths."""
    gone: list[str] = []
    rows: list[Outcome] = []
    for place, row in plan.rows(plan.members):
        if not is_gone(row["path"]):
            continue
        gone.append(row["path"])
        for member in plan.members:
            draws = member.missing[place].nonzero()[0].tolist()
            message = f"{row['path']}: there is no such file"
            rows += not_asked(member.number, row["number"], draws, "missing", message, time.time())
            member.missing[place] = False
        if len(rows) >= _AT_ONCE:
            ledger.write(outcomes=rows)
            rows = []
    if rows:
        ledger.write(outcomes=rows)
    return gone


def set_aside_changed(ledger: Ledger, frame: pl.DataFrame, members: Mapping[int, Annotator]) -> list[Finding]:
    """Set votes on changed recordings or texts aside, so that they are requested again."""
    changed: list[tuple[int, int]] = []
    for start in range(0, frame.height, _AT_ONCE):
        part = frame[start : start + _AT_ONCE]
        known = ledger.material(members, part["number"].to_list())
        if known:
            paths = part["path"].unique().to_list()
            recordings = ledger.recordings(paths)
            marks = marks_of([path for path in recordings if is_remote(path)])
            changed += _changed(part, known, recordings, members, marks)
    count = ledger.set_aside_changed(changed) if changed else 0
    if not count:
        return []
    message = f"{counted(count, 'vote')} about recordings or texts that have changed since, kept apart and asked again"
    return [Finding(STAGE, "changed", message, count=count)]


def _changed(
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
            context = context_of(row, annotator.prompt.turns)
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


def _random_label(labels: tuple[str, ...], seed: int, utterance_id: str) -> str:
    return labels[int(generator(seed, "injection", utterance_id).integers(len(labels)))]


def _injected(frame: pl.DataFrame, sentences: list[str]) -> pl.DataFrame:
    injected = pl.Series("sentence", sentences, dtype=pl.String)
    return frame.with_columns(transcript=pl.col("transcript").str.strip_chars() + " " + injected)


def _missing(ledger: Ledger, part: pl.DataFrame, annotator: Annotator, number: int, place: int) -> NDArray[np.bool_]:
    """The missing draws of a member; every second row of the plan has its sentence."""
    missing = np.zeros((2 * part.height, annotator.votes), dtype=np.bool_)
    missing[place::2] = ~ledger.done(number, annotator.votes)[part["number"].to_numpy()]
    return missing


def _nothing_to_inject(plan: Plan, members: Sequence[PanelMember]) -> list[Finding]:
    if not members or plan.utterances.is_empty() or plan.utterances.select(HAS_TRANSCRIPT.any()).item():
        return []
    names = ", ".join(member.annotator.name for member in members)
    message = f"no utterance has a transcript, so that the effect of an injected one on {names} is not measured"
    return [Finding(STAGE, "nothing_to_inject", message)]


def _number(ledger: Ledger, member: PanelMember, seed: int, sentence: str) -> int:
    """The ledger's number of an annotator with an injected sentence; no name in a panel has spaces, as this one has."""
    card = member.annotator.card(seed)
    digest = f"{card.digest} {digest_of(sentence)}"
    return ledger.annotator_id(card.model_copy(update={"digest": digest}), f"{member.annotator.name} told {sentence!r}")
