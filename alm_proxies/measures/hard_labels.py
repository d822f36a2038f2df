"""Measures of the most likely label against the most voted one, each a function of counts by speaker and label."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from alm_proxies.measures.arrays import Array
from alm_proxies.measures.bootstrap import Paired, Statistic, paired_of_sums, ratio, speaker_codes, sums_by_speaker
from alm_proxies.measures.ranges import range_of_difference

UNDECIDED = -1


def decided(votes: Array) -> NDArray[np.int64]:
    """The label with most votes of each row, -1 for ties."""
    if not len(votes):
        return np.zeros(0, dtype=np.int64)
    return np.where(_most(votes).sum(1) == 1, votes.argmax(1), UNDECIDED)


def most_voted(votes: Array, *, ties: bool) -> Array:
    """The labels with most votes of each row: 1 for a single one; of m that tie, 1/m each, or 0 without `ties`."""
    most = _most(votes).astype(np.float64)
    tied = most.sum(1, keepdims=True)
    shares: Array = most / tied if ties else np.where(tied == 1, most, 0.0)
    return shares


def _most(votes: Array) -> NDArray[np.bool_]:
    most: NDArray[np.bool_] = votes >= votes.max(1, keepdims=True) - 1e-9
    return most


def confusion_sums(predicted: Array, true: Array, weight: Array, codes: NDArray[np.int64], speakers: int) -> Array:
    """By speaker and label: the numbers correct, predicted and true, of rows whose true labels are given as shares."""
    rows, labels = predicted.shape
    guess = predicted.argmax(1)
    counts = weight * (true.sum(1) > 0)
    right = weight * true[np.arange(rows), guess]
    cell = codes * labels + guess
    first, second = (np.bincount(cell, w, speakers * labels).reshape(speakers, labels) for w in (right, counts))
    return np.concatenate([first, second, sums_by_speaker(true * weight[:, None], codes, speakers)], axis=1)


def accuracy(sums: Array) -> Array:
    """The share of correct ones."""
    right, _, true = np.split(sums, 3, axis=1)
    return ratio(np.stack([right.sum(1), true.sum(1)], axis=1))


def macro_f1(sums: Array) -> Array:
    """F1, 2 correct / (predicted + true), as a mean over all labels; 0 for a label that is neither."""
    right, guessed, true = np.split(sums, 3, axis=1)
    both = guessed + true
    score: Array = (2.0 * right / np.where(both > 0, both, 1.0)).mean(1)
    return np.where(true.sum(1) > 0, score, np.nan)


def uar(sums: Array) -> Array:
    """Recall, correct / true, as a mean over the labels that occur."""
    right, _, true = np.split(sums, 3, axis=1)
    occurs = true > 0
    recall = np.where(occurs, right / np.where(occurs, true, 1.0), 0.0)
    return ratio(np.stack([recall.sum(1), occurs.sum(1).astype(np.float64)], axis=1))


WITHOUT_TIES: Mapping[str, Statistic] = MappingProxyType({"accuracy": accuracy, "macro_f1": macro_f1, "uar": uar})
WITH_TIES: Mapping[str, Statistic] = MappingProxyType({"macro_f1_with_ties": macro_f1, "uar_with_ties": uar})
"""A tied utterance counts in equal parts, 1/m, for each of its m labels with most votes, and a prediction of one of
them is correct in that part."""


def paired_with_ties(
    first: Array,
    second: Array,
    votes: Array,
    speakers: NDArray[np.str_] | None,
    *,
    weight: Array,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Paired]:
    """First minus second, on the same utterances, for each measure that counts ties."""
    codes, count = speaker_codes(speakers, len(votes))
    true = most_voted(votes, ties=True)
    mine, theirs = (confusion_sums(predicted, true, weight, codes, count) for predicted in (first, second))
    return {
        name: paired_of_sums(mine, theirs, statistic, level=level, seed=seed, within=range_of_difference(name))
        for name, statistic in WITH_TIES.items()
    }
