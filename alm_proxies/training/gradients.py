"""The gradients of one step: accumulation over parts, and recovery when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.errors import EngineError
from alm_proxies.training.batches import Part
from alm_proxies.training.frozen import AnyLoader
from alm_proxies.training.objective import Objective

Array = NDArray[np.float64]
T = TypeVar("T")
_SILENCE = 16_000  # samples


def add_gradients(
    model: Any,
    parts: list[Part],
    objective: Objective,
    weights: Array,
    stage_weights: Array,
    loader: AnyLoader,
    accelerator: Accelerator,
) -> Tensor | None:
    """Accumulate the gradients of a step's parts; returns the loss times weight, and the weight; None = memory ran out.

    The loss of a part is divided by a constant, so the sum does not depend on how the step is divided. A process
    without a usable clip has a loss of 0.
    """
    return unless_memory_runs_out(partial(_added, model, parts, objective, weights, stage_weights, loader, accelerator))


def unless_memory_runs_out(compute: Callable[[], T]) -> T | None:
    """What is computed, or None if memory ran out; what the device holds in reserve is then released."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not memory_ran_out(error):
            raise
    if torch.cuda.is_available():  # after the except clause, so that the error's frames no longer hold the graph
        torch.cuda.empty_cache()
    return None


def _added(
    model: Any,
    parts: list[Part],
    objective: Objective,
    weights: Array,
    stage_weights: Array,
    loader: AnyLoader,
    accelerator: Accelerator,
) -> Tensor:
    device = accelerator.device
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    if not parts:
        silence = loader.prepare([np.full(_SILENCE, 1e-3, dtype=np.float32)]).to(device)
        answer = model(silence.values, silence.lengths)
        accelerator.backward(sum(head.sum() * 0.0 for head in answer if head is not None))
    for place, part in enumerate(parts):
        with accelerator.no_sync(model) if place < len(parts) - 1 else nullcontext():
            inputs = part.inputs.to(device)
            with accelerator.autocast():
                answer = model(inputs.values, inputs.lengths)
            loss, weighted = objective.loss(answer, part.rows, weights, stage_weights)
            accelerator.backward(loss * accelerator.num_processes)  # DDP averages over processes
            sums += weighted
    return sums


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error means that a device or the machine has no memory left."""
    words = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "Cannot allocate memory",
        "could not create a memory",  # oneDNN
        "could not create a primitive",  # oneDNN, if its scratch space cannot be allocated
    )
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def halved(parts: list[Part], world: int, step: int) -> int:
    """Half the size of the largest part; one utterance cannot be halved, nor the parts of one of several processes."""
    most = max((len(part.rows) for part in parts), default=1)
    fix = "Set gradient_checkpointing = true, precision = bf16 or a smaller `longest`, in a new folder."
    if world > 1:
        fix = f"Set micro_batch = {max(1, most // 2)} and run again: it resumes from the last checkpoint."
    if most == 1 or world > 1:
        count = "a single utterance" if most == 1 else f"{most} utterances at once"
        raise EngineError(f"memory ran out at step {step} with {count}", fix=fix)
    return (most + 1) // 2


def at_most(parts: list[Part], most: int | None) -> list[Part]:
    """The parts, halved until none has more clips than `most`."""
    while most is not None and any(len(part.rows) > most for part in parts):
        parts = [half for part in parts for half in (part.halves() if len(part.rows) > most else (part,))]
    return parts
