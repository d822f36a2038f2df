"""Entropy curricula: weights of training utterances in every epoch, by the ambiguity of their targets."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from alm_proxies.ambiguity import LEVELS, places
from alm_proxies.measures.divergence import entropy_normalised
from alm_proxies.training.settings import CurriculumSettings

Array = NDArray[np.float64]
STRATA = LEVELS


def curriculum_weights(entropies: ArrayLike, settings: CurriculumSettings, epoch: int, epochs: int) -> Array:
    """The weights of the utterances in an epoch (from 0) of `epochs`: 0 = left out; their mean over those kept is 1.

    H is the normalised entropy, 0 to 1. filter: 1 where H <= its quantile at the epoch's share (ties all stay).
    weight: max(floor, (1 - H)^a) over its mean, a linear from `from` to `to`. reverse_filter: 1 where H >= the quantile
    at 1 - share. reverse_weight: H in place of 1 - H. After arXiv 2606.27536.
    """
    h = np.asarray(entropies, dtype=np.float64)
    if settings.kind == "none" or not len(h):
        return np.ones_like(h)
    if settings.kind in ("filter", "reverse_filter"):
        share = share_kept(settings, epoch)
        reverse = settings.kind == "reverse_filter"
        edge = np.quantile(h, 1 - share if reverse else share)
        tolerance = 1e-12  # equal targets have equal entropies up to rounding
        return (h >= edge - tolerance if reverse else h <= edge + tolerance).astype(np.float64)
    ease = h if settings.kind == "reverse_weight" else 1 - h
    raised = np.maximum(settings.floor, np.clip(ease, 0.0, 1.0) ** exponent(settings, epoch, epochs))
    mean = raised.mean()
    return np.asarray(raised / mean if mean > 0 else np.ones_like(h), dtype=np.float64)


def share_kept(settings: CurriculumSettings, epoch: int) -> float:
    """filter: the share of utterances kept in an epoch (from 0)."""
    begun = sum(first <= epoch + 1 for first in settings.epochs)
    return settings.shares[begun - 1]


def exponent(settings: CurriculumSettings, epoch: int, epochs: int) -> float:
    """weight: the exponent a in an epoch (from 0)."""
    last = (settings.over or epochs) - 1
    passed = min(1.0, epoch / last) if last > 0 else 1.0
    return settings.begin + (settings.end - settings.begin) * passed


def curriculum_table(shares: ArrayLike, settings: CurriculumSettings, epochs: int) -> pl.DataFrame:
    """For the run's page: utterances, the share kept and the mean weight by epoch and stratum of entropy."""
    h = entropy_normalised(shares)
    stratum = places(h)
    rows = []
    for epoch in range(epochs):
        weights = curriculum_weights(h, settings, epoch, epochs)
        for place, name in enumerate(STRATA):
            part = weights[stratum == place]
            if len(part):
                rows.append(
                    {
                        "epoch": epoch + 1,
                        "stratum": name,
                        "utterances": len(part),
                        "kept": float((part > 0).mean()),
                        "weight": float(part.mean()),
                    }
                )
    schema = {"epoch": pl.Int64, "stratum": pl.String, "utterances": pl.Int64, "kept": pl.Float64, "weight": pl.Float64}
    return pl.DataFrame(rows, schema=schema)
