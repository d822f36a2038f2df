"""The gate's features: centred log shares, entropy and a missing flag for each block, and numeric columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from alm_proxies.estimators.counts import Array, Block, Counts

_SMOOTHING = 0.3
"""Smoothing votes added before logarithms, as a share of the block's mean number of votes, so that entering an
annotator twice changes no feature.
"""
_ROUNDING = 1e-12
"""A column that varies by less, as a share of its mean, is constant: its values differ from the mean by rounding."""


@dataclass(frozen=True, slots=True)
class _BlockScale:
    shares: Array
    centre: Array
    absent: float
    smoothing: float

    def raw(self, block: Block) -> Array:
        if block.kind == "votes":
            share = (block.counts + self.smoothing * self.shares) / (block.votes + self.smoothing)[:, None]
        else:
            share = np.where(block.votes[:, None] > 0, block.counts, self.shares)
        logs = np.log(share)
        entropy = -(share * logs).sum(1, keepdims=True)
        return np.concatenate([logs - np.log(self.shares), entropy], axis=1)

    def features(self, block: Block) -> Array:
        """Features centred on the utterances the block voted on; where it is absent, all are zero except the flag."""
        there = block.votes[:, None] > 0
        absent = (~there).astype(np.float64) - self.absent
        return np.concatenate([np.where(there, self.raw(block) - self.centre, 0.0), absent], axis=1)


class GateFeatures:
    """The features of utterances, on the scale of the fit."""

    def fit(self, counts: Counts) -> Self:
        """Learn corpus shares and centres of each block, means and spreads of the columns."""
        self.blocks_ = [_block_scale(block) for block in counts.blocks]
        known = np.isfinite(counts.columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = np.maximum(known.sum(0), 1)
            self.mean_ = np.where(known, counts.columns, 0.0).sum(0) / seen
            spread = np.where(known, np.square(counts.columns - self.mean_), 0.0).sum(0) / seen
        spread = np.sqrt(spread)
        self.scale_ = np.where(spread > _ROUNDING * np.abs(self.mean_), spread, np.inf)
        self.unknown_ = 1.0 - known.mean(0)
        return self

    def of(self, counts: Counts) -> Array:
        """Utterances x features."""
        parts = [scale.features(block) for scale, block in zip(self.blocks_, counts.blocks, strict=True)]
        columns = counts.columns
        if columns.shape[1] != len(self.mean_):
            columns = np.full((len(counts), len(self.mean_)), np.nan)
        known = np.isfinite(columns)
        parts.append(np.where(known, columns - self.mean_, 0.0) / self.scale_)
        parts.append((~known).astype(np.float64) - self.unknown_)
        return np.concatenate(parts, axis=1)

    def dark(self, counts: Counts) -> np.ndarray:
        """Which utterances have no input to the gate: every block absent, every column unknown."""
        seen = np.isfinite(counts.columns).any(1)
        for block in counts.blocks:
            seen = seen | (block.votes > 0)
        return np.asarray(~seen)


def _block_scale(block: Block) -> _BlockScale:
    labels = block.counts.shape[1]
    there = block.votes > 0
    votes = float(block.votes[there].mean()) if there.any() else 1.0
    total = block.counts.sum(0) / votes + 0.1 / labels
    scale = _BlockScale(total / total.sum(), np.zeros(labels + 1), float(1.0 - there.mean()), _SMOOTHING * votes)
    return replace(scale, centre=scale.raw(block.rows(there)).mean(0)) if there.any() else scale
