"""Stacking learns from dense votes and refuses sparse ones."""

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.supervised import Supervised


def crowd(votes: int) -> tuple[Counts, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(4, 0.5), size=300)
    human = np.stack([rng.multinomial(votes, q) for q in truth]).astype(float)
    proxy = np.stack([rng.multinomial(8, q) for q in truth]).astype(float)
    block = Block("m", ("m",), "votes", proxy, proxy.sum(1))
    ids = pl.Series("utterance_id", [f"u{i:03d}" for i in range(300)])
    labels = ("a", "b", "c", "d")
    return Counts(labels, ids, human, (block,), np.zeros((300, 0)), np.arange(300), False, None, ()), truth


def test_it_learns_from_dense_votes_what_few_votes_foretell():
    counts, truth = crowd(12)
    rng = np.random.default_rng(1)
    few = np.stack([rng.multivariate_hypergeometric(row.astype(int), 3) for row in counts.human]).astype(float)
    predicted = Supervised(3).fit(counts).predict(counts.with_human(few)).distributions()
    raw = (few + counts.shares) / 4.0
    assert -(truth * np.log(predicted)).sum(1).mean() < -(truth * np.log(raw)).sum(1).mean() - 0.05


def test_the_same_seed_gives_the_same_labels():
    counts, _ = crowd(8)
    first, second = (Supervised(3, seed=4).fit(counts).predict(counts).frame for _ in range(2))
    assert first.equals(second)


def test_sparse_votes_are_refused_with_what_to_use_instead():
    counts, _ = crowd(4)
    with pytest.raises(InputError, match="use gated or auto"):
        Supervised(3).fit(counts)


def test_impossible_settings_are_refused_before_anything_is_read():
    with pytest.raises(SettingsError):
        Supervised(0)


def test_the_strength_is_that_of_predictions_for_other_speakers():
    rng = np.random.default_rng(3)
    truth = np.stack([rng.dirichlet(0.4 + 4.0 * np.eye(6)[row % 6]) for row in range(1060)])
    human = np.stack([rng.multinomial(10 if row < 60 else 3, q) for row, q in enumerate(truth)]).astype(float)
    proxy = np.stack([rng.multinomial(8, 0.7 * q + 0.3 / 6) for q in truth]).astype(float)
    ids = pl.Series("utterance_id", [f"u{row:04}" for row in range(1060)])
    block = Block("m", ("m",), "votes", proxy, proxy.sum(1))
    counts = Counts(tuple("abcdef"), ids, human, (block,), np.zeros((1060, 0)), np.arange(1060) % 12, True, None, ())
    posterior = Supervised(3).fit(counts).posterior(counts)
    error = np.square(posterior.mean - truth).sum(1)[60:].mean()
    promised = ((1 - np.square(posterior.mean).sum(1)) / (posterior.concentration + 1))[60:].mean()
    assert error / promised < 1.7


def test_sums_of_shares_that_are_whole_but_for_rounding_are_dense_votes():
    counts, _ = crowd(8)
    almost = counts.with_human(counts.human * (1 - 1e-15))
    assert (almost.human < counts.human)[counts.human > 0].all()
    first, second = (Supervised(3).fit(each).posterior(counts).mean for each in (counts, almost))
    assert np.allclose(first, second, atol=1e-6)
