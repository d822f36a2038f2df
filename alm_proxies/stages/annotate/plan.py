"""The plan: every vote to be cast, in an order whose every beginning is a fair sample, less those that were."""

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
from alm_proxies.annotators.prompts import Lent
from alm_proxies.ballots import which_count
from alm_proxies.errors import AlmProxiesError, SettingsError
from alm_proxies.files import digest_file, is_there
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import not_asked
from alm_proxies.tables import Finding, Utterances, Votes

STAGE = "annotate"


@dataclass(frozen=True, slots=True)
class Seat:
    """An annotator in the panel: its number in the ledger, and which draws of which planned utterance are missing."""

    annotator: Annotator
    number: int
    missing: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked: utterances in asking order, a seat for every annotator, and what was found on the way."""

    utterances: pl.DataFrame
    seats: tuple[Seat, ...]
    findings: tuple[Finding, ...]

    @property
    def planned(self) -> int:
        """Votes planned, cast or not."""
        return sum(seat.missing.size for seat in self.seats)

    @property
    def missing(self) -> int:
        """Votes still to be cast."""
        return sum(int(seat.missing.sum()) for seat in self.seats)

    def rows(self, seats: Sequence[Seat]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Place and columns of every utterance about which one of these seats still has to be asked, in order."""
        wanted = np.zeros(self.utterances.height, dtype=np.bool_)
        for seat in seats:
            wanted |= seat.missing.any(axis=1)
        places = np.flatnonzero(wanted)
        for start in range(0, len(places), 1024):
            part = places[start : start + 1024]
            yield from zip(part.tolist(), self.utterances[part].iter_rows(named=True), strict=True)


def shard_of(text: str) -> tuple[int, int]:
    """ "2/8" as (2, 8): the second of eight shards."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError(f"{text!r} is no shard", fix="Write I/N with I from 1 to N, e.g. 2/8.")
    return int(found[1]), int(found[2])


def askable(utterances: Utterances) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances that have a recording, with its path; the others are findings."""
    frame = utterances.frame
    roots = utterances.about.roots
    remote = pl.col("audio").str.contains(r"^[A-Za-z][A-Za-z0-9+.-]*://") & ~pl.col("audio").str.starts_with("file://")
    remote = remote.fill_null(False)
    findings: list[Finding] = []
    for kind, which, message, fix in (
        ("no_audio", pl.col("audio").is_null() & pl.col("recipe").is_null(), "have no recording", "Fill their audio."),
        (
            "not_rendered",
            pl.col("audio").is_null() & pl.col("recipe").is_not_null(),
            "are recipes",
            "Render them first.",
        ),
        ("remote_audio", remote, "have audio behind an address", "Fetch them to this machine first."),
    ):
        left_out = frame.filter(which)["utterance_id"].sort()
        if left_out.len():
            said = f"{left_out.len()} utterances {message} and are not asked about"
            findings.append(Finding(STAGE, kind, said, fix, utterance_id=left_out[0], count=left_out.len()))
    frame = frame.filter(pl.col("audio").is_not_null() & ~remote)
    root = (
        pl.col("corpus").replace_strict(roots, default=None, return_dtype=pl.String)
        if roots
        else pl.lit(None, pl.String)
    )
    plain = pl.col("audio").str.strip_prefix("file://")
    path = pl.when(root.is_null() | plain.str.starts_with("/")).then(plain).otherwise(root + "/" + plain)
    return frame.with_columns(path=path), findings


def in_fair_order(frame: pl.DataFrame, seed: int, strata: Sequence[str]) -> pl.DataFrame:
    """The rows so ordered that every beginning holds each stratum in proportion, at random within it."""
    ids = frame["utterance_id"]
    drawn = pl.Series("drawn", [_hash(f"{seed}\x1f{name}") for name in ids], dtype=pl.UInt64)
    place = (pl.int_range(pl.len()).over(strata) + 0.5) / pl.len().over(strata) if strata else pl.col("drawn")
    ordered = frame.with_columns(drawn).sort("drawn", "utterance_id").with_columns(place=place)
    return ordered.sort("place", "drawn", "utterance_id").drop("place", "drawn")


def with_turns(frame: pl.DataFrame, everything: pl.DataFrame, count: int) -> pl.DataFrame:
    """Adds `turns`: (speaker, transcript) of up to `count` turns before in the dialogue, oldest first, where told."""
    if count == 0:
        return frame
    talk = everything.filter(pl.col("dialogue").is_not_null()).sort("dialogue", "turn", "start", "utterance_id")
    told = pl.struct("speaker", "transcript")
    before = [told.shift(back).over("dialogue") for back in range(count, 0, -1)]
    turns = pl.concat_list(before).list.eval(pl.element().filter(pl.element().struct.field("transcript").is_not_null()))
    return frame.join(talk.select("utterance_id", turns=turns), on="utterance_id", how="left", maintain_order="left")


def lent_by(row: Mapping[str, Any], turns: int) -> Lent:
    """What a row of the plan lends to a prompt that tells `turns` turns before."""
    before = (row.get("turns") or [])[-turns:] if turns else []
    told = tuple((turn["speaker"], turn["transcript"]) for turn in before)
    return Lent(row["transcript"], row["speaker"], told, row.get("evidence"))


def make_plan(
    utterances: Utterances,
    panel: Sequence[Annotator],
    ledger: Ledger,
    seed: int,
    *,
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    votes: Votes | None = None,
    evidence: Mapping[str, str] | None = None,
) -> Plan:
    """What is to be asked now, written into the ledger; votes about changed material are set aside and said."""
    frame, findings = askable(utterances)
    if shard is not None:
        part = pl.Series([_hash(name) % shard[1] == shard[0] - 1 for name in frame["utterance_id"]], dtype=pl.Boolean)
        frame = frame.filter(part)
    frame, strata = _with_human_label(frame, votes)
    frame = in_fair_order(frame, seed, strata)
    frame = frame.head(limit) if limit is not None else frame
    columns = ["utterance_id", "corpus", "path", "start", "end", "duration", "speaker", "transcript", "dialogue"]
    most_turns = max((annotator.prompt.turns for annotator in panel), default=0)
    frame = with_turns(frame.select(columns), utterances.frame, most_turns)
    if evidence is not None:
        said = pl.DataFrame({"utterance_id": list(evidence), "evidence": list(evidence.values())})
        frame = frame.join(said, on="utterance_id", how="left", maintain_order="left")
    numbers = ledger.utterance_ids(frame["utterance_id"].to_list())
    frame = frame.with_columns(number=pl.Series(numbers, dtype=pl.Int64))
    seats: dict[int, Annotator] = {ledger.annotator_id(one.card(seed), one.name): one for one in panel}
    ledger.set_plan(numbers.tolist(), {number: one.votes for number, one in seats.items()})
    planned = "SELECT annotator FROM planned_annotator"
    findings += set_aside_failed(ledger, planned, "", frame)
    findings += set_aside_changed(ledger, frame, seats)
    findings += _former_selves(ledger, seats)
    made = tuple(Seat(one, number, ~ledger.done(number, one.votes)[numbers]) for number, one in seats.items())
    return Plan(frame, made, tuple(findings))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


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


def set_aside_failed(ledger: Ledger, annotators: str, which: str, frame: pl.DataFrame) -> list[Finding]:
    """Failed votes about planned utterances, kept apart to be asked again; `annotators` is SQL for their numbers.

    Those whose recording was missing and still is stay failed.
    """
    failed = f"status = 'failed' AND annotator IN ({annotators})"
    lacked = {row[0] for row in ledger.sql.execute(f"SELECT utterance FROM vote WHERE {failed} AND kind = 'missing'")}
    paths = frame.filter(pl.col("number").is_in(sorted(lacked))).select("number", "path").unique().iter_rows()
    gone = [(number,) for number, path in paths if not is_there(path)]
    with ledger.transaction() as sql:
        sql.execute("CREATE TEMP TABLE gone (utterance INTEGER)")
        sql.executemany("INSERT INTO gone VALUES (?)", gone)
    planned = "utterance IN (SELECT utterance FROM planned_utterance)"
    there = "NOT (kind = 'missing' AND utterance IN (SELECT utterance FROM gone))"
    count = ledger.set_aside("failed, asked again", f"{failed} AND {planned} AND {there}")
    ledger.sql.execute("DROP TABLE gone")
    if not count:
        return []
    message = f"{counted(count, 'vote')}{which} had failed and {'is' if count == 1 else 'are'} asked again"
    return [Finding(STAGE, "asked_again", message, count=count)]


def fail_missing(plan: Plan, ledger: Ledger) -> list[str]:
    """Record the votes about recordings that are not there as failed, and give the paths: no engine is opened."""
    gone: list[str] = []
    rows: list[Outcome] = []
    for place, row in plan.rows(plan.seats):
        if is_there(row["path"]):
            continue
        gone.append(row["path"])
        for seat in plan.seats:
            draws = seat.missing[place].nonzero()[0].tolist()
            message = f"{row['path']}: there is no such file"
            rows += not_asked(seat.number, row["number"], draws, "missing", message, time.time())
            seat.missing[place] = False
    if rows:
        ledger.write(outcomes=rows)
    return gone


def set_aside_changed(ledger: Ledger, frame: pl.DataFrame, seats: Mapping[int, Annotator]) -> list[Finding]:
    """Votes of these seats about recordings or texts of the frame that have changed, kept apart to be asked anew."""
    recorded = {
        number: dict(ledger.sql.execute("SELECT utterance, digest FROM material WHERE annotator = ?", (number,)))
        for number in seats
    }
    recorded = {number: known for number, known in recorded.items() if known}
    if not recorded:
        return []
    audio = _AudioDigests(ledger)
    changed: list[tuple[int, int]] = []
    for row in frame.iter_rows(named=True):
        for number, known in recorded.items():
            before = known.get(row["number"])
            if before is None:
                continue
            digest = audio.digest(row["path"])
            if digest is None:
                continue  # gone: what was heard of it stays heard
            annotator = seats[number]
            lent = lent_by(row, annotator.prompt.turns)
            if annotator.material(digest, row["start"], row["end"], lent) != before:
                changed.append((number, row["number"]))
    if not changed:
        return []
    with ledger.transaction() as sql:
        sql.execute("CREATE TEMP TABLE changed (annotator INTEGER, utterance INTEGER)")
        sql.executemany("INSERT INTO changed VALUES (?, ?)", changed)
    among = "(annotator, utterance) IN (SELECT annotator, utterance FROM changed)"
    count = ledger.set_aside("its recording or text has changed", among)
    ledger.sql.execute("DROP TABLE changed")
    if not count:
        return []
    message = f"{counted(count, 'vote')} about recordings or texts that have changed since, kept apart and asked anew"
    return [Finding(STAGE, "changed", message, count=count)]


def _former_selves(ledger: Ledger, seats: Mapping[int, Annotator]) -> list[Finding]:
    """Votes of annotators of the same names that were something else then: another model, prompt, sampling or seed."""
    findings = []
    for number, annotator in seats.items():
        (count,) = ledger.sql.execute(
            "SELECT COUNT(*) FROM vote WHERE annotator IN (SELECT id FROM annotator WHERE name = ? AND id != ?)",
            (annotator.name, number),
        ).fetchone()
        if count:
            changed = f"{annotator.name} has changed (model, prompt, sampling, labels or seed)"
            message = f"{changed}: {counted(count, 'vote')} cast before {'is' if count == 1 else 'are'} kept apart"
            findings.append(Finding(STAGE, "annotator_changed", message, where=annotator.where, count=count))
    return findings


class _AudioDigests:
    """Digests of recordings: from the ledger where a file is as it was when it was heard, read anew where it is not."""

    def __init__(self, ledger: Ledger) -> None:
        self._known = {row[0]: row[1:] for row in ledger.sql.execute("SELECT path, size, changed, digest FROM audio")}
        self._seen: dict[str, str | None] = {}

    def digest(self, path: str) -> str | None:
        """The digest of a file, or None if it cannot be read."""
        if path not in self._seen:
            self._seen[path] = self._look(path)
        return self._seen[path]

    def _look(self, path: str) -> str | None:
        try:
            status = Path(path).stat()
            size, changed, digest = self._known.get(path, (None, None, None))
            if (size, changed) == (status.st_size, status.st_mtime_ns):
                return str(digest)
            return digest_file(path)
        except (OSError, AlmProxiesError):
            return None
