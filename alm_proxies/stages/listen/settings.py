"""Settings of listen."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alm_proxies.training.heads import HeadSettings


class ListenSettings(BaseModel):
    """How a listener is trained on a corpus's own human votes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    recipe: Literal["encoder", "features"] = "encoder"
    """encoder: a pretrained audio encoder, frozen; features: measured prosody and spectra, no pretrained weights."""
    model: str | None = None
    """The encoder: a folder or a name on the hub (WavLM, wav2vec 2.0, HuBERT, Whisper)."""
    revision: str | None = None
    """Commit of the encoder on the hub."""
    layers: tuple[int, ...] | None = None
    """Layers of the encoder whose means and deviations are used, 0 = the first layer's input; null = four of them,
    evenly spread from a quarter of the way up."""
    speaker_relative: bool = False
    """Take features relative to the speaker's other clips. It flatters where every speaker was asked to act every
    emotion, as in CREMA-D."""
    folds: int = Field(default=5, ge=3, le=50)
    """Folds of speakers; a fold is predicted by models that saw no vote of it."""
    rounds: int = Field(default=2, ge=1, le=2)
    """1: trained on the human votes; 2: trained again on these votes fused with the first round's predictions."""
    head: HeadSettings = HeadSettings()
    """How the head on the features is trained."""
    seed: int = 0
    """Seed of folds, first weights and order."""
    name: str = Field(default="listener", pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")
    """Name of the annotator."""
    device: str | None = None
    """Device of the encoder (cpu, cuda); null = a GPU if there is one."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads that decode and encode clips and train heads."""

    @model_validator(mode="after")
    def _model_of_recipe(self) -> Self:
        if self.recipe == "encoder" and self.model is None:
            raise ValueError(
                'recipe = "encoder" needs model = a folder or a name on the hub, or take recipe = "features"'
            )
        if self.recipe == "features" and (self.model is not None or self.layers is not None):
            raise ValueError('recipe = "features" takes no model and no layers')
        return self
