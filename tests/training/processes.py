"""Trainings in two processes of their own, started by torchrun or as it starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

from forked import Forked

from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.run_log import read_lines
from alm_proxies.training.settings import TrainSettings

_TRAIN = """
import json, os, sys
from pathlib import Path
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.settings import TrainSettings
source, out = Path(sys.argv[1]), sys.argv[2]
votes = Votes.read(source / "votes.parquet") if (source / "votes.parquet").is_file() else None
tables = Labels.read(source / "labels.parquet"), Utterances.read(source / "utterances.parquet")
(source / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
done = train(*tables, out, TrainSettings.model_validate(json.loads(sys.argv[3])), votes=votes)
done.findings.write(Path(out) / f"findings-{os.environ['RANK']}.parquet")
"""


def written(
    utterances: Utterances, labels: Labels, votes: Votes | None, out: Path, settings: TrainSettings, before: str = ""
) -> list[str]:
    """The script of a training, written beside `out` with its tables, and the script's arguments."""
    source = out.with_name(f"{out.name}-tables")
    source.mkdir(parents=True, exist_ok=True)
    utterances.write(source / "utterances.parquet")
    labels.write(source / "labels.parquet")
    if votes is not None:
        votes.write(source / "votes.parquet")
    script = source / "train.py"
    script.write_text(before + _TRAIN)
    return [str(script), str(source), str(out), json.dumps(settings.model_dump(mode="json"))]


def train_by_torchrun(
    utterances: Utterances, labels: Labels, votes: Votes | None, out: Path, settings: TrainSettings
) -> subprocess.Popen[str]:
    """Start a training in two processes as the documentation says, by torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launcher, *written(utterances, labels, votes, out, settings)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


def train_in_two(
    utterances: Utterances,
    labels: Labels,
    votes: Votes | None,
    out: Path,
    settings: TrainSettings,
    *,
    before: str = "",
    codes: tuple[int, int] = (0, 0),
) -> str:
    """Train in two processes that are given what torchrun gives; what they write to stderr.

    `before` is run first in each; `codes` are their exit codes.
    """
    from torch._C._distributed_c10d import TCPStore

    script, *arguments = written(utterances, labels, votes, out, settings, before)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    given = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    given["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    both = [
        Forked(Path(script), *arguments, environment=given | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]
    with both[0], both[1], ThreadPoolExecutor(2) as readers:
        output = "".join(readers.map(lambda process: process.stderr.read(), both))
    assert (both[0].returncode, both[1].returncode) == codes, output
    return output


def kill_one_after_an_epoch(process: subprocess.Popen[str], out: Path) -> None:
    """Kill (-9) the second process after the first epoch; torchrun then ends the first one."""
    with process:
        lines = []
        for line in cast("IO[str]", process.stderr):
            lines.append(line)
            if line.startswith("epoch 1/"):
                os.kill(int((out.with_name(f"{out.name}-tables") / "pid-1").read_text()), signal.SIGKILL)
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL) received" in "".join(lines)


def errors_of(process: subprocess.Popen[str]) -> str:
    """What the processes write to stderr until they end."""
    with process:
        return cast("IO[str]", process.stderr).read()


def curve(out: Path, kind: str = "step", name: str = "loss") -> list[tuple[int, float]]:
    """The step and a value of every line of the metrics that has it."""
    return [(line["step"], line[name]) for line in read_lines(out) if line["kind"] == kind and name in line]
