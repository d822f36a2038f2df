from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.errors import InputError
from alm_proxies.measures.divergence import entropy_nats
from alm_proxies.measures.entropy import entropy_few_votes_nats


def test_it_is_chao_and_shens_formula_by_hand():
    # 2 + 1 votes: coverage 2/3, p = 4/9 and 2/9
    first, second = 4 / 9, 2 / 9
    expected = sum(-p * np.log(p) / (1 - (1 - p) ** 3) for p in (first, second))
    assert entropy_few_votes_nats([2, 1, 0]) == pytest.approx(expected)


def test_unanimous_votes_have_none_and_one_vote_says_nothing():
    found = entropy_few_votes_nats([[5, 0], [1, 0], [0, 0]])
    assert found[0] == 0
    assert np.isnan(found[1:]).all()


def test_its_mean_is_nearer_to_the_truth_than_the_plain_entropys():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(6, 0.6), 4000)
    votes = rng.multinomial(3, truth)
    exact = entropy_nats(truth).mean()
    plain = entropy_nats(votes / 3).mean() - exact
    corrected = entropy_few_votes_nats(votes).mean() - exact
    assert abs(corrected) < abs(plain) / 4


def test_with_many_votes_it_is_the_plain_entropy():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.ones(5), 50)
    votes = rng.multinomial(100_000, truth)
    np.testing.assert_allclose(entropy_few_votes_nats(votes), entropy_nats(truth), atol=0.02)


def test_weighted_votes_are_refused():
    with pytest.raises(InputError, match="whole votes"):
        entropy_few_votes_nats([1.5, 0.5])
