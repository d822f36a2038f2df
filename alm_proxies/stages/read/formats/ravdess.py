"""RAVDESS: recordings with the acted emotion in their names; the release has no votes."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class RavdessSource(Source):
    """The folder of RAVDESS with Actor_01 to Actor_24."""

    format: Literal["ravdess"] = "ravdess"
    """RAVDESS, as its authors publish it."""
    channel: Literal["speech", "song", "both"] = "speech"
    """Whether to read spoken recordings, sung ones, or both."""


READER = Reader(RavdessSource, "alm_proxies.stages.read.ravdess:read_ravdess")
