"""The verbs of ledgers: how far annotate is, and the ledgers of many shards made into one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, LeftOut, Outcome, finished

_COMMON = Common()


def status(folder: Path, *, common: Common = _COMMON) -> Outcome:
    """Say how far annotate is: votes planned, cast and waiting, what they cost, and how long it will take.

    Parameters
    ----------
    folder
        The folder that annotate writes to; it may be running.
    """
    from alm_proxies.stages.annotate.ledgers import status as status_of

    found = status_of(folder)
    data = {"ledgers": [{**asdict(one), "waiting": one.waiting, "minutes_left": one.minutes_left} for one in found]}
    return Outcome("\n".join(str(one) for one in found), data, as_json=common.json)


def merge(
    folders: list[Path],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    common: Common = _COMMON,
) -> Outcome:
    """Make one ledger and one votes file out of those in several folders (annotate --shard).

    Parameters
    ----------
    folders
        The folders that annotate wrote to.
    output
        The folder to write.
    """
    from alm_proxies.stages.annotate.ledgers import merge as merge_ledgers
    from alm_proxies.stages.annotate.stage import counts_of

    merged = merge_ledgers(folders, output)
    counts = counts_of(merged.votes)
    line = f"votes of {len(folders)} folders, in {output}"
    return finished(line, counts, merged.findings, output, common, LeftOut.counted(counts))
