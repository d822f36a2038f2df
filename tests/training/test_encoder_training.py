from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from small_corpus import LABELS, small_settings
from wording import Wording

from alm_proxies.audio.clip import Clip
from alm_proxies.errors import EngineError, InputError, SettingsError
from alm_proxies.models.trained import TrainedModel
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances

if TYPE_CHECKING:
    from conftest import Corpus
from own_process import curve, fit, started


def test_it_learns_and_what_it_saved_predicts_the_same(corpus: Corpus, tmp_path: Path) -> None:
    done = fit(corpus, tmp_path / "out", epochs=12)
    prior = -sum(p * np.log(p) for p in corpus.labels.distributions().mean(0))
    assert done.epochs["nll_per_vote"].min() < prior - 0.25  # type: ignore[operator]  # a number
    model = TrainedModel.load(done.folder, device="cpu")
    assert model.labels == LABELS
    assert model.file.trained_on == {"tones": [f"tones/s{number}" for number in range(8)]}
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


def test_layers_are_unfrozen_from_the_highest_that_is_mixed(corpus: Corpus, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    done = fit(corpus, tmp_path / "out", layers=(0, 1), unfreeze=1, epochs=1)
    before, after = (load_file(folder / "model.safetensors") for folder in (corpus.encoder, done.folder / "encoder"))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert {name.partition("layers.")[2][:1] for name in moved} == {"0"}
    assert all(name.startswith("encoder.layers.0.") for name in moved)


def test_attributes_that_no_label_has_cannot_be_learned(corpus: Corpus, tmp_path: Path) -> None:
    without = Labels.of(corpus.labels.frame.drop("arousal"), about=corpus.labels.about)
    settings = small_settings(corpus.encoder, attributes={"weight": 0.3})
    with pytest.raises(InputError, match="no training label has valence, arousal or dominance"):
        train(without, corpus.utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True)


def test_labels_without_an_attribute_that_is_learned_are_counted(corpus: Corpus, tmp_path: Path) -> None:
    of = pl.col("utterance_id").is_in(["tones/000", "tones/001"])
    frame = corpus.labels.frame.with_columns(arousal=pl.when(~of).then("arousal"))
    settings = small_settings(corpus.encoder, attributes={"weight": 0.3}, epochs=1)
    some = Labels.of(frame, about=corpus.labels.about)
    done = train(some, corpus.utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    (finding,) = done.findings.frame.filter(kind="not_learned_from").iter_rows(named=True)
    assert finding["count"] == 2
    assert "arousal" in finding["message"]
    assert (
        "not_learned_from" not in fit(corpus, tmp_path / "all", attributes={"weight": 0.3}, epochs=1).findings.counts()
    )


def test_a_frozen_encoder_has_no_layers_to_unfreeze(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="remove unfreeze"):
        small_settings(corpus.encoder, freeze=True, unfreeze=1)


def test_utterances_without_votes_are_counted_where_the_loss_is_that_of_votes(corpus: Corpus, tmp_path: Path) -> None:
    some = corpus.votes.frame.filter(~pl.col("utterance_id").is_in(["tones/000", "tones/001", "tones/047"]))
    for loss, counted in (("dirichlet_multinomial", {"not_learned_from": 2}), ("kld", {})):
        settings = small_settings(corpus.encoder, loss=loss, epochs=1)
        votes = type(corpus.votes)(some, corpus.votes.about)
        done = train(corpus.labels, corpus.utterances, tmp_path / loss, settings, votes=votes, quiet=True)
        assert done.findings.counts() == counted


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


def test_a_last_step_that_spoils_the_weights_leaves_no_model(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"development speakers is nan after epoch 1; .* Lower learning_rate"):
        fit(corpus, tmp_path / "out", learning_rate=1e30, batch=48, epochs=1)
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize("auxiliary", [(), ("pitch_level",)])
def test_recordings_that_turn_out_broken_are_findings_and_training_goes_on(
    auxiliary: tuple[str, ...], corpus: Corpus, tmp_path: Path
) -> None:
    wav = tmp_path / "wav"
    wav.mkdir()
    for path in (corpus.folder / "wav").iterdir():
        (wav / path.name).write_bytes(path.read_bytes())
    (wav / "002.wav").write_bytes((wav / "002.wav").read_bytes()[:2000])
    (wav / "005.wav").write_text("no sound")
    (wav / "047.wav").unlink()
    moved = Utterances.of(corpus.utterances.frame, about=corpus.utterances.about.with_(roots={"tones": str(tmp_path)}))
    settings = small_settings(corpus.encoder, auxiliary=auxiliary)
    done = train(corpus.labels, moved, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    found = done.findings.frame.filter(~pl.col("message").str.starts_with("not measured"))
    unusable = found.filter(pl.col("utterance_id").is_not_null()).sort("utterance_id")
    assert unusable["utterance_id"].to_list() == ["tones/002", "tones/005", "tones/047"]
    assert (done.folder / "model.json").is_file()


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


def test_a_tracker_that_there_is_not_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no tracker 'magic'"):
        fit(corpus, tmp_path / "out", tracker="magic")


def test_the_page_shows_the_curriculum_of_the_epochs_that_were_run(corpus: Corpus, tmp_path: Path) -> None:
    settings = small_settings(
        corpus.encoder, epochs=9, patience=1, learning_rate=1e-12, backbone_rate=0.0, curriculum={"kind": "filter"}
    )
    done = train(corpus.labels, corpus.utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True).epochs
    assert len(done) < 9
    page = (tmp_path / "out/report.html").read_text()
    figure = page[page.index('<figure id="curriculum">') :].split("</figure>")[0]
    assert figure.split("<tbody>")[1].count("<tr>") == len(done)


def test_the_page_says_what_share_the_curriculum_kept_where_entropies_are_equal(corpus: Corpus, tmp_path: Path) -> None:
    alike = corpus.labels.frame.with_columns(p_angry=1.0, p_neutral=0.0, p_sad=0.0).drop("entropy", "ambiguity")
    labels = Labels.of(alike, about=corpus.labels.about)
    settings = small_settings(corpus.encoder, epochs=1, curriculum={"kind": "reverse_filter"})
    train(labels, corpus.utterances, tmp_path / "out", settings, votes=corpus.votes, quiet=True)
    section = (tmp_path / "out/report.html").read_text().split('<section id="curriculum">')[1].split("<figure")[0]
    assert "100%" in section
    assert "0.5" in section


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
