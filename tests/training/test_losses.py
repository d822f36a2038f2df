from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alm_proxies.errors import InputError
from alm_proxies.measures.calibration import log_probability
from alm_proxies.measures.divergence import entropy_nats, jsd_nats, kld_nats
from alm_proxies.training import losses

CLASSES = 4
BALANCE = torch.tensor([0.5, 1.0, 2.0, 0.5], dtype=torch.float64)


def drawn(seed: int, rows: int = 5) -> tuple[Tensor, Tensor]:
    """Logits, and targets of which some shares are 0."""
    chance = np.random.default_rng(seed)
    target = chance.dirichlet([0.5] * CLASSES, rows)
    target[0] = np.eye(CLASSES)[1]
    target[target < 0.02] = 0
    target /= target.sum(1, keepdims=True)
    return torch.from_numpy(chance.normal(0, 2, (rows, CLASSES))), torch.from_numpy(target)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kld": losses.kld,
    "ce": losses.cross_entropy,
    "class_balanced": lambda logits, target: losses.class_balanced(logits, target, BALANCE),
    "weighted_kld": lambda logits, target: losses.weighted_kld(logits, target, BALANCE),
    "jsd": losses.jsd,
    "jsd_entropy": lambda logits, target: losses.jsd_entropy(logits, target, 0.08),
    "dirichlet_multinomial": lambda logits, target: losses.dirichlet_multinomial(logits, 5 * target),
}


def slopes(value: Callable[[Tensor], Tensor], at: Tensor, step: float) -> Tensor:
    """Central differences of a sum."""
    gradient = torch.zeros_like(at)
    for place in itertools.product(*map(range, at.shape)):
        up, down = at.clone(), at.clone()
        up[place] += step
        down[place] -= step
        gradient[place] = (value(up).sum() - value(down).sum()) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_central_differences(name: str) -> None:
    logits, target = drawn(3)
    leaf = logits.float().requires_grad_()
    LOSSES[name](leaf, target.float()).sum().backward()
    # The distributions' losses compute in float32, so the differences are taken with a step that it resolves.
    expected = slopes(lambda at: LOSSES[name](at.float(), target.float()).double(), logits, 1e-2)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.double(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["gaussian_nll", "concordance"])
def test_attribute_gradients_equal_central_differences(name: str) -> None:
    chance = torch.Generator().manual_seed(0)
    mean = torch.rand(6, 3, generator=chance, dtype=torch.float64)
    target = torch.rand(6, 3, generator=chance, dtype=torch.float64)
    target[1, 2] = target[4] = math.nan
    weights = torch.rand(6, generator=chance, dtype=torch.float64)
    log_variance = torch.randn(6, 3, generator=chance, dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        if name == "concordance":
            return losses.concordance(at, target, weights)
        return losses.gaussian_nll(at, log_variance, target)

    leaf = mean.clone().requires_grad_()
    value(leaf).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, slopes(value, mean, 1e-5), atol=1e-6, rtol=1e-5)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_divergences_equal_the_measures(seed: int) -> None:
    logits, target = drawn(seed)
    p = logits.softmax(-1).numpy()
    np.testing.assert_allclose(losses.kld(logits, target), kld_nats(target.numpy(), p), atol=1e-5)
    np.testing.assert_allclose(losses.jsd(logits, target), jsd_nats(target.numpy(), p), atol=1e-5)
    paper = jsd_nats(target.numpy(), p) + 0.08 * entropy_nats(p)
    np.testing.assert_allclose(losses.jsd_entropy(logits, target, 0.08), paper, atol=1e-5)


@pytest.mark.parametrize("name", ["kld", "jsd"])
def test_a_divergence_is_smallest_at_the_target_and_the_weighted_one_beside_it(name: str) -> None:
    _, target = drawn(1)
    soft = target.clamp(min=1e-6)
    assert float(LOSSES[name](soft.log(), target).max()) < 1e-4
    tilted = (soft * BALANCE).log()
    assert (
        losses.weighted_kld(tilted, target, BALANCE) <= losses.weighted_kld(soft.log(), target, BALANCE) + 1e-6
    ).all()


def test_the_papers_loss_rewards_the_surer_of_two_equally_far_predictions() -> None:
    target = torch.tensor([[0.6, 0.4]]).double()
    levels = torch.linspace(0.01, 0.99, 981, dtype=torch.float64)
    p = torch.stack([levels, 1 - levels], dim=1)
    at_best = levels[losses.jsd_entropy(p.log(), target.expand_as(p), 0.08).argmin()]
    assert float(at_best) == pytest.approx(0.644, abs=2e-3)
    assert abs(float(levels[losses.jsd(p.log(), target.expand_as(p)).argmin()]) - 0.6) < 2e-3


@pytest.mark.parametrize("alpha", [[0.3, 2.0, 1.1], [1e-3, 1e-3, 5.0], [300.0, 20.0, 1.0]])
@pytest.mark.parametrize("votes", [1, 4])
def test_the_dirichlet_multinomial_is_a_probability_over_all_outcomes(alpha: list[float], votes: int) -> None:
    outcomes = [n for n in itertools.product(range(votes + 1), repeat=3) if sum(n) == votes]
    counts = torch.tensor(outcomes, dtype=torch.float64)
    log_alpha = torch.tensor(alpha, dtype=torch.float64).log().expand(len(outcomes), 3)
    log_p = -losses.dirichlet_multinomial(log_alpha, counts)
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-9)
    shares = np.tile(np.array(alpha) / sum(alpha), (len(outcomes), 1))
    np.testing.assert_allclose(log_p, log_probability(shares, np.full(len(outcomes), sum(alpha)), counts.numpy()))


def test_the_dirichlet_multinomial_of_strong_and_weak_beliefs_has_its_limits() -> None:
    shares, counts = torch.tensor([[0.5, 0.3, 0.2]]).double(), torch.tensor([[2.0, 1.0, 0.0]])
    sure = -losses.dirichlet_multinomial((shares * 1e9).log(), counts)
    assert float(sure) == pytest.approx(math.log(3 * 0.5**2 * 0.3), abs=1e-5)
    none = -losses.dirichlet_multinomial(shares.log(), torch.zeros(1, 3))
    assert float(none) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 1000), st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_any_division_of_a_batch_sums_to_the_same_loss(seed: int, part: int) -> None:
    logits, target = drawn(seed, rows=7)
    weights = torch.rand(7, dtype=torch.float64)
    whole = losses.weighted_sum(losses.kld(logits, target), weights, 7.0)
    parts = [
        losses.weighted_sum(losses.kld(logits[at : at + part], target[at : at + part]), weights[at : at + part], 7.0)
        for at in range(0, 7, part)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


def test_labels_that_tie_share_the_weight() -> None:
    target = torch.tensor([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])
    torch.testing.assert_close(losses.most_likely(target), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))


def test_class_weights_follow_the_effective_number_and_average_to_one() -> None:
    shares = torch.eye(3, dtype=torch.float64)[[0] * 90 + [1] * 10]
    weights = torch.ones(100, dtype=torch.float64)
    got = losses.class_weights(shares, weights, 0.9999)
    assert float(got[1] / got[0]) == pytest.approx((1 - 0.9999**90) / (1 - 0.9999**10), rel=1e-9)
    assert float((shares * got).sum(1).mean()) == pytest.approx(1.0)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(losses.class_weights(shares, weights, 0.0), torch.ones(3, dtype=torch.float64))
    with pytest.raises(InputError, match="no training row"):
        losses.class_weights(shares, torch.zeros(100), 0.5)


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_class_weights_do_not_depend_on_the_scale_of_the_rows_weights(scale: float) -> None:
    """Such as weights that sum to 1, of which all classes have less than one row's."""
    shares, weights = torch.eye(3)[[0] * 60 + [1] * 30 + [2] * 10], torch.linspace(0.5, 1.5, 100)
    wanted = losses.class_weights(shares, weights, 0.99)
    assert wanted[2] > 2 * wanted[0]
    torch.testing.assert_close(losses.class_weights(shares, weights * scale, 0.99), wanted, rtol=1e-5, atol=0)


def test_the_concordance_is_lins_and_unknown_targets_do_not_count() -> None:
    chance = np.random.default_rng(0)
    x, y = chance.normal(0.5, 0.2, (40, 1)), chance.normal(0.4, 0.1, (40, 1))
    weights = np.ones(40)
    lin = 2 * np.cov(x[:, 0], y[:, 0], bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    got = losses.concordance(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weights))
    assert float(got) == pytest.approx(1 - lin)
    more_x, more_y = np.vstack([x, [[9.0]]]), np.vstack([y, [[math.nan]]])
    again = losses.concordance(torch.from_numpy(more_x), torch.from_numpy(more_y), torch.ones(41, dtype=torch.float64))
    assert float(again) == pytest.approx(1 - lin)
    assert float(losses.concordance(torch.rand(1, 3), torch.rand(1, 3), torch.ones(1))) == 0.0
    same = torch.full((50, 1), 0.3)  # its variance is rounded to something above 0
    assert float(losses.concordance(torch.rand(50, 1), same, torch.rand(50))) == 0.0


def test_the_gaussian_likelihood_is_the_densitys() -> None:
    mean, log_variance = torch.tensor([[0.2, 0.5]]).double(), torch.tensor([[-1.0, 0.4]]).double()
    target = torch.tensor([[0.7, math.nan]]).double()
    wanted = -torch.distributions.Normal(0.2, math.exp(-0.5)).log_prob(torch.tensor(0.7))
    assert float(losses.gaussian_nll(mean, log_variance, target)) == pytest.approx(float(wanted))
