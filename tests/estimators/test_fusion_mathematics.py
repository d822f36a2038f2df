"""Likelihoods, gradients and posteriors against brute force."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats
from scipy.optimize import approx_fprime

from alm_proxies.estimators import dirichlet, gated, mixture, supervised
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.likelihood import DirichletMultinomial, posterior_moments, softmax

SMALL = {"deadline": None, "max_examples": 30}
counts_3 = arrays(np.float64, (6, 3), elements=st.integers(0, 5).map(float))
alpha_2x3 = arrays(np.float64, (2, 3), elements=st.floats(0.1, 20))


def made_counts(human: np.ndarray, *blocks: np.ndarray) -> Counts:
    n = len(human)
    return Counts(
        labels=tuple(f"l{j}" for j in range(human.shape[1])),
        utterances=pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)]),
        human=human.astype(float),
        blocks=tuple(
            Block(f"m{b}", (f"m{b}",), "votes", x.astype(float), x.sum(1).astype(float)) for b, x in enumerate(blocks)
        ),
        columns=np.zeros((n, 0)),
        speakers=np.arange(n) % 12,
        speakers_known=True,
        draws=None,
        findings=(),
    )


@settings(**SMALL)
@given(counts_3, alpha_2x3)
def test_the_likelihood_is_scipys_dirichlet_multinomial(counts, alpha):
    ours = DirichletMultinomial(counts).log(alpha)
    for i, n in enumerate(counts.astype(int)):
        for c, a in enumerate(alpha):
            coefficient = stats.multinomial.logpmf(n, n.sum(), [1 / 3] * 3) - n.sum() * np.log(1 / 3)
            theirs = stats.dirichlet_multinomial.logpmf(n, a, n.sum()) - coefficient
            assert ours[i, c] == pytest.approx(theirs, abs=1e-7)


@settings(**SMALL)
@given(counts_3, alpha_2x3)
def test_its_gradient_is_that_of_finite_differences(counts, alpha):
    weight = np.random.default_rng(0).random((len(counts), 2))
    likelihood = DirichletMultinomial(counts)
    slope = approx_fprime(alpha.ravel(), lambda a: (weight * likelihood.log(a.reshape(2, 3))).sum(), 1e-7)
    assert np.allclose(likelihood.gradient(weight, alpha).ravel(), slope, rtol=2e-3, atol=2e-4)


def objectives():
    rng = np.random.default_rng(3)
    human = rng.integers(0, 3, (25, 4)).astype(float)
    proxy = rng.integers(0, 4, (25, 4)).astype(float)
    counts = made_counts(human, proxy)
    inputs = rng.normal(size=(25, 5))
    yield gated._Objective(human, inputs, counts.shares, 3, 0.01), 3 * 4 + 3 + 15
    yield mixture._Objective([human, proxy], 3), 2 * 12 + 3
    sources = np.stack(
        [np.broadcast_to(counts.shares, human.shape), (proxy + counts.shares) / (proxy.sum(1, keepdims=True) + 1)]
    )
    yield dirichlet._DirichletLoss(human, sources, rng.integers(0, 4, 25), None), 5
    yield supervised._Objective(inputs, human, 0.01), 6 * 4
    left = counts.left_one_out()
    yield dirichlet._LeftOutLoss(left, left.contexts, counts.shares, [proxy[left.rows]], np.zeros(2)), 2


@pytest.mark.parametrize(
    ("objective", "size"), list(objectives()), ids=["gated", "mixture", "dirichlet", "supervised", "weighted"]
)
def test_every_fit_follows_its_true_gradient(objective, size):
    theta = 0.5 * np.random.default_rng(4).normal(size=size)
    numeric = approx_fprime(theta, lambda t: objective(t)[0], 1e-6)
    assert np.allclose(objective(theta)[1], numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("objective", "size"), list(objectives())[:3], ids=["gated", "mixture", "dirichlet"])
def test_beyond_the_limits_of_strengths_the_gradient_is_that_of_the_value(objective, size):
    theta = 0.5 * np.random.default_rng(4).normal(size=size)
    theta[:3] = 9.0, -9.5, 12.0
    numeric = approx_fprime(theta, lambda t: objective(t)[0], 1e-6)
    assert np.allclose(objective(theta)[1], numeric, rtol=1e-3, atol=1e-5)


def test_the_strength_of_votes_that_are_all_spread_evenly_stays_within_its_limits():
    counts = made_counts(np.full((200, 4), 100.0), np.random.default_rng(0).integers(0, 4, (200, 4)))
    fit = dirichlet.Dirichlet().fit(counts)
    assert fit.converged_
    assert fit.strength_.max() <= np.exp(8.0) + 1e-6
    assert Gated(8, 0.003).fit(made_counts(np.tile([300.0, 0, 0, 0], (200, 1)))).converged_


@pytest.mark.parametrize("value", [0.1, 0.3, 1.7, 1234.567])
def test_a_constant_column_does_not_steer_the_gate(value):
    human = np.random.default_rng(0).multinomial(3, [0.5, 0.3, 0.2], size=60)
    counts = replace(made_counts(human), columns=np.full((60, 1), value))
    other = replace(counts, columns=np.full((60, 1), 1.5 * value))
    fit = Gated(4, 0.01).fit(counts)
    assert np.allclose(fit.posterior(counts).mean, fit.posterior(other).mean)


@settings(**SMALL)
@given(
    arrays(np.float64, 2, elements=st.integers(0, 4).map(float)),
    arrays(np.float64, (2, 2), elements=st.floats(0.8, 8)),
    st.floats(0.1, 0.9),
)
def test_the_posterior_is_what_numerical_integration_gives(n, alpha, share):
    """Two labels, two classes: integrate over q the prior density times q^n, class by class."""
    gate = np.array([share, 1 - share])

    def joint(q, power):
        density = sum(g * stats.beta.pdf(q, *a) for g, a in zip(gate, alpha, strict=True))
        return density * q ** n[0] * (1 - q) ** n[1] * q**power

    z, first, second = (integrate.quad(joint, 0, 1, args=(power,), limit=200)[0] for power in (0, 1, 2))
    logs = DirichletMultinomial(n[None, :]).log(alpha)
    responsibility = softmax(np.log(gate) + logs)
    mean, concentration = posterior_moments(n[None, :], alpha, responsibility)
    assert mean[0, 0] == pytest.approx(first / z, abs=1e-6)
    variance = second / z - (first / z) ** 2
    assert mean[0, 0] * mean[0, 1] / (concentration[0] + 1) == pytest.approx(variance, rel=1e-4, abs=1e-9)


def test_one_class_gives_back_the_dirichlet_it_is():
    n, alpha = np.array([[2.0, 1.0, 0.0]]), np.array([[1.0, 2.0, 0.5]])
    mean, concentration = posterior_moments(n, alpha, np.ones((1, 1)))
    assert np.allclose(mean, (n + alpha) / 6.5)
    assert concentration[0] == pytest.approx(6.5)


def crowd(seed: int = 0, n: int = 400, labels: int = 4, votes: int = 3, cast: int = 8) -> tuple[Counts, np.ndarray]:
    """Utterances with a true distribution, human votes from it, and a proxy that hears it with noise."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(labels, size=n)
    truth = np.stack([rng.dirichlet(0.4 + 4.0 * np.eye(labels)[c]) for c in centre])
    human = np.stack([rng.multinomial(votes, q) for q in truth])
    heard = 0.7 * truth + 0.3 / labels
    proxy = np.stack([rng.multinomial(cast, q) for q in heard])
    return made_counts(human, proxy), truth


def nll(truth: np.ndarray, mean: np.ndarray) -> float:
    return float(-(truth * np.log(mean)).sum(1).mean())


def test_naming_the_labels_in_another_order_only_renames_the_answer():
    counts, _ = crowd()
    order = np.array([2, 0, 3, 1])
    turned = made_counts(counts.human[:, order], counts.blocks[0].counts[:, order])
    for make in (dirichlet.Weighted, dirichlet.Pool, dirichlet.Human, dirichlet.Dirichlet):
        first, second = (make().fit(c).posterior(c) for c in (counts, turned))
        assert np.allclose(first.mean[:, order], second.mean, atol=1e-4)
    fitted = Gated(4).fit(counts)
    again, renamed = Gated(4, start=fitted).fit(counts), Gated(4, start=_renamed(fitted, order)).fit(turned)
    assert np.allclose(again.posterior(counts).mean[:, order], renamed.posterior(turned).mean, atol=5e-3)


def _renamed(fit: Gated, order: np.ndarray) -> Gated:
    renamed = Gated(fit.classes)
    slope = fit.slope_.copy()
    slope[: len(order)] = slope[order]
    renamed.alpha_, renamed.bias_, renamed.slope_ = fit.alpha_[:, order], fit.bias_, slope
    return renamed


@pytest.mark.parametrize("make", [Gated, mixture.Mixture, dirichlet.Dirichlet, dirichlet.Weighted])
def test_informative_proxies_bring_labels_nearer_to_the_truth(make):
    counts, truth = crowd()
    with_proxies, alone = (make().fit(c).posterior(c).mean for c in (counts, counts.only([])))
    assert nll(truth, with_proxies) < nll(truth, alone) - 0.03


def test_a_proxy_that_says_nothing_changes_little_under_the_gate():
    counts, truth = crowd(n=1500)
    noise = np.random.default_rng(9).multinomial(8, [0.25] * 4, size=len(counts))
    blind = made_counts(counts.human, noise)
    alone = nll(truth, Gated(8).fit(counts.only([])).posterior(counts.only([])).mean)
    assert abs(nll(truth, Gated(8, 0.03).fit(blind).posterior(blind).mean) - alone) < 0.01


def test_a_constant_proxy_changes_nothing_at_all_under_the_gate():
    counts, _ = crowd()
    constant = made_counts(counts.human, np.tile([0, 8, 0, 0], (len(counts), 1)))
    alone = Gated(8).fit(counts.only([])).posterior(counts.only([])).mean
    assert np.allclose(Gated(8).fit(constant).posterior(constant).mean, alone, atol=1e-3)


def test_an_annotator_whose_votes_are_entered_twice_moves_loss_and_concentration_under_one_percent():
    counts, truth = crowd(n=1000)
    twice = made_counts(counts.human, 2 * counts.blocks[0].counts)
    once, again = (Gated(8).fit(c).posterior(c) for c in (counts, twice))
    assert nll(truth, again.mean) == pytest.approx(nll(truth, once.mean), rel=0.01)
    assert again.concentration.mean() == pytest.approx(once.concentration.mean(), rel=0.01)


SCIPY_LATER = """
import json
from alm_proxies.estimators.estimator import one_thread
with one_thread():
    import scipy.linalg
    from threadpoolctl import threadpool_info
    print(json.dumps([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]))
"""


def test_linear_algebra_has_one_thread_from_the_first_fit_on() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SCIPY_LATER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {1}
