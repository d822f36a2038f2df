"""Settings of a head on frozen features."""

from __future__ import annotations

from pydantic import Field

from alm_proxies.settings import Settings


class HeadSettings(Settings):
    """How a head on frozen features is trained."""

    hidden: int = Field(default=256, ge=1)
    """Width of the hidden layer."""
    components: int = Field(default=128, ge=1, le=4096)
    """The number of principal components of the features; at most half the number of training clips."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout: the share of hidden units dropped at each step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of AdamW, of weight matrices only."""
    batch: int = Field(default=128, ge=1)
    """Clips per step, at most a sixteenth of the training clips (but 16 or more)."""
    epochs: int = Field(default=30, ge=1)
    """The largest number of passes over the training clips; early stopping on other speakers chooses the number."""
    seeds: int = Field(default=5, ge=1, le=100)
    """The number of heads that are averaged, each with its own seed."""
