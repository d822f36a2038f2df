"""Windows shorter than 30 s for audio encoders of Qwen2-Audio's kind, which have a fixed number of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

FAMILIES = frozenset({"qwen2_audio", "audioflamingo3"})
"""Families whose encoder masks what is padded to 30 s, so that it hears a clip alike with less of it."""
FRAMES_A_POSITION = 2
"""Mel frames of 10 ms per position of the audio encoder."""


@contextmanager
def short_windows(model: Any) -> Iterator[Hearing]:
    """A context in which the model takes windows shorter than 30 s (by truncated positions); restored afterwards."""
    tower = model.model.audio_tower
    places = tower.embed_positions
    try:
        yield Hearing(tower, places.weight)
    finally:
        tower.embed_positions = places
        tower.config.max_source_positions = len(places.weight)


@contextmanager
def at_its_length(model: Any, inputs: Mapping[str, Tensor]) -> Iterator[None]:
    """A context in which the model takes these inputs, whose windows may be shorter than 30 s."""
    features = inputs.get("input_features")
    if features is None or model.config.model_type not in FAMILIES:
        yield
        return
    with short_windows(model) as hearing:
        hearing.set(features.shape[-1])
        yield


class Hearing:
    """The audio encoder of a model; its length is set for each batch."""

    def __init__(self, tower: Any, places: Tensor) -> None:
        self._tower = tower
        self._places = places

    def set(self, frames: int, start: int = 0) -> None:
        """Set the encoder to windows of that number of mel frames, beginning at frame `start` of the recording."""
        first, count = start // FRAMES_A_POSITION, frames // FRAMES_A_POSITION
        places = nn.Embedding(count, self._places.shape[1], _weight=self._places[first : first + count])
        self._tower.embed_positions = places.requires_grad_(False)
        self._tower.config.max_source_positions = count
