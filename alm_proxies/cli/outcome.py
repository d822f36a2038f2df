"""What a command gives back to the command line: one line for people, data for machines, an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from alm_proxies.errors import SettingsError
from alm_proxies.progress import say
from alm_proxies.tables import Findings

_SHOWN = 5
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
    allow: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))] = 0.1
    """The share that may be left out before the exit code is 1."""


def finished(
    line: str,
    counts: dict[str, int],
    findings: Findings,
    output: Path,
    common: Common,
    left_out: int = 0,
    of: int = 0,
) -> Outcome:
    """A finished command's outcome: its findings said on stderr, exit code 1 if more was left out than allowed."""
    tell(findings, quiet=common.quiet)
    share = left_out / of if of else 0.0
    data = {**counts, "left_out": left_out, "findings": findings.counts(), "output": str(output)}
    if left_out:
        line += f" ({left_out:,} of {of:,} left out)"
    return Outcome(line, data, exit_code=1 if share > common.allow else 0, as_json=common.json)


def refuse_overwriting(written: Iterable[Path], read: Iterable[Path | None]) -> None:
    """Refuse to write a result over a file that it is made from."""
    sources = {path.resolve() for path in read if path is not None}
    for path in written:
        if path.resolve() in sources:
            raise SettingsError("is read by this command and would be overwritten", where=str(path), mend=_ELSEWHERE)


def tell(findings: Findings, *, quiet: bool) -> None:
    """Say the findings on stderr: the first few in words, the rest as a count."""
    rows = findings.frame.sort("count", descending=True, maintain_order=True).iter_rows(named=True)
    for row in list(rows)[:_SHOWN]:
        times = f" ({row['count']:,} times)" if row["count"] > 1 and str(row["count"]) not in row["what"] else ""
        say(f"  {row['kind']}: {row['what'].rstrip('.')}{times}. {row['mend']}".rstrip(), quiet=quiet)
    if len(findings) > _SHOWN:
        say(f"  and {len(findings) - _SHOWN} more findings", quiet=quiet)
