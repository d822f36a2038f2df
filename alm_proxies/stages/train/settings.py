"""Settings of train: those of the trainings, which listen shares."""

from __future__ import annotations

from alm_proxies.training.settings import TrainSettings

__all__ = ["TrainSettings"]
