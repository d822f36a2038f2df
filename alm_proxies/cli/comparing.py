"""The command compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, Outcome, finished, refuse_overwriting
from alm_proxies.errors import SettingsError
from alm_proxies.pipeline.comparing import PAGE, compare_runs, runs_in

_COMMON = Common()


def compare(
    runs: list[Path],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    votes: Annotated[list[Path] | None, Parameter(name="--votes", consume_multiple=True)] = None,
    utterances: Path | None = None,
    seed: int = 0,
    common: Common = _COMMON,
) -> Outcome:
    """Compare runs on the same held-out votes: one table and one page, significant differences marked.

    Parameters
    ----------
    runs
        Folders that pipelines wrote (each run of a [vary] counts), folders with a labels.parquet, or labels files.
    output
        The page to write, or a folder for it; its metrics are written next to it.
    votes
        The votes of runs without their own votes, including held-out ones.
    utterances
        The utterances of such runs.
    seed
        Random seed of intervals.
    """
    distinct = {path.resolve(): path for path in runs}
    each = [(path, run) for path in distinct.values() for run in runs_in(path)]
    if len({run.name for _, run in each}) < len(each):  # the same names in several places
        each = [(path, replace(run, name=f"{path}: {run.name}")) for path, run in each]
    runs_ = [run for _, run in each]
    if len(runs_) < 2:
        raise SettingsError("one run has nothing to be compared with", fix="Name two runs or more.")
    page = output if output.suffix == ".html" else output / PAGE
    refuse_overwriting([page], [path for run in runs_ for path in (run.labels, *run.votes, *run.utterances)])
    compared = compare_runs(runs_, votes=votes or (), utterances=utterances, seed=seed)
    compared.write(page)
    data = {
        "runs": len(runs_),
        "sets": len(compared.evaluations),
        "not_paired": list(compared.left_out),
        "page": str(page),
    }
    return finished(f"{compared.line} in {page}", {}, compared.findings, page, common, more=data)
