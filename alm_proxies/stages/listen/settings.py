"""Settings of listen: recipe, folds and rounds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alm_proxies.settings import CHANGES_NOTHING, HUB, PLACE, Settings
from alm_proxies.stage import Need, Stage
from alm_proxies.training.head_settings import HeadSettings

FEWEST = 20
"""The lowest number of utterances with human votes for a training."""


class ListenSettings(Settings):
    """The settings of listen: how a listener is trained on a corpus's own human votes."""

    recipe: Literal["encoder", "features"] = "features"
    """The input: features = measured prosody and spectra, without pretrained weights; encoder = a frozen pretrained
    audio encoder.
    """
    model: Annotated[str | None, PLACE, HUB] = None
    """The encoder: a folder or a name on the hub (WavLM, wav2vec 2.0, HuBERT, Whisper)."""
    revision: str | None = None
    """Commit of the encoder on the hub."""
    layers: tuple[int, ...] | None = None
    """Layers of the encoder whose means and deviations are used, 0 = the first layer's input; null = four of them,
    evenly spread from a quarter of the way up."""
    speaker_relative: bool = False
    """Normalise features by the speaker's other clips. This helps too much where every speaker acted every emotion, as
    in CREMA-D.
    """
    folds: int = Field(default=5, ge=3, le=50)
    """Folds of all speakers with recordings, with or without votes; a fold is predicted by models that
    saw no vote of it."""
    rounds: int = Field(default=1, ge=1, le=2)
    """The number of rounds. 1: trained on the human votes; 2: trained again on these votes fused with the first round's
    predictions, nested, without a gain on CREMA-D.
    """
    head: HeadSettings = HeadSettings()
    """How the head on the features is trained."""
    seed: int = Field(default=0, ge=0)
    """Random seed of folds, initial weights and order."""
    name: str = Field(default="listener", pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")
    """Name of the annotator."""
    device: Annotated[str | None, CHANGES_NOTHING] = None
    """Device of the encoder (cpu, cuda); null = a GPU if there is one."""
    threads: Annotated[int, CHANGES_NOTHING] = Field(default=2, ge=1, le=256)
    """Threads that decode and encode clips and train heads."""

    @model_validator(mode="after")
    def _model_of_recipe(self) -> Self:
        if self.recipe == "encoder" and self.model is None:
            raise ValueError('recipe = "encoder" needs model = a folder or a name on the hub')
        if self.recipe == "features" and (self.model is not None or self.layers is not None):
            raise ValueError('recipe = "features" takes no model and no layers; take recipe = "encoder"')
        return self


STAGE = Stage(
    verb="listen",
    settings=ListenSettings,
    function="alm_proxies.stages.listen.stage:listen",
    needs=(
        Need("utterances", "utterances", first=("read/utterances",), help="The utterances: recordings and speakers."),
        Need("votes", "votes", every=("read/votes",), help="Human votes; held-out ones are not used."),
    ),
    writes={"votes": "votes.parquet", "page": "report.html"},
    into_folder=True,
    locks=True,
    contains=("models/*.npz",),
    working=("features/*", "trainings/*"),
    revision=7,
    hears=True,
    depends="alm_proxies.stages.listen.ahead:inputs_of",
    foresee="alm_proxies.stages.listen.ahead:foresee",
)
