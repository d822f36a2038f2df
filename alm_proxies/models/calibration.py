"""Calibration of a trained model's logits, learned on development speakers' human votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[np.float64]
LARGEST = 1e4
"""The highest concentration, in votes."""


class Calibration(BaseModel):
    """softmax(W ln p + b) with p = softmax(logits); and the concentration exp(a + slopes x) of every prediction.

    temperature: W = identity / T, b = 0 (Guo et al. 2017). dirichlet: W and b free, shrunk to the identity (Kull et al.
    2019, Dirichlet calibration). The x are the normalised entropy of the prediction, ln of the clip's distance from the
    training clips and, if the model has a Dirichlet head, ln of its strength.
    """

    model_config = ConfigDict(frozen=True)

    method: str = "none"
    """none, temperature or dirichlet: the one with the best cross-validated log loss over development speakers."""
    temperature: float = 1.0
    """temperature: T; above 1 = the model was over-confident."""
    matrix: tuple[tuple[float, ...], ...] | None = None
    """dirichlet: W."""
    intercept: tuple[float, ...] | None = None
    """dirichlet: b."""
    votes: float = 0.0
    """The number of human votes it was learned from."""
    loss: dict[str, float] = {}
    """Cross-validated log loss per vote of every method tried."""
    concentration: tuple[float, ...] | None = None
    """a and slopes; None if no development utterance has two votes."""
    centre: tuple[float, ...] = ()
    """Mean of the x over development clips."""
    abstain_below: float | None = None
    """Predictions with a lower concentration abstain; set so that the requested share of development clips abstains."""
    abstain_beyond: float | None = None
    """Predictions for clips farther from the training clips abstain too; a fifth of that share of development clips is
    farther."""

    def distributions(self, logits: ArrayLike) -> Array:
        """The calibrated distribution of every row of logits."""
        log_p = log_softmax(np.asarray(logits, dtype=np.float64))
        if self.method == "temperature":
            log_p = log_p / self.temperature
        elif self.method == "dirichlet" and self.matrix is not None and self.intercept is not None:
            log_p = np.maximum(log_p, -30.0) @ np.asarray(self.matrix).T + np.asarray(self.intercept)
        shares: Array = np.exp(log_softmax(log_p))
        return shares

    def concentrations(self, signs: Array) -> Array:
        """The concentration of every prediction, in votes; NaN if it could not be learned."""
        if self.concentration is None:
            return np.full(len(signs), np.nan)
        a, slopes = self.concentration[0], np.asarray(self.concentration[1:])
        strength: Array = np.exp(np.clip(a + (signs - np.asarray(self.centre)) @ slopes, -3.0, np.log(LARGEST)))
        return strength

    def abstains(self, concentration: Array, distance: Array) -> NDArray[np.bool_]:
        """Whether each prediction is less certain, or its clip farther, than nearly all development clips."""
        unsure = np.zeros(len(concentration), dtype=np.bool_)
        if self.abstain_below is not None:
            unsure |= concentration < self.abstain_below
        if self.abstain_beyond is not None:
            unsure |= distance > self.abstain_beyond
        return unsure


def signs_of(shares: Array, distance: Array, log_strength: Array | None) -> Array:
    """The predictors of the concentration: normalised entropy, ln distance, ln strength of the Dirichlet head."""
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1) / np.log(shares.shape[1])
    columns = [entropy, np.log(np.maximum(distance, 1e-6))]
    return np.stack(columns if log_strength is None else [*columns, log_strength], axis=1)


def log_softmax(logits: Array) -> Array:
    """ln of the softmax of every row."""
    away = logits - logits.max(axis=1, keepdims=True)
    log_p: Array = away - np.log(np.exp(away).sum(axis=1, keepdims=True))
    return log_p
