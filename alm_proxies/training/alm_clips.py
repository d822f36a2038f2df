"""Batches for training any family of audio-language models: clips and prompt go through the model's own processor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.seeds import generator
from alm_proxies.training.alm_batches import Batch, Heard, drawn, planned


@dataclass(frozen=True, slots=True, eq=False)
class ClipStep:
    """The rows of one step, the number of their label order, and a drawn answer for each."""

    members: NDArray[np.int64]
    order: int
    answers: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ClipBatches:
    """Batches of clips with target shares; `labels` are the answers' tokens in every label order."""

    heard: Heard
    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    weights: NDArray[np.float64]
    lm: AudioLM
    asker: Annotator
    labels: tuple[tuple[int, ...], ...]
    size: int
    seed: int
    ends: bool = False
    share: tuple[int, int] = (0, 1)
    """Process i of n with share (i, n) gets every n-th row of a step."""
    order: int | None = None
    """The label order of all steps; None = drawn for each."""

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def epoch(self, number: int, window: int | None = None) -> Iterator[ClipStep]:
        """All rows once, in steps of clips of similar length; `window` is for Qwen2-Audio only."""
        for place, members in planned(self.heard.lengths[self.rows], self.size, self.seed, number):
            chance = generator(self.seed, "batch", number, place)
            order = int(chance.integers(len(self.labels))) if self.order is None else self.order
            yield ClipStep(members, order, drawn(self.shares[members], chance))

    def total(self, step: Any) -> float:
        """The sum of the weights of a step's rows."""
        return float(self.weights[step.members].sum())

    def parts(self, step: Any, most: int | None) -> list[Batch]:
        """This process's rows of a step in parts of at most that number, of equally long clips if needed."""
        rank, world = self.share
        places = np.arange(rank, len(step.members), world)
        lengths = self.heard.lengths[self.rows[step.members[places]]]
        groups = [places] if len(places) else []
        if self.lm.inputs.equal_lengths_only:
            groups = [places[lengths == length] for length in np.unique(lengths)]
        size = most or len(step.members)
        return [
            self._part(step, group[start : start + size]) for group in groups for start in range(0, len(group), size)
        ]

    def _part(self, step: ClipStep, places: NDArray[np.int64]) -> Batch:
        members, rate, cell = step.members[places], self.heard.rate, self.asker.cells[step.order]
        clips = [Audio(self.heard.frames(int(self.rows[member]))[:, 0], rate) for member in members]
        asked = [conversation_of(self.asker.question(cell, clip, PromptContext()), rate) for clip in clips]
        tensors = self.lm.inputs.batch(asked)
        labels = self.labels[step.order]
        if self.ends:
            answers = torch.tensor([[labels[answer]] for answer in step.answers[places]])
            tensors["input_ids"] = torch.cat([tensors["input_ids"], answers], 1)
            tensors["attention_mask"] = torch.cat([tensors["attention_mask"], torch.ones_like(answers)], 1)
        positions: Tensor = (tensors["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        tensors["position_ids"] = self.lm.on_axes(positions)
        tensors["shares"] = torch.from_numpy(self.shares[members]).float()
        tensors["weights"] = torch.from_numpy(self.weights[members]).float()
        return Batch(tensors, labels, members)
