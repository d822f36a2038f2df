"""Raters by name: their votes count what they are worth, and only where votes left out show that it helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import gammaln

from alm_proxies.errors import InputError
from alm_proxies.estimators.ballot_raters import BallotRaters
from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import Counts, counts_of
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.known_raters import KnownRaters, RaterLoss
from alm_proxies.estimators.stack import Stack
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Votes

LABELS = ("a", "b", "c", "d")
pytestmark = pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")


def crowd(
    n: int = 800, votes: int = 4, raters: int = 40, spam: float = 0.3, seed: int = 0
) -> tuple[Counts, np.ndarray]:
    """Votes by raters of whom the first are spammers, each with a habit of its own, and four held-out votes."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.3 + 3.0 * np.eye(4)[c]) for c in rng.integers(4, size=n)])
    confusion = np.empty((raters, 4, 4))
    for rater in range(raters):
        slip = rng.beta(2, 18)
        confusion[rater] = (1 - slip) * np.eye(4) + slip / 4
        if rater < spam * raters:
            confusion[rater] = np.tile(rng.dirichlet(np.ones(4)), (4, 1))
    who = np.stack([rng.choice(raters, votes + 4, replace=False) for _ in range(n)])
    share = np.einsum("uk,uvkl->uvl", truth, confusion[who])
    label = (share.cumsum(2) > rng.random((n, votes + 4, 1))).argmax(2)
    cast = np.eye(4)[label]
    ids = pl.Series("utterance_id", [f"u{row:05d}" for row in range(n)])
    names = tuple(f"c/r{rater}" for rater in range(raters))
    rows = np.repeat(np.arange(n), votes)
    ballots = BallotRaters(names, rows, who[:, :votes].ravel(), cast[:, :votes].reshape(-1, 4))
    human = cast[:, :votes].sum(1)
    counts = Counts(LABELS, ids, human, (), np.zeros((n, 0)), np.arange(n) % 25, True, None, (), raters=ballots)
    return counts, cast[:, votes:].sum(1)


def loss(fit: KnownRaters | Stack | Gated, counts: Counts, held: np.ndarray) -> float:
    return float(-(held * np.log(fit.posterior(fit.aligned(counts)).mean)).sum() / held.sum())


def table(counts: Counts, known: bool = True) -> Votes:
    ballots = counts.raters
    assert ballots is not None
    names = np.array(ballots.names)[ballots.raters] if known else np.full(len(ballots.rows), "c/crowd")
    frame = pl.DataFrame(
        {
            "utterance_id": counts.utterances.to_numpy()[ballots.rows],
            "annotator": names,
            "label": np.array(LABELS)[ballots.vectors.argmax(1)],
        }
    )
    return Votes.of(frame, taxonomy=LABELS)


def test_the_loss_is_that_of_a_slow_calculation_and_its_gradient_is_right():
    counts, _ = crowd(12, votes=3, raters=8)
    gated = Gated(3, 0.01).fit(counts)
    ballots = counts.raters
    assert ballots is not None
    objective = RaterLoss(gated, counts, ballots)
    theta = np.random.default_rng(1).normal(0, 0.4, len(objective.start()))
    worth = objective.worth(theta)
    gate = gated.gate(counts)

    def multinomial(n: np.ndarray, alpha: np.ndarray) -> float:
        normaliser = gammaln(alpha.sum()) - gammaln(n.sum() + alpha.sum())
        return float(normaliser + sum(gammaln(x + a) - gammaln(a) for x, a in zip(n, alpha, strict=True)))

    total = 0.0
    for vote, (row, rater, vector) in enumerate(zip(ballots.rows, ballots.raters, ballots.vectors, strict=True)):
        given = np.zeros(4)
        for other, other_row in enumerate(ballots.rows):
            if other_row == row and other != vote:
                given += worth[ballots.raters[other], ballots.vectors[other].argmax()]
        assert rater >= 0
        both = [np.exp(multinomial(given + vector, alpha)) for alpha in gated.alpha_]
        alone = [np.exp(multinomial(given, alpha)) for alpha in gated.alpha_]
        total += np.log(gate[row] @ both) - np.log(gate[row] @ alone)
    reliability, crowds, own = theta[:8], theta[8:24], theta[24:]
    penalty = 1.0 * reliability @ reliability + 2.0 * crowds @ crowds + 3.0 * own @ own
    value, gradient = objective(theta)
    assert value == pytest.approx(-(total - penalty) / len(ballots.rows), rel=1e-10)
    step = 1e-5 * np.eye(len(theta))
    numeric = [(objective(theta + shift)[0] - objective(theta - shift)[0]) / 2e-5 for shift in step]
    assert gradient == pytest.approx(np.array(numeric), abs=1e-8)


def test_the_worths_found_are_where_the_slope_vanishes():
    counts, _ = crowd(200, raters=12)
    fit = KnownRaters(tolerance=1e-13).fit(counts)
    assert counts.raters is not None
    objective = RaterLoss(fit.gated_, fit.gated_.aligned(counts), counts.raters)
    logs = np.log(fit.worth_[:-1]) - np.log(fit.worth_[-1])
    # s + d is known, and at the optimum 2 s = sum of 6 d
    reliability = logs.sum((1, 2)) / (16 + 1 / 3)
    own = logs - reliability[:, None, None]
    theta = np.concatenate([reliability, (np.log(fit.worth_[-1]) - objective.base).ravel(), own.ravel()])
    assert np.allclose(objective.worth(theta), fit.worth_)
    before = np.abs(objective(objective.start())[1]).max()
    assert np.abs(objective(theta)[1]).max() < 0.01 * before
    assert objective(theta)[0] < objective(objective.start())[0]


def test_votes_of_spammers_come_to_count_little_and_those_of_good_raters_much():
    counts, held = crowd()
    fit = KnownRaters().fit(counts)
    own = fit.worth_[:-1, range(4), range(4)].mean(1)
    assert own[:12].mean() < 0.5 * own[12:].mean()
    assert loss(fit, counts, held) < loss(Gated(8, 0.01).fit(counts), counts, held) - 0.01


def test_the_stack_takes_raters_where_they_help_and_says_so():
    counts, held = crowd()
    stack = Stack(folds=3).fit(counts)
    assert stack.learned_.alone.weights["raters"] > 0.3
    assert "raters by name count" in {f.kind: f.message for f in stack.findings_}["known_raters"]
    blind = replace(counts, raters=None)
    without = Stack(folds=3).fit(blind)
    assert "known_raters" not in [f.kind for f in without.findings_]
    assert loss(stack, counts, held) < loss(without, blind, held) - 0.01


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_names_that_say_nothing_cost_nothing(seed):
    """A clean crowd, and a crowd whose names were shuffled over its votes."""
    clean, held = crowd(400, spam=0.0, seed=seed)
    spoilt, spoilt_held = crowd(400, seed=seed)
    assert spoilt.raters is not None
    mixed = np.random.default_rng(seed).permutation(spoilt.raters.raters)
    shuffled = replace(spoilt, raters=replace(spoilt.raters, raters=mixed))
    for counts, votes in ((clean, held), (shuffled, spoilt_held)):
        blind = replace(counts, raters=None)
        assert loss(Stack(folds=3).fit(counts), counts, votes) <= loss(Stack(folds=3).fit(blind), blind, votes) + 0.002


def test_raters_count_beside_proxies_too():
    counts, held = crowd()
    from alm_proxies.estimators.counts import Block

    rng = np.random.default_rng(4)
    proxy = np.stack([rng.multinomial(4, 0.5 * h / h.sum() + 0.125) for h in held])
    both = replace(counts, blocks=(Block("p", ("p",), "votes", proxy.astype(float), proxy.sum(1).astype(float)),))
    stack = Stack(folds=3).fit(both)
    assert stack.proxies_ == ("p",)
    assert stack.learned_.beside is not None
    assert stack.learned_.beside.weights["raters"] > 0.1


def test_raters_who_are_not_in_the_fit_count_as_the_crowd_and_parts_change_nothing():
    counts, _ = crowd()
    fit = KnownRaters().fit(counts)
    assert counts.raters is not None
    strangers = replace(counts.raters, names=tuple(f"new{r}" for r in range(40)))
    nobody = replace(counts.raters, raters=np.full(len(counts.raters.rows), -1))
    first, second = (fit.posterior(replace(counts, raters=raters)).mean for raters in (strangers, nobody))
    assert np.array_equal(first, second)
    whole = fit.posterior(counts).mean
    parts = [fit.posterior(counts.rows(np.arange(at, at + 200))).mean for at in range(0, 800, 200)]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-12)


def test_votes_that_share_their_mass_count_by_every_label_named():
    counts, _ = crowd(60)
    assert counts.raters is not None
    halves = 0.5 * counts.raters.vectors + 0.125
    fit = KnownRaters().fit(counts)
    counted = fit.counted(replace(counts, raters=replace(counts.raters, vectors=halves)))
    whole = [fit.counted(replace(counts, raters=replace(counts.raters, vectors=v))) for v in
             (counts.raters.vectors, *(np.tile(vector, (240, 1)) for vector in np.eye(4)))]  # fmt: skip
    assert np.allclose(counted, 0.5 * whole[0] + 0.125 * sum(whole[1:]))


def test_cuts_keep_who_cast_the_votes_given():
    counts, _ = crowd(50)
    cuts = contexts_of(counts, 0)
    assert cuts.raters is not None
    given = np.zeros_like(cuts.given)
    np.add.at(given, cuts.raters.rows, cuts.raters.vectors)
    assert np.array_equal(given, cuts.given)
    assert np.array_equal(cuts.given + cuts.left, counts.human[cuts.rows])
    assert counts.raters is not None
    own = {(row, rater) for row, rater in zip(counts.raters.rows, counts.raters.raters, strict=True)}
    assert {(cuts.rows[row], rater) for row, rater in zip(cuts.raters.rows, cuts.raters.raters, strict=True)} <= own
    blind = contexts_of(replace(counts, raters=None), 0)
    assert blind.targets.sum() == pytest.approx(cuts.targets.sum())


def test_a_table_with_rater_names_is_fused_by_them_and_one_without_is_refused_by_the_method():
    counts, _ = crowd(400)
    again = counts_of(table(counts))
    assert again.raters is not None
    assert np.array_equal(again.human, counts.human)
    fused = fuse(table(counts), FuseSettings(method="raters"))
    assert fused.estimator.name == "raters"
    findings = fuse(table(counts), FuseSettings(folds=3), quiet=True).findings.frame
    assert findings.filter(pl.col("kind") == "known_raters").height == 1
    with pytest.raises(InputError, match="who cast each vote"):
        fuse(table(counts, known=False), FuseSettings(method="raters"))
    crowd_only = fuse(table(counts, known=False), FuseSettings(folds=3), quiet=True).findings.frame
    assert crowd_only.filter(pl.col("kind") == "known_raters").height == 0
