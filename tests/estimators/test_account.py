"""Why a proxy does not count, as the labels' metadata state it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.account import ADDS_NOTHING, NO_GAIN, NOT_TESTED, account_of
from alm_proxies.estimators.chosen import Chosen
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.stack import Stack


def corpus(size: int = 120, **proxies: np.ndarray) -> Counts:
    """Three votes each on all utterances but the last twenty, and the votes of proxies."""
    truth = np.random.default_rng(0).dirichlet(np.full(3, 0.5), size)
    human = np.random.default_rng(1).multinomial(3, truth).astype(float)
    human[-20:] = 0.0
    ids = pl.Series("utterance_id", [f"u{row:03}" for row in range(size)])
    blocks = tuple(Block(name, (name,), "votes", votes, votes.sum(1)) for name, votes in proxies.items())
    return Counts(("a", "b", "c"), ids, human, blocks, np.zeros((size, 0)), np.arange(size) % 20, True, None, ())


def voting(on: slice) -> np.ndarray:
    """Six votes that know nothing, on some utterances."""
    votes = np.zeros((120, 3))
    votes[on] = np.random.default_rng(2).multinomial(6, np.full(3, 1 / 3), size=120)[on]
    return votes


def whys(estimator: Estimator, counts: Counts) -> dict[str, str | None]:
    return {proxy["proxy"]: proxy["why"] for proxy in account_of(estimator.fit(counts), counts)["proxies"]}


METHODS = pytest.mark.parametrize("make", [Stack, Chosen])


@METHODS
def test_a_proxy_that_shares_no_utterance_with_people_was_not_tested(make: type[Stack | Chosen]) -> None:
    assert whys(make(quiet=True), corpus(apart=voting(slice(100, 120)))) == {"apart": NOT_TESTED}


@METHODS
def test_beside_a_worthless_one_it_was_not_tested_either(make: type[Stack | Chosen]) -> None:
    counts = corpus(apart=voting(slice(100, 120)), noise=voting(slice(0, 120)))
    reasons = whys(make(quiet=True), counts)
    assert reasons["apart"] == NOT_TESTED
    assert reasons["noise"] in (NO_GAIN, ADDS_NOTHING)


def test_one_that_depends_on_the_human_votes_is_stated_as_that() -> None:
    plain = corpus(900)
    copied = np.where(plain.human.any(1, keepdims=True), np.eye(3)[plain.human.argmax(1)] * 10, 0.0)
    reasons = whys(Chosen(quiet=True), corpus(900, copied=copied))
    assert "human votes" in str(reasons["copied"])
