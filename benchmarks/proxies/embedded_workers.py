"""The processes of one training: which of them this is, and the mean of their gradients."""

from __future__ import annotations

import torch
from torch import distributed, nn


def rank() -> int:
    """This process's number among the workers."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def average_gradients(weights: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the workers."""
    if not distributed.is_initialized():
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for gradient, part in zip(gradients, together.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
