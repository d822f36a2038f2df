from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from alm_proxies.errors import InputError
from alm_proxies.measures.earth_mover import emd_over_anchors
from alm_proxies.taxonomy import TAXONOMIES, anchors


@settings(max_examples=40, deadline=None)
@given(
    labels=st.integers(2, 10),
    axes=st.integers(2, 3),
    seed=st.integers(0, 10_000),
    sharpness=st.sampled_from([0.05, 0.3, 2.0]),
    grid=st.booleans(),
)
def test_it_is_the_optimum_of_pot(labels, axes, seed, sharpness, grid):
    rng = np.random.default_rng(seed)
    # on a grid anchors coincide and lie in line, so that many bases cost the same
    points = rng.integers(0, 3, (labels, axes)).astype(float) if grid else rng.random((labels, axes))
    p, q = rng.dirichlet(np.full(labels, sharpness), (2, 15))
    p[:3], q[3:5] = np.eye(labels)[rng.integers(0, labels, 3)], p[3:5]
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    cost = ot.dist(points, points, metric="euclidean")
    expected = [ot.emd2(a, b, cost) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(emd_over_anchors(p, q, points), expected, atol=1e-9)


def test_in_one_dimension_it_is_scipys_wasserstein_distance():
    rng = np.random.default_rng(0)
    points = rng.random(7)
    p, q = rng.dirichlet(np.ones(7), (2, 20))
    expected = [wasserstein_distance(points, points, a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(emd_over_anchors(p, q, points), expected, atol=1e-12)
    on_a_line = np.stack([points, np.zeros(7)], axis=1)
    np.testing.assert_allclose(emd_over_anchors(p, q, on_a_line), expected, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in TAXONOMIES if name != "msp9"])
def test_between_certain_labels_it_is_the_distance_of_their_anchors(name):
    points = anchors(TAXONOMIES[name])
    labels = len(points)
    p, q = np.repeat(np.eye(labels), labels, axis=0), np.tile(np.eye(labels), (labels, 1))
    expected = np.sqrt(np.square(points[:, None] - points[None]).sum(-1)).ravel()
    np.testing.assert_allclose(emd_over_anchors(p, q, points), expected, atol=1e-9)


def test_anchors_that_do_not_match_the_labels_are_refused():
    with pytest.raises(InputError, match="anchors"):
        emd_over_anchors([[0.5, 0.5]], [[1.0, 0.0]], [[0.0], [1.0], [2.0]])
    with pytest.raises(InputError, match="finite"):
        emd_over_anchors([[0.5, 0.5]], [[1.0, 0.0]], [[0.0], [np.nan]])
    assert emd_over_anchors(np.zeros((0, 3)), np.zeros((0, 3)), np.eye(3)).shape == (0,)
