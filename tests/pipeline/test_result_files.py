"""A stage whose result lost or changed a file in a sub-folder runs again; equal content elsewhere does not matter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from alm_proxies import cache
from alm_proxies.pipeline import result_files
from alm_proxies.pipeline.perform import Task
from alm_proxies.pipeline.result_files import compared, digest_of_files, files_of
from alm_proxies.pipeline.task import content_of, do, will_run
from alm_proxies.stages.registry import stage_of

TRAIN = stage_of("train")


def simulate(folder: Path) -> Task:
    settings = {"utterances": 12, "speakers": 12, "dense": 2}
    return Task("simulate", str(folder), settings)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    do(simulate(tmp_path / "simulate"), quiet=True)
    return tmp_path / "simulate"


def test_a_deleted_recording_is_spoken_again(corpus: Path) -> None:
    lost = corpus / "wav" / "000003.wav"
    intact = lost.read_bytes()
    lost.unlink()
    assert str(will_run(simulate(corpus))) == "runs again because wav/000003.wav is missing"
    assert not do(simulate(corpus), quiet=True).skipped
    assert lost.read_bytes() == intact
    assert will_run(simulate(corpus)) is None


def test_a_replaced_recording_is_not_kept(corpus: Path) -> None:
    replaced = corpus / "wav" / "000003.wav"
    intact = replaced.read_bytes()
    replaced.write_bytes(intact[:-400] + bytes(400))
    assert str(will_run(simulate(corpus))) == "runs again because wav/000003.wav has changed"
    do(simulate(corpus), quiet=True)
    assert replaced.read_bytes() == intact


def test_features_are_in_the_cache_whose_loss_is_no_reason_to_run_again(tmp_path: Path) -> None:
    do(Task("simulate", str(tmp_path / "simulate"), {"utterances": 24, "speakers": 12, "dense": 2}), quiet=True)
    inputs = {name: [str(tmp_path / "simulate" / f"{name}.parquet")] for name in ("utterances", "votes")}
    head = {"hidden": 8, "epochs": 2, "seeds": 1, "components": 8}
    listen = Task("listen", str(tmp_path / "listen"), {"folds": 3, "head": head}, inputs=inputs)
    do(listen, quiet=True)
    assert not (tmp_path / "listen/features").exists()
    (features,) = (kept for kept in cache.clear() if kept.kind == "features")
    assert features.files == 1
    assert do(listen, quiet=True).skipped


def test_several_lost_files_are_counted(corpus: Path) -> None:
    shutil.rmtree(corpus / "wav")
    assert str(will_run(simulate(corpus))) == "runs again because wav/000001.wav and 11 more are missing"


def test_a_copy_with_other_times_is_unchanged_and_read_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy, copy_function=shutil.copyfile)
    for path in copy.rglob("*.wav"):
        os.utime(path, ns=(1, 1))
    assert do(simulate(copy), quiet=True).skipped
    read: list[Path] = []
    monkeypatch.setattr(result_files, "digest_file", read.append)
    assert do(simulate(copy), quiet=True).skipped
    assert not read, "files of the recorded size and time are not read"


def test_a_model_of_any_size_is_compared_by_content(tmp_path: Path) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    with weights.open("wb") as stream:
        stream.truncate(20 * 2**20)
    files = files_of(TRAIN, tmp_path)
    os.utime(weights, ns=(1, 1))
    assert compared(tmp_path, files).lost == ()
    with weights.open("r+b") as stream:
        stream.seek(10 * 2**20)
        stream.write(b"x")
    assert compared(tmp_path, files).reason == "model/model.safetensors has changed"
    weights.unlink()
    assert compared(tmp_path, files).reason == "model/model.safetensors is missing"


def test_what_a_stage_works_with_is_no_result(tmp_path: Path) -> None:
    for name in ("features/a/b.parquet", "model/heads.npz", "checkpoints/step-2/state.json", "stage.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert set(files_of(TRAIN, tmp_path)) == {"model/heads.npz", "checkpoints/step-2/state.json"}


def test_a_finished_training_does_not_need_its_checkpoints(tmp_path: Path) -> None:
    for name in ("model/heads.npz", "checkpoints/step-2/state.json", "checkpoints/best/heads.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = files_of(TRAIN, tmp_path)
    before = digest_of_files(files)
    (tmp_path / "checkpoints/best/heads.npz").write_text("damaged")
    shutil.rmtree(tmp_path / "checkpoints/step-2")
    now = compared(tmp_path, files, TRAIN.resumes_from)
    assert (now.lost, now.reason) == ((), None)
    assert set(now.unresumable) == {"checkpoints/step-2/state.json", "checkpoints/best/heads.npz"}
    assert digest_of_files(now.now) == before, "the model is the same for what predicts with it"
    (tmp_path / "model/heads.npz").unlink()
    assert compared(tmp_path, files, TRAIN.resumes_from).reason == "model/heads.npz is missing"


def test_the_content_of_a_model_is_that_of_its_files(corpus: Path, tmp_path: Path) -> None:
    before = content_of(corpus)
    assert before == digest_of_files(files_of(stage_of("simulate"), corpus))
    (corpus / "wav" / "note.txt").write_text("of a reader")
    os.utime(corpus / "wav" / "000003.wav", ns=(1, 1))
    assert content_of(corpus) == before
    (corpus / "wav" / "000003.wav").unlink()
    assert content_of(corpus) != before
