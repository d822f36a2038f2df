"""Valence, arousal and dominance from few human ratings and biased proxies: mean, its error and spread of human
ratings.
"""

from __future__ import annotations

from typing import Self
from warnings import warn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import is_crowd, which_count
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.rating_doubt import weighed
from alm_proxies.estimators.rating_model import (
    LEAST_VARIANCE,
    PAIRS_NEEDED,
    AttributeModel,
    Ratings,
    calibrated,
    fused,
    human_posterior,
    ratings_of,
    within,
)
from alm_proxies.measures.arrays import Array, places
from alm_proxies.tables import ATTRIBUTES, Votes

_STRENGTHS = tuple(float(value) for value in np.geomspace(0.5, 500.0, 61))


class Attributes:
    """Gaussian fusion of valence, arousal and dominance, each on its own.

    Human rating y of utterance i by rater r: y = m_i + b_r + e, m_i ~ N(mean, variance), b_r ~ N(0, bias variance), e ~
    N(0, s_r^2) with s_r^2 shrunk towards the raters' typical variance by `prior_items` items; fitted by EM (a rater
    with few items keeps a bias near 0 and the typical variance), with one variance for all raters first. This fit uses
    no proxies. Then each proxy is calibrated: the mean of its d draws = offset + slope x m_i + u + noise / d, by
    regression on the human posterior means, with the covariance of u ACROSS proxies, so that a proxy entered twice, or
    drawn a hundred times, adds no information. The posterior of m_i is Gaussian in all of them. Where few utterances
    have two ratings (fewer than some 500) the variances of m_i and e can hardly be separated (without any, models_ has
    equal parts): the label is the average over models of five shares of m_i, weighed by what second ratings and proxies
    say and by a prior about one half.

    Output columns of each attribute: <name>, the posterior mean, clipped to 0..1; <name>_sd, the SPREAD OF HUMAN
    RATINGS: the standard deviation of one more listener's rating about that mean, with each utterance's variance shrunk
    towards the corpus's (it does not fall as votes are added); <name>_error, the standard deviation of the posterior of
    the mean (it falls). They are null where nothing is known of an utterance but the corpus's mean: neither a human
    rating nor one of a proxy that could be calibrated. <name>_sd is null too where no utterance has two ratings, and
    <name>_error where all ratings are equal, or there is one alone.

    Votes whose raters are not known share one rater without bias. Raters as in Raykar et al. 2010 (JMLR 11, the
    regression case) with biases; the prior of an utterance's variance as in Smyth 2004 (Stat. Appl. Genet. 3).

    Learned, by attribute: models_, and weighed_, the models that labels are averaged over.
    """

    def __init__(self, *, prior_items: float = 10.0, iterations: int = 2000, tolerance: float = 1e-5) -> None:
        if prior_items <= 0 or iterations < 1 or tolerance < 0:
            raise SettingsError(
                f"prior_items {prior_items}, iterations {iterations} and tolerance {tolerance} cannot be used",
                fix="prior_items is above 0, iterations 1 or more, tolerance 0 or more.",
            )
        self.prior_items = prior_items
        self.iterations = iterations
        self.tolerance = tolerance

    def fit(self, votes: Votes) -> Self:
        """Fit a model to every attribute with human ratings."""
        human, proxy = _usable(votes)
        self.models_: dict[str, AttributeModel] = {}
        self.weighed_: dict[str, tuple[tuple[float, AttributeModel], ...]] = {}
        for name in ATTRIBUTES:
            rated = human.filter(pl.col(name).is_not_null())
            if rated.height:
                heard = proxy.filter(pl.col(name).is_not_null())
                self.models_[name], self.weighed_[name] = self._learn(rated, heard, name)
        unsettled = [name for name, model in self.models_.items() if not model.converged]
        if unsettled:
            warn(
                f"the fit of {', '.join(unsettled)} stopped after {self.iterations} iterations before it converged",
                NotConvergedWarning,
                stacklevel=2,
            )
        return self

    def predict(self, votes: Votes) -> pl.DataFrame:
        """utterance_id and each attribute's <name>, <name>_sd and <name>_error, for every utterance of the votes."""
        if not hasattr(self, "models_"):
            raise InputError(f"{type(self).__name__} has not been fitted", fix="Call fit(votes) first.")
        ids = votes.frame["utterance_id"].unique().sort()
        human, proxy = _usable(votes)
        columns: dict[str, pl.Series] = {"utterance_id": ids}
        for name in ATTRIBUTES:
            model = self.models_.get(name)
            parts = [np.full(len(ids), np.nan)] * 3
            if model is not None:
                rated = human.filter(pl.col(name).is_not_null())
                heard = proxy.filter(pl.col(name).is_not_null())
                ratings = ratings_of(rated, heard, name, ids, model.raters, model.proxies)
                parts = _averaged(self.weighed_[name], ratings, len(ids))
            for suffix, part in zip(("", "_sd", "_error"), parts, strict=True):
                columns[name + suffix] = pl.Series(part, dtype=pl.Float64, nan_to_null=True)
        return pl.DataFrame(columns)

    def _learn(
        self, human: pl.DataFrame, proxy: pl.DataFrame, name: str
    ) -> tuple[AttributeModel, tuple[tuple[float, AttributeModel], ...]]:
        ids = human["utterance_id"].unique().sort()
        raters = tuple(human["annotator"].unique().sort().to_list())
        proxies = _without_copies(proxy, name)
        inside = proxy.filter(pl.col("utterance_id").is_in(ids.implode()))
        ratings = ratings_of(human, inside, name, ids, raters, proxies)
        nameless = np.array([is_crowd(rater) for rater in raters])
        people = _fit_raters(ratings, len(ids), nameless, self.prior_items, self.iterations, self.tolerance)
        mean, variance, bias, rater_variance, typical, bias_variance, steps, converged = people
        centre, doubt = human_posterior(ratings, len(ids), mean, variance, bias, rater_variance)
        offset, slope, covariance = calibrated(ratings, centre, doubt)
        spread, strength = _spread(ratings, len(ids), bias)
        model = AttributeModel(
            mean, variance, raters, bias, rater_variance, typical, bias_variance, spread, strength,
            proxies, offset, slope, covariance, ratings.proxy_noise, steps, converged,
        )  # fmt: skip
        return model, weighed(model, ratings, len(ids))


def has_ratings(votes: Votes) -> bool:
    """Whether any vote has an attribute, usable or not."""
    return bool(votes.frame.select(pl.any_horizontal(pl.col(*ATTRIBUTES).is_not_null().any())).item())


def rated_by_people(votes: Votes, ids: pl.Series) -> NDArray[np.bool_]:
    """Which of the utterances have a rating to learn from."""
    usable = votes.frame.filter(which_count("human", answer="rating"))
    rated = np.zeros(len(ids), dtype=np.bool_)
    rated[places(usable["utterance_id"], ids)] = True
    return rated


def _usable(votes: Votes) -> tuple[pl.DataFrame, pl.DataFrame]:
    usable = votes.frame.filter(which_count("fit", answer="rating"))
    if (usable["weight"] < 1.0).any():
        # a draw that shares its mass between labels has several rows, and one rating
        draw = usable.group_by("utterance_id", "annotator", "source", "draw", maintain_order=True)
        usable = draw.agg(pl.col(*ATTRIBUTES).mean())
    human, proxy = (usable.filter(pl.col("source") == source) for source in ("human", "proxy"))
    return human, proxy


def _without_copies(proxy: pl.DataFrame, name: str) -> tuple[str, ...]:
    """The proxies in the order of their names, but for those with the same ratings as one before."""
    order = ("utterance_id", name)
    distinct: dict[str, pl.DataFrame] = {}
    for annotator in proxy["annotator"].unique().sort():
        own = proxy.filter(pl.col("annotator") == annotator).select(order).sort(order)
        if not any(own.equals(other) for other in distinct.values()):
            distinct[annotator] = own
    return tuple(distinct)


def _averaged(models: tuple[tuple[float, AttributeModel], ...], ratings: Ratings, rows: int) -> list[Array]:
    """Mean, spread of human ratings and error of the mean: a model's, or of the mixture of models."""
    parts = [fused(model, ratings, rows) for _, model in models]
    if len(parts) == 1:
        return parts[0]
    # summed row by row: a product of matrices would round otherwise with other numbers of rows
    mean, second = np.zeros(rows), np.zeros(rows)
    for (weight, _), part in zip(models, parts, strict=True):
        mean += weight * part[0]
    for (weight, _), part in zip(models, parts, strict=True):
        second += weight * (np.square(part[2]) + np.square(part[0] - mean))
    return [mean, parts[0][1], np.sqrt(second)]


def _fit_raters(
    ratings: Ratings, rows: int, nameless: NDArray[np.bool_], prior_items: float, iterations: int, tolerance: float
) -> tuple[float, float, Array, Array, float, float, int, bool]:
    """EM for the mean and variance of utterances, the raters' biases and variances, and their hyperparameters.

    First all raters have one variance. Then each gets its own, while the variance of utterances stays: variances of
    raters with few items fit noise, which would be taken from it.
    """
    u, r, y = ratings.utterance, ratings.rater, ratings.value
    raters = len(nameless)
    items = np.bincount(r, minlength=raters).astype(np.float64)
    known = ~nameless & (items > 0)
    mean, total = float(y.mean()), max(float(y.var()), LEAST_VARIANCE)
    variance, typical, bias_variance = total / 2, total / 2, total / 20
    bias, rater_variance = np.zeros(raters), np.full(raters, typical)
    before = np.concatenate([[mean, variance, typical, bias_variance], bias, rater_variance])
    own = False
    for step in range(1, iterations + 1):
        bias, bias_doubt = _biases(ratings, rows, mean, variance, bias, rater_variance, known, bias_variance)
        centre, doubt = human_posterior(ratings, rows, mean, variance, bias, rater_variance)
        # a bias that is not known makes a centre uncertain by its rating's share of it, and the error by the rest
        share = doubt[u] / rater_variance[r]
        moved = np.bincount(u, np.square(share) * bias_doubt[r], rows)
        unsure = doubt[u] + moved[u] + (1.0 - 2.0 * share) * bias_doubt[r]
        squares = np.bincount(r, np.square(y - bias[r] - centre[u]) + unsure, raters)
        mean = float(centre.mean())
        if own:
            rater_variance = (squares + prior_items * typical) / (items + prior_items)
        else:
            typical = max(float(squares.sum() / items.sum()), LEAST_VARIANCE)
            rater_variance = np.full(raters, typical)
            variance = max(float((np.square(centre - mean) + doubt + moved).mean()), LEAST_VARIANCE)
            if known.any():
                bias_variance = max(float((np.square(bias) + bias_doubt)[known].mean()), LEAST_VARIANCE)
        now = np.concatenate([[mean, variance, typical, bias_variance], bias, rater_variance])
        if np.abs(now - before).max() < tolerance * np.sqrt(total):
            if own:
                return mean, variance, bias, rater_variance, typical, bias_variance, step, True
            own = True
        before = now
    return mean, variance, bias, rater_variance, typical, bias_variance, iterations, False


def _biases(
    ratings: Ratings, rows: int, mean: float, variance: float, bias: Array, rater_variance: Array,
    known: NDArray[np.bool_], bias_variance: float,
) -> tuple[Array, Array]:  # fmt: skip
    """The posterior mean and variance of each known rater's bias; for each of its ratings an utterance's m is what the
    other ratings of the utterance say. They are centred on 0: their mean belongs to the attribute's mean.
    """
    u, r, y = ratings.utterance, ratings.rater, ratings.value
    centre, doubt = human_posterior(ratings, rows, mean, variance, bias, rater_variance)
    weight = 1.0 / rater_variance[r]
    others = 1.0 / doubt[u] - weight
    of_others = (centre[u] / doubt[u] - weight * (y - bias[r])) / others
    weight = 1.0 / (rater_variance[r] + 1.0 / others)
    precision = 1.0 / bias_variance + np.bincount(r, weight, len(known))
    biases = np.where(known, np.bincount(r, weight * (y - of_others), len(known)) / precision, 0.0)
    if known.any():
        biases[known] -= biases[known].mean()
    return biases, np.where(known, 1.0 / precision, 0.0)


def _spread(ratings: Ratings, rows: int, bias: Array) -> tuple[float, float]:
    """The typical variance of ratings within an utterance, NaN where none has two, and its prior strength in ratings.

    Variances are drawn from a scaled inverse chi-square of that mean; the strength is the maximum-likelihood value on a
    grid.
    """
    from scipy.special import gammaln

    squares, free = within(ratings, rows, bias)
    squares, free = squares[free > 0], free[free > 0]
    if not len(free):
        return np.nan, _STRENGTHS[-1]
    if len(free) < PAIRS_NEEDED or squares.sum() <= 0:
        return max(float(squares.sum() / free.sum()), LEAST_VARIANCE), _STRENGTHS[-1]
    typical = max(float(squares.sum() / free.sum()), LEAST_VARIANCE)
    kinds, place = np.unique(free, return_inverse=True)
    many = np.bincount(place)
    fit = []
    for strength in _STRENGTHS:
        half, scale = strength / 2 + 1, strength * typical
        constants = gammaln(half + kinds / 2) - gammaln(half) - kinds / 2 * np.log(scale)
        fit.append(float((many * constants).sum() - ((half + free / 2) * np.log1p(squares / scale)).sum()))
    return typical, _STRENGTHS[int(np.argmax(fit))]
