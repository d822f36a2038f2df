"""Settings of predict."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PredictSettings(BaseModel):
    """How a trained model is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch: int = Field(default=16, ge=1)
    """Clips at once, of similar length; changes no prediction."""
    evidence: bool = False
    """Add, for every clip, which seconds and which changes of pitch and tempo move its prediction most, as JSON."""
    threads: int = Field(default=2, ge=1)
    """Threads that decode recordings ahead."""
    device: str | None = None
    """cpu, cuda or cuda:1; null = a GPU if there is one."""
