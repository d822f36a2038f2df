"""The outcome of a command: one line for people, data for machines, and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from alm_proxies.errors import SettingsError
from alm_proxies.finding import placed
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.printable import sentence
from alm_proxies.progress import say

if TYPE_CHECKING:
    from alm_proxies.tables import Findings

_SHOWN = 6
_STOPS = frozenset({"stopped"})
_VERDICTS = frozenset({"chosen", "proxies"})
"""Kinds of finding that report a decision."""
_ALWAYS = _STOPS | _VERDICTS
_ELSEWHERE = "Choose another output."


@dataclass(frozen=True, slots=True)
class Outcome:
    """One command's result."""

    line: str
    data: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    as_json: bool = False


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common:
    """Options every command has."""

    json: bool = False
    """Print the result as one line of JSON."""
    quiet: bool = False
    """Show no progress on stderr."""
    debug: bool = False
    """Show the traceback of an error."""
    log_file: Path | None = None
    """Append all messages to this file too, without secrets."""
    max_left_out: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))] = 0.1
    """The share that may be left out; above it the exit code is 1."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The number of votes, recordings or utterances left out, and the total; 0 where any number may be."""

    count: int = 0
    of: int = 0
    unit: str = "votes"

    @classmethod
    def counted(cls, counts: Mapping[str, float]) -> LeftOut:
        """The votes (recordings, where a stage counts these) left out, from a stage's counts.

        Of a stage that counts neither, utterances: these are left out on purpose, so that any number may be.
        """
        unit = next((name for name in ("recordings", "votes") if name in counts), "")
        return cls(int(counts.get("left_out", 0)), int(counts.get(unit, 0)), unit or "utterances")

    @classmethod
    def together(cls, parts: Mapping[str, LeftOut]) -> str:
        """The end of the line for people about several stages by name: what is lost, by unit.

        Stages often leave out the same recordings, so there is no sum: that with the largest share stands for them.
        """
        ends = []
        for unit in dict.fromkeys(part.unit for part in parts.values() if part.count and part.of):
            lost = {name: part for name, part in parts.items() if part.unit == unit and part.count and part.of}
            name, most = max(lost.items(), key=lambda named: named[1].count / named[1].of)
            where = f"in {name}" if len(lost) == 1 else f"in {name}, the most of {len(lost)} stages"
            ends.append(f" ({most.count:,} of {most.of:,} {unit} left out {where})")
        return "".join(ends)

    def __str__(self) -> str:
        """The end of the line for people; empty if nothing was left out."""
        of = f" of {self.of:,}" if self.of else ""
        return f" ({self.count:,}{of} {self.unit} left out)" if self.count else ""

    def is_too_much(self, common: Common) -> bool:
        """Whether more was left out than allowed, so that the exit code is 1."""
        return self.of > 0 and self.count / self.of > common.max_left_out


def finished(
    line: str,
    counts: Mapping[str, float],
    findings: Findings,
    output: Path,
    common: Common,
    left_out: LeftOut | None = None,
    kept: Path | None = None,
    more: Mapping[str, Any] | None = None,
) -> Outcome:
    """A finished command's outcome: its findings on stderr, exit code 1 if more was left out than allowed.

    `kept` is the file with all findings, by default findings.parquet in the output folder, if it exists. `more` is
    in the JSON output only.
    """
    kept, left_out = kept or output / "findings.parquet", left_out or LeftOut()
    data: dict[str, Any] = {**counts, "left_out": left_out.count, "findings": findings.counts(), "output": str(output)}
    data |= dict(more or {})
    if kept.is_file():
        tell(findings, quiet=common.quiet, rest=f"in {kept}")
    else:
        tell(findings, quiet=common.quiet, rest="with --json")
        data["said"] = findings.frame.select("kind", "message", "fix", "count").to_dicts()
    too_much = left_out.is_too_much(common)
    if too_much:
        say_too_much(common)
    return Outcome(f"{line}{left_out}", data, exit_code=int(too_much), as_json=common.json)


def say_too_much(common: Common) -> None:
    """State why the exit code is 1, and what allows it."""
    say(f"  left out: more than --max-left-out {common.max_left_out:g} allows, so the exit code is 1")


def refuse_overwriting(written: Iterable[Path], read: Iterable[Path | None]) -> None:
    """Raise SettingsError if an output would overwrite an input."""
    sources = {path.resolve() for path in read if path is not None}
    for path in written:
        if path.resolve() in sources:
            raise SettingsError(
                "the output is also an input of this command and would be overwritten", where=str(path), fix=_ELSEWHERE
            )


def tell(findings: Findings, *, quiet: bool, rest: str = "") -> None:
    """Print the findings on stderr, one line per kind, the most severe first.

    What stopped the run, problems, warnings and verdicts are all shown. Of what is only worth knowing a few are,
    and the other kinds are named; `rest` says where to read them.
    """
    shown, named = _ranked(findings)
    for row, others in shown:
        more = f" And {others:,} more of this kind." if others else ""
        message = placed(row["message"], row["where"] if row["utterance_id"] else None)
        say(f"  {row['kind']}: {sentence(message, row['fix'], times(row))}{more}", quiet=quiet)
    if named:
        say(f"  also noted: {', '.join(named)}", quiet=quiet)
    if rest and (named or any(others for _, others in shown)):
        say(f"  all findings: {rest}", quiet=quiet)


def _ranked(findings: Findings) -> tuple[list[tuple[dict[str, Any], int]], list[str]]:
    """The most frequent finding of each shown kind with the number of the others of its kind; kinds only named."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in findings.frame.sort("count", descending=True, maintain_order=True).iter_rows(named=True):
        kinds.setdefault(row["kind"], []).append(row)

    def place(rows: list[dict[str, Any]]) -> tuple[bool, int, bool, bool]:
        kind, severity, fix = (rows[0][key] for key in ("kind", "severity", "fix"))
        return kind not in _STOPS, -SEVERITIES.index(severity), fix is None, kind not in _VERDICTS

    ordered = sorted(kinds.values(), key=place)
    notes = [rows for rows in ordered if rows[0]["severity"] == SEVERITIES[0] and rows[0]["kind"] not in _ALWAYS]
    only_named = [rows[0]["kind"] for rows in notes[max(0, _SHOWN - (len(ordered) - len(notes))) :]]
    return [(rows[0], len(rows) - 1) for rows in ordered if rows[0]["kind"] not in only_named], only_named


def times(row: Mapping[str, Any]) -> str:
    """How often a finding occurred, where its message does not say it."""
    return f" ({row['count']:,} times)" if row["count"] > 1 and not _says(row["message"], row["count"]) else ""


def _says(message: str, count: int) -> bool:
    """Whether a message states the number, not as a part of another."""
    spelled = "|".join(dict.fromkeys((str(count), f"{count:,}")))
    return re.search(rf"(?<![\d.,])({spelled})(?![\d]|[.,]\d)", message) is not None
