"""Trainings in two processes of their own, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

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


def start_two(
    utterances: Utterances, labels: Labels, votes: Votes | None, out: Path, settings: TrainSettings, *, before: str = ""
) -> subprocess.Popen[str]:
    """Start a training in two processes; `before` is run first in each."""
    source = out.with_name(f"{out.name}-tables")
    source.mkdir(parents=True, exist_ok=True)
    utterances.write(source / "utterances.parquet")
    labels.write(source / "labels.parquet")
    if votes is not None:
        votes.write(source / "votes.parquet")
    script = source / "train.py"
    script.write_text(before + _TRAIN)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*launcher, str(script), str(source), str(out), json.dumps(settings.model_dump(mode="json"))],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


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
