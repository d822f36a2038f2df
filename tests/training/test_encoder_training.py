from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from forked import Forked
from small_corpus import LABELS, small_settings
from wording import Wording

from alm_proxies.audio.clip import Clip
from alm_proxies.errors import EngineError, InputError, SettingsError
from alm_proxies.models.trained import TrainedModel
from alm_proxies.pipeline.perform import Task
from alm_proxies.pipeline.task import Record, do
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances
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
    return Forked(script, str(corpus.folder), str(out), str(corpus.encoder), json.dumps(changes))


def fit(corpus: Corpus, out: Path, **changes: Any) -> Trained:
    settings = small_settings(corpus.encoder, **changes)
    return train(corpus.labels, corpus.utterances, out, settings, votes=corpus.votes, quiet=True)


def curve(out: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_lines(out) if line["kind"] == "step"]


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A training that nothing interrupts."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes it is compared with
    out = tmp_path_factory.mktemp("whole") / "out"
    done = fit(corpus, out, dropout=0.2)
    torch.set_num_threads(threads)
    return done, out


def test_it_learns_and_what_it_saved_predicts_the_same(corpus: Corpus, tmp_path: Path) -> None:
    done = fit(corpus, tmp_path / "out", epochs=12)
    prior = -sum(p * np.log(p) for p in corpus.labels.distributions().mean(0))
    assert done.epochs["nll_per_vote"].min() < prior - 0.25  # type: ignore[operator]  # a number
    model = TrainedModel.load(done.folder, device="cpu")
    assert model.labels == LABELS
    splits = ["split:development", "split:train"]
    assert model.file.trained_on == {"tones": [*splits, *(f"tones/s{number}" for number in range(8))]}
    assert model.file.calibration.votes == 36
    measured = model.file.measured
    assert measured is not None
    assert measured.corpus == "tones, development speakers"
    assert measured.takes_off > 0.15


def test_heads_saved_before_they_were_standardised_are_read(whole: tuple[Trained, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(whole[0].folder, tmp_path / "older"))
    weights = load_file(folder / "heads.safetensors")
    del weights["centre"], weights["spread"]
    save_file(weights, folder / "heads.safetensors")
    stated = json.loads((folder / "model.json").read_text())
    older = {key: value for key, value in stated.items() if key not in ("files", "digest")}
    (folder / "model.json").write_text(json.dumps(older))
    model = TrainedModel.load(folder, device="cpu")
    assert model.model.heads.centre.abs().max() == 0
    assert model.model.heads.spread.min() == model.model.heads.spread.max() == 1


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


def test_any_micro_batch_has_the_losses_of_the_whole_batch(corpus: Corpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "whole", dropout=0.0, epochs=2)
    fit(corpus, tmp_path / "parts", dropout=0.0, epochs=2, micro_batch=3, padding=0.02)
    parts, together = curve(tmp_path / "parts"), curve(tmp_path / "whole")
    np.testing.assert_allclose([loss for _, loss in parts], [loss for _, loss in together], rtol=2e-4)


def test_a_loss_that_is_no_number_ends_it_and_the_checkpoint_stays(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"not finite|is nan|is inf") as caught:
        fit(corpus, tmp_path / "out", learning_rate=1e30, clip=1e30, checkpoint_steps=1)
    assert "Lower learning_rate" in str(caught.value)
    kept = list((tmp_path / "out/checkpoints").glob("step-*"))
    assert len(kept) == 1
    assert kept[0].name == f"step-{curve(tmp_path / 'out')[-1][0]}"


def test_recordings_that_turn_out_broken_are_findings_and_training_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    wav = tmp_path / "wav"
    wav.mkdir()
    for path in (corpus.folder / "wav").iterdir():
        (wav / path.name).write_bytes(path.read_bytes())
    (wav / "002.wav").write_bytes((wav / "002.wav").read_bytes()[:2000])
    (wav / "005.wav").write_text("no sound")
    (wav / "047.wav").unlink()
    moved = Utterances.of(corpus.utterances.frame, about=corpus.utterances.about.with_(roots={"tones": str(tmp_path)}))
    done = train(corpus.labels, moved, tmp_path / "out", small_settings(corpus.encoder), votes=corpus.votes, quiet=True)
    unusable = done.findings.frame.filter(pl.col("utterance_id").is_not_null()).sort("utterance_id")
    assert unusable["utterance_id"].to_list() == ["tones/002", "tones/005", "tones/047"]
    assert (done.folder / "model.json").is_file()


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


OUT_OF_MEMORY = """
import resource
import torch
from alm_proxies.training import encoder, recipes
import transformers
from alm_proxies.training.objective import Objective
made = Objective.of.__func__
def of(cls, *given, **named):
    size = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    return made(cls, *given, **named)
Objective.of = classmethod(of)
"""


def test_out_of_memory_halves_the_batch_and_keeps_the_losses(corpus: Corpus, tmp_path: Path) -> None:
    import soundfile

    long = tmp_path / "long"
    (long / "wav").mkdir(parents=True)
    for path in (corpus.folder / "wav").iterdir():
        samples, rate = soundfile.read(path)
        soundfile.write(long / "wav" / path.name, np.resize(samples, 12 * rate), rate)
    about = corpus.utterances.about.with_(roots={"tones": str(long)})
    Utterances.of(corpus.utterances.frame, about=about).write(long / "utterances.parquet")
    corpus.labels.write(long / "labels.parquet")
    corpus.votes.write(long / "votes.parquet")
    from dataclasses import replace

    small = replace(corpus, folder=long)
    before = OUT_OF_MEMORY.replace("ROOM", str(600 * 2**20))
    with started(small, tmp_path / "out", before=before, batch=32, epochs=1, dropout=0.0, keep_decoded=0) as process:
        output = process.stderr.read()
    assert process.returncode == 0, output
    assert "memory ran out" in output
    with started(small, tmp_path / "roomy", batch=32, epochs=1, dropout=0.0) as process:
        output = process.stderr.read()
    assert "memory ran out" not in output
    got, wanted = curve(tmp_path / "out"), curve(tmp_path / "roomy")
    np.testing.assert_allclose([loss for _, loss in got], [loss for _, loss in wanted], rtol=1e-4)
    assert len(got) == 2


ONLY_THIS_MACHINE = """
import os, socket
connect = socket.socket.connect
def guarded(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
        os.write(2, f"CONNECTS TO {address}".encode())
        raise OSError("no network")
    return connect(self, address)
socket.socket.connect = guarded
lookup = socket.getaddrinfo
def looked_up(host, *rest, **named):
    if host not in (None, "localhost", "127.0.0.1", "0.0.0.0", "::1", b"localhost", b"127.0.0.1", ""):
        os.write(2, f"LOOKS UP {host}".encode())
        raise OSError("no network")
    return lookup(host, *rest, **named)
socket.getaddrinfo = looked_up
"""


def test_trackio_keeps_every_step_on_this_machine_and_asks_nobody(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    with started(
        corpus, tmp_path / "out", before=ONLY_THIS_MACHINE, epochs=2, freeze=True, tracker="trackio"
    ) as process:
        output = process.stderr.read()
    assert process.returncode == 0, output
    assert "CONNECTS TO" not in output
    assert "LOOKS UP" not in output
    (kept,) = (tmp_path / "trackio").glob("*.db")
    with closing(sqlite3.connect(kept)) as database:
        lines = [json.loads(line) for (line,) in database.execute("select metrics from metrics")]
    losses = [line["step/loss"] for line in lines if "step/loss" in line]
    assert losses == pytest.approx([loss for _, loss in curve(tmp_path / "out")])


def test_a_frozen_encoder_stays_and_the_tracker_hears_of_every_step(corpus: Corpus, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    done = fit(corpus, tmp_path / "out", epochs=2, freeze=True, tracker="tensorboard")
    before = load_file(str(corpus.encoder / "model.safetensors"))
    after = load_file(str(done.folder / "encoder/model.safetensors"))
    assert all((before[name] == weight).all() for name, weight in after.items())
    assert done.epochs["loss"][1] < done.epochs["loss"][0]
    assert list((tmp_path / "out/tracking").rglob("events.out.tfevents.*"))


def test_a_frozen_encoder_hears_every_clip_once_and_learns_as_if_it_heard_them_in_every_epoch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm_proxies.models.encoder import Encoder
    from alm_proxies.training import encoder

    heard: list[int] = []
    forward = Encoder.forward

    def counted(self: Any, inputs: Any) -> Any:
        heard.append(len(inputs.values))
        return forward(self, inputs)

    monkeypatch.setattr(Encoder, "forward", counted)
    changes = {"epochs": 4, "freeze": True, "dropout": 0.0, "attributes": {"weight": 0.3}}
    once = fit(corpus, tmp_path / "once", **changes)
    assert sum(heard) == len(corpus.utterances)
    monkeypatch.setattr(encoder, "encodes_once", lambda *_: False)
    again = fit(corpus, tmp_path / "again", **changes)
    assert sum(heard) > 5 * len(corpus.utterances)
    np.testing.assert_allclose(once.epochs["loss"], again.epochs["loss"], rtol=1e-4)
    np.testing.assert_allclose(once.epochs["nll_per_vote"], again.epochs["nll_per_vote"], rtol=1e-4)  # type: ignore[arg-type]
    clips = [Clip(np.sin(np.arange(12_000) * pitch).astype(np.float32), 16_000) for pitch in (0.1, 0.5)]
    first, second = (TrainedModel.load(done.folder, device="cpu").distributions(clips) for done in (once, again))
    np.testing.assert_allclose(first, second, atol=1e-3)


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


def test_a_tracker_that_there_is_not_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no tracker 'magic'"):
        fit(corpus, tmp_path / "out", tracker="magic")


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


def test_the_page_draws_learning_and_curriculum_and_lists_findings(
    corpus: Corpus, tmp_path: Path, wording: Wording
) -> None:
    none = corpus.utterances.frame.with_columns(split=pl.lit(None, dtype=pl.String))
    table = Utterances.of(none, about=corpus.utterances.about)
    curriculum = {"kind": "weight", "from": 2.0, "to": 0.0}
    settings = small_settings(corpus.encoder, epochs=2, curriculum=curriculum)
    train(corpus.labels, table, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    page = (tmp_path / "out/report.html").read_text()
    wording.page(page)
    assert 'id="learning"' in page
    assert 'id="curriculum"' in page
    assert "In the first epoch the mean weights are" in page
    assert "development set aside" in page
    assert "nats a human vote" in page
