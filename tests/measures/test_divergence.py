from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import log_loss

from alm_proxies.errors import InputError
from alm_proxies.measures import divergence as d


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(st.integers(2, 12))
    rows = draw(st.integers(1, 6))
    counts = arrays(np.int64, (2, rows, labels), elements=st.integers(0, 20))
    table = draw(counts).astype(float)
    table[..., 0] += table.sum(-1) == 0
    shares = table / table.sum(-1, keepdims=True)
    return shares[0], shares[1]


@settings(deadline=None)
@given(pairs())
def test_jsd_is_scipys_in_both_bases(pair):
    p, q = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy takes the root of rounding noise below 0
        bits = np.nan_to_num(jensenshannon(p, q, axis=1, base=2))
        nats = np.nan_to_num(jensenshannon(p, q, axis=1))
    np.testing.assert_allclose(d.jsd_base2(p, q), bits**2, atol=1e-12)
    np.testing.assert_allclose(d.jsd_nats(p, q), nats**2, atol=1e-12)


@settings(deadline=None)
@given(pairs())
def test_kld_and_entropy_are_scipys(pair):
    p, q = pair
    np.testing.assert_allclose(d.kld_nats(p, q), stats.entropy(p, q, axis=1), atol=1e-12)
    np.testing.assert_allclose(d.entropy_nats(p), stats.entropy(p, axis=1), atol=1e-12)
    np.testing.assert_allclose(d.entropy_normalised(p), stats.entropy(p, axis=1, base=p.shape[1]), atol=1e-12)


@settings(deadline=None)
@given(pairs())
def test_measures_keep_their_bounds_their_symmetry_and_known_inequalities(pair):
    p, q = pair
    jsd, bc, tv = d.jsd_base2(p, q), d.bhattacharyya(p, q), d.total_variation(p, q)
    for value in (jsd, bc, tv):
        assert (value >= 0).all()
        assert (value <= 1 + 1e-12).all()
    np.testing.assert_allclose(jsd, d.jsd_base2(q, p), atol=1e-12)
    np.testing.assert_allclose(d.jsd_base2(p, p), 0, atol=1e-12)
    assert (jsd <= tv + 1e-12).all()  # Lin 1991
    assert (1 - bc <= tv + 1e-12).all()
    assert (tv <= np.sqrt(np.maximum(1 - bc**2, 0)) + 1e-7).all()


def test_a_prediction_of_zero_where_votes_fell_is_infinite_and_elsewhere_it_is_not():
    assert d.nll_per_vote([[1.0, 0.0]], [[1, 1]])[0] == np.inf
    assert d.nll_per_vote([[1.0, 0.0]], [[3, 0]])[0] == 0
    assert d.kld_nats([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert d.kld_nats([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))


def test_nll_and_brier_are_the_mean_over_single_votes():
    rng = np.random.default_rng(0)
    q, counts = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, (30, 4)) + 1
    votes = np.repeat(np.tile(np.arange(4), 30), counts.ravel())
    rows = np.repeat(np.repeat(np.arange(30), 4), counts.ravel())
    n = counts.sum(1)
    nll = (d.nll_per_vote(q, counts) * n).sum() / n.sum()
    assert nll == pytest.approx(log_loss(votes, q[rows], labels=range(4)))
    squared = np.square(np.eye(4)[votes] - q[rows]).sum(1)
    assert (d.brier(q, counts) * n).sum() / n.sum() == pytest.approx(squared.mean())


def test_the_truth_itself_has_the_lowest_expected_nll_and_brier():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.ones(5), 200)
    other = rng.dirichlet(np.ones(5), 200)
    assert (d.nll_per_vote(truth, truth) <= d.nll_per_vote(other, truth)).all()
    assert (d.brier(truth, truth) <= d.brier(other, truth) + 1e-15).all()


def test_r2_within_an_utterance_is_the_squared_correlation_and_undefined_for_uniform():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(6), 20), rng.dirichlet(np.ones(6), 20)
    expected = [stats.pearsonr(a, b).statistic ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(d.r2_within_utterance(p, q), expected, atol=1e-12)
    assert np.isnan(d.r2_within_utterance(p[0], np.full(6, 1 / 6)))


@pytest.mark.parametrize(
    ("row", "message"),
    [([0.5, np.nan], "finite"), ([0.5, 0.6], "sum to 1"), ([1.5, -0.5], "negative")],
)
def test_what_is_no_distribution_is_refused_with_its_row(row, message):
    with pytest.raises(InputError, match=message) as error:
        d.jsd_base2([[0.5, 0.5], row], [[0.5, 0.5], [0.5, 0.5]])
    assert "row 2" in str(error.value)


def test_a_row_without_votes_is_refused_and_no_rows_give_no_numbers():
    with pytest.raises(InputError, match="row 2"):
        d.nll_per_vote([[0.5, 0.5]] * 2, [[1, 0], [0, 0]])
    empty = np.zeros((0, 3))
    for measure in (d.jsd_base2, d.kld_nats, d.bhattacharyya, d.total_variation, d.nll_per_vote, d.brier):
        assert measure(empty, empty).shape == (0,)
