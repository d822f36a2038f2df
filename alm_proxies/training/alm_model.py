"""A trained audio-language model with a head of its own: it predicts distributions, as models of other recipes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.audio.clip import Clip
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.models.chat_inputs import Conversation
from alm_proxies.models.evidence import Evidence, Moved, changed_prosody, without_parts
from alm_proxies.models.headed_lm import HeadedLM
from alm_proxies.models.trained import ANNOTATOR, Predictions, TrainedFile, read_trained, refuse_unusable

_AT_ONCE = 8
"""Clips in one batch of those that evidence asks about."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AlmModel:
    """An audio-language model with a head and the prompt of its training, with the interface of TrainedModel."""

    lm: HeadedLM
    asker: Annotator

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.lm.file.line})"

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None) -> Self:
        """Load a folder that `train` wrote with alm.output = head (or its parent), on a GPU if there is one."""
        path, file = read_trained(folder)
        return cls(HeadedLM.load(path, device=device), Annotator.read(path / ANNOTATOR, taxonomy=file.labels))

    @property
    def file(self) -> TrainedFile:
        """The trained folder's metadata."""
        return self.lm.file

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return self.file.labels

    @property
    def rate(self) -> int:
        """The sample rate that clips must have."""
        return self.lm.inputs.rate

    def distributions(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        """The calibrated distribution of every clip, clips x labels."""
        return self.predict(clips).shares

    def predict(self, clips: Sequence[Clip]) -> Predictions:
        """Distributions, concentrations and abstentions of clips; independent of the batching."""
        refuse_unusable(clips, self.rate, self.file.seconds)
        return self.lm.predict([self._conversation(clip) for clip in clips])

    def evidence(self, clip: Clip) -> Evidence:
        """Evidence for the prediction of one clip: effects of removed segments and changed prosody, the strongest
        first.

        Seconds: the distribution of the clip with half a second cut out, against that of the whole. Prosody: that of
        the clip with its pitch or tempo changed, everything else unchanged.
        """
        cut, changed = without_parts(clip, self.file.seconds[0]), changed_prosody(clip, self.file.seconds)
        named = [*cut, *changed]
        clips = [clip, *(other for _, other in named)]
        batches = [self.distributions(clips[start : start + _AT_ONCE]) for start in range(0, len(clips), _AT_ONCE)]
        whole, *others = np.concatenate(batches)
        moved = [Moved.of(name, self.labels, whole, other) for (name, _), other in zip(named, others, strict=True)]
        return Evidence.of(moved[: len(cut)], moved[len(cut) :])

    def _conversation(self, clip: Clip) -> Conversation:
        question = self.asker.question(self.asker.cells[0], Audio(clip.samples, clip.rate), PromptContext())
        return conversation_of(question, self.rate)
