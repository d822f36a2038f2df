"""Scores of predicted distributions against votes, each a function of sums over utterances, with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array, quantiles
from alm_proxies.measures.bootstrap import interval_of_sums, ratio, resampled, sums_by_speaker, where_few, widened
from alm_proxies.measures.calibration import BINS, equal_mass_bins, top_label
from alm_proxies.measures.hard_labels import WITH_TIES, WITHOUT_TIES, confusion_sums, most_voted
from alm_proxies.measures.ranges import range_of


@dataclass(frozen=True, slots=True)
class Scored:
    """Utterances with a prediction and votes: the data of every score, one row per utterance."""

    predicted: Array
    votes: Array
    speakers: NDArray[np.int64]
    weight: Array
    means: dict[str, Array]
    """Scores that are a mean over utterances, by name."""

    def rows(self, rows: NDArray[np.int64]) -> Scored:
        """The same for some utterances."""
        return Scored(
            self.predicted[rows],
            self.votes[rows],
            self.speakers[rows],
            self.weight[rows],
            {name: values[rows] for name, values in self.means.items()},
        )


def scores_of(scored: Scored, *, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Every score by name with its interval by speaker.

    nll_per_vote: -ln q over all votes. The given means, over utterances where they are known. ece: of the top label
    against its share of votes. r2_over_utterances. accuracy, macro_f1 and uar: of the top label against the label with
    most votes (ties are left out), macro_f1 over the full list of labels and uar over those that occur;
    macro_f1_with_ties and uar_with_ties: the same, where a tie counts in equal parts for each of its labels.

    A mean of absolute gaps is too high, the more so the fewer the utterances: the interval of ece allows for that.
    """
    distinct, codes = np.unique(scored.speakers, return_inverse=True)
    count = len(distinct)

    def interval(name: str, sums: Array, statistic: Callable[[Array], Array] = ratio) -> Interval:
        return interval_of_sums(sums, statistic, level=level, seed=seed).within(*range_of(name))

    def summed(columns: list[Array]) -> Array:
        return sums_by_speaker(np.stack(columns, axis=1), codes, count)

    weight, n = scored.weight, scored.votes.sum(1)
    scores = {}
    for name, values in scored.means.items():
        by = np.where(np.isnan(values), 0.0, weight * n if name == "nll_per_vote" else weight)
        scores[name] = interval(name, summed([np.where(by > 0, values, 0.0) * by, by]))
    ece = _ece_interval(_calibration_sums(scored, codes, count), level=level, seed=seed)
    scores["ece"] = ece.within(*range_of("ece"))
    scores["r2_over_utterances"] = interval("r2_over_utterances", _r2_sums(scored, codes, count), _r2)
    for ties, statistics in ((False, WITHOUT_TIES), (True, WITH_TIES)):
        confusion = confusion_sums(scored.predicted, most_voted(scored.votes, ties=ties), weight, codes, count)
        scores |= {name: interval(name, confusion, statistic) for name, statistic in statistics.items()}
    return scores


def _calibration_sums(scored: Scored, codes: NDArray[np.int64], count: int) -> Array:
    confidence, share = top_label(scored.predicted, scored.votes)
    cell = codes * BINS + equal_mass_bins(confidence)
    gaps = np.bincount(cell, scored.weight * (confidence - share), count * BINS).reshape(count, BINS)
    mass = np.bincount(codes, scored.weight, count)
    return np.concatenate([gaps, mass[:, None]], axis=1)


def _ece(sums: Array) -> Array:
    return ratio(np.stack([np.abs(sums[:, :-1]).sum(1), sums[:, -1]], axis=1))


def _ece_interval(sums: Array, *, level: float, seed: int) -> Interval:
    """An interval of the calibration error that also holds where it is near 0, whatever the number of speakers.

    The error of predictions is at most D = sum |g* - g| below the estimate, g the bins' gaps and g* those expected, by
    the triangle inequality: the lower end is the estimate minus the upper percentile of D over resamples, or the basic
    interval's if that is lower. The estimate is seldom too low, so the upper end adds to it, without taking off the
    bias, how far resampled errors lie above their mean; or it is the basic interval's if that is higher. In simulations
    of 3 to 91 speakers it holds errors from 0 to .15 in 96 % or more of the cases, the basic one 0 in 37 to 45 %.
    """
    sums = where_few(sums)
    plain = interval_of_sums(sums, _ece, level=level, seed=seed)
    if plain.method == "none":
        return plain
    count, own, drawn = len(sums), sums.sum(0), resampled(sums, seed)
    drawn = drawn[drawn[:, -1] > 0]
    gaps = drawn[:, :-1] / drawn[:, -1:]
    apart = np.abs(gaps - own[:-1] / own[-1]).sum(1) * np.sqrt(count / (count - 1))
    errors, ends = np.abs(gaps).sum(1), widened(count, level)
    lowest, highest = quantiles(errors, ends)
    low = min(2 * plain.estimate - highest, plain.estimate - quantiles(apart, ends[1:])[0])
    high = plain.estimate + max(plain.estimate - lowest, highest - errors.mean())
    return replace(plain, low=float(low), high=float(high), method="gaps")


def _r2_sums(scored: Scored, codes: NDArray[np.int64], count: int) -> Array:
    share = scored.votes / scored.votes.sum(1, keepdims=True)
    w = scored.weight[:, None]
    columns = np.concatenate([w, w * share, w * share**2, w * np.square(share - scored.predicted)], axis=1)
    return sums_by_speaker(columns, codes, count)


def _r2(sums: Array) -> Array:
    labels = (sums.shape[1] - 1) // 3
    mass = np.maximum(sums[:, :1], 1e-300)
    first, second, residual = sums[:, 1 : 1 + labels], sums[:, 1 + labels : 1 + 2 * labels], sums[:, 1 + 2 * labels :]
    total = second - first**2 / mass
    varies = total > 1e-12 * mass
    each = np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), 0.0)
    return ratio(np.stack([each.sum(1), varies.sum(1).astype(np.float64)], axis=1))
