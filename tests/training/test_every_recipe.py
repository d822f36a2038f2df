"""One suite over every recipe of the registry: it trains, its model predicts, a seed decides, nothing is ignored."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tones_in_noise import TINY_ALM

from alm_proxies.alone import alone_in
from alm_proxies.errors import EngineError, InputError, SettingsError
from alm_proxies.plugins import plugins
from alm_proxies.settings import CHANGES_NOTHING
from alm_proxies.stages.train.stage import Trained, train
from alm_proxies.tables import Labels
from alm_proxies.training.loading import load_trained
from alm_proxies.training.settings import TrainSettings

FOUND = [name for name, recipe in plugins("recipes").items() if not recipe.origin]
every = pytest.mark.parametrize("recipe", FOUND)
GIVEN: dict[str, dict[str, Any]] = {
    "encoder": {"epochs": 2, "batch": 8, "hidden": 16, "learning_rate": 1e-2, "deterministic": True, "threads": 1},
    "features": {"epochs": 4, "hidden": 16},
    "alm": {"epochs": 1, "batch": 8, "alm": TINY_ALM.model_dump()},
}
"""The least that each needs; a new recipe needs a line."""
CHANGED = {
    "augment": ({"effect": "gain", "between": {"decibels": (-6, 6)}},),
    "alm": {"answer": "words"},
    "attributes": {"weight": 0.5},
    "curriculum": {"kind": "weight"},
    "auxiliary": ("pitch_level",),
    "layers": (0,),
    "model": "somewhere",
    "revision": "0" * 40,
    "loss": "jsd",
    "pooling": "attention",
    "schedule": "newbob",
    "targets": "votes",
    "precision": "bf16",
}
"""A value other than the default, of fields that are neither numbers nor switches."""


def settings(recipe: str, corpus: Any, **changes: Any) -> TrainSettings:
    given = {"recipe": recipe, "name": "small", "seed": 3, **GIVEN[recipe]}
    if recipe == "encoder":
        given["model"] = str(corpus.encoder)
    return TrainSettings.model_validate(given | changes)


def trained(recipe: str, corpus: Any, folder: Path, **changes: Any) -> Trained:
    chosen = settings(recipe, corpus, **changes)
    return train(corpus.labels, corpus.utterances, folder, chosen, votes=corpus.votes, quiet=True)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(name: str) -> Any:
    """Another value than a field's default."""
    if name in CHANGED:
        return CHANGED[name]
    default = TrainSettings.model_fields[name].get_default(call_default_factory=True)
    return not default if isinstance(default, bool) else 0.5 if default is None else default / 2 or 0.25


@pytest.fixture(scope="module")
def models(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Every recipe, trained."""
    folder = tmp_path_factory.mktemp("Modelle für alle")
    return {recipe: trained(recipe, corpus, folder / recipe) for recipe in FOUND}


def test_the_suite_holds_every_recipe_there_is() -> None:
    assert set(FOUND) == set(GIVEN)


@every
def test_it_trains_and_says_how_it_went(recipe: str, models: dict[str, Trained]) -> None:
    trained_model = models[recipe]
    assert trained_model.folder.is_dir()
    scores = [column for column in trained_model.epochs if column.dtype.is_float() and not column.null_count()]
    assert len(trained_model.epochs) >= 1
    assert scores
    assert all(column.is_finite().all() for column in scores)
    assert ("passes" if recipe == "features" else "epoch") in trained_model.line


@every
def test_its_files_have_the_mode_of_any_new_file(recipe: str, models: dict[str, Trained], tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    files = [path for path in models[recipe].folder.parent.rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {(tmp_path / "new").stat().st_mode}


@every
def test_its_model_gives_a_distribution_to_every_recording(
    recipe: str, corpus: Any, models: dict[str, Trained]
) -> None:
    shares = distributions(recipe, corpus, models[recipe])
    assert shares.shape == (len(corpus.utterances), 3)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-6)
    assert np.ptp(shares, axis=0).max() > 1e-6


def distributions(recipe: str, corpus: Any, trained_model: Trained) -> np.ndarray:
    from alm_proxies.audio.clip import open_clip
    from alm_proxies.stages.predict.stage import predict

    if recipe != "alm":
        return predict(trained_model.folder, corpus.utterances).labels.distributions()
    from alm_proxies.annotators.annotator import Annotator
    from alm_proxies.annotators.annotator_file import AnnotatorFile

    file = AnnotatorFile(
        name="new", engine="transformers", model=str(trained_model.folder), elicit="score", answer="words"
    )
    annotator = Annotator.of(file, taxonomy=corpus.labels.taxonomy)
    clips = [open_clip(corpus.folder / audio) for audio in corpus.utterances.frame["audio"]]
    return np.asarray(annotator.distribution(clips))


@every
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(
    recipe: str, corpus: Any, models: dict[str, Trained], tmp_path: Path
) -> None:
    before = bytes_of(models[recipe].folder)
    again = bytes_of(trained(recipe, corpus, tmp_path / "again").folder)
    assert set(again) == set(before)
    assert [name for name in before if before[name] != again[name]] == []
    other = bytes_of(trained(recipe, corpus, tmp_path / "other", seed=4).folder)
    assert [name for name in before if before[name] != other.get(name)] != []


@every
def test_the_scale_of_the_labels_weights_changes_nothing(recipe: str, corpus: Any, tmp_path: Path) -> None:
    """Such as weights that sum to 1."""
    few = corpus.labels.frame["p_angry"] < 0.5
    shares = []
    for scale in (1.0, 1e-3):
        weight = pl.when(few).then(scale).otherwise(0.2 * scale)
        labels = Labels.of(corpus.labels.frame.with_columns(weight=weight), about=corpus.labels.about)
        folder, chosen = tmp_path / str(scale), settings(recipe, corpus)
        model = train(labels, corpus.utterances, folder, chosen, votes=corpus.votes, quiet=True)
        shares.append(distributions(recipe, corpus, model))
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-3)


@every
def test_targets_are_the_labels_or_the_plain_shares_of_the_votes(recipe: str, corpus: Any, tmp_path: Path) -> None:
    drawn_in = [(0.5 * pl.col(f"p_{label}") + 0.5 / 3).alias(f"p_{label}") for label in corpus.labels.taxonomy]
    fused = Labels.of(
        corpus.labels.frame.drop("entropy", "ambiguity").with_columns(drawn_in), about=corpus.labels.about
    )

    def weights(labels: Labels, targets: str) -> dict[str, bytes]:
        folder = tmp_path / f"{labels is fused}{targets}"
        chosen = settings(recipe, corpus, targets=targets)
        trained_model = train(labels, corpus.utterances, folder, chosen, votes=corpus.votes, quiet=True)
        files = bytes_of(trained_model.folder)
        return {name: held for name, held in files.items() if name.endswith((".npz", ".safetensors"))}

    of_votes = weights(fused, "votes")
    assert of_votes
    assert of_votes == weights(corpus.labels, "labels")  # whose distributions are the shares of these votes
    assert of_votes != weights(fused, "labels")


@every
def test_a_setting_that_it_has_no_use_for_is_refused(recipe: str, corpus: Any) -> None:
    from alm_proxies.training.settings import _USED

    used = _USED.get(recipe, TrainSettings.model_fields.keys() - {"alm"})
    unused = [
        name
        for name, field in TrainSettings.model_fields.items()
        if name not in used and CHANGES_NOTHING not in field.metadata
    ]
    assert unused
    for name in unused:
        with pytest.raises(ValueError, match=f"{recipe} has no use for {name}"):
            settings(recipe, corpus, **{name: changed(name)})


@every
def test_without_a_recording_that_can_be_used_it_says_so(recipe: str, corpus: Any, tmp_path: Path) -> None:
    silent = type(corpus.utterances)(
        corpus.utterances.frame.with_columns(audio=None).cast({"audio": corpus.utterances.frame.schema["audio"]}),
        corpus.utterances.about,
    )
    with pytest.raises(InputError, match="utterance|'tones/") as error:
        train(corpus.labels, silent, tmp_path / "out", settings(recipe, corpus), votes=corpus.votes, quiet=True)
    assert "See the findings" not in (error.value.fix or ""), "there are none where nothing was trained"
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(("recipe", "changes"), [*((name, {}) for name in FOUND), ("encoder", {"freeze": True})])
def test_recordings_that_cannot_be_used_are_counted_and_listed_and_not_trained_on(
    recipe: str, changes: dict[str, Any], corpus: Any, tmp_path: Path
) -> None:
    lost = damaged(corpus.folder / "wav", tmp_path / "wav")
    moved = type(corpus.utterances)(
        corpus.utterances.frame, corpus.utterances.about.with_(roots={"tones": str(tmp_path)})
    )
    chosen = settings(recipe, corpus, **changes)
    done = train(corpus.labels, moved, tmp_path / "out", chosen, votes=corpus.votes, quiet=True)
    again = train(corpus.labels, moved, tmp_path / "out", chosen, votes=corpus.votes, quiet=True)  # has nothing to do
    assert done.counts == again.counts == {"recordings": 48, "left_out": 8}
    listed = done.findings.frame.filter(pl.col("utterance_id").is_not_null())
    assert sorted(listed["utterance_id"]) == lost
    assert set(listed["kind"]) == {"missing", "empty", "not_audio", "truncated"}
    card = (done.folder / "README.md").read_text()
    assert re.search(r"\b29\s+utterances; 11\s+of\s+other\s+speakers", card)
    assert "7 speakers of tones" in card  # nothing of the first of eight could be used
    named = (done.folder / ("annotator.toml" if recipe == "alm" else "model.json")).read_text()
    assert [name for name in range(8) if f"tones/s{name}" in named] == list(range(1, 8))
    if recipe != "alm":
        page = (tmp_path / "out" / "report.html").read_text()
        assert "29 utterances of 5 speakers were trained on; 11 of other speakers" in page


def test_utterances_of_unknown_speakers_are_counted_beside_the_speakers(corpus: Any, tmp_path: Path) -> None:
    unknown = pl.int_range(pl.len()) % 6 == 0
    people = type(corpus.utterances)(
        corpus.utterances.frame.with_columns(speaker=pl.when(~unknown).then("speaker")), corpus.utterances.about
    )
    done = train(corpus.labels, people, tmp_path / "out", settings("features", corpus), votes=corpus.votes, quiet=True)
    page = (tmp_path / "out" / "report.html").read_text()
    counted = re.search(r"(\d+) utterances of (\d+) speakers \((\d+) of the utterances are of unknown speakers\)", page)
    assert counted is not None
    utterances, speakers, of_unknown = map(int, counted.groups())
    assert 0 < of_unknown <= 8
    assert speakers <= 8 < utterances - of_unknown
    card = (done.folder / "README.md").read_text()
    assert "8 speakers of tones, named in `model.json`. Some utterances are of unknown speakers." in card


def damaged(wav: Path, copy: Path) -> list[str]:
    """Copy 48 recordings, all six of the first speaker and one of two others damaged; the utterances of these."""
    shutil.copytree(wav, copy)
    names = [*(f"{number:03d}" for number in range(6)), "020", "047"]
    for place, name in enumerate(names):
        path = copy / f"{name}.wav"
        content = path.read_bytes()
        path.unlink()
        if place % 4:
            path.write_bytes((b"", b"", b"this is text", content[: len(content) // 2])[place % 4])
    return [f"tones/{name}" for name in names]


def test_a_folder_in_which_another_training_is_at_work_is_refused(corpus: Any, tmp_path: Path) -> None:
    with alone_in(tmp_path, "training", ""), pytest.raises(InputError, match="another training is writing"):
        trained("features", corpus, tmp_path)
    assert not (tmp_path / "model").exists()


def test_measured_prosody_counts_its_three_passes_an_epoch_as_passes(corpus: Any, tmp_path: Path) -> None:
    result = trained("features", corpus, tmp_path, epochs=2)
    assert len(result.epochs) == 6
    text = (tmp_path / "report.html").read_text()
    assert "best pass" in text
    assert "by pass" in text
    assert "of 6 (3 for each of epochs = 2)" in text  # the settings on the page say epochs: 2
    assert "best epoch" not in text
    assert result.line.startswith("trained for 6 passes")


def test_measured_prosody_learns_the_same_whatever_the_number_of_threads(corpus: Any, tmp_path: Path) -> None:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # the package has no types

    files = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            files.append(bytes_of(trained("features", corpus, tmp_path / str(threads), hidden=2048).folder))
    assert files[0]["heads.npz"] == files[1]["heads.npz"]


def test_measured_prosody_that_no_longer_learns_leaves_no_model(corpus: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the loss of the development speakers is nan"):
        trained("features", corpus, tmp_path, learning_rate=1e6, epochs=20)
    assert not (tmp_path / "model").exists()


def test_a_damaged_model_is_one_sentence(models: dict[str, Trained], tmp_path: Path) -> None:
    for recipe, weights in (("features", "heads.npz"), ("encoder", "heads.safetensors")):
        folder = tmp_path / recipe
        shutil.copytree(models[recipe].folder, folder)
        (folder / weights).write_bytes((folder / weights).read_bytes()[:100])
        with pytest.raises(InputError, match="damaged"):
            load_trained(folder)


@pytest.mark.parametrize(("recipe", "weights"), [("features", "heads.npz"), ("encoder", "heads.safetensors")])
def test_a_model_of_two_trainings_or_changed_since_is_refused(
    recipe: str, weights: str, models: dict[str, Trained], tmp_path: Path
) -> None:
    folder = tmp_path / recipe
    shutil.copytree(models[recipe].folder, folder)
    (folder / "README.md").write_text("My own card.")
    model = load_trained(folder)
    labels = model.labels
    assert ", ".join(labels) in repr(model)
    assert len(repr(model)) < 300
    content, stated = (folder / weights).read_bytes(), json.loads((folder / "model.json").read_text())
    flipped = bytes([content[-40] ^ 1])
    (folder / weights).write_bytes(content[:-40] + flipped + content[-39:])
    with pytest.raises(InputError, match=f"{weights} is not the file that the training wrote"):
        load_trained(folder)
    (folder / weights).unlink()
    with pytest.raises(InputError, match=f"{weights} is missing"):
        load_trained(folder)
    (folder / weights).write_bytes(content)
    reversed_labels = {**stated, "labels": stated["labels"][::-1]}
    (folder / "model.json").write_text(json.dumps(reversed_labels))
    with pytest.raises(InputError, match=r"model\.json was changed after the training"):
        load_trained(folder)
    old = {key: value for key, value in stated.items() if key not in ("files", "digest")}
    (folder / "model.json").write_text(json.dumps(old))
    assert load_trained(folder).labels == labels, "folders of earlier versions load"
    if recipe == "features":  # whose weights name their labels
        (folder / "model.json").write_text(json.dumps({**old, "labels": stated["labels"][::-1]}))
        with pytest.raises(InputError, match="names the labels"):
            load_trained(folder)


def test_a_model_of_a_newer_version_is_refused_as_such(models: dict[str, Trained], tmp_path: Path) -> None:
    stated = json.loads((models["features"].folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**stated, "contract": 99, "recipe": "of the future"}))
    with pytest.raises(InputError, match="made by a newer version") as refused:
        load_trained(tmp_path)
    assert "Update" in str(refused.value)


@pytest.mark.parametrize("recipe", ["features", "encoder"])
def test_a_calibrated_model_states_what_its_calibrated_predictions_scored(
    recipe: str, models: dict[str, Trained]
) -> None:
    file = load_trained(models[recipe].folder).file
    best = file.calibration.loss[file.calibration.method]
    assert file.development["nll_per_vote_calibrated"] == best
    assert file.measured is not None
    assert file.measured.nll_per_vote == best


@pytest.mark.parametrize("recipe", ["features", "encoder"])
def test_a_clip_shorter_than_the_model_takes_is_refused(recipe: str, models: dict[str, Trained]) -> None:
    from alm_proxies.audio.clip import Clip

    model = load_trained(models[recipe].folder)
    clip = Clip(0.1 * np.random.default_rng(0).standard_normal(1_440).astype(np.float32), 16_000)
    for asked in (model.predict, model.distributions):
        with pytest.raises(InputError, match="clip 0 lasts 0.09 s"):
            asked([clip])
    with pytest.raises(InputError, match="clip 0 lasts 0.09 s"):
        model.evidence(clip)


def test_a_device_that_there_is_not_is_one_sentence(models: dict[str, Trained]) -> None:
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(SettingsError, match=device):
            load_trained(models["encoder"].folder, device=device)
