"""Votes that are shared among labels count as whole ones where counts are given a likelihood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import Block, Counts, counts_of
from alm_proxies.estimators.dirichlet import Dirichlet
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.known_raters import KnownRaters
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.state import estimator_of, state_of
from alm_proxies.measures.held_out import score_held_out
from alm_proxies.stages.listen.relabel import relabelling
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.calibrate import fit_calibration
from alm_proxies.training.folds import Material
from alm_proxies.training.targets import targets_of
from alm_proxies.whole_votes import whole_counts, whole_votes

Array = NDArray[np.float64]
LABELS = ("angry", "happy", "neutral", "sad")


PEOPLE = Utterances.of(
    pl.DataFrame(
        {"utterance_id": [f"u{row:04}" for row in range(500)], "speaker": [f"s{row % 25}" for row in range(500)]}
    )
)


def drawn(rows: int = 500, votes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Truths, and votes that are the mean of two answers each: half a vote for either, or whole where they agree."""
    random = np.random.default_rng(seed)
    centres = random.integers(4, size=rows)
    truth = np.stack([random.dirichlet(0.4 + 4.0 * np.eye(4)[centre]) for centre in centres])
    return truth, np.stack([random.multinomial(2, share, size=votes) / 2 for share in truth])


def corpus(rows: int = 500, seed: int = 0) -> tuple[Counts, Array]:
    truth, vectors = drawn(rows, seed=seed)
    random = np.random.default_rng(seed + 1)
    heard = np.stack([random.multinomial(8, 0.7 * share + 0.3 / 4) for share in truth]).astype(np.float64)
    ids = pl.Series("utterance_id", [f"u{row:04}" for row in range(rows)])
    block = Block("m", ("m",), "votes", heard, heard.sum(1))
    draws = np.repeat(np.arange(rows), vectors.shape[1]), vectors.reshape(-1, 4)
    speakers = np.arange(rows) % 25
    return Counts(LABELS, ids, vectors.sum(1), (block,), np.zeros((rows, 0)), speakers, True, draws, ()), truth


def table(vectors: Array, **columns: object) -> Votes:
    row, vote, label = np.nonzero(vectors)
    frame = {
        "utterance_id": [f"u{each:04}" for each in row],
        "annotator": [f"c/r{each}" for each in vote],
        "draw": np.zeros(len(row), np.int32),
        "label": np.array(LABELS)[label],
        "weight": vectors[row, vote, label],
    }
    return Votes.of(pl.DataFrame({**frame, **columns}), taxonomy=LABELS)


def test_whole_votes_expect_the_shared_ones_and_leave_whole_ones_as_they_are() -> None:
    rows = np.array([0, 0, 0, 1, 1, 2])
    # the first as of a secondary label that one of three raters named, with a share of .1
    vectors = np.array([[0.9, 0, 0], [0.9, 0, 0], [0, 0.9, 0.3], [0, 1, 0], [1, 0, 0], [0.2, 0.3, 0.5]])
    seeds = [whole_counts(rows, vectors, 4, seed) for seed in range(4000)]
    expected = np.array([[1.8, 0.9, 0.3], [1, 1, 0], [0.2, 0.3, 0.5], [0, 0, 0]])
    assert np.abs(np.mean(seeds, axis=0) - expected).max() < 0.04
    each = whole_votes(rows, vectors, 4, 0)
    assert (each.sum(1) == 1.0).all()
    assert np.isin(each, (0.0, 1.0)).all()
    assert (each[3:5] == vectors[3:5]).all()
    assert whole_counts(rows[:0], vectors[:0], 2, 0).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("make", [Dirichlet, Gated, Loglinear, Mixture, lambda: Stack(quiet=True)])
def test_labels_of_shared_votes_promise_no_smaller_error_than_they_have(make: type[Estimator]) -> None:
    counts, truth = corpus()
    posterior = make().fit(counts).posterior(counts)
    error = np.square(posterior.mean - truth).sum(1).mean()
    promised = ((1 - np.square(posterior.mean).sum(1)) / (posterior.concentration + 1)).mean()
    assert 0.4 < error / promised < 1.3
    assert error < np.square(counts.human / 3 - truth).sum(1).mean()


@pytest.mark.parametrize("make", [KnownRaters, lambda: Stack(quiet=True)])
def test_raters_who_state_shares_count_much_but_promise_no_smaller_error_than_there_is(make: type[Estimator]) -> None:
    truth, _ = drawn()
    random = np.random.default_rng(7)
    stated = np.stack([random.dirichlet(2.0 * share + 1e-3, size=3) for share in truth])
    counts = counts_of(table(stated), utterances=PEOPLE)
    fit = make().fit(counts)
    posterior = fit.posterior(counts)
    error = np.square(posterior.mean - truth).sum(1).mean()
    promised = ((1 - np.square(posterior.mean).sum(1)) / (posterior.concentration + 1)).mean()
    assert 0.4 < error / promised < 1.5
    again = estimator_of(state_of(fit)).posterior(counts)
    assert np.array_equal(again.concentration, posterior.concentration)
    fit = KnownRaters().fit(counts)
    plain = fit.gated_.posterior(counts.with_human(fit.counted(counts)))
    assert fit.added_scale_ < 0.7
    assert np.median(fit.posterior(counts).concentration) < 0.7 * np.median(plain.concentration)


def test_whole_votes_of_known_raters_keep_the_strength_of_their_classes() -> None:
    truth, _ = drawn(200)
    random = np.random.default_rng(7)
    whole = np.stack([random.multinomial(1, share, size=3) for share in truth]).astype(np.float64)
    counts = counts_of(table(whole), utterances=PEOPLE)
    fit = KnownRaters().fit(counts)
    plain = fit.gated_.posterior(counts.with_human(fit.counted(counts)))
    assert np.array_equal(fit.posterior(counts).concentration, plain.concentration)


def test_cuts_of_shared_votes_have_whole_held_out_votes_beside_their_shares() -> None:
    counts, _ = corpus(60)
    cuts = contexts_of(counts, 0)
    assert (cuts.whole == np.round(cuts.whole)).all()
    assert np.allclose(cuts.whole.sum(1), cuts.left.sum(1))
    assert (cuts.left != cuts.whole).any()
    plain = contexts_of(counts.with_human(counts.whole()), 0)
    assert (plain.left == plain.whole).all()


def test_a_listeners_second_round_is_fitted_to_whole_votes() -> None:
    truth, vectors = drawn()
    heard = np.stack([np.random.default_rng(row).dirichlet(4.0 * share + 0.1) for row, share in enumerate(truth)])
    shares = 0.5 * heard + 0.5 * truth.mean(0)
    rows = np.arange(len(truth))
    draws = np.repeat(rows, 3), vectors.reshape(-1, 4)
    plain = Material(LABELS, np.zeros((len(rows), 1), np.float32), vectors.sum(1), rows % 5)
    labels = [relabelling(material, 0)(rows, shares) for material in (replace(plain, draws=draws), plain)]
    whole, shared = (-(truth * np.log(each)).sum(1).mean() for each in labels)
    assert whole < shared - 0.01


def test_the_concentration_of_a_model_is_that_behind_shared_votes() -> None:
    random = np.random.default_rng(0)
    mean = random.dirichlet([0.7] * 4, 1500).clip(1e-3)
    mean /= mean.sum(1, keepdims=True)
    vectors = np.stack([random.multinomial(2, random.dirichlet(6.0 * share), size=5) / 2 for share in mean])
    ids = [f"u{row:04}" for row in range(1500)]
    shares = {f"p_{label}": mean[:, j] for j, label in enumerate(LABELS)}
    labels = Labels.of(pl.DataFrame({"utterance_id": ids, **shares}), taxonomy=LABELS)
    people = pl.DataFrame({"utterance_id": ids, "speaker": [f"s{row % 20}" for row in range(1500)]})
    targets = targets_of(labels, Utterances.of(people), votes=table(vectors))
    assert (targets.whole == np.round(targets.whole)).all()
    assert np.allclose(targets.whole.sum(1), 5.0)
    assert (targets.counts != np.round(targets.counts)).any()
    fitted = fit_calibration(
        np.log(mean), targets.counts, np.arange(1500) % 20, distance=np.ones(1500), whole=targets.whole
    )
    assert fitted.concentration is not None
    assert np.exp(fitted.concentration[0]) == pytest.approx(6.0, rel=0.3)


def test_shared_held_out_votes_tell_a_right_strength_from_one_that_is_too_high() -> None:
    truth, vectors = drawn(400, votes=6)
    random = np.random.default_rng(2)
    guess = np.stack([random.dirichlet(8.0 * share + 0.05) for share in truth])
    votes = table(vectors, held_out=True)
    scores = {}
    for strength in (8.0, 80.0):
        frame = {"utterance_id": [f"u{row:04}" for row in range(400)], "concentration": strength}
        frame |= {f"p_{label}": guess[:, j] for j, label in enumerate(LABELS)}
        check = score_held_out(Labels.of(pl.DataFrame(frame), taxonomy=LABELS), votes).concentration
        assert check is not None
        assert check.utterances == 400
        scores[strength] = check
    assert scores[8.0].log_score < scores[80.0].log_score
    assert scores[8.0].coverage[0.9] > 0.85 > scores[80.0].coverage[0.9]


def test_votes_for_one_label_each_are_counted_as_before() -> None:
    truth, _ = drawn(50)
    whole = np.stack([np.random.default_rng(row).multinomial(1, share, size=3) for row, share in enumerate(truth)])
    counts = counts_of(table(whole.astype(np.float64)))
    assert counts.draws is None
    assert counts.whole() is counts.human
