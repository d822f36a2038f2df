"""The weights, means and strengths of a mixture of methods."""

import numpy as np
import pytest

from alm_proxies.estimators.pooling import averaged, mixed, rescaled, stacking_weights, strength_scale


def test_an_average_of_learned_methods_is_their_mixture():
    means = np.random.default_rng(3).dirichlet(np.ones(4), size=(3, 20))
    strengths = np.random.default_rng(4).uniform(1, 9, size=(3, 20))
    weights = np.array([0.5, 0.3, 0.2])
    alone, half, whole = (averaged(means, strengths, weights, learned)[1] for learned in (0.0, 0.5, 1.0))
    assert whole == pytest.approx(mixed(means, strengths, weights)[1])
    assert ((whole < half) & (half < alone)).all()
    assert averaged(means, strengths, weights, 1 - 1e-12)[1] == pytest.approx(whole)


def test_an_average_of_methods_expects_the_average_of_their_squared_errors():
    means = np.random.default_rng(3).dirichlet(np.ones(4), size=(3, 20))
    strengths = np.random.default_rng(4).uniform(1, 9, size=(3, 20))
    weights = np.array([0.5, 0.3, 0.2])
    mean, strength = averaged(means, strengths, weights)
    expected = weights @ ((1 - np.square(means).sum(2)) / (strengths + 1))
    assert mean == pytest.approx(np.tensordot(weights, means, 1))
    assert (1 - np.square(mean).sum(1)) / (strength + 1) == pytest.approx(expected)
    assert (strength > mixed(means, strengths, weights)[1]).all()
    _, one = averaged(means[:1], strengths[:1], np.ones(1))
    assert one == pytest.approx(strengths[0])
    certain = np.array([[[1.0, 0.0, 0.0, 0.0]]])
    assert np.isfinite(averaged(certain, np.full((1, 1), 5.0), np.ones(1))[1]).all()


def test_stacking_weights_are_the_best_on_the_simplex():
    rng = np.random.default_rng(3)
    means = rng.dirichlet(np.ones(3), size=(2, 500))
    truth = 0.7 * means[0] + 0.3 * means[1]
    targets = np.stack([rng.multinomial(1, q) for q in truth]).astype(float)
    weights = stacking_weights(means, targets, 15.0)

    def objective(w: float) -> float:
        return float((targets * np.log(w * means[0] + (1 - w) * means[1])).sum() + 7.5 * np.log(w * (1 - w)))

    grid = np.linspace(0.001, 0.999, 999)
    assert weights[0] == pytest.approx(grid[np.argmax([objective(w) for w in grid])], abs=2e-3)
    assert stacking_weights(means, np.zeros_like(targets), 15.0) == pytest.approx([0.5, 0.5])


def test_the_strength_of_one_dirichlet_is_found_from_votes_left_out():
    rng = np.random.default_rng(4)
    mean = rng.dirichlet(np.full(4, 2.0), size=3000)
    truth = np.stack([rng.dirichlet(12 * p) for p in mean])
    left = np.stack([rng.multinomial(3, q) for q in truth]).astype(float)
    given, strength, mass = np.full(3000, 2.0), np.full(3000, 7.0), np.ones(3000)
    assert strength_scale(mean, strength, given, left, mass) == pytest.approx(2.0, rel=0.15)  # 2 + 2 (7 - 2) = 12
    single = np.eye(4)[rng.integers(4, size=3000)]
    assert strength_scale(mean, strength, given, single, mass) == 1.0


def test_votes_themselves_are_never_scaled():
    assert rescaled(np.array([30.0, 33.0, 2.0]), np.array([30.0, 30.0, 3.0]), 1.5) == pytest.approx([30.0, 34.5, 2.0])


def test_the_strength_of_a_mixture_counts_how_far_its_parts_differ():
    means = np.array([[[0.5, 0.5]], [[0.5, 0.5]]])
    same, _ = mixed(means, np.full((2, 1), 7.0), np.array([0.4, 0.6]))
    assert np.allclose(same, 0.5)
    assert mixed(means, np.full((2, 1), 7.0), np.array([0.4, 0.6]))[1] == pytest.approx(7.0)
    apart = np.array([[[0.8, 0.2]], [[0.2, 0.8]]])
    assert mixed(apart, np.full((2, 1), 7.0), np.array([0.5, 0.5]))[1] < 3
