"""Models of measured prosody are trained and predict like any other."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies import cache
from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.errors import InputError
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.trained_on import without_trained_on

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from small_corpus import LABELS


def test_measured_prosody_is_a_recipe_too(corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path) -> None:
    from alm_proxies.training.settings import TrainSettings

    folder, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=10, hidden=32)
    done = train(labels, utterances, tmp_path / "out", settings, votes=votes, quiet=True)
    predicted = predict(done.folder, utterances)
    shares = labels.distributions()
    prior = np.abs(shares - shares.mean(0)).mean()
    assert np.abs(predicted.labels.distributions() - shares).mean() < 0.7 * prior
    assert predicted.labels.frame["concentration"].null_count() == 0
    assert len(without_trained_on(predicted.labels, utterances, stage="evaluate")[0]) == 0
    assert "nats a human vote" in (tmp_path / "out/report.html").read_text()
    np.testing.assert_allclose(
        predict(done.folder, folder / "wav").labels.distributions(), predicted.labels.distributions(), atol=1e-6
    )


def test_training_on_measured_prosody_counts_the_recordings_it_could_use(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path
) -> None:
    from alm_proxies.training.settings import TrainSettings

    _, utterances, votes, labels = corpus
    gone = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("gone.wav")).otherwise("audio").alias("audio")
    table = Utterances(utterances.frame.with_columns(gone), utterances.about)
    settings = TrainSettings(recipe="features", epochs=2, hidden=16)
    whole = train(labels, utterances, tmp_path / "whole", settings, votes=votes, quiet=True)
    part = train(labels, table, tmp_path / "part", settings, votes=votes, quiet=True)
    assert whole.counts["left_out"] == 0 < part.counts["left_out"] < part.counts["recordings"]
    assert part.counts["recordings"] == whole.counts["recordings"]
    said = [re.search(r"(\d+) utterances; (\d+) of other speakers", (tmp_path / name / "model/README.md").read_text())
            for name in ("whole", "part")]  # fmt: skip
    used = [sum(map(int, found.groups())) for found in said if found]
    assert used[0] - used[1] == part.counts["left_out"]


def test_evidence_of_measured_prosody_is_what_the_head_says_without_it(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path
) -> None:
    from alm_proxies.audio.features import FEATURES, measure
    from alm_proxies.audio.measured import row_of
    from alm_proxies.training.features import FeaturesModel
    from alm_proxies.training.settings import TrainSettings

    folder, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=10, hidden=32)
    done = train(labels, utterances, tmp_path / "out", settings, votes=votes, quiet=True)
    model = FeaturesModel.load(done.folder)
    clip = open_clip(folder / "wav/000.wav")
    clip = Clip(np.concatenate([clip.samples, open_clip(folder / "wav/001.wav").samples]), clip.rate)
    evidence = model.evidence(clip)
    whole = model.distributions([clip])[0]
    row = row_of(measure(clip))
    known = row.copy()
    known[[feature.part == "spectral" for feature in FEATURES]] = model.head.scale.centre[
        [feature.part == "spectral" for feature in FEATURES]
    ]
    other = model.file.calibration.distributions(np.log(model.head.predict(known[None])))[0]
    spectrum = next(change for change in evidence.prosody if change.what == "spectrum as in the average clip")
    assert spectrum.distance == pytest.approx(np.abs(whole - other).sum() / 2, abs=1e-5)
    assert spectrum.gains == LABELS[int((other - whole).argmax())]
    assert spectrum.distance > 0.01, "tones differ in their spectra"
    assert len(evidence.prosody) == 7
    assert len(evidence.seconds) == int(np.ceil(clip.duration / 0.5))
    half = clip.rate // 2
    without = model.distributions([Clip(clip.samples[half:], clip.rate)])[0]
    first = next(change for change in evidence.seconds if change.what == "0.0 to 0.5 s")
    assert first.distance == pytest.approx(np.abs(whole - without).sum() / 2, abs=1e-5)
    for moved in (evidence.seconds, evidence.prosody):
        assert [change.distance for change in moved] == sorted((change.distance for change in moved), reverse=True)
    assert model.evidence(Clip(clip.samples[: half - 1], clip.rate)).seconds == ()
    written = predict(done.folder, utterances, PredictSettings(evidence=True)).labels.frame["evidence"]
    assert set(json.loads(written[0])) == {"seconds", "prosody"}
    assert written.null_count() == 0


def test_measured_prosody_learns_the_labels_and_their_weights_whatever_votes_judge(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path
) -> None:
    from alm_proxies.training.settings import TrainSettings

    _, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=4, hidden=32)
    turned = labels.frame.with_columns(p_angry="p_sad", p_sad="p_angry")
    weighed = labels.frame.with_columns(weight=pl.int_range(pl.len()).cast(pl.Float64) % 7 + 0.1)
    predictions = []
    for number, frame in enumerate((labels.frame, turned, weighed)):
        out = tmp_path / f"out{number}"
        taught = Labels.of(frame, about=labels.about)
        predictions.append(
            predict(train(taught, utterances, out, settings, votes=votes, quiet=True).folder, utterances)
        )
    first, other, heavier = (predicted.labels.distributions() for predicted in predictions)
    assert np.abs(first - other).mean() > 0.02
    assert np.abs(first - heavier).mean() > 1e-4


def test_recordings_that_the_listener_measured_are_not_measured_for_the_model_or_its_predictions(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm_proxies.audio import measured
    from alm_proxies.stages.listen.settings import ListenSettings
    from alm_proxies.stages.listen.stage import listen
    from alm_proxies.training import features
    from alm_proxies.training.head_settings import HeadSettings
    from alm_proxies.training.settings import TrainSettings

    _, utterances, votes, labels = corpus
    head = HeadSettings(hidden=8, epochs=2, seeds=1, components=8)
    listen(utterances, votes, tmp_path / "listen", ListenSettings(folds=3, head=head))
    settings = TrainSettings(recipe="features", epochs=2, hidden=8)
    with monkeypatch.context() as patch:
        for module in (measured, features):
            patch.setattr(module, "measure", None)
        model = train(labels, utterances, tmp_path / "train", settings, votes=votes, quiet=True).folder
        kept = predict(model, utterances).labels
    assert not list(tmp_path.rglob("features"))
    with pytest.raises(InputError, match="has no trained model.* It is of listen"):
        predict(tmp_path / "listen", utterances)
    cache.clear("features")
    assert predict(model, utterances, PredictSettings(batch=1)).labels.frame.equals(kept.frame)
    again = train(labels, utterances, tmp_path / "again", settings, votes=votes, quiet=True).folder
    assert (again / "heads.npz").read_bytes() == (model / "heads.npz").read_bytes()


def test_a_clip_too_long_for_a_model_is_not_predicted_from_features_that_another_command_kept(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path
) -> None:
    from alm_proxies.training.features import FeaturesModel
    from alm_proxies.training.loading import load_trained
    from alm_proxies.training.settings import TrainSettings

    _, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=2, hidden=8)
    model = load_trained(train(labels, utterances, tmp_path / "train", settings, votes=votes, quiet=True).folder)
    assert isinstance(model, FeaturesModel)
    shorter = replace(model, file=model.file.model_copy(update={"seconds": (0.1, 0.2)}))  # 30 in earlier versions
    with pytest.raises(InputError, match="no recording could be used") as caught:
        predict(shorter, utterances)
    count, first = len(utterances), utterances.frame["utterance_id"][0]
    assert f"of {count}; the first is {first!r}: 0.72 s of audio, the limit is 0.20 s" in str(caught.value)
    assert "findings" not in str(caught.value), "none are written where nothing is"


@pytest.mark.parametrize(
    "settings", [{"loss": "jsd"}, {"patience": 1}, {"curriculum": {"kind": "filter"}}, {"raters": 0.5}]
)
def test_measured_prosody_refuses_what_it_has_no_use_for(settings: dict[str, object]) -> None:
    from alm_proxies.training.settings import TrainSettings

    with pytest.raises(ValueError, match=f"no use for {next(iter(settings))}"):
        TrainSettings.model_validate({"recipe": "features", **settings})
    assert TrainSettings.model_validate({"recipe": "features", "threads": 4, "tracker": "tensorboard"}).seed == 0


def test_a_model_of_features_defined_otherwise_is_refused(
    corpus: tuple[Path, Utterances, Votes, Labels], tmp_path: Path
) -> None:
    from alm_proxies.models.trained import read_trained, write_trained_file
    from alm_proxies.training.settings import TrainSettings

    _, utterances, votes, labels = corpus
    settings = TrainSettings(recipe="features", epochs=2, hidden=16)
    done = train(labels, utterances, tmp_path / "out", settings, votes=votes, quiet=True)
    path, file = read_trained(done.folder)
    assert file.features
    (path / "model.json").unlink()
    write_trained_file(path, file.model_copy(update={"features": "", "files": {}, "digest": ""}))
    with pytest.raises(InputError) as refused:
        predict(done.folder, utterances)
    assert refused.value.where == str(path)
    assert "Train it again" in refused.value.fix
