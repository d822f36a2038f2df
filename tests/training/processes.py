"""Trainings in two processes of their own, started by torchrun or as it starts them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from forked import TORCH, Forked, python

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
) -> Forked:
    """Start a training in two processes as the documentation says, by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    return Forked(
        *launcher,
        python(TORCH),
        *written(utterances, labels, votes, out, settings),
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        imported=TORCH,
    )


@contextmanager
def two_started(
    utterances: Utterances,
    labels: Labels,
    votes: Votes | None,
    out: Path,
    settings: TrainSettings,
    before: str = "",
) -> Iterator[list[Forked]]:
    """Two processes that train together and are given what torchrun gives; `before` is run first in each."""
    from torch._C._distributed_c10d import TCPStore

    script, *arguments = written(utterances, labels, votes, out, settings, before)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    given = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    given["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    both = [
        Forked(script, *arguments, environment=given | {"RANK": rank, "LOCAL_RANK": rank}, imported=TORCH)
        for rank in ("0", "1")
    ]
    with both[0], both[1]:
        yield both


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
    """What two processes write to stderr that train together; `codes` are their exit codes."""
    with two_started(utterances, labels, votes, out, settings, before) as both, ThreadPoolExecutor(2) as readers:
        output = "".join(readers.map(lambda process: process.stderr.read(), both))
    assert (both[0].returncode, both[1].returncode) == codes, output
    return output


def kill_one_after_an_epoch(utterances: Utterances, labels: Labels, out: Path, settings: TrainSettings) -> None:
    """Train in two processes, kill (-9) the second after the first epoch, and end the first as torchrun then does."""
    with two_started(utterances, labels, None, out, settings) as (first, second):
        lines = []
        for line in first.stderr:
            lines.append(line)
            if line.startswith("epoch 1/"):
                second.kill()
                first.send_signal(signal.SIGTERM)
                break
    assert second.returncode == -signal.SIGKILL, "".join(lines)
    assert first.returncode not in (None, 0)


def curve(out: Path, kind: str = "step", name: str = "loss") -> list[tuple[int, float]]:
    """The step and a value of every line of the metrics that has it."""
    return [(line["step"], line[name]) for line in read_lines(out) if line["kind"] == kind and name in line]
