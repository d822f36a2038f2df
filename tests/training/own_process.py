"""Trainings of a small corpus, here and in a process of their own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forked import TORCH, Forked
from small_corpus import small_settings

from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.training.run_log import read_lines

if TYPE_CHECKING:
    from conftest import Corpus


IN_ITS_OWN_PROCESS = """
import json, sys
from small_corpus import small_settings
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
source, out, model, changes = sys.argv[1:]
tables = Labels.read(source + "/labels.parquet"), Utterances.read(source + "/utterances.parquet")
votes = Votes.read(source + "/votes.parquet")
train(*tables, out, small_settings(model, **json.loads(changes)), votes=votes)
"""


def started(corpus: Corpus, out: Path, *, before: str = "", **changes: Any) -> Forked:
    """A training in a process of its own."""
    script = out.with_suffix(".py")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(before + IN_ITS_OWN_PROCESS)
    return Forked(
        script, corpus.folder, out, corpus.encoder, json.dumps(changes),
        environment={"PYTHONPATH": os.pathsep.join(sys.path)}, imported=TORCH,
    )  # fmt: skip


def fit(corpus: Corpus, out: Path, **changes: Any) -> Trained:
    settings = small_settings(corpus.encoder, **changes)
    return train(corpus.labels, corpus.utterances, out, settings, votes=corpus.votes, quiet=True)


def curve(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_lines(out) if line["kind"] == "step"]
