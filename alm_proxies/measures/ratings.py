"""Scores of predicted attributes against held-out ratings, on all utterances with both, with or without a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import which_count
from alm_proxies.interval import Interval
from alm_proxies.measures.arrays import Array
from alm_proxies.measures.bootstrap import interval_of_sums, sums_by_speaker
from alm_proxies.measures.ranges import range_of
from alm_proxies.tables import ATTRIBUTES, Labels, Votes


def rated_of(predictions: Labels, votes: Votes, *, consensus: bool = False) -> pl.DataFrame:
    """Utterances with a predicted attribute and held-out ratings of it, by id.

    Columns utterance_id and, for each attribute, its prediction, rated_{attribute} (the mean rating) and
    ratings_{attribute} (how many they are).
    """
    predicted = predictions.frame.select("utterance_id", *ATTRIBUTES).filter(
        pl.any_horizontal(pl.col(*ATTRIBUTES).is_not_null())
    )
    rated = votes.frame.filter(
        which_count("held_out", consensus=consensus, answer="rating")
        & pl.col("utterance_id").is_in(predicted["utterance_id"].implode())
    )
    # a draw shared between labels has several rows, and one rating
    each = rated.group_by("utterance_id", "annotator", "draw").agg(pl.col(*ATTRIBUTES).mean())
    means = [pl.col(name).mean().alias(f"rated_{name}") for name in ATTRIBUTES]
    counts = [pl.col(name).count().alias(f"ratings_{name}") for name in ATTRIBUTES]
    means_of = each.sort("utterance_id", "annotator", "draw").group_by("utterance_id", maintain_order=True)
    both = means_of.agg(*means, *counts).join(predicted, on="utterance_id", how="inner", maintain_order="left")
    known = [pl.col(name).is_not_null() & pl.col(f"rated_{name}").is_not_null() for name in ATTRIBUTES]
    return both.filter(pl.any_horizontal(known))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well one attribute is predicted: its measures by name, and the utterances and ratings that they rest on."""

    measures: dict[str, Interval]
    utterances: int
    ratings: int


def agreement_of(
    rated: pl.DataFrame, speakers: NDArray[np.int64], weight: Array, names: Sequence[str], *, level: float, seed: int
) -> list[Agreement]:
    """ccc_ and rmse_ of each attribute of `names`, over the rows where it is both predicted and rated."""
    found = []
    for name in names:
        of_both = rated[name].is_not_null() & rated[f"rated_{name}"].is_not_null()
        there, known = rated.filter(of_both), of_both.to_numpy()
        distinct, codes = np.unique(speakers[known], return_inverse=True)
        w, x, y = weight[known], there[name].to_numpy(), there[f"rated_{name}"].to_numpy()
        columns = np.stack([w, w * x, w * y, w * x * x, w * y * y, w * x * y], axis=1)
        sums = sums_by_speaker(columns, codes, len(distinct))
        measures = {
            title: interval_of_sums(sums, statistic, level=level, seed=seed).within(*range_of(title))
            for title, statistic in ((f"ccc_{name}", _concordance), (f"rmse_{name}", _rmse))
        }
        found.append(Agreement(measures, there.height, int(there[f"ratings_{name}"].sum())))
    return found


def _concordance(sums: Array) -> Array:
    """Lin's concordance correlation: 2 cov / (var x + var y + (mean x - mean y)^2)."""
    w = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    x, y, xx, yy, xy = (sums[:, column] / w for column in range(1, 6))
    spread = xx - x**2 + yy - y**2 + np.square(x - y)
    ccc: Array = 2.0 * (xy - x * y) / np.where(spread > 1e-15, spread, np.nan)
    return ccc


def _rmse(sums: Array) -> Array:
    w = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    squared: Array = (sums[:, 3] + sums[:, 4] - 2.0 * sums[:, 5]) / w
    return np.sqrt(np.maximum(squared, 0.0))
