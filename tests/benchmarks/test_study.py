"""The study on CREMA-D: the lockbox stays shut, votes are apart, cells resume, statistics agree with others' code."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "study"))
import study
import study_cells
import votes_saved
from small_crema_d import ACTORS
from study_cells import Study, concentration_of, run_cell
from study_design import ALL, AUTO, HUMAN, LISTENER, LOCKBOX, PLURALITY, POOLED, Arm, Cell, blocks, cells, replicates
from study_report import report
from study_results import Results
from study_statistics import by_actor
from study_targets import filled_up, human_votes, targets_of, uniform_weights
from study_votes import (
    LABELS,
    Corpus,
    first_votes,
    labelled,
    open_lockbox,
    opening_of,
    proxy_votes,
    read_corpus,
    scored_votes,
)
from votes_saved import folds_of

from alm_proxies.errors import InputError


def test_reading_leaves_the_lockbox_out_votes_and_recordings_alike(corpus: Corpus) -> None:
    locked = set(LOCKBOX) & set(ACTORS)
    assert len(locked) == 4
    assert set(corpus.actors) == set(ACTORS) - locked
    audio = corpus.utterances.frame["audio"]
    assert audio.null_count() == 0
    assert not any(Path(name).name[:4] in LOCKBOX for name in audio)


def test_a_corpus_that_holds_a_lockbox_actor_cannot_be_built(corpus: Corpus) -> None:
    actors = corpus.actors.copy()
    actors[0] = "1019"
    with pytest.raises(InputError, match="actor 1019 is in the lockbox"):
        replace(corpus, actors=actors)


def test_the_lockbox_opens_once_with_a_reason_when_the_base_block_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 cells of the base block have not been run"):
        open_lockbox(tmp_path, "final", missing=["b", "a"])
    with pytest.raises(InputError, match="no reason"):
        open_lockbox(tmp_path, " ", missing=[])
    assert not list(tmp_path.iterdir())
    opening = open_lockbox(tmp_path, "final", missing=[])
    logged = json.loads((tmp_path / "lockbox.jsonl").read_text())
    assert logged == {"when": opening.when, "commit": opening.commit, "reason": "final"}
    with pytest.raises(InputError, match="opened before"):
        open_lockbox(tmp_path, "again", missing=[])


def test_the_command_refuses_to_open_the_lockbox_before_its_time(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cells of the base block have not been run"):
        study.main(["open-lockbox", "--keep", str(tmp_path), "--reason", "curious"])
    assert not (tmp_path / "lockbox.jsonl").exists()


def test_an_opened_lockbox_is_scored_and_never_trained_on(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the lockbox has not been opened"):
        study.main(["lockbox", "--keep", str(tmp_path)])
    opening = open_lockbox(tmp_path, "final", missing=[])
    assert opening_of(tmp_path) == opening
    whole = read_corpus(folder, opening)
    assert set(whole.actors) == set(ACTORS)
    locked = np.isin(whole.actors, LOCKBOX)
    rng = np.random.default_rng(0)
    opened_study = Study(whole, rng.normal(size=(len(whole.clips), 8)).astype(np.float32), tmp_path)
    sides = opened_study.sides(0, 0)
    assert sides.scored.tolist() == np.flatnonzero(locked).tolist()
    assert not locked[sides.train].any()
    assert not locked[sides.development].any()
    results = Results(tmp_path / "lockbox")
    planned = [cell for cell in study.lockbox_cells() if cell.arm in (HUMAN, PLURALITY)][:2]
    assert study.run(whole, opened_study.features, results, planned) == 2
    predicted = results.predictions(planned[0].key)
    assert predicted[locked].sum(1) == pytest.approx(1)
    assert not predicted[~locked].any()
    text = "\n".join(report(whole, results))
    assert "| soft targets instead of the plurality | human_k3 - plurality_k3 |" in text


def test_the_design_changes_one_factor_at_a_time_and_runs_the_base_block_first() -> None:
    planned = list(cells())
    assert len(planned) == len({cell.key for cell in planned})
    base = next(iter(blocks().values()))
    count = 3 * len(base)
    assert {cell.arm for cell in planned[:count]} == set(base)
    assert len({(cell.partition, cell.seed) for cell in planned[:count]}) == 3
    plain = Arm("human")
    changed = [
        sum(getattr(arm, name) != getattr(plain, name) for name in ("balance", "curriculum", "damage", "proxy_votes"))
        for arm in {cell.arm for cell in planned}
    ]
    assert max(changed) == 1
    assert set(replicates()) == {(partition, seed) for partition in range(3) for seed in range(3)}
    assert replicates()[:3] == [(0, 0), (1, 1), (2, 2)]


def test_more_human_votes_hold_the_fewer_ones(corpus: Corpus) -> None:
    three, five = first_votes(corpus, 3, 0), first_votes(corpus, 5, 0)
    assert (three.sum(1) == 3).all()
    assert (five >= three).all()
    assert (corpus.voice >= five).all()


def test_stratum_votes_and_scored_votes_are_different_votes_of_clips_with_eight_or_more(corpus: Corpus) -> None:
    apart, scored = scored_votes(corpus, 0)
    many = corpus.voice.sum(1) >= 8
    np.testing.assert_array_equal((apart + scored)[many], corpus.voice[many])
    assert (apart[many].sum(1) == 4).all()
    assert not (apart + scored)[~many].any()


def test_a_dose_replaces_that_share_of_proxy_votes(corpus: Corpus) -> None:
    clean = proxy_votes(corpus, POOLED, 0)
    np.testing.assert_array_equal(clean, corpus.audio_visual)
    wrong = proxy_votes(corpus, replace(POOLED, damage="confusion", dose=1.0), 0)
    order = [LABELS.index(label) for label in ("disgust", "neutral", "sad", "neutral", "sad", "fear")]
    np.testing.assert_array_equal(wrong, clean @ np.eye(6)[order])
    half = proxy_votes(corpus, replace(POOLED, damage="confusion", dose=0.5), 0)
    assert 0.3 < np.abs(half - clean).sum() / np.abs(wrong - clean).sum() < 0.7
    few = proxy_votes(corpus, replace(POOLED, proxy_votes=2), 0)
    assert (few.sum(1) == 2).all()
    assert (clean >= few).all()


def test_plurality_targets_share_ties_and_pooled_ones_count_all_votes(corpus: Corpus, features: np.ndarray) -> None:
    rows = np.arange(20)
    votes = first_votes(corpus, 3, 0)[rows]
    plural = targets_of(corpus, features, PLURALITY, rows, 0)
    for shares, row in zip(plural, votes, strict=True):
        tied = np.flatnonzero(row == row.max())
        assert np.flatnonzero(shares).tolist() == tied.tolist()
        assert shares[tied] == pytest.approx(1 / len(tied))
    both = votes + corpus.audio_visual[rows]
    pooled = targets_of(corpus, features, POOLED, rows, 0)
    np.testing.assert_allclose(pooled, both / both.sum(1, keepdims=True))


def test_an_equal_budget_labels_that_share_of_clips_and_the_others_teach_nothing(
    corpus: Corpus, features: np.ndarray
) -> None:
    rows = np.arange(60)
    arm = replace(HUMAN, labelled=1 / 3)
    assert labelled(corpus, rows, 1 / 3, 0).sum() == 20
    targets = targets_of(corpus, features, arm, rows, 0)
    assert targets.any(1).sum() == 20
    assert human_votes(corpus, arm, rows, 0).sum() == 60


def test_no_actor_is_on_two_sides_and_every_clip_is_scored_once(corpus: Corpus, features: np.ndarray) -> None:
    own_study = Study(corpus, features, Path())
    scored = np.zeros(len(corpus.clips))
    for fold in range(5):
        sides = own_study.sides(0, fold)
        actors = [set(corpus.actors[rows]) for rows in (sides.train, sides.development, sides.scored)]
        assert all(actors)
        assert not actors[0] & actors[1]
        assert not (actors[0] | actors[1]) & actors[2]
        assert set.union(*actors) == set(corpus.actors)
        scored[sides.scored] += 1
    assert (scored == 1).all()


@pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")
@pytest.mark.parametrize("arm", [AUTO, LISTENER, POOLED], ids=lambda arm: arm.name)
def test_targets_do_not_depend_on_votes_of_development_or_scored_actors(
    arm: Arm, corpus: Corpus, features: np.ndarray
) -> None:
    rows = Study(corpus, features, Path()).sides(0, 0).train
    others = np.setdiff1d(np.arange(len(corpus.clips)), rows)
    voice = corpus.voice.copy()
    voice[others] = voice[others][:, ::-1]
    turned = replace(corpus, voice=voice)
    first = targets_of(corpus, features, arm, rows, 0)
    np.testing.assert_array_equal(first, targets_of(turned, features, arm, rows, 0))
    assert first.sum(1) == pytest.approx(1)


def test_the_same_cell_gives_the_same_predictions_and_they_learn(
    corpus: Corpus, features: np.ndarray, tmp_path: Path
) -> None:
    cell = Cell(ALL, 0, 0)
    _, first = run_cell(Study(corpus, features, tmp_path), cell)
    line, second = run_cell(Study(corpus, features, tmp_path), cell)
    np.testing.assert_array_equal(first, second)
    assert first.sum(1) == pytest.approx(1)
    prior = corpus.voice.sum(0) / corpus.voice.sum()

    def loss(shares: np.ndarray) -> float:
        return float(-(corpus.voice * np.log(shares)).sum() / corpus.voice.sum())

    assert loss(first) < loss(np.tile(prior, (len(first), 1))) - 0.05
    assert len(line["epochs"]) == len(line["temperatures"]) == len(line["concentrations"]) == 5


@pytest.mark.parametrize("change", [{"curriculum": "filter"}, {"balance": "dime"}], ids=str)
def test_a_curriculum_and_a_balance_change_what_is_learned(
    change: dict, corpus: Corpus, features: np.ndarray, tmp_path: Path
) -> None:
    own_study = Study(corpus, features, tmp_path)
    plain, other = (run_cell(own_study, Cell(arm, 0, 0))[1] for arm in (HUMAN, replace(HUMAN, **change)))
    assert np.abs(plain - other).max() > 1e-3


def test_filling_up_brings_rare_classes_to_a_quarter_of_the_largest_by_mixtures_within_the_class() -> None:
    rng = np.random.default_rng(0)
    classes = np.array([0] * 40 + [1] * 4 + [2] * 12)
    targets = 0.8 * np.eye(3)[classes] + 0.2 * rng.dirichlet(np.ones(3), len(classes))
    scaled = (rng.normal(size=(len(classes), 5)) + 10 * classes[:, None]).astype(np.float32)
    features, labels = filled_up(scaled, targets, 0)
    assert np.bincount(labels.argmax(1)).tolist() == [40, 10, 12]
    assert labels.sum(1) == pytest.approx(1)
    new = features[len(classes) :]
    own = scaled[classes == 1]
    assert (new >= own.min(0) - 1e-4).all()
    assert (new <= own.max(0) + 1e-4).all()


def test_weights_of_balance_make_the_classes_uniform(corpus: Corpus) -> None:
    rows = np.arange(80)
    targets = corpus.voice[rows] / corpus.voice[rows].sum(1, keepdims=True)
    weights = uniform_weights(corpus, rows, targets)
    shares = (targets * weights[:, None]).sum(0) / weights.sum()
    assert shares == pytest.approx(1 / 6, abs=0.005)


def test_the_concentration_is_that_of_the_votes_drawn() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), 3000)
    votes = np.stack(
        [rng.multinomial(6, rng.dirichlet(8.0 * shares_of_clip + 1e-9)) for shares_of_clip in shares]
    ).astype(float)
    assert concentration_of(shares, votes) == pytest.approx(8.0, rel=0.15)
    assert concentration_of(shares[:5], np.eye(4)[[0, 1, 2, 3, 0]]) is None


def test_a_run_that_was_stopped_goes_on_with_the_next_cell(
    corpus: Corpus, features: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    real = study_cells.run_cell

    def counted(of_study: Study, cell: Cell) -> tuple[dict, np.ndarray]:
        ran.append(cell.key)
        return real(of_study, cell)

    monkeypatch.setattr(study, "run_cell", counted)
    results = Results(tmp_path)
    planned = [cell.key for cell in cells()]
    assert study.run(corpus, features, results, cells(), most=2) == 2
    with results.path.open("a") as file:
        file.write('{"key": "cut o')
    kept = results.predictions(planned[0])
    assert study.run(corpus, features, Results(tmp_path), cells(), most=1) == 1
    assert ran == planned[:3]
    assert list(Results(tmp_path).lines()) == planned[:3]
    np.testing.assert_array_equal(results.predictions(planned[0]), kept)
    (tmp_path / "predictions" / f"{planned[1]}.npy").unlink()
    assert list(Results(tmp_path).lines()) == [planned[0], planned[2]]


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with Results(tmp_path).alone(), pytest.raises(InputError, match="another process"), Results(tmp_path).alone():
        pass


def test_check_says_how_many_cells_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["check", "--keep", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("targets at k = 3: 72 cells, 72 to run")
    assert lines[-1].startswith(f"all: {len(list(cells()))} cells, {len(list(cells()))} to run")


def test_blocks_and_replicates_can_be_chosen() -> None:
    assert study.chosen(None, None) == list(cells())
    some = study.chosen(["curricula", "targets at k = 1"], 2)
    assert [cell.arm.curriculum for cell in some[:16]].count("none") == 0
    assert len(some) == 2 * (8 + 7)
    assert {(cell.partition, cell.seed) for cell in some} == {(0, 0), (1, 1)}


def test_the_report_shows_what_was_run_and_names_what_was_not(
    corpus: Corpus, features: np.ndarray, tmp_path: Path
) -> None:
    results = Results(tmp_path)
    own_study = Study(corpus, features, tmp_path)
    for arm in (PLURALITY, HUMAN, POOLED):
        results.add(*run_cell(own_study, Cell(arm, 0, 0)))
    text = "\n".join(report(corpus, results))
    assert text.startswith(f"3 of {len(list(cells()))} cells have been run.")
    soft = next(line for line in text.splitlines() if line.startswith("| soft targets"))
    votes, losses = scored_votes(corpus, 0)[1], []
    for arm in (HUMAN, PLURALITY):
        p = results.predictions(Cell(arm, 0, 0).key)
        losses.append(by_actor(-(votes * np.log(p)).sum(1), votes.sum(1), corpus.actors))
    difference = np.mean([losses[0][who] - losses[1][who] for who in losses[0]])
    assert f"| {difference:+.4f} (" in soft
    assert "a listener beside" not in text
    assert "5 of targets at k = 3" in text
    assert "pooled+audio_visual_k3 - human_k3 | votes set apart" in text


def test_the_published_folds_name_every_actor_and_keep_the_lockbox_apart() -> None:
    frame = pl.read_csv(votes_saved.FOLDS_FILE, schema_overrides={"actor": pl.String, "fold": pl.String})
    assert frame["actor"].to_list() == [str(number) for number in range(1001, 1092)]
    assert frame.filter(pl.col("fold") == "lockbox")["actor"].to_list() == list(LOCKBOX)
    sizes = frame.filter(pl.col("fold") != "lockbox").group_by("fold", "sex").len()
    assert len(sizes) == 10
    assert sizes["len"].is_between(7, 9).all()
    assert folds_of(["1001", "1003"])["1001"] in range(5)
    with pytest.raises(InputError, match="actor 1089 is in the lockbox"):
        folds_of(["1001", "1089"])


def test_targets_of_both_proxies_and_the_mean_with_the_plain_shares(
    corpus: Corpus, features: np.ndarray, tmp_path: Path
) -> None:
    own_study = Study(corpus, features, tmp_path)
    listened, both, half = (
        own_study.targets(arm, 0, 0, 0)
        for arm in (Arm("auto", "listener"), Arm("auto", "listener+audio_visual"), Arm("half", "listener"))
    )
    shares = own_study.targets(Arm("human"), 0, 0, 0)
    assert np.allclose(half, (listened + shares) / 2)
    assert np.abs(both - listened).max() > 0.01
    assert np.allclose(both.sum(1), 1)
