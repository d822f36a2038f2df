"""The Muon optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """The Muon optimizer, with orthogonalised momentum, for training from scratch:

    M = m M + G, W = (1 - r d) W - r 0.2 sqrt(max(rows, columns)) orthogonal(G + m M).

    r is the learning rate, m the momentum, d the weight decay; the factor gives a step the size of one of AdamW's, so
    that both use the same learning rate. Kernels count as matrices with one row per output. Jordan et al. (2024), Muon;
    the factor is from Liu et al. (2025), Muon is scalable for LLM training.
    """

    def __init__(
        self, params: Iterable[Tensor] | list[dict[str, Any]], *, lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one kind
        """Update every weight that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
        wanted = (weight.grad + group["momentum"] * momentum).reshape(len(weight), -1)
        step = orthogonal(wanted) * (0.2 * max(wanted.shape) ** 0.5)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step.reshape(weight.shape), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1 (0.7 to 1.2), by a quintic iteration:
    X = a X + (b XX' + c (XX')^2) X."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
