from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
import soundfile
import torch
from tones_in_noise import LABELS, SHORT, TINY, TINY_ALM, kill_after_an_epoch, recordings

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.audio.places import Places
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.models import tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.windows import short_windows
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.alm_batches import hear
from alm_proxies.training.settings import AlmSettings, TrainSettings

Tones = tuple[Utterances, Labels]


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_it_learns_what_the_labels_say_and_is_asked_as_any_model_is(tones: Tones, trained_on_tones: Trained) -> None:
    last = trained_on_tones.epochs.row(-1, named=True)
    assert last["development"] < last["development_prior"] - 0.2
    assert last["development"] >= last["development_labels"]
    file = AnnotatorFile(
        name="new", engine="transformers", model=str(trained_on_tones.folder), elicit="score", answer="words"
    )
    unheard = tones[0].frame.filter(pl.col("split") == "development")["utterance_id"].to_list()
    clips = [clip for name in unheard if (clip := Sounds(tones[0], stage="test").open(name).clip) is not None]
    shares = Annotator.of(file, taxonomy=LABELS).distribution(clips)
    wanted = tones[1].frame.filter(pl.col("utterance_id").is_in(unheard)).select(pl.col("^p_.*$")).to_numpy()
    assert np.abs(shares - wanted).max() < 0.35
    assert shares.argmax(axis=1).tolist() == wanted.argmax(axis=1).tolist()


def test_short_windows_hear_what_30_seconds_hear(tones: Tones, trained_on_tones: Trained, tmp_path: Path) -> None:
    lm = AudioLM.load(trained_on_tones.folder, device="cpu")
    heard, _ = hear(tones[0], tones[0].frame["utterance_id"].to_list()[:3], lm.inputs, tmp_path, quiet=True)
    for row in range(3):
        clip = Sounds(tones[0], stage="test").open(heard.ids[row]).clip
        assert clip is not None
        inputs = lm.inputs.batch([[("user", [clip.samples, "?"])]])
        with torch.inference_mode():
            whole = lm.model(**inputs).logits[:, -1].log_softmax(-1)
            with short_windows(lm.model) as hearing:
                frames = -(-len(heard.frames(row)) // 50) * 50
                hearing.set(frames)
                short = {name: value[..., :frames] if "feature" in name else value for name, value in inputs.items()}
                cut = lm.model(**short).logits[:, -1].log_softmax(-1)
            again = lm.model(**inputs).logits[:, -1].log_softmax(-1)
        torch.testing.assert_close(cut, whole, atol=1e-4, rtol=0)
        assert torch.equal(again, whole)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_killed_after_an_epoch_it_ends_with_the_same_model(
    optimizer: Literal["adamw", "muon"], few: Tones, tmp_path: Path
) -> None:
    settings = TINY.model_copy(update={"alm": TINY_ALM.model_copy(update={"optimizer": optimizer})})
    whole = train(few[1], few[0], tmp_path / "whole", settings, quiet=True)
    kill_after_an_epoch(*few, tmp_path, settings)
    assert not (tmp_path / "out" / "model").exists()
    resumed = train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    assert resumed.epochs.equals(whole.epochs)
    assert weights_of(resumed.folder) == weights_of(whole.folder)
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert kept == [f"best-{int(whole.epochs['score'].arg_min() or 0) + 1}.safetensors", "step-3"]


def test_another_training_is_not_gone_on_with(few: Tones, tmp_path: Path) -> None:
    once = TINY.model_copy(update={"epochs": 1})
    train(few[1], few[0], tmp_path, once, quiet=True)
    with pytest.raises(InputError, match="other settings, labels, utterances or recordings"):
        train(few[1], few[0], tmp_path, once.model_copy(update={"seed": 4}), quiet=True)


@pytest.mark.parametrize("change", ["splits", "votes", "concentration"])
def test_other_development_rows_votes_or_strengths_are_another_training(
    change: str, few: Tones, tmp_path: Path
) -> None:
    once = TINY.model_copy(update={"epochs": 1, "concentration_half": 1.0})
    utterances, (frame, about) = few[0], (few[1].frame, few[1].about)
    strong = Labels.of(frame.with_columns(concentration=pl.lit(5.0)), about=about)
    cast = pl.DataFrame({"utterance_id": frame["utterance_id"], "annotator": "tones/a", "label": "sad"})
    votes = Votes.of(cast, about=about)
    train(strong, utterances, tmp_path, once, votes=votes, quiet=True)
    labels = strong
    if change == "splits":
        exchanged = pl.col("split").replace({"train": "development", "development": "train"})
        utterances = Utterances.of(utterances.frame.with_columns(exchanged), about=about)
    elif change == "votes":
        votes = Votes.of(cast.with_columns(label=pl.lit("angry")), about=about)
    else:
        rising = pl.int_range(1, pl.len() + 1).cast(pl.Float64)
        labels = Labels.of(frame.with_columns(concentration=rising), about=about)
    with pytest.raises(InputError, match="other settings, labels, utterances or recordings"):
        train(labels, utterances, tmp_path, once, votes=votes, quiet=True)


def test_another_prompt_in_the_same_file_is_another_training(few: Tones, tmp_path: Path) -> None:
    base = tiny.build(tmp_path / "base", seed=1, hearing=SHORT)
    prompt = tmp_path / "prompt.toml"
    after = "How does it sound? {{ choices }} One letter."
    prompt.write_text(f'describes = "one letter"\nelicits = "label"\nafter = "{after}"\n')
    given = {"recipe": "alm", "model": str(base), "alm": {"prompt": str(prompt)}, "epochs": 1, "batch": 6}
    settings = TrainSettings.model_validate(given)
    first = train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    again = train(few[1], few[0], tmp_path / "out", settings, quiet=True)
    assert again.epochs.equals(first.epochs)
    prompt.write_text(prompt.read_text().replace("One letter.", "Answer by one letter and by nothing else."))
    with pytest.raises(InputError, match="other settings, labels, utterances or recordings"):
        train(few[1], few[0], tmp_path / "out", settings, quiet=True)


def test_a_prompt_that_shows_more_than_the_recording_is_refused(tones: Tones, tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"alm": TINY_ALM.model_copy(update={"prompt": "reference"})})
    with pytest.raises(SettingsError, match="the recording alone, and this prompt shows transcript and speaker too"):
        train(tones[1], tones[0], tmp_path / "out", settings, quiet=True)


def test_recordings_that_were_missing_are_heard_once_they_are_there(tmp_path: Path) -> None:
    utterances, labels = recordings(tmp_path / "tones", 16)
    there = {path: path.read_bytes() for path in (tmp_path / "tones").glob("*.wav") if int(path.stem) % 4 == 3}
    for path in there:
        path.unlink()
    once = TINY.model_copy(update={"epochs": 1})
    with pytest.raises(InputError, match="no recording of a development utterance can be used"):
        train(labels, utterances, tmp_path / "out", once, quiet=True)
    for path, content in there.items():
        path.write_bytes(content)
    assert not train(labels, utterances, tmp_path / "out", once, quiet=True).findings.counts()


@pytest.mark.parametrize("alm", [{}, {"window_epochs": 1, "window": 1.3, "change": {"shift": 0}}])
def test_clips_as_long_as_the_models_window_are_moved_and_cut_inside_it(alm: dict[str, Any], tmp_path: Path) -> None:
    utterances, labels = recordings(tmp_path / "tones", 16)
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    for path in (tmp_path / "tones").iterdir():
        soundfile.write(path, noise, 16_000)
    base = tiny.build(tmp_path / "base", seed=1, hearing=SHORT)
    given = {"recipe": "alm", "model": str(base), "alm": alm, "epochs": 1, "batch": 2, "seed": 1}
    done = train(labels, utterances, tmp_path / "out", TrainSettings.model_validate(given), quiet=True)
    assert not done.findings.counts()


def test_short_clips_are_changed_too_and_those_below_a_tenth_of_a_second_left_out(tmp_path: Path) -> None:
    utterances, labels = recordings(tmp_path / "tones", 16)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    for number, seconds in ((0, 0.1), (1, 0.12), (2, 0.05), (3, 0.11), (4, 0.02)):
        soundfile.write(tmp_path / "tones" / f"{number:03d}.wav", noise[: round(16_000 * seconds)], 16_000)
    base = tiny.build(tmp_path / "base", seed=1, hearing=SHORT)
    alm = {"change": {"shift": 50, "frames": 100}}
    given = {"recipe": "alm", "model": str(base), "alm": alm, "epochs": 4, "batch": 4, "seed": 1}
    done = train(labels, utterances, tmp_path / "out", TrainSettings.model_validate(given), quiet=True)
    assert done.epochs["loss"].is_finite().all()
    found = done.findings.frame.select("utterance_id", "kind").rows()
    assert sorted(found) == [("tones/002", "too_short"), ("tones/004", "too_short")]
    assert done.counts["left_out"] == 2


def test_touched_recordings_are_gone_on_with(few: Tones, tmp_path: Path) -> None:
    once = TINY.model_copy(update={"epochs": 1})
    first = train(few[1], few[0], tmp_path, once, quiet=True)
    places = Places(few[0].about)
    for corpus, audio in few[0].frame.select("corpus", "audio").iter_rows():
        os.utime(places.of(corpus, audio), ns=(1, 1))
    assert train(few[1], few[0], tmp_path, once, quiet=True).epochs.equals(first.epochs)


def test_held_out_and_weightless_and_unknown_utterances_are_left_out_and_counted(tones: Tones, tmp_path: Path) -> None:
    frame = tones[1].frame
    ids = frame["utterance_id"]
    weights = pl.Series([0.0 if place == 0 else 1.0 for place in range(len(ids))])
    labels = Labels.of(frame.with_columns(weight=weights), about=tones[1].about)
    missing = Utterances.of(tones[0].frame.filter(pl.col("utterance_id") != ids[1]), about=tones[0].about)
    cast = pl.DataFrame(
        {
            "utterance_id": [ids[2], ids[2], ids[4], ids[3]],
            "annotator": ["tones/a", "tones/b", "tones/a", "tones/a"],
            "label": ["sad"] * 4,
            "held_out": [True, True, False, False],
        }
    )
    votes = Votes.of(cast, about=tones[1].about)
    once = TINY.model_copy(update={"epochs": 1})
    done = train(labels, missing, tmp_path, once, votes=votes, quiet=True)
    assert done.findings.counts() == {"no_utterance": 1, "no_weight": 1, "only_held_out": 1}
    measured = Annotator.read(done.folder / "annotator.toml").file.measured
    assert measured is not None
    assert measured.corpus == "tones, development speakers"
    assert measured.class_shares_nll_per_vote == pytest.approx(-np.log(2 / 4))


def test_so_many_development_utterances_are_looked_at(
    tones: Tones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        tones[1],
        tones[0],
        tmp_path,
        TINY.model_copy(update={"epochs": 1, "alm": TINY_ALM.model_copy(update={"look_at": 4})}),
    )
    assert re.search(r"27 utterances of [\d.]+ s, 4 to look at", capsys.readouterr().err)


def test_the_development_utterances_that_are_looked_at_are_spread_and_judge_class_shares_too(
    tones: Tones, tmp_path: Path
) -> None:
    frame = tones[0].frame.sort("utterance_id")
    learned, judged = (frame.filter(pl.col("split") == name)["utterance_id"] for name in ("train", "development"))
    cast = pl.DataFrame(
        {
            "utterance_id": [*learned[:4], judged[7], judged[8]],
            "annotator": "tones/a",
            "label": ["sad", "sad", "sad", "angry", "sad", "angry"],
        }
    )
    settings = TINY.model_copy(update={"epochs": 1, "alm": TINY_ALM.model_copy(update={"look_at": 6})})
    votes = Votes.of(cast, about=tones[1].about)
    done = train(tones[1], tones[0], tmp_path, settings, votes=votes, quiet=True)
    measured = Annotator.read(done.folder / "annotator.toml").file.measured
    assert measured is not None  # the eighth of nine is among six that are evenly spread, and the ninth is not
    assert measured.class_shares_nll_per_vote == pytest.approx(-np.log(4 / 7))


def test_labels_of_several_tokens_are_refused_with_the_mend(tones: Tones, tmp_path: Path) -> None:
    small = tiny.build(tmp_path / "small", words=["nothing of the kind"])
    settings = TrainSettings(recipe="alm", model=str(small), alm=AlmSettings(answer="words"))
    with pytest.raises(SettingsError, match=r"has \d tokens.*codes"):
        train(tones[1], tones[0], tmp_path / "out", settings, quiet=True)


@pytest.mark.parametrize("given", [{}, {"model": "x", "alm": {"new": {}}}])
def test_there_is_one_beginning(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs one initial model"):
        TrainSettings.model_validate({"recipe": "alm", **given})


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder, features, alm"):
        TrainSettings.model_validate({"recipe": "magic", "model": "x"})
