"""The model of one rated attribute: what ratings and proxies say of an utterance where its parts are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import is_crowd
from alm_proxies.measures.arrays import Array, places

LEAST_VARIANCE = 1e-6
PAIRS_NEEDED = 30


@dataclass(frozen=True, slots=True)
class AttributeModel:
    """The fitted model of one attribute; raters and proxies in the order of their names."""

    mean: float
    variance: float
    raters: tuple[str, ...]
    rater_bias: Array
    rater_variance: Array
    typical_variance: float
    bias_variance: float
    spread_variance: float
    spread_strength: float
    proxies: tuple[str, ...]
    proxy_offset: Array
    proxy_slope: Array
    proxy_covariance: Array
    """Covariance of the proxies' errors about offset + slope x the human mean, shared by all draws of an utterance."""
    proxy_noise: Array
    """Variance from draw to draw within an utterance."""
    iterations: int
    converged: bool

    @property
    def varies(self) -> bool:
        """Whether ratings differ at all; if not, nothing says how far they are from the mean of all listeners."""
        return self.variance + self.typical_variance > 4 * LEAST_VARIANCE


@dataclass(frozen=True, slots=True)
class Ratings:
    """One attribute's ratings: human ratings one per row, and the means and numbers of draws of proxies."""

    utterance: NDArray[np.int64]
    rater: NDArray[np.int64]
    value: Array
    proxy_mean: Array
    proxy_draws: Array
    proxy_noise: Array


def ratings_of(
    human: pl.DataFrame,
    proxy: pl.DataFrame,
    name: str,
    ids: pl.Series,
    raters: tuple[str, ...],
    proxies: tuple[str, ...],
) -> Ratings:
    """Ratings as arrays; unknown raters get the number len(raters), unknown proxies are left out."""
    numbers = pl.DataFrame({"annotator": pl.Series([*raters], dtype=pl.String)}).with_row_index("number")
    rater = human.select("annotator").join(numbers, on="annotator", how="left", maintain_order="left")["number"]
    means, draws = np.full((len(ids), len(proxies)), np.nan), np.zeros((len(ids), len(proxies)))
    noise = np.zeros(len(proxies))
    for column, annotator in enumerate(proxies):
        own = proxy.filter(pl.col("annotator") == annotator)
        place, value = places(own["utterance_id"], ids), own[name].to_numpy()
        count = np.bincount(place, minlength=len(ids)).astype(np.float64)
        there = count > 0
        mean = np.bincount(place, value, len(ids)) / np.maximum(count, 1.0)
        squares = float(np.square(value - mean[place]).sum())
        noise[column] = squares / max(len(value) - there.sum(), 1.0)
        means[there, column], draws[:, column] = mean[there], count
    return Ratings(
        places(human["utterance_id"], ids),
        rater.fill_null(len(raters)).to_numpy().astype(np.int64),
        human[name].to_numpy().astype(np.float64),
        means,
        draws,
        noise,
    )


def human_posterior(
    ratings: Ratings, rows: int, mean: float, variance: float, bias: Array, rater_variance: Array
) -> tuple[Array, Array]:
    """The mean and variance of each utterance's m given its human ratings alone."""
    weight = 1.0 / rater_variance[ratings.rater]
    precision = 1.0 / variance + np.bincount(ratings.utterance, weight, rows)
    pull = np.bincount(ratings.utterance, weight * (ratings.value - bias[ratings.rater]), rows)
    doubt = np.asarray(1.0 / precision, dtype=np.float64)
    return np.asarray((mean / variance + pull) * doubt, dtype=np.float64), doubt


def calibrated(ratings: Ratings, centre: Array, doubt: Array) -> tuple[Array, Array, Array]:
    """Each proxy's offset and slope against the human posterior means, and the covariance of the residuals.

    The posterior mean is the expectation of m given the ratings, so the regression on it is unbiased; the posterior
    variance of m is subtracted from the residuals' covariance.
    """
    there = ratings.proxy_draws > 0
    count = ratings.proxy_draws.shape[1]
    offset, slope = np.zeros(count), np.zeros(count)
    residual = np.zeros_like(ratings.proxy_draws)
    for column in range(count):
        rows = there[:, column]
        x, y = centre[rows], ratings.proxy_mean[rows, column]
        spread = float(np.square(x - x.mean()).sum()) if rows.any() else 0.0
        if rows.sum() >= PAIRS_NEEDED and spread > 0:
            slope[column] = float(((x - x.mean()) * y).sum() / spread)
            offset[column] = float(y.mean() - slope[column] * x.mean())
            residual[rows, column] = y - offset[column] - slope[column] * x
    together = there.T.astype(np.float64) @ there
    covariance = residual.T @ residual / np.maximum(together, 1.0)
    shared = (there * doubt[:, None]).T @ there / np.maximum(together, 1.0)
    a_draw = np.divide(1.0, ratings.proxy_draws, where=there, out=np.zeros_like(ratings.proxy_draws))
    noise = ratings.proxy_noise * a_draw.sum(0) / np.maximum(there.sum(0), 1.0)
    covariance -= np.outer(slope, slope) * shared + np.diag(noise)
    if count:
        values, vectors = np.linalg.eigh(covariance)
        covariance = (vectors * np.maximum(values, LEAST_VARIANCE)) @ vectors.T
    return offset, slope, np.asarray(covariance, dtype=np.float64)


def within(ratings: Ratings, rows: int, bias: Array) -> tuple[Array, Array]:
    """Sums of squares of each utterance's ratings, with biases subtracted, about their mean; and their degrees of
    freedom.
    """
    many = np.bincount(ratings.utterance, minlength=rows).astype(np.float64)
    value = ratings.value - bias[ratings.rater]
    mean = np.bincount(ratings.utterance, value, rows) / np.maximum(many, 1.0)
    squares = np.bincount(ratings.utterance, np.square(value - mean[ratings.utterance]), rows)
    return squares.astype(np.float64), np.maximum(many - 1.0, 0.0)


def fused(model: AttributeModel, ratings: Ratings, rows: int) -> list[Array]:
    """Mean, spread of human ratings and error of the mean for each utterance; NaN without a rating that counts. The
    error is NaN where ratings do not vary.
    """
    counts = ratings.proxy_draws > 0
    rated = (np.bincount(ratings.utterance, minlength=rows) > 0) | (counts & (model.proxy_slope != 0.0)).any(1)
    bias = np.append(model.rater_bias, 0.0)
    rater_variance = np.append(model.rater_variance, model.typical_variance + model.bias_variance)
    centre, doubt = human_posterior(ratings, rows, model.mean, model.variance, bias, rater_variance)
    precision, pull = 1.0 / doubt, centre / doubt
    for there in np.unique(counts, axis=0):
        if not there.any():
            continue
        chosen = np.flatnonzero(counts[:, there].all(1) & ~counts[:, ~there].any(1))
        noise = model.proxy_noise[there] / ratings.proxy_draws[np.ix_(chosen, there)]
        covariance = model.proxy_covariance[np.ix_(there, there)] + noise[:, :, None] * np.eye(int(there.sum()))
        slope = model.proxy_slope[there]
        weight = np.linalg.solve(covariance, np.broadcast_to(slope[:, None], (len(chosen), len(slope), 1)))[:, :, 0]
        precision[chosen] += (weight * slope).sum(1)  # row by row: a product of matrices rounds by their number
        pull[chosen] += (weight * (ratings.proxy_mean[np.ix_(chosen, there)] - model.proxy_offset[there])).sum(1)
    squares, free = within(ratings, rows, bias)
    own = (model.spread_strength * model.spread_variance + squares) / (model.spread_strength + free)
    spread = np.sqrt(own + model.bias_variance * any(not is_crowd(rater) for rater in model.raters))
    mean = np.clip(pull / precision, 0.0, 1.0)
    error = np.sqrt(1.0 / precision) if model.varies else np.full(rows, np.nan)
    return [np.where(rated, column, np.nan) for column in (mean, spread, error)]
