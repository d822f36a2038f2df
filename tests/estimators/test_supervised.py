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
