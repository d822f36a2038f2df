from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.training.muon import Muon, orthogonal


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_orthogonal_keeps_the_singular_vectors_and_evens_the_values(rows: int, columns: int, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=chance))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, generator=chance))[0]
    values = torch.rand(rank, generator=chance) * 0.9 + 0.1
    orthogonalised = orthogonal(left @ values.diag() @ right.T)
    between = left.T @ orthogonalised @ right
    assert orthogonalised.shape == (rows, columns)
    torch.testing.assert_close(between, between.diag().diag(), atol=2e-4, rtol=0)
    assert float(between.diag().min()) > 0.6
    assert float(between.diag().max()) < 1.3


def test_a_step_is_as_long_as_one_of_adamw_and_decay_shrinks() -> None:
    weight = torch.nn.Parameter(torch.ones(48, 16, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01, weight_decay=0.5).step()
    moved = weight.detach() - (1 - 0.01 * 0.5)
    assert 0.15 < float(moved.square().mean().sqrt()) / 0.01 < 0.25


def test_turning_a_matrix_turns_what_is_made_of_it() -> None:
    chance = torch.Generator().manual_seed(1)
    matrix = torch.randn(12, 20, generator=chance) * torch.logspace(0, -2, 20)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=chance))[0]
    torch.testing.assert_close(orthogonal(turn @ matrix), turn @ orthogonal(matrix), atol=1e-3, rtol=0)


def test_weights_without_a_gradient_stay() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 3))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight.detach(), torch.ones(3, 3))
