"""The commands status and findings: progress of a folder of results, and everything that was left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, Outcome, times
from alm_proxies.errors import SettingsError
from alm_proxies.finding import placed
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.printable import counted, sentence

_COMMON = Common()


def status(folder: Path, *, common: Common = _COMMON) -> Outcome:
    """Show the progress of a folder of results: what is done or running, cost, remaining time, and result files.

    Parameters
    ----------
    folder
        What a pipeline or a command writes to; it may be running.
    """
    from alm_proxies.pipeline.standing import standing_of

    standing = standing_of(folder)
    return Outcome("\n".join(standing.lines()), standing.data(), as_json=common.json)


def findings(
    folder: Path,
    utterances: Annotated[list[str] | None, Parameter(name="UTTERANCE")] = None,
    /,
    *,
    clips: bool = False,
    least: Literal["info", "warning", "problem"] = "info",
    common: Common = _COMMON,
) -> Outcome:
    """List everything that was left out, corrected or went wrong in a folder of results, the most serious first.

    Parameters
    ----------
    folder
        What a pipeline or a command writes to.
    utterances
        Only findings on these utterances, given by id or by the end of the id.
    clips
        One line for each utterance with failed votes or recordings, with all its errors.
    least
        The lowest severity that is listed; not with --clips or utterances.
    """
    from alm_proxies.pipeline.outputs import Outputs

    if least != "info" and (clips or utterances):
        message = "--least is about the list of findings; errors of single utterances have no severity"
        raise SettingsError(message, fix="Leave out --least, or --clips and the utterances.")
    outputs = Outputs.of(folder)
    if clips or utterances:
        rows = _about(outputs.clips(), utterances)
        lines = [_of_clip(name, own) for (name,), own in rows.group_by("utterance_id", maintain_order=True)]
        total = counted(len(lines), "utterance")
        return Outcome("\n".join([*lines, f"{total} with failed votes or recordings"]), _data(rows), 0, common.json)
    rows = outputs.distinct_findings()
    wanted = rows.filter(pl.col("severity").is_in(SEVERITIES[SEVERITIES.index(least) :]))
    lines = [_line(row) for row in wanted.iter_rows(named=True)]
    rest = rows.height - wanted.height
    left_out = f", {rest:,} less serious ones not listed" if rest else ""
    lines.append(f"{counted(wanted.height, 'finding')}{left_out}")
    return Outcome("\n".join(lines), _data(wanted), 0, common.json)


def _about(rows: pl.DataFrame, utterances: Iterable[str] | None) -> pl.DataFrame:
    if not utterances:
        return rows
    name = pl.col("utterance_id")
    return rows.filter(
        pl.any_horizontal(*((name == utterance) | name.str.ends_with(f"/{utterance}") for utterance in utterances))
    )


def _of_clip(name: Any, rows: pl.DataFrame) -> str:
    errors = [
        f"{row['stage']}{' ' + row['annotator'] if row['annotator'] else ''} {row['kind']} x {row['count']}"
        f"{': ' + row['message'] if row['message'] else ''}"
        for row in rows.iter_rows(named=True)
    ]
    return f"{name}: {'; '.join(errors)}"


def _line(row: dict[str, Any]) -> str:
    about = f" [{row['utterance_id']}]" if row["utterance_id"] else ""
    message = sentence(placed(row["message"], row["where"]), row["fix"], times(row))
    line = f"{', '.join(row['stages'])} {row['kind']}{about}: {message}"
    several = f" (in {counted(len(row['files']), 'file')})" if len(row["files"]) > len(row["stages"]) else ""
    return f"{row['severity']:7}  {line}{several}"


def _data(rows: pl.DataFrame) -> dict[str, Any]:
    return {"findings": rows.to_dicts(), "count": rows.height}
