"""Several processes train as one does, also when memory runs out in one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from processes import curve, kill_one_after_an_epoch, train_by_torchrun, train_in_two
from small_corpus import small_settings
from tones_in_noise import SHORT, TINY

from alm_proxies.models import tiny
from alm_proxies.printable import counted
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Findings, Labels, Utterances
from alm_proxies.training.settings import TrainSettings

if TYPE_CHECKING:
    from conftest import Corpus


def alone(corpus: Corpus, out: Path, **changes: Any) -> Trained:
    settings = small_settings(corpus.encoder, **changes)
    return train(corpus.labels, corpus.utterances, out, settings, votes=corpus.votes, quiet=True)


def together(corpus: Corpus, out: Path, before: str = "", **changes: Any) -> str:
    """What two processes write to stderr."""
    settings = small_settings(corpus.encoder, **changes)
    return train_in_two(corpus.utterances, corpus.labels, corpus.votes, out, settings, before=before)


def assert_same_curves(out: Path, other: Path) -> None:
    for kind, name in (("step", "loss"), ("epoch", "score")):
        mine, yours = curve(out, kind, name), curve(other, kind, name)
        assert [step for step, _ in mine] == [step for step, _ in yours]
        np.testing.assert_allclose([value for _, value in mine], [value for _, value in yours], rtol=2e-4)


def test_two_processes_have_the_losses_of_one(corpus: Corpus, tmp_path: Path) -> None:
    assert "2 x cpu" in together(corpus, tmp_path / "two", dropout=0.0, batch=7)
    alone(corpus, tmp_path / "one", dropout=0.0, batch=7)
    assert_same_curves(tmp_path / "two", tmp_path / "one")


def test_a_process_without_a_usable_clip_waits_for_the_other_and_all_findings_are_kept_once(
    corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "wav").mkdir()
    for path in (corpus.folder / "wav").iterdir():
        (tmp_path / "wav" / path.name).write_bytes(path.read_bytes())
    for name in ("002", "005", "007", "011"):
        (tmp_path / f"wav/{name}.wav").write_text("no sound")
    moved = Utterances.of(corpus.utterances.frame, about=corpus.utterances.about.with_(roots={"tones": str(tmp_path)}))
    settings = small_settings(corpus.encoder, dropout=0.0, batch=2, epochs=1, checkpoint_steps=5)
    train_in_two(moved, corpus.labels, corpus.votes, tmp_path / "two", settings)
    train(corpus.labels, moved, tmp_path / "one", settings, votes=corpus.votes, quiet=True)
    assert_same_curves(tmp_path / "two", tmp_path / "one")
    unusable = Findings.read(tmp_path / "two/findings-0.parquet").frame.filter(pl.col("utterance_id").is_not_null())
    assert sorted(unusable["utterance_id"]) == ["tones/002", "tones/005", "tones/007", "tones/011"]


SHORT_OF_MEMORY = """
import os
import torch
from alm_proxies.models.encoder import Encoder
forward = Encoder.forward
def wanting(gradient=None):
    torch.empty(2**58)
def short(self, inputs):
    hidden = forward(self, inputs)
    if os.environ["RANK"] == "1" and self.training and len(inputs.values) > 1 + (WHEN == "backward"):
        wanting() if WHEN == "forward" else hidden.states[-1].register_hook(wanting)
    return hidden
Encoder.forward = short
"""


@pytest.mark.parametrize(("when", "micro"), [("forward", 1), ("backward", 2)])
def test_memory_that_runs_out_in_one_process_halves_the_parts_of_both_and_keeps_the_losses(
    corpus: Corpus, tmp_path: Path, when: str, micro: int
) -> None:
    """The second of two processes asks torch's allocator for 2^60 bytes in the forward or the backward pass of every
    part with more than `micro` clips, so a real error of the allocator takes the way of a real shortage; the first has
    no shortage and is at that time elsewhere in its step.
    """
    before = f"WHEN = {when!r}\n{SHORT_OF_MEMORY}"
    output = together(corpus, tmp_path / "short", before, dropout=0.0, batch=12, checkpoint_steps=2)
    assert output.count("memory ran out") == 1
    assert f"memory ran out: {counted(micro, 'utterance')} at once from step 1 on; a step still has 12" in output
    tables = [Findings.read(tmp_path / f"short/findings-{rank}.parquet") for rank in range(2)]
    assert [findings.counts() for findings in tables] == [{"out_of_memory": 1}] * 2
    (kept,) = (tmp_path / "short/checkpoints").glob("step-*")
    assert json.loads((kept / "state.json").read_text())["micro"] == micro
    alone(corpus, tmp_path / "one", dropout=0.0, batch=12)
    assert_same_curves(tmp_path / "short", tmp_path / "one")


def test_memory_for_a_single_utterance_that_runs_out_in_one_process_ends_both(corpus: Corpus, tmp_path: Path) -> None:
    settings = small_settings(corpus.encoder, batch=2)
    before = "WHEN = 'forward'\n" + SHORT_OF_MEMORY.replace("> 1 +", "> 0 *")
    tables = corpus.utterances, corpus.labels, corpus.votes
    output = train_in_two(*tables, tmp_path / "out", settings, before=before, codes=(1, 1))
    assert output.count("memory ran out at step 1 with a single utterance") == 2


ALONE = {"lora": {"rank": 4, "alpha": 8.0, "rate": 0.005, "dropout": 0.0}}


@pytest.mark.parametrize("family", ["qwen2_audio", "glmasr"])
def test_two_processes_train_an_audio_language_model_with_the_losses_of_one(
    family: str, few: tuple[Utterances, Labels], tmp_path: Path
) -> None:
    """All weights of a new Qwen2-Audio with augmentation and short windows, and an adapter of another family."""
    settings = TINY.model_copy(update={"epochs": 2, "batch": 7, "micro_batch": 2})
    if family == "glmasr":
        given = {"recipe": "alm", "model": str(tiny.build(tmp_path / "base", family, hearing=SHORT)), "alm": ALONE}
        settings = TrainSettings.model_validate(given | {"epochs": 2, "batch": 7})
    assert "2 x cpu" in train_in_two(*few, None, tmp_path / "two", settings)
    done = train(few[1], few[0], tmp_path / "one", settings, quiet=True)
    assert_same_curves(tmp_path / "two", tmp_path / "one")
    assert {path.name for path in (tmp_path / "two/model").iterdir()} == {path.name for path in done.folder.iterdir()}


def test_two_processes_killed_after_an_epoch_and_resumed_by_torchrun_end_with_the_same_adapter(
    few: tuple[Utterances, Labels], tmp_path: Path
) -> None:
    base = tiny.build(tmp_path / "base", "glmasr", hearing=SHORT)
    given = {"recipe": "alm", "model": str(base), "epochs": 3, "batch": 9}
    settings = TrainSettings.model_validate(given | {"alm": {"lora": {"rank": 4, "rate": 0.005, "dropout": 0.3}}})
    train_in_two(*few, None, tmp_path / "whole", settings)
    kill_one_after_an_epoch(*few, tmp_path / "out", settings)
    assert not (tmp_path / "out/model").exists()
    resumed = train_by_torchrun(*few, None, tmp_path / "out", settings)
    _, output = resumed.communicate()
    assert resumed.returncode == 0, output
    assert "2 x cpu" in output
    assert curve(tmp_path / "out") == curve(tmp_path / "whole")
    adapters = [tmp_path / name / "model/adapter_model.safetensors" for name in ("out", "whole")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_memory_that_runs_out_in_one_process_halves_the_parts_of_both_for_an_audio_language_model(
    few: tuple[Utterances, Labels], tmp_path: Path
) -> None:
    """As above: the second process asks torch's allocator for 2^60 bytes for every part with more than one clip."""
    before = """
import os
import torch
from alm_proxies.training.alm_forward import Asking
logits = Asking.logits
def short(self, batch):
    if os.environ["RANK"] == "1" and torch.is_grad_enabled() and len(batch) > 1:
        torch.empty(2**58)
    return logits(self, batch)
Asking.logits = short
"""
    settings = TINY.model_copy(update={"epochs": 1, "batch": 6})
    output = train_in_two(*few, None, tmp_path / "short", settings, before=before)
    assert output.count("memory ran out: 1 utterance at once from step 1 on; a step still has 6") == 1
    train(few[1], few[0], tmp_path / "one", settings, quiet=True)
    assert_same_curves(tmp_path / "short", tmp_path / "one")
