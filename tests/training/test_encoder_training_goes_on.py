"""A training that was interrupted goes on with the same losses, and only with the same data and settings."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from small_corpus import LABELS, small_settings

from alm_proxies.errors import InputError
from alm_proxies.pipeline.perform import Task
from alm_proxies.pipeline.task import Record, do
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances

if TYPE_CHECKING:
    from conftest import Corpus
from own_process import curve, fit, started


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_a_random_step_it_goes_on_with_the_same_losses(
    corpus: Corpus, whole: tuple[Trained, Path], tmp_path: Path, seed: int
) -> None:
    last = int(np.random.default_rng(seed).integers(3, 11))
    out = tmp_path / "out"
    with started(corpus, out, dropout=0.2, checkpoint_steps=2) as process:
        deadline = time.monotonic() + 240
        while (not (steps := curve(out)) or steps[-1][0] < last) and process.returncode is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        output = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, output
    assert not (out / "model").exists()
    before = curve(out)
    assert 0 < before[-1][0] < 15
    done = fit(corpus, out, dropout=0.2, checkpoint_steps=2)
    assert curve(out) == curve(whole[1])
    assert [step for step, _ in curve(out)] == list(range(1, 16))
    assert before == curve(whole[1])[: len(before)]
    heads = [(folder / "heads.safetensors").read_bytes() for folder in (done.folder, whole[0].folder)]
    assert heads[0] == heads[1]
    assert len(list((out / "checkpoints").glob("step-*"))) == 1


def test_a_full_disk_is_said_in_a_sentence_and_the_last_checkpoint_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fit(corpus, out, epochs=3)
    for path in (out / "model").rglob("*"):
        path.unlink() if path.is_file() else None
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
    with started(corpus, tmp_path / "full", before=limit, checkpoint_steps=2) as process:
        output = process.stderr.read()
    assert process.returncode == 1
    assert "OutputError" in output.splitlines()[-1]
    assert "the last complete checkpoint is kept" in output.splitlines()[-1]
    assert not [path for path in (tmp_path / "full").rglob("*") if path.name.endswith(".part")]


KILLED = """
import os, signal
from alm_proxies.training.run_log import RunLog
write = RunLog.write
def killed(self, kind, step, **values):
    write(self, kind, step, **values)
    if step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)
RunLog.write = killed
"""


@pytest.mark.parametrize("step", [2, 7])
def test_heads_above_a_frozen_encoder_go_on_from_a_checkpoint_with_the_same_losses(
    corpus: Corpus, tmp_path: Path, step: int
) -> None:
    """Their steps are too short to be killed from outside at a step that is known."""
    whole = fit(corpus, tmp_path / "whole", epochs=4, freeze=True, deterministic=True)
    changes = {"epochs": 4, "freeze": True, "deterministic": True, "checkpoint_steps": 1}
    with started(corpus, tmp_path / "out", before=KILLED.replace("STEP", str(step)), **changes) as process:
        output = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, output
    assert [number for number, _ in curve(tmp_path / "out")] == list(range(1, step + 1))
    done = fit(corpus, tmp_path / "out", **changes)
    np.testing.assert_allclose(done.epochs["loss"], whole.epochs["loss"], rtol=1e-5)
    assert len(curve(tmp_path / "out")) == len(curve(tmp_path / "whole"))


def test_other_labels_are_not_gone_on_with(corpus: Corpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "out", epochs=1)
    shares = [f"p_{label}" for label in LABELS]
    turned = corpus.labels.frame.with_columns(pl.col(share).reverse() for share in shares)
    settings = small_settings(corpus.encoder, epochs=1)
    other = Labels.of(turned, about=corpus.labels.about)
    with pytest.raises(InputError, match="other settings, labels, utterances or recordings"):
        train(other, corpus.utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True)


def test_touched_recordings_are_gone_on_with_and_changed_ones_are_not(corpus: Corpus, tmp_path: Path) -> None:
    wav = tmp_path / "corpus" / "wav"
    shutil.copytree(Path(corpus.utterances.about.roots["tones"]) / "wav", wav)
    about = corpus.utterances.about.with_(roots={"tones": str(wav.parent)})
    settings = small_settings(corpus.encoder, epochs=1)

    def train_here() -> Trained:
        moved = Utterances.of(corpus.utterances.frame, about=about)
        return train(corpus.labels, moved, tmp_path / "out", settings, votes=corpus.votes, quiet=True)

    first = train_here()
    for path in wav.iterdir():
        os.utime(path, ns=(1, 1))
    assert train_here().epochs.equals(first.epochs)
    changed = next(wav.iterdir())
    changed.write_bytes(changed.read_bytes()[:-2] + b"\1\2")
    with pytest.raises(InputError, match="other settings, labels, utterances or recordings"):
        train_here()


def test_in_a_pipeline_a_finished_training_with_other_settings_begins_anew(corpus: Corpus, tmp_path: Path) -> None:
    tables = {"labels": corpus.labels, "utterances": corpus.utterances, "votes": corpus.votes}
    for name, table in tables.items():
        table.write(tmp_path / f"{name}.parquet")

    def trained(epochs: int) -> Record:
        settings = small_settings(corpus.encoder, epochs=epochs).model_dump(mode="json", by_alias=True)
        inputs = {name: [str(tmp_path / f"{name}.parquet")] for name in tables}
        folder = str(tmp_path / "train")
        return do(Task(stage="train", folder=folder, settings=settings, inputs=inputs, outputs={}), quiet=True)

    trained(1)
    assert not trained(2).skipped
    assert trained(2).skipped
    model = next((tmp_path / "train" / "model").rglob("*.safetensors"))
    weights = model.read_bytes()
    checkpoints = tmp_path / "train" / "checkpoints"
    next(checkpoints.glob("best-*")).write_bytes(b"damaged")
    assert trained(2).skipped, "it does not need them"
    for _ in range(2):  # from no checkpoints, as the one is damaged, and from whole ones
        model.unlink()
        assert "is missing" in trained(2).because
        assert model.read_bytes() == weights
    shutil.rmtree(checkpoints)
    assert trained(2).skipped


def test_a_damaged_checkpoint_is_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "out", epochs=1)
    (kept,) = (tmp_path / "out/checkpoints").glob("step-*")
    for name in ("model.safetensors", "state.json"):
        (kept / name).write_bytes((kept / name).read_bytes()[:20])
        with pytest.raises(InputError, match="is a damaged checkpoint"):
            fit(corpus, tmp_path / "out", epochs=1)


def test_a_checkpoint_of_which_one_byte_was_changed_is_not_gone_on_with(corpus: Corpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "out", epochs=1)
    (weights,) = (tmp_path / "out/checkpoints").glob("step-*/model.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="is a damaged checkpoint"):
        fit(corpus, tmp_path / "out", epochs=1)
    weights.write_bytes(content)
    fit(corpus, tmp_path / "out", epochs=1)


def test_other_recordings_are_not_gone_on_with(corpus: Corpus, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    audio = corpus.utterances.frame["audio"].to_list()
    roots = corpus.utterances.about.roots
    for name, of in zip(audio, corpus.utterances.frame["corpus"], strict=True):
        (copies / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(roots.get(of, "")) / name, copies / name)
    about = corpus.utterances.about.with_(roots=dict.fromkeys(corpus.utterances.frame["corpus"], str(copies)))
    own, settings = Utterances(corpus.utterances.frame, about), small_settings(corpus.encoder, epochs=1)
    train(corpus.labels, own, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    shutil.copy(copies / audio[1], copies / audio[0])
    with pytest.raises(InputError, match="or recordings"):
        train(corpus.labels, own, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
