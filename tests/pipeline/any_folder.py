"""A small pipeline in which some things go wrong, and what a command prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripted_annotators import of_a_table

from alm_proxies.cli.app import run as command

FILE = """\
taxonomy = "crema6"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "heard", audio = "sound" }
[hold_out]
keep = 2
[annotate]
panel = ["dear.toml"]
injection = 0
stop = { collapse = 1.0, failed = 1.0, refused = 1.0 }
[fuse]
method = "pool"
"""


def eight_clips(folder: Path) -> Path:
    """Eight clips: one without a recording, one with an unparsable answer, one with a word outside the taxonomy."""
    for number in range(8):
        soundfile.write(folder / f"c{number}.wav", 0.3 * np.sin(np.arange(16_000) * 0.05), 16_000)
    (folder / "c3.wav").unlink()
    heard = [(clip, rater, ("happy", "sad")[(clip + rater) % 2]) for clip in range(8) for rater in range(3)]
    rows = [f"c{clip},r{rater},{label},c{clip}.wav" for clip, rater, label in heard]
    (folder / "votes.csv").write_text("\n".join(["clip,rater,heard,sound", *rows, "c1,r3,Puzzled,c1.wav"]))
    answers = [f"mine/c{clip},{'well' if clip == 5 else 'happy'}" for clip in range(8)]
    (folder / "answers.csv").write_text("\n".join(["utterance_id,text", *answers]))
    of_a_table(folder, "dear", price=12.0)
    path = folder / "mine.toml"
    path.write_text(FILE)
    return path


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert command(arguments) == 0
    return capsys.readouterr().out
