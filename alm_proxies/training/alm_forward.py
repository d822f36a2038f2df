"""One forward pass of a batch in training: by the logits of the answer, or by a head on the states of all tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.audio.clip import decode_ahead
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.headed_lm import HeadOutput
from alm_proxies.models.windows import Hearing
from alm_proxies.training import losses
from alm_proxies.training.alm_batches import Batch, Batches
from alm_proxies.training.alm_clips import ClipBatches
from alm_proxies.training.objective import label_losses
from alm_proxies.training.settings import TrainSettings

AnyBatches = Batches | ClipBatches
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Forward(ABC):
    """The model on this process's device, and how a batch goes through it."""

    model: Any
    lm: AudioLM
    hearing: Hearing | None
    accelerator: Accelerator

    def output(self, batch: Batch) -> Any:
        """The model's output for a batch."""
        inputs = {
            name: tensor.to(self.accelerator.device, self.lm.dtype if tensor.is_floating_point() else None)
            for name, tensor in batch.tensors.items()
            if name not in ("shares", "weights")
        }
        if self.hearing is not None:
            self.hearing.set(inputs["input_features"].shape[-1], batch.start)
        with self.accelerator.autocast():
            return self.model(**inputs, use_cache=False)

    @abstractmethod
    def part_loss(self, part: Batch, *, total: float) -> tuple[Tensor, Tensor]:
        """The part's loss over the step's `total` weight; and, for reports, its loss times weight, and that weight."""

    @abstractmethod
    def log_p(self, batch: Batch) -> Tensor:
        """ln of the model's share of every label, for every row of the batch."""

    @torch.inference_mode()
    def log_shares(self, batches: AnyBatches, most: int | None) -> Array:
        """ln of the model's share of every label, for every row, computed in parallel by all processes."""
        self.model.eval()
        log_p = np.zeros(batches.shares.shape)
        for batch in _parts(batches, most):
            log_p[batch.members] = self.log_p(batch).cpu().numpy()
        if self.accelerator.num_processes > 1:  # the rows of the others are 0 here
            own = torch.from_numpy(log_p).to(self.accelerator.device)
            log_p = self.accelerator.reduce(own, "sum").cpu().numpy()
        return log_p

    def log_mean(self, in_orders: Sequence[AnyBatches], most: int | None) -> Array:
        """The same for the mean share over several label orders of the same rows."""
        each = np.stack([self.log_shares(batches, most) for batches in in_orders])
        return np.asarray(np.log(np.exp(each).mean(axis=0))) if len(each) > 1 else each[0]

    def _targets(self, part: Batch) -> tuple[Tensor, Tensor]:
        """The shares and the weights of a part."""
        device = self.accelerator.device
        return part.tensors["shares"].to(device), part.tensors["weights"].to(device)


@dataclass(frozen=True, slots=True, eq=False)
class Asking(Forward):
    """The answer: the logits at the last tokens, of the label position and, if its end is learned, of the answer."""

    end: int | None = None
    """The token that ends an answer; None = not learned."""

    def logits(self, batch: Batch) -> Tensor:
        """(rows, 1 or 2, vocabulary)."""
        logits: Tensor = self.output(batch).logits
        return logits

    def part_loss(self, part: Batch, *, total: float) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the answer."""
        shares, weights = self._targets(part)
        loss = losses.answer_loss(self.logits(part), shares, part.labels, self.end, weights, weights.new_tensor(total))
        return loss, torch.stack([loss.detach().double() * total, weights.sum().double()])

    def log_p(self, batch: Batch) -> Tensor:
        """Normalised over the labels."""
        return self.logits(batch)[:, 0, list(batch.labels)].double().log_softmax(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Heading(Forward):
    """The head's distribution."""

    settings: TrainSettings
    class_weights: Tensor

    def part_loss(self, part: Batch, *, total: float) -> tuple[Tensor, Tensor]:
        """The loss of the settings."""
        shares, weights = self._targets(part)
        output: HeadOutput = self.output(part)
        each = label_losses(self.settings, output.logits, shares, self.class_weights.to(shares.device))
        reported = torch.stack([(each.detach().double() * weights).sum(), weights.double().sum()])
        return losses.weighted_sum(each.float(), weights, total), reported

    def log_p(self, batch: Batch) -> Tensor:
        """The softmax of its logits."""
        output: HeadOutput = self.output(batch)
        return output.logits.double().log_softmax(-1)

    @torch.inference_mode()
    def read(self, batches: AnyBatches, most: int | None) -> tuple[Array, Array]:
        """The logits and the vectors of all rows, on this process alone."""
        self.model.eval()
        read: dict[int, tuple[Array, Array]] = {}
        for batch in _parts(batches, most):
            output: HeadOutput = self.output(batch)
            both = (part.double().cpu().numpy() for part in (output.logits, output.vector))
            read |= {int(row): (logits, vector) for row, logits, vector in zip(batch.members, *both, strict=True)}
        rows = [read[row] for row in range(len(batches.shares))]
        return np.stack([logits for logits, _ in rows]), np.stack([vector for _, vector in rows])


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A step of batches, with its parts, made for a largest number of utterances in one."""

    batches: AnyBatches
    step: Any
    most: int | None
    parts: list[Batch]

    def divided(self, most: int | None) -> list[Batch]:
        """The parts for a largest number, which may have become smaller meanwhile."""
        return self.parts if most == self.most else self.batches.parts(self.step, most)

    @property
    def total(self) -> float:
        """The sum of the weights of its rows, over all processes."""
        return self.batches.total(self.step)

    @property
    def padding(self) -> tuple[int, int]:
        """The numbers of tokens in the parts, without and with padding."""
        masks = [part.tensors["attention_mask"] for part in self.parts]
        return sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)


def made_ahead(
    batches: AnyBatches, epoch: int, most: Callable[[], int | None], window: int | None = None
) -> Generator[Made, None, None]:
    """The steps of an epoch, the next ones made by a thread while the model learns from one."""

    def made(step: Any) -> Made:
        size = most()
        return Made(batches, step, size, batches.parts(step, size))

    return decode_ahead(batches.epoch(epoch, window), made, threads=1, ahead=2)


def _parts(batches: AnyBatches, most: int | None) -> Iterator[Batch]:
    for made in made_ahead(batches, 0, lambda: most):
        yield from made.parts
