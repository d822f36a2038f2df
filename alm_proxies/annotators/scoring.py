"""Exact label probabilities from the log-probabilities of every label's answer, one distribution per label order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError


def order_probabilities(log_probabilities: ArrayLike, *, content_free: ArrayLike | None = None) -> NDArray[np.float64]:
    """P(label) under each label order, (orders, labels): softmax_k l[m, k].

    l[m, k] = log P(the answer for label k | prompt of order m), natural; labels in taxonomy order in every row.
    `content_free`, of the same shape, holds the log-probabilities for a clip of silence; its distribution p0
    is divided out: softmax_k (l[m, k] - log p0[m, k]) (contextual calibration, Zhao et al. 2021).
    """
    scores = _checked(log_probabilities, "log-probabilities")
    if content_free is not None:
        blank = _checked(content_free, "content-free log-probabilities")
        if blank.shape != scores.shape:
            raise InputError(f"content-free scores are {blank.shape}, the clip's are {scores.shape}")
        if not np.isfinite(blank).all():
            raise InputError("the content-free probability of a label is 0, so scores cannot be divided by it")
        scores = scores - _log_softmax(blank)
    return np.asarray(np.exp(_log_softmax(scores)), dtype=np.float64)


def _checked(values: ArrayLike, message: str) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise InputError(f"{message} must be (orders, labels) with two or more labels, not {scores.shape}")
    if np.isnan(scores).any() or (scores == np.inf).any() or np.isneginf(scores).all(axis=1).any():
        raise InputError(f"{message} give no distribution", fix="The engine gave no finite value for any label.")
    return scores


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
