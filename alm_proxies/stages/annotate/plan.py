"""The plan: every vote to be cast, in an order whose every beginning is a representative sample, less those cast."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.ballots import which_count
from alm_proxies.errors import AlmProxiesError, SettingsError
from alm_proxies.files import digest_file, digest_of, is_there, whole
from alm_proxies.seeds import generator
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import STAGE, not_asked
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.tables import Finding, Utterances, Votes

_COLUMNS = ("utterance_id", "corpus", "path", "start", "end", "duration", "speaker", "transcript", "dialogue")
TELLS = "The answer is {label}."
CONTROL = "The weather is fine."

_HAS_TRANSCRIPT = (pl.col("transcript").str.strip_chars() != "").fill_null(False)
_USUAL = 20
_AT_MOST_ONE_IN = 10
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
    """What is to be asked: utterances in asking order, the members of the panel, and findings."""

    utterances: pl.DataFrame
    members: tuple[PanelMember, ...]
    findings: tuple[Finding, ...]

    @property
    def planned(self) -> int:
        """Votes planned, cast or not."""
        return sum(member.missing.size for member in self.members)

    @property
    def missing(self) -> int:
        """Votes still to be cast."""
        return sum(int(member.missing.sum()) for member in self.members)

    def rows(self, members: Sequence[PanelMember]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Place and columns of every utterance about which one of these members still has to be asked, in order."""
        wanted = np.zeros(self.utterances.height, dtype=np.bool_)
        for member in members:
            wanted |= member.missing.any(axis=1)
        places = np.flatnonzero(wanted)
        for start in range(0, len(places), 1024):
            part = places[start : start + 1024]
            yield from zip(part.tolist(), self.utterances[part].iter_rows(named=True), strict=True)


@dataclass(frozen=True, slots=True)
class Plans:
    """Everything that is to be asked: the plan, and that of the votes with an injected sentence."""

    plan: Plan
    injection: Plan
    every: pl.DataFrame
    """Every utterance that can be asked about, a pilot's rest included."""
    missing: int
    """Votes of the plan that had no outcome before."""
    gone: tuple[str, ...]
    """Recordings that do not exist."""

    @property
    def both(self) -> tuple[Plan, Plan]:
        """The plan and the injection."""
        return self.plan, self.injection


def shard_of(text: str | None) -> tuple[int, int] | None:
    """ "2/8" as (2, 8): the second of eight shards."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError(f"{text!r} is not a shard", fix="Write I/N with I from 1 to N, e.g. 2/8.")
    return int(found[1]), int(found[2])


def askable(utterances: Utterances) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances that have a recording, with its path; the others are findings."""
    frame = utterances.frame
    roots = utterances.about.roots
    remote = pl.col("audio").str.contains(r"^[A-Za-z][A-Za-z0-9+.-]*://") & ~pl.col("audio").str.starts_with("file://")
    remote = remote.fill_null(False)
    no_audio = pl.col("audio").is_null()
    findings: list[Finding] = []
    for kind, which, message, fix in (
        ("no_audio", no_audio & pl.col("recipe").is_null(), "have no recording", "Fill their audio."),
        ("not_rendered", no_audio & pl.col("recipe").is_not_null(), "are recipes", "Render them first."),
        ("remote_audio", remote, "have audio behind an address", "Fetch them to this machine first."),
    ):
        left_out = frame.filter(which)["utterance_id"].sort()
        if left_out.len():
            text = f"{left_out.len()} utterances {message} and are not asked about"
            findings.append(Finding(STAGE, kind, text, fix, utterance_id=left_out[0], count=left_out.len()))
    frame = frame.filter(pl.col("audio").is_not_null() & ~remote)
    root = pl.lit(None, pl.String)
    if roots:
        root = pl.col("corpus").replace_strict(roots, default=None, return_dtype=pl.String)
    plain = pl.col("audio").str.strip_prefix("file://")
    path = pl.when(root.is_null() | plain.str.starts_with("/")).then(plain).otherwise(root + "/" + plain)
    return frame.with_columns(path=path), findings


def in_fair_order(frame: pl.DataFrame, seed: int, strata: Sequence[str]) -> pl.DataFrame:
    """The rows in an order whose every beginning holds each stratum in proportion, at random within it."""
    drawn = _hashes(frame["utterance_id"], f"{seed}\x1f")
    keys = frame.select("utterance_id", *strata).with_columns(drawn.alias("drawn")).with_row_index("row")
    ordered = keys.sort("drawn", "utterance_id")
    place = (pl.int_range(pl.len()).over(strata) + 0.5) / pl.len().over(strata) if strata else pl.col("drawn")
    rows = ordered.with_columns(place=place).sort("place", "drawn", "utterance_id")["row"]
    return frame[rows]


def with_turns(frame: pl.DataFrame, everything: pl.DataFrame, count: int) -> pl.DataFrame:
    """Adds `turns`: (speaker, transcript) of up to `count` earlier turns of the dialogue, oldest first."""
    if count == 0:
        return frame
    talk = everything.filter(pl.col("dialogue").is_not_null()).sort("dialogue", "turn", "start", "utterance_id")
    turn = pl.struct("speaker", "transcript")
    before = [turn.shift(back).over("dialogue") for back in range(count, 0, -1)]
    turns = pl.concat_list(before).list.eval(pl.element().filter(pl.element().struct.field("transcript").is_not_null()))
    return frame.join(talk.select("utterance_id", turns=turns), on="utterance_id", how="left", maintain_order="left")


def context_of(row: Mapping[str, Any], turns: int) -> PromptContext:
    """What a row of the plan gives to a prompt that shows this number of earlier turns."""
    before = (row.get("turns") or [])[-turns:] if turns else []
    shown = tuple((turn["speaker"], turn["transcript"]) for turn in before)
    return PromptContext(row["transcript"], row["speaker"], shown, row.get("evidence"))


def make_plans(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    votes: Votes | None = None,
) -> Plans:
    """The plan, that of the votes with an injected sentence, and everything askable, of which they may be a sample."""
    plan, every = make_plan(utterances, panel, ledger, settings, votes)
    injection, missing = plan_injection(plan, ledger, settings), plan.missing
    return Plans(plan, injection, every, missing, (*fail_missing(plan, ledger), *fail_missing(injection, ledger)))


def make_plan(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    votes: Votes | None = None,
) -> tuple[Plan, pl.DataFrame]:
    """What is to be asked now, written into the ledger, and everything askable, of which it may be a sample.

    Votes about changed material are set aside and stated.
    """
    every, findings = askable(utterances)
    evidence = _evidence(every, panel, ledger.path.parent, findings)
    frame = chosen(every, settings, votes)
    frame = with_turns(frame, utterances.frame, max((annotator.prompt.turns for annotator in panel), default=0))
    if evidence is not None:
        frame = frame.join(evidence, on="utterance_id", how="left", maintain_order="left")
    numbers = ledger.utterance_ids(frame["utterance_id"])
    frame = frame.with_columns(number=pl.Series(numbers, dtype=pl.Int64))
    members = {ledger.annotator_id(one.card(settings.seed), one.name): one for one in panel}
    ledger.set_plan(numbers, {number: one.votes for number, one in members.items()})
    findings += set_aside_failed(ledger, frame)
    findings += set_aside_changed(ledger, frame, members)
    findings += _former_selves(ledger, members)
    made = tuple(PanelMember(one, n, ~ledger.done(n, one.votes)[numbers]) for n, one in members.items())
    return Plan(frame, made, tuple(findings)), every


def plan_injection(plan: Plan, ledger: Ledger, settings: AnnotateSettings) -> Plan:
    """What is to be asked with an injected sentence, written into the ledger: two rows an utterance, with the sentence
    that gives another label, drawn by the seed, and with the control.
    """
    members = [member for member in plan.members if is_told_transcripts(member.annotator)]
    chosen = to_be_injected(plan.utterances, settings.injection, shard_of(settings.shard))
    frame, seed = chosen if members else chosen.head(0), settings.seed
    labels = [_drawn(members[0].annotator.labels, seed, name) for name in frame["utterance_id"]]
    with_answer = _injected(frame, [TELLS.format(label=label) for label in labels])
    with_control = _injected(frame, [CONTROL] * frame.height)
    numbers = [(_number(ledger, member, seed, TELLS), _number(ledger, member, seed, CONTROL)) for member in members]
    ledger.set_injections(
        (member.number, number, label, speaker, *both)
        for member, both in zip(members, numbers, strict=True)
        for number, label, speaker in zip(frame["number"], labels, frame["speaker"], strict=True)
    )
    findings = set_aside_failed(ledger, plan.utterances, injected=True)
    made = []
    for place, part in enumerate((with_answer, with_control)):
        those = {both[place]: member.annotator for member, both in zip(members, numbers, strict=True)}
        findings += set_aside_changed(ledger, part, those)
        made += [PanelMember(one, number, _missing(ledger, part, one, number, place)) for number, one in those.items()]
    if settings.injection != 0:
        findings += _nothing_to_inject(plan, members)
    in_turns = np.arange(2 * frame.height).reshape(2, -1).T.ravel()
    return Plan(pl.concat([with_answer, with_control])[in_turns], tuple(made), tuple(findings))


def is_told_transcripts(annotator: Annotator) -> bool:
    """Whether there is anything to inject into: a prompt with transcripts, and labels that votes could be turned to."""
    return "transcript" in annotator.prompt.uses and annotator.prompt.elicits != "attributes"


def to_be_injected(frame: pl.DataFrame, wanted: int | None, shard: tuple[int, int] | None) -> pl.DataFrame:
    """The first planned utterances with a transcript: as many as wanted, a shard's part of them.

    None is 20, or a tenth of the utterances planned where that is fewer: two more requests for each of their cells
    then add a fifth to the price of a small run and little to that of a large one.
    """
    number, of = shard or (1, 1)
    total = _USUAL if wanted is None else wanted
    count = total // of + (number <= total % of)
    count = count if wanted is not None else min(count, frame.height // _AT_MOST_ONE_IN)
    return frame.filter(_HAS_TRANSCRIPT).head(count)


def chosen(every: pl.DataFrame, settings: AnnotateSettings, votes: Votes | None) -> pl.DataFrame:
    """The utterances of this shard and pilot, in asking order."""
    shard = shard_of(settings.shard)
    if shard is not None:
        every = every.filter(_hashes(every["utterance_id"]) % shard[1] == shard[0] - 1)
    frame, strata = _with_human_label(every.select(_COLUMNS), votes)
    frame = in_fair_order(frame, settings.seed, strata)
    return (frame.head(settings.limit) if settings.limit is not None else frame).select(_COLUMNS)


def _evidence(
    frame: pl.DataFrame, panel: Sequence[Annotator], folder: Path, findings: list[Finding]
) -> pl.DataFrame | None:
    """Measured prosody in words, kept beside the ledger; None where no prompt shows it."""
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


def _hashes(names: pl.Series, before: str = "") -> pl.Series:
    """A number below 2^64 for every name: the same on every machine."""
    hashes = (
        int.from_bytes(hashlib.blake2b((before + name).encode("utf-8", "replace"), digest_size=8).digest(), "big")
        for name in names
    )
    return pl.Series("drawn", np.fromiter(hashes, dtype=np.uint64, count=len(names)))


def _with_human_label(frame: pl.DataFrame, votes: Votes | None) -> tuple[pl.DataFrame, list[str]]:
    if votes is None:
        return frame, ["corpus"]
    human = votes.frame.filter(which_count("human", consensus=True))
    sums = human.group_by("utterance_id", "label").agg(pl.col("weight").sum())
    first = sums.sort(["utterance_id", "weight", "label"], descending=[False, True, False]).unique(
        "utterance_id", keep="first", maintain_order=True
    )
    named = first.select("utterance_id", human_label="label")
    return frame.join(named, on="utterance_id", how="left", maintain_order="left"), ["corpus", "human_label"]


def set_aside_failed(ledger: Ledger, frame: pl.DataFrame, *, injected: bool = False) -> list[Finding]:
    """Failed votes about planned utterances, kept apart to be asked again.

    Those whose recording was missing and still is stay failed.
    """
    lacked = frame.filter(pl.col("number").is_in(ledger.without_recording(injected=injected)))
    gone = [number for number, path in lacked.select("number", "path").unique().iter_rows() if not is_there(path)]
    count = ledger.set_aside_failed(gone, injected=injected)
    if not count:
        return []
    which = " with an injected transcript" if injected else ""
    message = f"{counted(count, 'vote')}{which} had failed and {'is' if count == 1 else 'are'} asked again"
    return [Finding(STAGE, "asked_again", message, count=count)]


def fail_missing(plan: Plan, ledger: Ledger) -> list[str]:
    """Record the votes about recordings that do not exist as failed, and give the paths: no engine is opened."""
    gone: list[str] = []
    rows: list[Outcome] = []
    for place, row in plan.rows(plan.members):
        if is_there(row["path"]):
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
    """Votes about recordings or texts of the frame that have changed, kept apart to be asked again."""
    changed: list[tuple[int, int]] = []
    for start in range(0, frame.height, _AT_ONCE):
        part = frame[start : start + _AT_ONCE]
        known = ledger.material(members, part["number"].to_list())
        if known:
            recordings = ledger.recordings(part["path"].unique().to_list())
            changed += _changed(part, known, recordings, members)
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
) -> Iterator[tuple[int, int]]:
    """Annotators and utterances whose material is not what it was; a recording that is gone has not changed."""
    seen: dict[str, str | None] = {}
    for row in part.iter_rows(named=True):
        for number, digests in known.items():
            before = digests.get(row["number"])
            if before is None:
                continue
            path = row["path"]
            if path not in seen:
                seen[path] = _digest_now(path, recordings.get(path))
            digest, annotator = seen[path], members[number]
            if digest is None:
                continue
            context = context_of(row, annotator.prompt.turns)
            if annotator.material(digest, row["start"], row["end"], context) != before:
                yield number, row["number"]


def _digest_now(path: str, known: tuple[int, int, str] | None) -> str | None:
    """The digest of a recording: the known one where the file is as it was, None where it cannot be read."""
    try:
        status = Path(path).stat()
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return str(known[2])
        return digest_file(path)
    except (OSError, AlmProxiesError):
        return None


def _former_selves(ledger: Ledger, members: Mapping[int, Annotator]) -> list[Finding]:
    """Votes of annotators of the same names that were different: another model, prompt, sampling or seed."""
    findings = []
    for number, annotator in members.items():
        count = ledger.votes_of_former_selves(number, annotator.name)
        if count:
            changed = f"{annotator.name} has changed (model, prompt, sampling, labels or seed)"
            message = f"{changed}: {counted(count, 'vote')} cast before {'is' if count == 1 else 'are'} kept apart"
            findings.append(Finding(STAGE, "annotator_changed", message, where=annotator.where, count=count))
    return findings


def _drawn(labels: tuple[str, ...], seed: int, utterance_id: str) -> str:
    return labels[int(generator(seed, "injection", utterance_id).integers(len(labels)))]


def _injected(frame: pl.DataFrame, sentences: list[str]) -> pl.DataFrame:
    said = pl.Series("said", sentences, dtype=pl.String)
    return frame.with_columns(transcript=pl.col("transcript").str.strip_chars() + " " + said)


def _missing(ledger: Ledger, part: pl.DataFrame, annotator: Annotator, number: int, place: int) -> NDArray[np.bool_]:
    """The draws still to be asked for, in every second row of the plan: those with this member's sentence."""
    missing = np.zeros((2 * part.height, annotator.votes), dtype=np.bool_)
    missing[place::2] = ~ledger.done(number, annotator.votes)[part["number"].to_numpy()]
    return missing


def _nothing_to_inject(plan: Plan, members: Sequence[PanelMember]) -> list[Finding]:
    if not members or plan.utterances.is_empty() or plan.utterances.select(_HAS_TRANSCRIPT.any()).item():
        return []
    names = ", ".join(member.annotator.name for member in members)
    message = f"no utterance has a transcript, so what an injected one does to the votes of {names} is not measured"
    return [Finding(STAGE, "nothing_to_inject", message)]


def _number(ledger: Ledger, member: PanelMember, seed: int, sentence: str) -> int:
    """The ledger's number for an annotator with a sentence injected; its name has spaces, as none of a panel has."""
    card = member.annotator.card(seed)
    named = f"{card.digest} {digest_of(sentence)}"
    return ledger.annotator_id(card.model_copy(update={"digest": named}), f"{member.annotator.name} told {sentence!r}")
