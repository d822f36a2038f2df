"""What a command gives back to the command line: one line for people, data for machines, an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from alm_proxies.errors import SettingsError
from alm_proxies.progress import say

if TYPE_CHECKING:
    from alm_proxies.tables import Findings

_SHOWN = 6
_STOPS = frozenset({"stopped"})
_VERDICTS = frozenset({"chosen", "proxies"})
"""Kinds that are always shown, as those that stopped something are: they say what was decided."""
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
    """No progress on stderr."""
    debug: bool = False
    """Show the traceback of an error."""
    max_left_out: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))] = 0.1
    """The share that may be left out before the exit code is 1."""


def finished(
    line: str,
    counts: Mapping[str, float],
    findings: Findings,
    output: Path,
    common: Common,
    left_out: int = 0,
    of: int = 0,
    kept: Path | None = None,
    more: Mapping[str, Any] | None = None,
) -> Outcome:
    """A finished command's outcome: its findings said on stderr, exit code 1 if more was left out than allowed.

    `kept` is the file that holds all findings; else findings.parquet in the output folder, if it has one. `more` is
    said to machines only.
    """
    kept = kept or output / "findings.parquet"
    data: dict[str, Any] = {**counts, "left_out": left_out, "findings": findings.counts(), "output": str(output)}
    data |= dict(more or {})
    if kept.is_file():
        tell(findings, quiet=common.quiet, rest=f"in {kept}")
    else:
        tell(findings, quiet=common.quiet, rest="with --json")
        data["said"] = findings.frame.select("kind", "message", "fix", "count").to_dicts()
    share = left_out / of if of else 0.0
    if left_out:
        line += f" ({left_out:,} of {of:,} left out)"
    return Outcome(line, data, exit_code=1 if share > common.max_left_out else 0, as_json=common.json)


def refuse_overwriting(written: Iterable[Path], read: Iterable[Path | None]) -> None:
    """Refuse to write a result over a file that it is made from."""
    sources = {path.resolve() for path in read if path is not None}
    for path in written:
        if path.resolve() in sources:
            raise SettingsError("is read by this command and would be overwritten", where=str(path), fix=_ELSEWHERE)


def tell(findings: Findings, *, quiet: bool, rest: str = "") -> None:
    """Say the findings on stderr, what matters most first: what stopped the run, what asks for something, verdicts.

    Mere counts come last, where a few are enough: then `rest` says where the others are.
    """
    rows = _by_weight(findings)
    for row in rows[:_SHOWN]:
        times = f" ({row['count']:,} times)" if row["count"] > 1 and not _says(row["message"], row["count"]) else ""
        say(f"  {row['kind']}: {row['message'].rstrip('.')}{times}. {row['fix'] or ''}".rstrip(), quiet=quiet)
    hidden = len(rows) - _SHOWN
    if hidden > 0:
        where = f": {rest}" if rest else ""
        say(f"  and {hidden:,} more finding{'s' if hidden > 1 else ''}{where}", quiet=quiet)


def _by_weight(findings: Findings) -> list[dict[str, Any]]:
    """The findings, those to be shown first: what stopped the run, what has a fix, verdicts, counts.

    A verdict is always among them; of a kind found often, one stands before the second of another.
    """
    rows = list(findings.frame.sort("count", descending=True, maintain_order=True).iter_rows(named=True))
    met: Counter[str] = Counter()
    chosen: list[tuple[bool, int, int, int]] = []
    for place, row in enumerate(rows):
        kind = row["kind"]
        weight = 0 if kind in _STOPS else 1 if row["fix"] else 2 if kind in _VERDICTS else 3
        always = kind in _STOPS or kind in _VERDICTS
        chosen.append((not always, 0 if always else met[kind], weight, place))
        met[kind] += 1
    chosen.sort()
    shown = sorted(chosen[:_SHOWN], key=lambda one: one[2:])
    return [rows[one[3]] for one in (*shown, *chosen[_SHOWN:])]


def _says(message: str, count: int) -> bool:
    return str(count) in message or f"{count:,}" in message
