"""Human and proxy votes on the same utterances: label shares and confusion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import Array, Ballots
from alm_proxies.compare.material import Material
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.seeds import generator


@dataclass(frozen=True, slots=True)
class LabelShare:
    """The share of a label among human and proxy votes on the same utterances, and their correlation."""

    label: str
    human: Interval
    proxy: Interval
    difference: Interval
    correlation: float


def whole_votes(ballots: Ballots, seed: int) -> Array:
    """Whole votes: a draw whose mass is shared casts one label at random by its shares."""
    shared = ballots.vectors.max(1, initial=0.0) < 1.0 - 1e-9
    vectors = ballots.vectors.copy()
    if shared.any():
        random = generator(seed, "whole votes").random((int(shared.sum()), 1))
        chosen = (np.cumsum(vectors[shared], axis=1) < random).sum(1)
        vectors[shared] = np.eye(vectors.shape[1])[np.minimum(chosen, vectors.shape[1] - 1)]
    return np.round(replace(ballots, vectors=vectors).counts())


def label_shares(
    human: Array, proxy: Array, both: NDArray[np.bool_], material: Material, seed: int
) -> tuple[LabelShare, ...]:
    """Shares of the labels over the utterances that have both kinds of votes, every utterance the same weight."""
    rows = np.flatnonzero(both) if both.any() else np.flatnonzero(human.sum(1) > 0)
    names = None if material.speakers is None else material.speakers[rows]
    h = human[rows] / np.maximum(human[rows].sum(1, keepdims=True), 1e-300)
    p = proxy[rows] / np.maximum(proxy[rows].sum(1, keepdims=True), 1e-300)
    shares = []
    for j, label in enumerate(material.labels):
        sides = (h[:, j], p[:, j], p[:, j] - h[:, j])
        intervals = [mean_by_speaker(side, names, seed=seed) for side in sides]
        varies = len(rows) > 2 and h[:, j].std() > 1e-12 and p[:, j].std() > 1e-12
        correlation = float(np.corrcoef(h[:, j], p[:, j])[0, 1]) if varies else float("nan")
        shares.append(LabelShare(label, intervals[0], intervals[1], intervals[2], correlation))
    return tuple(shares)


def confusion_of(human: Array, proxy: Array) -> Array:
    """Confusion of proxy votes with human votes: rows are human labels, sum_i h_i(a) p_i(b) / sum_i h_i(a)."""
    h, p = human / human.sum(1, keepdims=True), proxy / proxy.sum(1, keepdims=True)
    mass = h.sum(0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        table: Array = np.where(mass > 1e-9, h.T @ p / np.where(mass > 0, mass, 1.0), np.nan)
    return table
