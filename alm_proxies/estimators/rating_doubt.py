"""How much of the variance of single ratings belongs to the utterances: models of several answers, with weights.

One rating an utterance says what both parts of its variance are together, that of the utterances' means and that of the
listeners about them; only second ratings separate them. Where there are few, every share of the utterances is a model
of its own, and a label is the average over them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm_proxies.estimators.rating_model import (
    AttributeModel,
    Ratings,
    calibrated,
    human_posterior,
)
from alm_proxies.measures.arrays import Array

_ENOUGH = 100.0
"""Precision of the share's log odds from which the fitted share is taken alone: some 500 second ratings give it, more
where listeners agree little."""
_PRIOR = 3.0
"""The share is drawn from a Beta of these two parameters: .5, and .17 to .83 in 95 of 100 corpora."""
_NO_PROXY_IS_PERFECT = 0.5
"""Power of the part of the utterances' variance that all proxies together leave open."""
_SAMPLE = 20_000
_GRIDS = ((2.0, 17), (3.0, 13), (2.5, 5))
"""Standard deviations to either side of the mean, and points: each grid is placed by the one before it. The five points
of the last one carry .99 of a normal distribution's variance.
"""


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the likelihood needs: the fitted model, ratings (of a sample), numbers of ratings where there are two or
    more, and the rows of each set of proxies.
    """

    model: AttributeModel
    ratings: Ratings
    rows: int
    many: Array
    groups: tuple[tuple[NDArray[np.bool_], NDArray[np.int64]], ...]


def weighed(model: AttributeModel, ratings: Ratings, rows: int) -> tuple[tuple[float, AttributeModel], ...]:
    """The fitted model alone where second ratings are enough, or models of five shares with weights that sum to 1."""
    if not model.varies or _precision(model, _several(ratings, rows)) >= _ENOUGH:
        return ((1.0, model),)
    evidence = _evidence(model, *_sampled(ratings, rows))
    centre, spread = 0.0, 2.0
    for width, points in _GRIDS:
        odds = centre + spread * np.linspace(-width, width, points)
        fit = np.array([_log_posterior(evidence, 1.0 / (1.0 + np.exp(-odd))) for odd in odds])
        weights = np.exp(fit - fit.max())
        weights /= weights.sum()
        centre = float(weights @ odds)
        spread = max(float(np.sqrt(weights @ np.square(odds - centre))), float(odds[1] - odds[0]) / 3)
    models = (_with_share(model, ratings, rows, 1.0 / (1.0 + np.exp(-odd)))[0] for odd in odds)
    return tuple(zip(weights.tolist(), models, strict=True))


def _several(ratings: Ratings, rows: int) -> Array:
    many = np.bincount(ratings.utterance, minlength=rows).astype(np.float64)
    return np.asarray(many[many > 1], dtype=np.float64)


def _precision(model: AttributeModel, many: Array) -> float:
    """Fisher information of the share's log odds, the sum of both variances given, in utterances with two ratings or
    more: differences within them, and their means.
    """
    share = model.variance / (model.variance + model.typical_variance)
    means = share * (1 - share) * (1 - 1 / many) / (share + (1 - share) / many)
    return float(0.5 * ((many - 1) * share**2 + np.square(means)).sum())


def _sampled(ratings: Ratings, rows: int) -> tuple[Ratings, int]:
    """Utterances with two ratings or more, and every second, third ... of the others where there are very many."""
    once = np.bincount(ratings.utterance, minlength=rows) < 2
    step = -(-int(once.sum()) // _SAMPLE)
    if step <= 1:
        return ratings, rows
    kept = ~once | (once.cumsum() % step == 0)
    place = kept.cumsum() - 1
    there = kept[ratings.utterance]
    part = replace(
        ratings,
        utterance=place[ratings.utterance[there]],
        rater=ratings.rater[there],
        value=ratings.value[there],
        proxy_mean=ratings.proxy_mean[kept],
        proxy_draws=ratings.proxy_draws[kept],
    )
    return part, int(kept.sum())


def _evidence(model: AttributeModel, ratings: Ratings, rows: int) -> _Evidence:
    counts = (ratings.proxy_draws > 0) & (model.proxy_slope != 0.0)
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    groups = tuple((there, np.flatnonzero(kind == number)) for number, there in enumerate(kinds) if there.any())
    return _Evidence(model, ratings, rows, _several(ratings, rows), groups)


def _with_share(
    model: AttributeModel, ratings: Ratings, rows: int, share: float
) -> tuple[AttributeModel, Array, Array]:
    """The model in which the utterances have this share of both variances, its proxies calibrated anew; the human
    posterior means, and their variances.
    """
    total = model.variance + model.typical_variance
    scale = (1.0 - share) * total / model.typical_variance
    variance, raters = share * total, model.rater_variance * scale
    centre, doubt = human_posterior(ratings, rows, model.mean, variance, model.rater_bias, raters)
    offset, slope, covariance = calibrated(ratings, centre, doubt)
    changed = replace(
        model,
        variance=variance,
        rater_variance=raters,
        typical_variance=model.typical_variance * scale,
        proxy_offset=offset,
        proxy_slope=slope,
        proxy_covariance=covariance,
    )
    return changed, centre, doubt


def _log_posterior(evidence: _Evidence, share: float) -> float:
    """Log posterior density of the share's log odds, up to a constant.

    Second ratings count through the fit: their likelihood has its maximum at the fitted variances. Proxies count
    through their likelihood given the ratings: a share of which they would have to know more than all is excluded.
    """
    fitted = evidence.model
    model, centre, doubt = _with_share(fitted, evidence.ratings, evidence.rows, share)
    many = evidence.many
    within = (many - 1) * (np.log(model.typical_variance) + fitted.typical_variance / model.typical_variance)
    of_means = model.variance + model.typical_variance / many
    between = np.log(of_means) + (fitted.variance + fitted.typical_variance / many) / of_means
    value = -0.5 * float((within + between).sum()) + _PRIOR * float(np.log(share) + np.log1p(-share))
    for there, rows in evidence.groups:
        value += _of_proxies(model, evidence.ratings, there, rows, centre[rows], doubt[rows])
    used = model.proxy_slope != 0.0
    if used.any():
        slope = model.proxy_slope[used]
        known = model.variance * float(slope @ np.linalg.solve(model.proxy_covariance[np.ix_(used, used)], slope))
        value -= _NO_PROXY_IS_PERFECT * float(np.log1p(known))
    return value


def _of_proxies(
    model: AttributeModel, ratings: Ratings, there: NDArray[np.bool_], rows: NDArray[np.int64], centre: Array,
    doubt: Array,
) -> float:  # fmt: skip
    """Log likelihood of these proxies' means in these rows given the human ratings, up to a constant."""
    slope = model.proxy_slope[there]
    noise = model.proxy_noise[there] / ratings.proxy_draws[np.ix_(rows, there)]
    covariance = model.proxy_covariance[np.ix_(there, there)] + noise[:, :, None] * np.eye(len(slope))
    covariance = covariance + doubt[:, None, None] * np.outer(slope, slope)
    off = ratings.proxy_mean[np.ix_(rows, there)] - model.proxy_offset[there] - centre[:, None] * slope
    solved = np.linalg.solve(covariance, off[:, :, None])[:, :, 0]
    return -0.5 * float(np.linalg.slogdet(covariance)[1].sum() + (off * solved).sum())
