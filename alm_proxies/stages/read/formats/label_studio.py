"""Label Studio: a project exported as JSON, an annotation a vote."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alm_proxies.cards import Scale
from alm_proxies.stages.read.settings import Reader, Source


class LabelStudioSource(Source):
    """The file that Label Studio exports as JSON (not JSON-MIN, not CSV)."""

    format: Literal["label_studio"] = "label_studio"
    """Label Studio, a project exported as JSON."""
    label: str = ""
    """Name of the Choices control with the emotion; needed where there are several."""
    secondary: str = ""
    """Name of a Choices control with secondary emotions, if there is one."""
    ratings: dict[Literal["valence", "arousal", "dominance"], str] = Field(default_factory=dict)
    """Our rating = the name of its Rating or Number control; those of our own names need no entry."""
    scales: dict[Literal["valence", "arousal", "dominance"], Scale] = Field(default_factory=dict)
    """The ratings that stand for least and most, where the card does not state them."""
    several_labels: Literal["each", "share", "first"] = "share"
    """Several choices in one answer: a vote each, one vote shared among them, or the first alone."""
    columns: dict[Literal["utterance_id", "audio", "speaker", "gender", "language", "transcript", "split"], str] = (
        Field(default_factory=dict)
    )
    """Our column = the key of the task's data; keys of our own names need no entry."""


READER = Reader(LabelStudioSource, "alm_proxies.stages.read.label_studio:read_label_studio")
