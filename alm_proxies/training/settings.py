"""What a training may be told."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NewModel(_Part):
    """A small Qwen2-Audio that has learned nothing yet; heads are 32 wide."""

    hidden: int = Field(128, ge=64, multiple_of=64)
    """Width of the language model."""
    layers: int = Field(2, ge=1)
    """Its layers."""
    audio_hidden: int = Field(128, ge=64, multiple_of=32)
    """Width of the audio encoder."""
    audio_layers: int = Field(3, ge=1)
    """Its layers."""
    vocabulary: int = Field(1024, ge=512, multiple_of=64)
    """Tokens; made of the words of the prompt."""


class ChangeSettings(_Part):
    """How a clip is changed each time it is heard, so that it is not learned by heart."""

    gain: float = Field(1.0, ge=0)
    """Standard deviation of its level in dB; loudness tells of emotion, so little."""
    bands: int = Field(8, ge=0, le=64)
    """At most so many of the 128 mel bands are blanked."""
    frames: int = Field(15, ge=0, le=100)
    """At most so many frames of 10 ms are blanked."""
    shift: int = Field(6, ge=0, le=50)
    """It begins at most so many frames earlier or later."""


class TrainSettings(_Part):
    """What is trained, on which question, for how long."""

    recipe: Literal["alm"] = "alm"
    """alm: an audio-language model that answers a prompt."""
    name: str = Field("alm", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What the training is called."""
    model: str | None = None
    """The Qwen2-Audio to begin from: a folder or a name on the hub."""
    new: NewModel | None = None
    """Or one that has learned nothing yet."""
    prompt: str = "listener"
    """The question: a shipped prompt's name, or the path of a prompt file."""
    answer: Literal["codes", "words"] = "codes"
    """What is answered: one letter a label, or the labels themselves; each must be one token of the model."""
    label_orders: int = Field(1, ge=1)
    """In how many orders the labels are shown; 1 = the taxonomy's own."""
    epochs: int = Field(10, ge=1)
    """How often every utterance is heard."""
    batch: int = Field(32, ge=1)
    """Utterances a step."""
    window_epochs: int = Field(0, ge=0)
    """In so many first epochs only a part of each clip is heard, elsewhere every time: cheaper by more than half."""
    window: float = Field(2.0, ge=0.5)
    """How many seconds that part lasts."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """What moves the weights; muon moves hidden matrices by orthogonal steps, and needs fewer of them from nothing."""
    learning_rate: float = Field(1e-3, gt=0)
    """The highest; it rises during the warm-up and falls as a cosine to nothing."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(0.05, ge=0)
    """Pull of weight matrices towards zero."""
    clip: float = Field(1.0, gt=0)
    """Longest gradient; a longer one is shortened."""
    look_at: int | None = Field(None, ge=1)
    """How many development utterances are looked at after an epoch, evenly spread; null = all."""
    change: ChangeSettings = ChangeSettings()
    """How clips are changed."""
    seed: int = Field(0, ge=0)
    """Seed of first weights, order and changes."""

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.model is None) == (self.new is None):
            raise ValueError("needs one beginning: model = a checkpoint, or new = the sizes of an untrained one")
        return self
