"""Training and predicting on a device other than the processor: no tensor is left behind, the numbers are equal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from forked import TORCH, Forked
from on_a_device import results
from small_corpus import small_corpus

if TYPE_CHECKING:
    from conftest import Corpus

MIXING = """
import made_device, torch
device = made_device.use()
there = torch.ones(2, 3).to(device)
for mix in (lambda: there + torch.ones(2, 3), lambda: there @ torch.ones(3, 2), lambda: there.numpy()):
    try:
        mix()
    except (RuntimeError, TypeError) as error:
        print(type(error).__name__, "device" in str(error))
print(torch.equal((there.T[1:] * 2 + 1).cpu(), torch.full((2, 2), 3.0)))
"""


def ended(script: Path, *arguments: Path) -> tuple[str, str]:
    done = Forked.done(script, *arguments, environment={"PYTHONPATH": os.pathsep.join(sys.path)}, imported=TORCH)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_tensor_that_is_left_on_the_processor_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mixing.py").write_text(MIXING)
    output, _ = ended(tmp_path / "mixing.py")
    assert output.split("\n")[:4] == ["RuntimeError True", "RuntimeError True", "TypeError True", "True"]


@pytest.mark.usefixtures("one_thread")
def test_every_recipe_and_every_model_runs_on_it_and_gives_the_numbers_of_the_processor(
    corpus: Corpus, tmp_path: Path
) -> None:
    tables = tmp_path / "tables"  # few clips: every operation takes a hundred times as long as on the processor
    for name, table in zip(("utterances", "votes", "labels"), small_corpus(tables, speakers=5, clips=4), strict=True):
        table.write(tables / f"{name}.parquet")
    output, said = ended(Path(__file__).with_name("on_a_device.py"), tables, corpus.encoder, tmp_path / "there")
    assert said.count("1 x made:0") == 5
    there = json.loads(output.splitlines()[-1])
    here = results(tables, corpus.encoder, tmp_path / "here", "cpu")
    assert list(there) == list(here)
    for name, found in here.items():
        for kind, values in found.items():
            np.testing.assert_allclose(there[name][kind], values, rtol=2e-3, atol=2e-3, err_msg=f"{name}, {kind}")
