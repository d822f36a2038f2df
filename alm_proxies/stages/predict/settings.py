"""Settings of predict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alm_proxies.settings import CHANGES_NOTHING, Settings
from alm_proxies.stage import Need, Stage

__all__ = ["STAGE", "PredictSettings"]


class PredictSettings(Settings):
    """Predict the distribution of listeners' votes for every utterance, or every recording of a folder.

    The model is a folder that train wrote.
    """

    batch: Annotated[int, CHANGES_NOTHING] = Field(default=16, ge=1)
    """The number of clips per batch, of similar length; changes no prediction."""
    evidence: bool = False
    """Add the evidence for every prediction as JSON: the seconds and the prosody that change it most. For an encoder:
    changes of pitch and tempo; for the recipe features: each group of measured features, set to its average.
    """
    condition: Literal["noise", "telephone", "room"] | None = None
    """Predict degraded recordings: with pink noise 10 dB below the loud parts of the speech (an SNR of about 4 dB over
    the whole clip), in a telephone band, or with 0.5 s of reverberation; null = as recorded. `evaluate` compares such
    predictions with those of the recordings as they are.
    """
    threads: Annotated[int, CHANGES_NOTHING] = Field(default=2, ge=1)
    """Threads that decode recordings ahead; with a frozen encoder they encode them too."""
    device: Annotated[str | None, CHANGES_NOTHING] = None
    """cpu, cuda or cuda:1; null = a GPU if there is one."""


STAGE = Stage(
    verb="predict",
    settings=PredictSettings,
    function="alm_proxies.stages.predict.stage:predict",
    needs=(
        Need("model", "folder", first=("train/folder",), help="A folder that train wrote."),
        Need(
            "utterances", "utterances", first=("read/utterances",), positional=True,
            help="The utterances to predict, or a folder of recordings.",
        ),
    ),
    writes={"labels": "labels.parquet"},
    follows="train",
    unless="not_predicted",
    labels_of="model",
    revision=3,
    hears=True,
)  # fmt: skip
