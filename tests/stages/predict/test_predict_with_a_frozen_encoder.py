"""predict takes what a frozen encoder made of a recording from the cache, as training does."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies import cache
from alm_proxies.about import About
from alm_proxies.audio.clip import open_clip
from alm_proxies.models.encoder import Encoder
from alm_proxies.models.trained import TrainedModel
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training import encoder as training

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from small_corpus import small_settings, tiny_encoder

Corpus = tuple[Path, Utterances, Votes, Labels]
RESTRICTED = "iemocap"
"""A corpus whose card forbids copies."""


@pytest.fixture(scope="module", params=["wav2vec2", "whisper"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of clips of every batch that an encoder was given."""
    batches: list[int] = []
    forward = Encoder.forward

    def counted(self: Encoder, inputs: Any) -> Any:
        batches.append(len(inputs.lengths))
        return forward(self, inputs)

    monkeypatch.setattr(Encoder, "forward", counted)
    return batches


def model_of(corpus: Corpus, encoder: Path, folder: Path, utterances: Utterances | None = None, **changes: Any) -> Path:
    _, table, votes, labels = corpus
    settings = small_settings(encoder, epochs=1, **{"freeze": True, **changes})
    return train(labels, utterances or table, folder, settings, votes=votes, quiet=True).folder


def of_a_corpus_that_may_not_be_copied(corpus: Corpus) -> Utterances:
    folder, utterances, *_ = corpus
    frame = utterances.frame.with_columns(corpus=pl.lit(RESTRICTED))
    return Utterances.of(frame, about=About(taxonomy=utterances.taxonomy, roots={RESTRICTED: str(folder)}))


def test_recordings_that_training_encoded_are_not_encoded_again(
    corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    folder, utterances, *_ = corpus
    model = model_of(corpus, encoder, tmp_path / "train")
    assert encoded
    encoded.clear()
    predicted = predict(model, utterances)
    assert encoded == []
    assert predicted.findings.frame.is_empty()
    paths = [folder / path for path in utterances.frame.sort("utterance_id")["audio"]]
    shares = TrainedModel.load(model, device="cpu").distributions([open_clip(path) for path in paths])
    np.testing.assert_allclose(predicted.labels.distributions(), shares, atol=1e-5)
    cache.clear("features")
    assert predict(model, utterances, PredictSettings(batch=3, threads=1)).labels.frame.equals(predicted.labels.frame)
    assert len(encoded) == len(utterances) + 1, "one clip at a time, after the batch of all above"


def test_new_recordings_are_encoded_once_wherever_they_are(
    corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    model = model_of(corpus, encoder, tmp_path / "train")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        for number in range(3):
            tone = 0.1 * np.sin(np.arange(8000) / (5 + number))
            soundfile.write(tmp_path / name / f"{number}.wav", tone, 16_000)
    encoded.clear()
    first = predict(model, tmp_path / "here")
    assert len(encoded) == 3
    again = predict(model, tmp_path / "there")
    assert len(encoded) == 3
    assert again.labels.frame.drop("utterance_id").equals(first.labels.frame.drop("utterance_id"))


def test_of_a_corpus_that_may_not_be_copied_what_training_kept_in_its_folder_is_read_and_nothing_else_is_kept(
    corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    utterances = of_a_corpus_that_may_not_be_copied(corpus)
    cache.clear("features")
    some = Utterances.of(utterances.frame.filter(~pl.col("utterance_id").str.ends_with("7")), about=utterances.about)
    model = model_of(corpus, encoder, tmp_path / "train", some)
    count = len(utterances) - len(some)
    for folder in (model, tmp_path / "train"):
        encoded.clear()
        assert len(predict(folder, utterances).labels) == len(utterances)
        assert len(encoded) == count
    assert not list((cache.cache_folder() / "features").rglob("*.parquet"))
    kept = pl.read_parquet(list((tmp_path / "train" / "features").rglob("*.parquet")))
    assert kept.height == len(some)


def test_an_encoder_that_is_moved_while_a_model_is_trained_on_it_costs_no_training(
    corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    shutil.copytree(encoder, base)
    fine_tune = training.fine_tune

    def moved(*given: Any, **more: Any) -> Any:
        tuned = fine_tune(*given, **more)
        base.rename(tmp_path / "elsewhere")
        return tuned

    monkeypatch.setattr(training, "fine_tune", moved)
    model = model_of(corpus, base, tmp_path / "train")
    encoded.clear()
    predict(model, corpus[1])
    assert encoded == []


@pytest.mark.parametrize("settings", [{"evidence": True}, {"condition": "noise"}])
def test_what_is_no_statistic_of_the_recording_is_encoded(
    settings: dict[str, Any], corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    _, utterances, *_ = corpus
    model = model_of(corpus, encoder, tmp_path / "train")
    encoded.clear()
    few = Utterances.of(utterances.frame.head(2), about=utterances.about)
    predict(model, few, PredictSettings.model_validate(settings))
    assert encoded


def test_an_encoder_that_was_trained_encodes_every_time(
    corpus: Corpus, encoder: Path, tmp_path: Path, encoded: list[int]
) -> None:
    _, utterances, *_ = corpus
    model = model_of(corpus, encoder, tmp_path / "train", freeze=False)
    for _ in range(2):
        encoded.clear()
        predict(model, utterances)
        assert sum(encoded) == len(utterances)


def test_recordings_that_are_too_short_or_too_long_are_findings_of_predict(
    corpus: Corpus, encoder: Path, tmp_path: Path
) -> None:
    model = model_of(corpus, encoder, tmp_path / "train", longest=1.0)
    (tmp_path / "wav").mkdir()
    for name, seconds in {"short": 0.05, "fits": 0.5, "long": 1.5}.items():
        soundfile.write(tmp_path / "wav" / f"{name}.wav", 0.1 * np.sin(np.arange(int(16_000 * seconds)) / 9), 16_000)
    for _ in range(2):
        predicted = predict(model, tmp_path / "wav")
        assert predicted.labels.frame["utterance_id"].to_list() == ["wav/fits"]
        frame = predicted.findings.frame.sort("utterance_id")
        assert frame["utterance_id"].to_list() == ["wav/long", "wav/short"]
        assert set(frame["stage"]) == {"predict"}
        assert "(--longest)" in frame["fix"][0]
        assert "lasts 0.05 s, too short for the model" in frame["message"][1]
