"""The command merge: the ledgers of several shards into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, LeftOut, Outcome, finished
from alm_proxies.printable import counted

_COMMON = Common()


def merge(
    folders: list[Path],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    common: Common = _COMMON,
) -> Outcome:
    """Merge the ledgers and votes of several folders into one (annotate --shard).

    Parameters
    ----------
    folders
        The folders that annotate wrote to.
    output
        The folder to write.
    """
    from alm_proxies.stages.annotate.merging import merge as merge_ledgers
    from alm_proxies.stages.annotate.stage import counts_of

    merged = merge_ledgers(folders, output)
    counts = counts_of(merged.votes)
    line = f"votes of {counted(len(folders), 'folder')}, in {output}"
    return finished(line, counts, merged.findings, output, common, LeftOut.counted(counts))
