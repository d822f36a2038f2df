from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alm_proxies.stages.listen.relabel import relabelling
from alm_proxies.training.folds import Fitted, Material, assign_folds, cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Array, Index

LABELS = ("angry", "happy", "sad")
SETTINGS = HeadSettings(hidden=8, epochs=3, seeds=2, components=6, batch=32)


def corpus(rows: int = 160, folds: int = 4, seed: int = 0) -> Material:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, 10)).astype(np.float32)
    chances = np.exp(features[:, :3])
    chances /= chances.sum(1, keepdims=True)
    votes = np.stack([rng.multinomial(int(rng.integers(0, 4)), row) for row in chances]).astype(np.float64)
    fold = rng.integers(0, folds, rows)
    return Material(LABELS, features, votes, fold.astype(np.int64))


def fit(material: Material, rounds: int = 2) -> Fitted:
    return cross_fit(material, SETTINGS, rounds=rounds, seed=3, relabel=relabelling(material, 3))


@pytest.mark.parametrize("change", ["changed", "deleted", "added"])
def test_no_vote_of_a_fold_changes_a_byte_of_what_predicts_it_in_either_round(change: str) -> None:
    material = corpus()
    before = fit(material)
    for fold in range(material.folds):
        votes = material.votes.copy()
        rows = np.flatnonzero((material.fold == fold) & votes.any(1))[:5]
        if change == "changed":
            votes[rows] = votes[rows][:, [1, 2, 0]]
        elif change == "deleted":
            votes[rows] = 0.0
        else:
            votes[np.flatnonzero(material.fold == fold)] += [2.0, 0.0, 0.0]
        after = fit(replace(material, votes=votes))
        here = material.fold == fold
        for first, second in zip(before.rounds, after.rounds, strict=True):
            assert first[here].tobytes() == second[here].tobytes()
            for other in range(material.folds):
                if other != fold:
                    there = material.fold == other
                    assert first[there].tobytes() != second[there].tobytes()
        assert before.models[fold].predict(material.features).tobytes() == (
            after.models[fold].predict(material.features).tobytes()
        )


def test_the_second_round_differs_from_the_first_and_one_round_is_its_beginning() -> None:
    material = corpus()
    once, twice = fit(material, 1), fit(material, 2)
    assert len(once.rounds) == 1
    assert once.shares.tobytes() == twice.rounds[0].tobytes()
    assert not np.allclose(twice.rounds[0], twice.rounds[1])
    np.testing.assert_allclose(twice.shares.sum(1), 1.0)


@pytest.mark.parametrize("folds", [3, 4])
def test_deleting_every_vote_of_a_fold_changes_no_byte_of_it_and_of_every_other_fold_some(folds: int) -> None:
    material = corpus(folds=folds)
    before = fit(material)
    for fold in range(folds):
        here = material.fold == fold
        after = fit(replace(material, votes=np.where(here[:, None], 0.0, material.votes)))
        assert len(after.rounds) == 2
        for first, second in zip(before.rounds, after.rounds, strict=True):
            assert first[here].tobytes() == second[here].tobytes()
            for other in set(range(folds)) - {fold}:
                there = material.fold == other
                assert first[there].tobytes() != second[there].tobytes()


def test_with_votes_in_two_folds_all_epochs_are_done_where_nothing_tells_when_to_stop() -> None:
    material = corpus(folds=4)
    votes = np.where(material.fold[:, None] < 2, material.votes, 0.0)
    fitted = fit(replace(material, votes=votes))
    assert fitted.epochs[:2] == (SETTINGS.epochs, SETTINGS.epochs)
    assert [model.temperature for model in fit(replace(material, votes=votes), 1).models[:2]] == [1.0, 1.0]
    assert np.isnan(fitted.curves[:2]).all()
    assert np.isfinite(fitted.curves[2:]).all()
    np.testing.assert_allclose(fitted.shares.sum(1), 1.0)
    turned = np.where(material.fold[:, None] == 0, votes[:, [1, 2, 0]], votes)
    again = fit(replace(material, votes=turned))
    for first, second in zip(fitted.rounds, again.rounds, strict=True):
        assert first[material.fold == 0].tobytes() == second[material.fold == 0].tobytes()
        assert first[material.fold == 1].tobytes() != second[material.fold == 1].tobytes()


def test_rows_without_votes_are_predicted_by_their_folds_model() -> None:
    material = corpus()
    fitted = fit(material)
    silent = np.flatnonzero(~material.votes.any(1) & (material.fold == 2))
    assert len(silent)
    np.testing.assert_array_equal(fitted.shares[silent], fitted.models[2].predict(material.features)[silent])


def test_threads_change_no_byte() -> None:
    material = corpus()
    single, three = (
        cross_fit(material, SETTINGS, rounds=2, seed=0, relabel=relabelling(material, 0), threads=threads)
        for threads in (1, 3)
    )
    assert single.shares.tobytes() == three.shares.tobytes()


def test_early_stopping_goes_by_the_curve_of_other_speakers() -> None:
    fitted = fit(corpus())
    assert fitted.curves.shape == (4, SETTINGS.epochs)
    for fold, epochs in enumerate(fitted.epochs):
        assert epochs == int(np.argmin(fitted.curves[fold])) + 1


def test_folds_keep_speakers_whole_and_are_of_like_size() -> None:
    speakers = [f"s{number}" for number in range(11) for _ in range(10 + number)]
    folds = assign_folds(speakers, 4, 0)
    assert set(folds) == set(speakers)
    sizes = np.bincount([folds[speaker] for speaker in speakers])
    assert len(sizes) == 4
    assert sizes.max() - sizes.min() <= 20
    assert folds == assign_folds(list(reversed(speakers)), 4, 0)
    alike = [f"s{number}" for number in range(12)]
    assert assign_folds(alike, 4, 0) != assign_folds(alike, 4, 1)
    assert max(assign_folds(["a", "b"], 5, 0).values()) == 1


def test_when_a_pair_stops_being_watched_depends_on_no_vote_of_the_other_fold() -> None:
    settings = SETTINGS.model_copy(update={"epochs": 25, "hidden": 16, "batch": 16, "learning_rate": 1e-2})
    material = corpus()
    votes = material.votes.copy()
    here = material.fold == 1
    votes[here] = votes[here][:, [1, 2, 0]]
    relabel = relabelling(material, 3)
    before = cross_fit(material, settings, rounds=1, seed=3, relabel=relabel)
    after = cross_fit(replace(material, votes=votes), settings, rounds=1, seed=3, relabel=relabel)
    assert min(before.epochs) <= settings.epochs - 6
    assert before.shares[here].tobytes() == after.shares[here].tobytes()
    assert before.shares[~here].tobytes() != after.shares[~here].tobytes()


class Stopped(BaseException):
    """What an interruption raises between two rounds."""


def stop(rows: Index, shares: Array) -> Array:
    raise Stopped


def test_an_interrupted_cross_fit_takes_the_finished_trainings_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material, whole = corpus(), fit(corpus())
    with pytest.raises(Stopped):
        cross_fit(material, SETTINGS, rounds=2, seed=3, relabel=stop, keep=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 6 + 4  # pairs of folds, and folds of the first round
    relabel = relabelling(material, 3)
    again = cross_fit(material, SETTINGS, rounds=2, seed=3, relabel=relabel, keep=tmp_path, quiet=False)
    assert "10 trainings of 14 taken from the interrupted run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [shares.tobytes() for shares in again.rounds] == [shares.tobytes() for shares in whole.rounds]
    assert again.epochs == whole.epochs
    assert [model.temperature for model in again.models] == [model.temperature for model in whole.models]


def test_trainings_on_other_votes_or_with_other_settings_are_not_taken(tmp_path: Path) -> None:
    material = corpus()
    votes = material.votes.copy()
    votes[0] += 1.0
    kept = 0
    for other, settings in (
        (material, SETTINGS),
        (replace(material, votes=votes), SETTINGS),
        (material, SETTINGS.model_copy(update={"hidden": 9})),
    ):
        relabel = relabelling(other, 3)
        fitted = cross_fit(other, settings, rounds=1, seed=3, relabel=relabel, keep=tmp_path)
        new = cross_fit(other, settings, rounds=1, seed=3, relabel=relabel)
        assert fitted.shares.tobytes() == new.shares.tobytes()
        kept += 10
        assert len(list(tmp_path.iterdir())) == kept


@pytest.mark.parametrize("name", ["pair-0-1", "fold-2-0"])
def test_a_training_that_is_not_kept_whole_is_done_again(name: str, tmp_path: Path) -> None:
    material = corpus()
    relabel = relabelling(material, 3)
    first = cross_fit(material, SETTINGS, rounds=1, seed=3, relabel=relabel, keep=tmp_path)
    (damaged,) = tmp_path.glob(f"*-{name}.npz")
    content = damaged.read_bytes()
    for part in (b"", content[: len(content) // 2]):
        damaged.write_bytes(part)
        again = cross_fit(material, SETTINGS, rounds=1, seed=3, relabel=relabel, keep=tmp_path)
        assert again.shares.tobytes() == first.shares.tobytes()
        assert damaged.read_bytes() == content
