"""Weights are the closest ones that reach the wanted shares; caps hold; wishes that cannot be met are met as near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from alm_proxies.stages.balance.weights import balanced, effective_size


def shares(count: int, seed: int = 0, labels: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.linspace(2.0, 0.5, labels), count)


def levels(given: np.ndarray) -> np.ndarray:
    entropy = -(given * np.log(given.clip(1e-12))).sum(1) / np.log(given.shape[1])
    return np.eye(3)[np.digitize(entropy, [1 / 3, 2 / 3])]


def asked(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    soft = shares(count, seed)
    marks = levels(soft)
    return np.hstack([soft, marks]), np.concatenate([np.full(4, 0.25), marks.mean(0)])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_wanted_shares_are_reached_to_a_tenth_of_a_point(seed: int) -> None:
    features, target = asked(400, seed)
    solution = balanced(features, target)
    assert solution.met
    assert solution.weights.mean() == pytest.approx(1.0)
    assert (solution.weights > 0).all()


def test_no_other_weights_that_reach_the_shares_are_closer() -> None:
    features, target = asked(60, 3)
    solution = balanced(features, target)
    kept = [0, 1, 2, 6]  # shares sum to 1 and no utterance is unambiguous: the others follow from these
    rank = features[:, kept]
    constraint = {"type": "eq", "fun": lambda w: np.append(w @ rank / 60 - target[kept], w.mean() - 1)}
    other = minimize(
        lambda w: float((w * np.log(w.clip(1e-12))).sum()),
        np.ones(60),
        method="SLSQP",
        bounds=[(1e-9, None)] * 60,
        constraints=[constraint],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert other.success
    np.testing.assert_allclose(solution.weights, other.x, atol=2e-3)


def test_shares_as_they_are_change_nothing() -> None:
    features = shares(300)
    given_weights = np.random.default_rng(1).gamma(2.0, size=300)
    given_weights /= given_weights.mean()
    solution = balanced(features, given_weights @ features / 300, start=given_weights)
    np.testing.assert_allclose(solution.weights, given_weights, rtol=1e-6)


def test_caps_hold_for_utterances_and_speakers() -> None:
    features, target = asked(2_000, 6)
    speakers = np.random.default_rng(0).choice(20, 2_000, p=[0.43, *[0.03] * 19])
    features, target = features[:, :4], np.array([0.3, 0.25, 0.25, 0.2])
    free = balanced(features, target)
    solution = balanced(features, target, cap=4.0, speakers=speakers, speaker_cap=0.1)
    assert free.weights.max() > 4.0
    assert solution.weights.max() <= 4.0 + 1e-6
    assert np.bincount(speakers, solution.weights).max() / 2_000 <= 0.1 + 1e-6
    assert solution.met


def test_limits_that_no_weights_keep_are_named() -> None:
    features, target = asked(200, 3)
    five = np.arange(200) % 5
    solution = balanced(features, target, speakers=five, speaker_cap=0.1)
    ((whose, limit, most),) = solution.over
    assert (whose, limit) == ("speaker", 0.1)
    assert most >= 0.2
    assert not solution.met
    few = np.where(np.arange(200) < 160, 0.0, 1.0)
    solution = balanced(features, few @ features / 40, start=few, cap=3.0)
    assert [limit_of[0] for limit_of in solution.over] == ["utterance"]


def test_limits_that_can_be_kept_are_kept_wherever_the_steps_begin() -> None:
    for seed in range(100, 260):
        rng = np.random.default_rng(seed)
        count, people, labels = int(rng.integers(60, 400)), int(rng.integers(3, 15)), int(rng.integers(2, 6))
        features = rng.dirichlet(np.ones(labels) * rng.uniform(0.1, 1), count)
        speakers = rng.choice(people, count, p=rng.dirichlet(np.ones(people) * 2))
        speakers = np.unique(speakers, return_inverse=True)[1]
        sizes = np.bincount(speakers)
        target = np.sqrt(features.mean(0))
        limit, cap = min(1.0, rng.uniform(1.02, 2) / len(sizes)), rng.uniform(1.3, 5)
        if np.minimum(cap * sizes / count, limit).sum() < 1.01:
            continue  # no weights keep both
        solution = balanced(features, target / target.sum(), cap=cap, speakers=speakers, speaker_cap=limit)
        assert solution.over == (), seed


def test_wishes_that_cannot_be_met_are_met_as_near_as_they_can_be() -> None:
    features = np.repeat([[0.7, 0.3], [0.9, 0.1]], 50, axis=0)
    solution = balanced(features, np.array([0.5, 0.5]))
    assert not solution.met
    assert solution.reached[0] == pytest.approx(0.7, abs=0.01)  # no weights bring it below .7


def test_an_utterance_that_had_no_weight_gets_none() -> None:
    features, target = asked(200, 2)
    start = np.ones(200)
    start[:20] = 0.0
    solution = balanced(features, target, start=start)
    assert (solution.weights[:20] == 0).all()
    assert solution.met


def test_many_rows_are_solved_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target = asked(5_000, 8)
    once = balanced(features, target)
    monkeypatch.setattr("alm_proxies.stages.balance.weights._FIRST", 500)
    np.testing.assert_allclose(balanced(features, target).weights, once.weights, rtol=1e-4)


def test_effective_size_is_the_number_of_equal_weights() -> None:
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert effective_size(np.zeros(3)) == 0
