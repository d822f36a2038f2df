"""How many votes a listener saves: fitted and scored votes are different ones, and the report shows what was run."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "study"))
import votes_saved
from study_results import Results
from study_votes import (
    Corpus,
)
from votes_saved import Curves, Run, rows_of, runs, split_votes, worth


def test_fitted_and_held_out_votes_are_different_votes_and_more_fitted_ones_hold_the_fewer(corpus: Corpus) -> None:
    rows = np.arange(len(corpus.clips))
    many = corpus.voice.sum(1) >= 8
    before = np.zeros_like(corpus.voice)
    for k in range(1, 5):
        fitted, held = split_votes(corpus, rows, Run(None, k, 4, 0))
        assert (fitted + held <= corpus.voice).all()
        assert (fitted.sum(1) == k).all()
        assert (held.sum(1) == np.where(many, 4, 0)).all()
        assert (fitted >= before).all()
        before = fitted
    eight, ninth = split_votes(corpus, rows, Run(None, 8, 1, 3))
    np.testing.assert_array_equal((eight + ninth)[corpus.voice.sum(1) == 9], corpus.voice[corpus.voice.sum(1) == 9])
    assert not ninth[corpus.voice.sum(1) < 9].any()


def test_worth_is_read_between_the_points_of_the_curve() -> None:
    curve = [(1, 1.4), (2, 1.3), (4, 1.2)]
    assert [worth(curve, loss) for loss in (1.35, 1.25, 1.1, 1.5)] == ["1.5", "3.0", "more than 4", "less than 1"]


def test_runs_are_planned_once_and_a_sample_has_its_size(corpus: Corpus) -> None:
    planned = list(runs())
    assert len({run.key for run in planned}) == len(planned)
    assert len(rows_of(corpus, Run(40, 1, 4, 0))) == 40
    assert not np.array_equal(rows_of(corpus, Run(40, 1, 4, 0)), rows_of(corpus, Run(40, 1, 4, 1)))


@pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")
def test_votes_saved_are_reported_from_what_was_run(
    corpus: Corpus, features: np.ndarray, folder: Path, tmp_path: Path
) -> None:
    results = Results(tmp_path)
    run = Run(None, 1, 4, 0)
    labels = votes_saved.labels_of_run(corpus, features, run)
    assert labels.shape == (3, len(corpus.clips), 6)
    every = Run(None, 0, 4, 0)
    results.add({"key": every.key, "seconds": 1.0}, votes_saved.labels_of_run(corpus, features, every))
    assert labels.sum(2) == pytest.approx(1)
    results.add({"key": run.key, "seconds": 1.0}, labels)
    text = "\n".join(votes_saved.report(corpus, results, votes_saved.people_of(folder)))
    held = split_votes(corpus, np.arange(len(corpus.clips)), run)[1]
    loss = -(held * np.log(labels[0])).sum() / held.sum()
    assert f"| all | 1 | 4 | 1, 0 | {loss:.3f} / " in text
    assert f"2 of {len(list(runs()))} runs are done" in text
    assert "| encoder, trained on all votes of the other folds |" in text
    fused = Curves(corpus, results).contrast((1, "fused 1"), (1, "human"), actors={"1001", "1003", "1009"})
    assert fused is not None
    assert fused.actors == 2
    assert "gender: Female | 6 | 1 |" in text
    assert "not judged" in text
