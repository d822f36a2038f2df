from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from forked import TORCH, Forked

from alm_proxies.about import About
from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.audio.effects import apply
from alm_proxies.audio.folder import recordings_in
from alm_proxies.audio.recipe import CONDITIONS
from alm_proxies.cli.app import run
from alm_proxies.errors import InputError
from alm_proxies.models.trained import TrainedModel, read_trained
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from small_corpus import LABELS, small_settings, tiny_encoder


@pytest.fixture(scope="module")
def trained(corpus: tuple[Path, Utterances, Votes, Labels]) -> Path:
    folder, utterances, votes, labels = corpus
    settings = small_settings(tiny_encoder(folder / "encoder"), epochs=8, attributes={"weight": 0.3})
    return train(labels, utterances, folder / "out", settings, votes=votes, quiet=True).folder


def test_predictions_are_labels_with_strength_attributes_and_abstention(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path
) -> None:
    predicted = predict(trained, corpus[1])
    labels = predicted.labels
    assert labels.taxonomy == LABELS
    assert labels.frame["utterance_id"].to_list() == corpus[1].frame["utterance_id"].sort().to_list()
    wanted = corpus[3].distributions()
    assert np.abs(labels.distributions() - wanted).mean() < 0.15
    assert labels.frame["concentration"].null_count() == 0
    assert labels.frame["human_votes"].sum() == 0
    assert labels.frame["arousal"].null_count() == 0
    assert labels.frame["valence"].null_count() == len(labels), "training knew no valence"
    assert labels.frame["abstain"].dtype == pl.Boolean
    assert 0 < labels.frame["abstain"].mean() < 0.5  # type: ignore[operator]  # a number
    assert np.abs(labels.frame["arousal"].to_numpy() - corpus[3].frame["arousal"].to_numpy()).mean() < 0.2


def test_neither_batch_nor_order_nor_threads_change_a_prediction(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path
) -> None:
    single = predict(trained, corpus[1], PredictSettings(batch=1, threads=1)).labels
    many = predict(trained, corpus[1], PredictSettings(batch=7)).labels
    np.testing.assert_allclose(single.distributions(), many.distributions(), atol=1e-5)
    backwards = Utterances.of(corpus[1].frame.reverse(), about=corpus[1].about)
    again = predict(trained, backwards, PredictSettings(batch=7)).labels
    np.testing.assert_allclose(again.distributions(), many.distributions(), atol=1e-5)


def test_worse_sound_is_predicted_from_the_recording_changed_the_same_way_every_time(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path
) -> None:
    plain = predict(trained, corpus[1]).labels
    changes = {}
    for condition in CONDITIONS:
        settings = PredictSettings.model_validate({"condition": condition})
        labels = predict(trained, corpus[1], settings).labels
        again = predict(trained, corpus[1], settings).labels
        np.testing.assert_array_equal(labels.distributions(), again.distributions())
        assert labels.about.made_by is not None
        assert labels.about.made_by.settings["condition"] == condition
        changes[condition] = np.abs(labels.distributions() - plain.distributions()).mean()
    assert min(changes.values()) > 0.001, changes


def test_predictions_say_what_their_model_was_trained_on(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path, tmp_path: Path
) -> None:
    labels = predict(trained, corpus[1]).labels
    labels.write(tmp_path / "labels.parquet")
    kept, findings = without_trained_on(Labels.read(tmp_path / "labels.parquet"), corpus[1], stage="evaluate")
    assert len(kept) == 0
    assert findings[0].count == 48
    others = Utterances.of(corpus[1].frame.with_columns(speaker=pl.lit("tones/new")), about=corpus[1].about)
    assert without_trained_on(labels, others, stage="evaluate") == (labels, [])


def test_a_clip_too_long_for_the_model_is_a_finding_with_the_setting_that_decides(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path, tmp_path: Path
) -> None:
    from alm_proxies.training.settings import TrainSettings

    folder, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=2, hidden=16)
    measured = train(labels, utterances, tmp_path / "out", settings, votes=votes, quiet=True).folder
    longer = tmp_path / "longer"
    longer.mkdir()
    samples = open_clip(folder / "wav/000.wav").samples
    soundfile.write(longer / "long.wav", np.resize(samples, 31 * 16_000), 16_000)
    soundfile.write(longer / "longer.wav", np.resize(samples, 301 * 16_000), 16_000, format="FLAC")
    (longer / "short.wav").write_bytes((folder / "wav/000.wav").read_bytes())
    fixes = []
    for model in (trained, measured):
        rows = predict(model, longer).findings.frame.filter(pl.col("kind") == "too_long")
        fixes.append(dict(zip(rows["utterance_id"], rows["fix"], strict=True)))
    longest = "Give start and end of the utterance, or train with a larger longest (--longest)."
    assert fixes[0] == {"longer/long": longest, "longer/longer": longest}
    assert fixes[1] == {"longer/longer": "Give start and end of the utterance."}, "it hears what it is trained on"


def test_a_folder_of_recordings_is_predicted_by_path_and_bad_ones_are_findings(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "calls"
    (folder / "monday").mkdir(parents=True)
    for number in range(3):
        (folder / f"monday/{number}.wav").write_bytes((corpus[0] / f"wav/00{number}.wav").read_bytes())
    (folder / "broken.wav").write_text("none")
    (folder / "notes.txt").write_text("none")
    predicted = predict(str(trained), folder)
    assert predicted.labels.frame["utterance_id"].to_list() == [f"calls/monday/{number}" for number in range(3)]
    assert predicted.findings.counts() == {"not_audio": 1}
    assert predicted.counts == {"recordings": 4, "left_out": 1}
    command = ["predict", str(trained), str(folder), "-o", str(tmp_path / "p.parquet"), "--quiet"]
    assert (run(command), run([*command, "--max-left-out", "0.25"])) == (1, 0)
    np.testing.assert_allclose(
        predicted.labels.distributions(), predict(trained, corpus[1]).labels.distributions()[:3], atol=1e-5
    )
    assert len(recordings_in(folder)) == 4


def test_recordings_of_a_folder_have_the_ids_that_readers_give_unless_two_would_be_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    (folder / "others").mkdir(parents=True)
    for name in (
        "X.ogg",
        "others/X.ogg",
        "others/Y.wav",
        "others/Y.flac",
        "others/Z.b.wav",
        "others/W.wav.ogg",
        "others/W.wav",
        "others/._Y.wav",
    ):
        (folder / name).write_text("a recording")
    frame = recordings_in(folder).frame
    assert dict(zip(frame["audio"], frame["utterance_id"], strict=True)) == {
        "X.ogg": "calls/X",
        "others/X.ogg": "calls/others/X",
        "others/Y.wav": "calls/others/Y.wav",
        "others/Y.flac": "calls/others/Y.flac",
        "others/Z.b.wav": "calls/others/Z.b",
        "others/W.wav": "calls/others/W",
        "others/W.wav.ogg": "calls/others/W.wav.ogg",
    }


def test_no_clip_at_all_is_an_error_of_one_sentence(trained: Path) -> None:
    with pytest.raises(InputError, match="there is no clip"):
        TrainedModel.load(trained, device="cpu").distributions([])


def test_evidence_names_the_seconds_and_the_prosody_that_move_it(
    corpus: tuple[Path, Utterances, Votes, Labels], trained: Path, tmp_path: Path
) -> None:
    rate = 16_000
    time = np.arange(rate) / rate
    chance = np.random.default_rng(0)
    high, low = (0.2 * np.sin(2 * np.pi * hertz * time) for hertz in (2400.0, 250.0))
    clip = Clip((np.concatenate([high, low]) + 0.005 * chance.standard_normal(2 * rate)).astype(np.float32), rate)
    model = TrainedModel.load(trained, device="cpu")
    evidence = model.evidence(clip)
    assert len(evidence.seconds) >= 4
    assert {change.what for change in evidence.prosody} >= {"pitch 2 semitones lower", "tempo 15 % slower"}
    for moved in (evidence.seconds, evidence.prosody):
        assert [change.distance for change in moved] == sorted((change.distance for change in moved), reverse=True)
        assert all(0 <= change.distance <= 1 and change.gains in LABELS and change.loses in LABELS for change in moved)
    lower = apply("pitch", clip.samples.astype(np.float64), rate, {"semitones": -2.0}, chance).astype(np.float32)
    whole, other = model.distributions([clip, Clip(lower, rate)])
    pitched = next(change for change in evidence.prosody if change.what == "pitch 2 semitones lower")
    assert pitched.distance == pytest.approx(np.abs(whole - other).sum() / 2, abs=1e-5)
    assert pitched.loses == LABELS[int((other - whole).argmin())]
    written = predict(trained, corpus[1], PredictSettings(evidence=True)).labels.frame["evidence"]
    first: dict[str, list[dict[str, Any]]] = json.loads(written[0])
    assert set(first) == {"seconds", "prosody"}
    assert set(first["prosody"][0]) == {"what", "moves", "gains", "loses"}


def test_it_loads_in_one_line_and_says_what_it_cannot_take(trained: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(trained.parent, device="cpu")
    silence = Clip(np.full(160, 0.1, dtype=np.float32), 16_000)
    with pytest.raises(InputError, match=r"lasts 0\.01 s"):
        model.distributions([silence])
    with pytest.raises(InputError, match="8000 Hz"):
        model.distributions([Clip(np.full(8000, 0.1, dtype=np.float32), 8000)])
    with pytest.raises(InputError, match="has no trained model"):
        TrainedModel.load(tmp_path)
    with pytest.raises(InputError, match="has no recordings"):
        predict(model, tmp_path)
    with pytest.raises(InputError, match="utterances: has no rows"):
        predict(model, Utterances.of(pl.DataFrame(schema={"utterance_id": pl.String})))
    (tmp_path / "model.json").write_text('{"recipe": "magic"}')
    with pytest.raises(InputError, match="cannot be understood"):
        read_trained(tmp_path)


def test_its_card_is_one_that_the_hub_reads(trained: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(trained / "README.md")
    card.validate = lambda: None  # type: ignore[method-assign]  # it would ask the hub
    data = card.data.to_dict()
    speakers = [f"tones/s{number}" for number in range(8)]
    assert data["trained_on"] == [{"corpus": "tones", "speakers": speakers}]
    assert data["library_name"] == "alm-proxies"
    results = card.data.eval_results
    assert results is not None
    assert {result.metric_type for result in results} >= {"nll_per_vote", "cross_entropy"}


def test_train_and_predict_are_commands(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, utterances, votes, labels = corpus
    for name, table in (("utterances", utterances), ("votes", votes), ("labels", labels)):
        table.write(tmp_path / f"{name}.parquet")
    model = str(tiny_encoder(tmp_path / "encoder", "whisper"))
    program = tmp_path / "program.py"
    program.write_text("import sys\nfrom alm_proxies.cli.start import main\nsys.exit(main())\n")
    source = ["--utterances", "utterances.parquet", "--votes", "votes.parquet", "--recipe", "encoder", "--model", model]
    for command in (
        ["train", "labels.parquet", *source, "--epochs", "1", "--quiet", "-o", "model"],
        ["predict", "model", "utterances.parquet", "--quiet", "-o", "a.parquet"],
        ["predict", "model", str(folder / "wav"), "--quiet", "-o", "b.parquet"],
    ):
        done = Forked.done(program, *command, imported=TORCH)
        assert done.returncode == 0, done.stderr
    first, second = (Labels.read(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert len(first) == len(second) == 48
    np.testing.assert_allclose(first.distributions(), second.distributions(), atol=1e-5)


def test_the_real_encoder_is_fine_tuned_on_real_speech(test_data: Path, tmp_path: Path) -> None:
    encoder = test_data.parent / "models/whisper_tiny_en_encoder"
    wavs = sorted((test_data / "crema_d/AudioWAV").glob("*.ogg"))
    if not encoder.is_dir() or not wavs:
        pytest.skip("needs models/whisper_tiny_en_encoder and crema_d/AudioWAV beside the test data")
    chosen = [path for path in wavs if path.stem.split("_")[2] in ("ANG", "SAD")][:: max(1, len(wavs) // 150)][:16]
    stems = [path.stem.split("_") for path in chosen]
    frame = pl.DataFrame(
        {
            "utterance_id": [f"crema_d/{path.stem}" for path in chosen],
            "corpus": "crema_d",
            "audio": [path.name for path in chosen],
            "speaker": [parts[0] for parts in stems],
        }
    )
    about = About(taxonomy=("angry", "sad"), roots={"crema_d": str(wavs[0].parent)})
    angry = [float(parts[2] == "ANG") for parts in stems]
    labels = Labels.of(
        pl.DataFrame(
            {"utterance_id": frame["utterance_id"], "p_angry": angry, "p_sad": [1 - share for share in angry]}
        ),
        about=about,
    )
    settings = small_settings(encoder, epochs=3, batch=3, learning_rate=2e-2, backbone_rate=1e-4, development=0.25)
    done = train(labels, Utterances.of(frame, about=about), tmp_path / "out", settings, quiet=True)
    assert done.epochs["loss"][-1] < 0.8 * done.epochs["loss"][0]
    model = TrainedModel.load(done.folder, device="cpu")
    assert model.file.calibration.method == "none"
    clip = open_clip(chosen[0])
    assert model.distributions([clip]).shape == (1, 2)
