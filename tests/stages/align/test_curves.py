from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.ballots import Ballots
from alm_proxies.stages.align.curves import Exponential, exponential, saturation, stratum_trust, thirds


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.02, 1.0), st.floats(0.05, 2.0))
def test_the_fitted_exponential_is_the_one_the_points_came_from(a: float, drop: float, c: float) -> None:
    at = tuple(range(1, 21))
    fitted = exponential(at, [a + drop * float(np.exp(-c * n)) for n in at])
    assert fitted is not None
    assert fitted.a == pytest.approx(a, abs=1e-3)
    assert fitted.b == pytest.approx(-drop, rel=0.02)
    assert fitted.c == pytest.approx(c, rel=0.01)
    assert fitted.spread < 1e-4


def test_saturation_is_the_first_number_of_votes_within_a_tenth_of_the_whole_drop() -> None:
    curve = Exponential(0.3, -0.2, 0.4, 0.0)
    n = curve.saturation
    assert n is not None
    drop = curve(1) - curve.a
    assert curve(n) - curve.a <= 0.1 * drop + 1e-12
    assert curve(n - 1) - curve.a > 0.1 * drop


@pytest.mark.parametrize(
    "values",
    [[0.3, 0.31, 0.33, 0.36, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1], [0.3, 0.2, 0.1], [0.427, 0.392, 0.19, 0.18]],
    ids=["rises", "no end yet", "too short", "to a limit below 0"],
)
def test_a_curve_that_falls_to_no_limit_of_a_divergence_is_not_fitted(values: list[float]) -> None:
    assert exponential(tuple(range(1, len(values) + 1)), values) is None


def test_votes_drawn_from_the_target_approach_it_and_a_biased_source_stops_short() -> None:
    random = np.random.default_rng(1)
    target = random.dirichlet(np.ones(4), 2000)
    biased = 0.5 * target + 0.5 * np.array([1.0, 0.0, 0.0, 0.0])
    fair = saturation(_cast(target, 12, random), target, None, seed=1)
    far = saturation(_cast(biased, 12, random), target, None, seed=1)
    values = [value.estimate for value in fair.values]
    assert fair.at == tuple(range(1, 13))
    assert values == sorted(values, reverse=True)
    assert fair.fit is not None
    assert far.fit is not None
    assert far.fit.a > fair.fit.a + 0.05


def test_utterances_with_fewer_votes_are_left_out_of_the_whole_curve() -> None:
    random = np.random.default_rng(1)
    ballots = _cast(np.full((10, 2), 0.5), 6, random)
    curve = saturation(ballots.where((ballots.rows >= 3) | (ballots.draws < 1)), np.ones((10, 2)), None, seed=1)
    assert curve.at == (1, 2, 3, 4, 5, 6)
    assert curve.utterances == 7


def test_a_curve_without_votes_or_without_a_target_is_empty() -> None:
    ballots = _cast(np.full((10, 2), 0.5), 3, np.random.default_rng(1))
    assert saturation(ballots, np.zeros((10, 2)), None, seed=1).at == ()
    assert saturation(ballots.where(ballots.rows < 0), np.ones((10, 2)), None, seed=1).at == ()


def test_thirds_are_equal_in_number_whatever_the_ties() -> None:
    assert np.bincount(thirds(np.zeros(31), np.random.default_rng(1))).tolist() == [11, 10, 10]
    assert thirds(np.arange(9.0), np.random.default_rng(1)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_third_from_more_votes_is_trusted_more_and_one_from_nothing_is_chance() -> None:
    random = np.random.default_rng(1)
    truth = random.dirichlet(np.full(4, 0.4), 3000)
    entropy = -(truth * np.log(truth + 1e-12)).sum(1)
    held = _cast(truth, 40, random).counts()
    agreements = {
        t.name: t.agreement.estimate for t in stratum_trust(_cast(truth, 8, random), held, entropy, None, seed=1)
    }
    assert (
        agreements["2 human votes"]
        < agreements["4 human votes"]
        < agreements["8 human votes"]
        < agreements["fused labels"]
    )
    noise = stratum_trust(_cast(truth, 2, random), held, random.random(3000), None, seed=1)[-1]
    assert noise.agreement.estimate == pytest.approx(1 / 3, abs=0.03)


def _cast(shares: np.ndarray, votes: int, random: np.random.Generator) -> Ballots:
    rows, labels = shares.shape
    drawn = (random.random((rows, votes, 1)) > np.cumsum(shares, axis=1)[:, None, :-1]).sum(2)
    u, d = (grid.ravel() for grid in np.meshgrid(np.arange(rows), np.arange(votes), indexing="ij"))
    return Ballots(u, np.eye(labels)[drawn.ravel()], np.zeros(len(u), dtype=int), d, ("one",), rows)
