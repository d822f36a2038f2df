"""CREMA-D: tabulatedVotes.csv or finishedResponses.csv, as its authors publish them."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source

Modality = Literal["voice", "face", "audio-visual"]


class CremaDSource(Source):
    """The folder of CREMA-D, or one of its label files."""

    format: Literal["crema_d"] = "crema_d"
    """CREMA-D, as its authors publish it."""
    modality: Modality = "voice"
    """What the raters judged: CREMA-D has votes on the voice, the face, and both."""


READER = Reader(
    CremaDSource,
    "alm_proxies.stages.read.crema_d:read_crema_d",
    beside=r"finishedEmoResponses\.csv|VideoDemographics\.csv|AudioWAV|AudioMP3",
)
