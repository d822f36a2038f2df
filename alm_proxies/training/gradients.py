"""The gradients of one step: accumulation over parts and processes, and recovery when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from alm_proxies.errors import EngineError
from alm_proxies.models.at_once import unless_memory_runs_out
from alm_proxies.printable import counted
from alm_proxies.progress import say
from alm_proxies.seeds import seed_of
from alm_proxies.tables import Finding
from alm_proxies.training.batches import Part
from alm_proxies.training.settings import TrainSettings

T = TypeVar("T")
P = TypeVar("P", bound=Sized)
_TOGETHER = 2**23  # numbers that are summed over the processes at once


@dataclass(frozen=True, slots=True)
class Accumulated:
    """The sums of a step over all its parts on this process, and how it was divided."""

    sums: Tensor
    """The loss times weight, and the weight."""
    micro: int | None
    """The largest number of utterances in a part from now on."""
    finding: Finding | None
    """That memory ran out, in this or another process."""


def prepared(model: nn.Module, accelerator: Accelerator) -> Any:
    """The model on this process's device.

    It is not wrapped in DistributedDataParallel, which sums gradients during the backward pass: a process that runs out
    of memory there would leave the others waiting.
    """
    return accelerator.prepare_model(model, evaluation_mode=True)  # in this mode it is not wrapped


def in_training(model: Any) -> None:
    """Put a model in training mode, but its frozen parts, which are the same in every step, in that of evaluation:
    without dropout, and with the statistics that their norms have.
    """
    model.train()
    for part in model.modules():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The weights that are trained."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def share_weights(model: nn.Module, accelerator: Accelerator) -> None:
    """Give the models of all processes the weights and buffers of the main process's."""
    if accelerator.num_processes == 1:
        return
    for tensor in (*model.parameters(), *model.buffers()):
        own = tensor.detach().contiguous()
        torch.distributed.broadcast(own.flatten().view(torch.uint8), 0)  # bytes: not every backend knows every type
        tensor.detach().copy_(own)


def accumulate(
    weights: Sequence[Tensor],
    divided: Callable[[int | None], Sequence[P]],
    loss_of: Callable[[P], tuple[Tensor, Tensor]],
    accelerator: Accelerator,
    settings: TrainSettings,
    *,
    step: int,
    micro: int | None,
    quiet: bool,
) -> Accumulated:
    """Accumulate the gradients of a step over its parts and over all processes; when memory runs out in one process,
    all halve their parts.

    `weights` are those that are trained, the same and in the same order in every process. `divided` gives this
    process's parts for a largest number of utterances, `loss_of` a part's loss and what is reported. Losses are divided
    by a constant of the step, so their sum does not depend on how it is divided. Every process computes its gradients
    alone; they are summed only after all have succeeded, so no process waits for one that failed. A process without a
    part has no gradient.
    """
    finding = None
    while True:
        parts = divided(micro)
        torch.manual_seed(seed_of(settings.seed, "step", step, accelerator.process_index))  # dropout
        sums = unless_memory_runs_out(partial(_added, parts, loss_of, accelerator))
        failed = _sum_gradients(weights, 0 if sums is not None else max(map(len, parts), default=1), accelerator)
        if sums is not None and not failed:
            break
        for weight in weights:
            weight.grad = None
        micro = _halved(failed, step)
        message = f"memory ran out: {counted(micro, 'utterance')} at once from step {step} on"
        finding = Finding("train", "out_of_memory", message)
    if finding is not None:
        say(f"{settings.name}: {finding.message}; a step still has {settings.batch}", quiet=quiet)
    return Accumulated(sums, micro, finding)


def _added(parts: Sequence[P], loss_of: Callable[[P], tuple[Tensor, Tensor]], accelerator: Accelerator) -> Tensor:
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for part in parts:
        loss, reported = loss_of(part)
        accelerator.backward(loss)
        sums += reported
    return sums


def _sum_gradients(weights: Sequence[Tensor], failed: int, accelerator: Accelerator) -> int:
    """Sum the gradients over the processes; if memory ran out in one, only the size of its largest part is returned.

    `failed` is that size for this process; 0 = its gradients are computed.
    """
    if accelerator.num_processes == 1:
        return failed
    own = [failed, *(int(weight.grad is not None) for weight in weights)]
    largest, *known = accelerator.reduce(torch.tensor(own, device=accelerator.device), "max").tolist()
    if largest:
        return int(largest)
    for group in _groups([weight for weight, anywhere in zip(weights, known, strict=True) if anywhere]):
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in group]
        total = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for weight, gradient in zip(group, total.split([weight.numel() for weight in group]), strict=True):
            weight.grad = gradient.view_as(weight)
    return 0


def _groups(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive weights of one type, together at most _TOGETHER numbers, or a single weight."""
    group: list[Tensor] = []
    for weight in weights:
        size = sum(other.numel() for other in group) + weight.numel()
        if group and (weight.dtype != group[0].dtype or size > _TOGETHER):
            yield group
            group = []
        group.append(weight)
    if group:
        yield group


def _halved(most: int, step: int) -> int:
    """Half the size of a part; one utterance cannot be halved."""
    if most == 1:
        fix = "Set gradient_checkpointing = true or precision = bf16, or leave out the longest clips, in a new folder."
        raise EngineError(f"memory ran out at step {step} with a single utterance", fix=fix)
    return (most + 1) // 2


def at_most(parts: Sequence[Part], most: int | None) -> list[Part]:
    """The parts, halved until none has more clips than `most`."""
    divided = list(parts)
    while most is not None and any(len(part) > most for part in divided):
        divided = [half for part in divided for half in (part.halves() if len(part) > most else (part,))]
    return divided


def not_finite(loss: float | None, step: int, folder: Path, *, rates: str) -> EngineError:
    """The error for a loss or a gradient that is no number; `rates` names the learning rates."""
    problem = f"the loss is {loss}" if loss is not None and not np.isfinite(loss) else "the gradient is not finite"
    if step == 1:  # no learning rate was used yet
        return EngineError(
            f"{problem} at the first step, before any weight was changed",
            where=str(folder),
            fix="Use precision = float32, or another copy of the initial model, in a new folder.",
        )
    return EngineError(
        f"{problem} at step {step}; no weight was changed and the last checkpoint is kept",
        where=str(folder),
        fix=_lower(rates),
    )


def refuse_no_score(score: float, epoch: int, folder: Path, *, rates: str) -> None:
    """Raise if the development score after an epoch is no number: the epoch's last step spoilt the weights."""
    if not np.isfinite(score):
        message = f"the loss of the development speakers is {score} after epoch {epoch}; no model was written"
        raise EngineError(message, where=str(folder), fix=_lower(rates))


def _lower(rates: str) -> str:
    return f"Lower {rates} or use precision = float32, in a new folder."
