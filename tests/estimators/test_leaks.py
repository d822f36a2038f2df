"""Proxies that know of the human votes are found; honest ones never, however good, rare or one-sided they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.leaks import leaking


def crowd(votes: int, n: int = 1500, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The truth, and that number of human votes from it."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.4 + 3.0 * np.eye(labels)[c]) for c in rng.integers(labels, size=n)])
    return truth, np.stack([rng.multinomial(votes, q) for q in truth])


def counts_from(human: np.ndarray, proxy: np.ndarray, speakers: int = 20) -> Counts:
    n, labels = human.shape
    block = Block("proxy", ("proxy",), "votes", proxy.astype(float), proxy.sum(1).astype(float))
    ids = pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)])
    names = tuple(f"l{j}" for j in range(labels))
    return Counts(names, ids, human.astype(float), (block,), np.zeros((n, 0)), np.arange(n) % speakers, True, None, ())


def one_vote(human: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([rng.multivariate_hypergeometric(row, 1) for row in human])


def majority(human: np.ndarray) -> np.ndarray:
    return np.eye(human.shape[1], dtype=int)[(human + 0.1 * np.random.default_rng(2).random(human.shape)).argmax(1)]


@pytest.mark.parametrize("votes", [2, 3, 5])
@pytest.mark.parametrize("copy", [one_vote, majority])
@pytest.mark.parametrize("speakers", [1, 20])
def test_a_copy_of_the_human_votes_is_found(votes, copy, speakers):
    _, human = crowd(votes)
    assert "more than independent votes" in leaking(counts_from(human, 10 * copy(human), speakers))["proxy"]


@pytest.mark.parametrize("votes", [2, 3, 5])
@pytest.mark.parametrize("where", ["unanimous", "not unanimous", "the first label won"])
def test_proxies_asked_for_by_the_human_votes_are_found(votes, where):
    truth, human = crowd(votes, n=2500)
    alike = human.max(1) == votes
    rows = {"unanimous": alike, "not unanimous": ~alike, "the first label won": human.argmax(1) == 0}[where]
    proxy = np.random.default_rng(3).multinomial(8, truth) * rows[:, None]
    assert "depends on the human votes" in leaking(counts_from(human, proxy))["proxy"]


def honest(truth: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    n, labels = truth.shape
    heard = rng.multinomial(8, truth)
    unsure = -(truth * np.log(truth)).sum(1)
    return {
        "every draw from the truth": heard,
        "one draw from the truth": rng.multinomial(1, truth),
        "the label that is truly likeliest": np.eye(labels, dtype=int)[truth.argmax(1)],
        "one label always": np.tile(8 * np.eye(labels, dtype=int)[0], (n, 1)),
        "shuffled": heard[rng.permutation(n)],
        "present for half at random": heard * (rng.random((n, 1)) < 0.5),
        "present where the truth is ambiguous": heard * (unsure > np.median(unsure))[:, None],
        "present where one emotion is truly likeliest": heard * (truth.argmax(1) == 0)[:, None],
        "silent where it is sure": heard * (heard.max(1) < 7)[:, None],
        "never there": 0 * heard,
    }


@pytest.mark.parametrize("votes", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_honest_proxies_are_never_found(votes, seed):
    truth, human = crowd(votes, seed=seed)
    named = {name: leaking(counts_from(human, proxy)) for name, proxy in honest(truth).items()}
    assert not any(named.values()), named


def test_honest_proxies_of_a_corpus_that_keeps_only_utterances_with_a_majority_are_not_found():
    truth, human = crowd(3, n=3000)
    kept = human.max(1) >= 2
    for name in ("every draw from the truth", "the label that is truly likeliest", "present for half at random"):
        assert leaking(counts_from(human[kept], honest(truth)[name][kept])) == {}


def test_a_corpus_without_its_undecided_utterances_is_no_reason_to_doubt_proxies_asked_of_it_alone():
    rng = np.random.default_rng(6)
    truth = rng.dirichlet(np.full(5, 2.0), size=8000)
    human = rng.multinomial(3, truth)
    first = np.arange(8000) < 4000
    kept = np.flatnonzero(~first | (human.max(1) >= 2))
    counts = counts_from(human, rng.multinomial(8, truth) * first[:, None])
    named = pl.Series("utterance_id", [f"{'kept' if i < 4000 else 'whole'}/{i:05d}" for i in range(8000)])
    assert leaking(replace(counts, utterances=named).rows(kept)) == {}
    asked = counts_from(human, rng.multinomial(8, truth) * (human.max(1) < 3)[:, None])
    assert "proxy" in leaking(replace(asked, utterances=named))


def test_raters_who_differ_in_skill_are_no_leak():
    rng = np.random.default_rng(5)
    truth, _ = crowd(3)
    skill = np.array([0.95, 0.6, 0.3])
    human = sum(rng.multinomial(1, s * truth + (1 - s) / 4) for s in skill)
    assert leaking(counts_from(human, rng.multinomial(8, truth))) == {}


def test_votes_that_share_their_mass_and_few_utterances_are_not_judged():
    _, human = crowd(3)
    counts = counts_from(human, 10 * one_vote(human))
    assert leaking(replace(counts, draws=(np.zeros(1, dtype=np.int64), np.ones((1, 4))))) == {}
    assert leaking(counts.rows(np.arange(40))) == {}
