from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alm_proxies.annotators.cells import label_orders
from alm_proxies.annotators.scoring import order_probabilities
from alm_proxies.errors import InputError

scores = st.tuples(st.integers(1, 4), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-40, 0))
)


@given(scores)
def test_probabilities_sum_to_one_and_do_not_change_with_a_constant(values):
    shares = order_probabilities(values)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all()
    np.testing.assert_allclose(order_probabilities(values - 3.0), shares, atol=1e-12)


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 9])
def test_a_position_bias_averages_out_over_all_label_orders(labels):
    truth = np.random.default_rng(labels).dirichlet(np.ones(labels))
    liking = np.random.default_rng(1).normal(size=labels)
    orders = label_orders(labels, labels if labels % 2 == 0 else 2 * labels)
    asked = np.array([[liking[order.index(label)] for label in range(labels)] for order in orders])
    np.testing.assert_allclose(order_probabilities(asked).mean(axis=0), 1 / labels)
    error = np.abs(order_probabilities(asked + np.log(truth))[0] - truth).sum()
    assert np.abs(order_probabilities(asked + np.log(truth)).mean(axis=0) - truth).sum() < error


def test_the_content_free_answer_is_divided_out():
    truth, habit = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.1, 0.8])
    shares = order_probabilities(np.log(truth * habit)[None], content_free=np.log(habit)[None] - 2.0)
    np.testing.assert_allclose(shares, truth[None])


def test_an_impossible_label_has_no_share():
    np.testing.assert_allclose(order_probabilities([[np.log(0.2), np.log(0.3), -np.inf]]), [[0.4, 0.6, 0.0]])


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ([0.0, 0.0], {}, "must be"),
        ([[np.nan, 0.0]], {}, "give no distribution"),
        ([[-np.inf, -np.inf]], {}, "give no distribution"),
        ([[0.0, 0.0]], {"content_free": [[0.0, 0.0], [0.0, 0.0]]}, "content-free scores are"),
        ([[0.0, 0.0]], {"content_free": [[0.0, -np.inf]]}, "content-free probability of a label is 0"),
    ],
)
def test_scores_that_give_no_distribution_are_refused(values, more, message):
    with pytest.raises(InputError, match=message):
        order_probabilities(values, **more)
