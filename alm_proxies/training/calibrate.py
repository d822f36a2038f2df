"""Fit a trained model's calibration to the human votes of development speakers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from alm_proxies.measures.calibration import log_probability
from alm_proxies.models.calibration import LARGEST, Calibration, log_softmax, signs_of
from alm_proxies.seeds import generator

Array = NDArray[np.float64]
_FOLDS = 5
_PULL = 0.01  # penalty per vote, towards the identity without intercept
_USUAL = float(np.log(5.0))
_USUAL_DEVIATION = 1.0
"""The prior mean of ln concentration."""


def fit_calibration(
    logits: Array,
    counts: Array,
    speakers: NDArray[np.int64],
    *,
    distance: Array,
    whole: Array | None = None,
    log_strength: Array | None = None,
    abstain: float = 0.05,
    seed: int = 0,
) -> Calibration:
    """The calibration fitted to human votes of development speakers; the method is chosen in folds of speakers.

    `whole` are the counts with one label for every vote, where votes are shared among labels: the concentration is
    fitted to them.
    """
    whole = counts if whole is None else whole
    voted = counts.sum(1) > 0
    votes = float(counts.sum())
    if not voted.any():
        return Calibration()
    log_p, n, who = log_softmax(logits[voted]), counts[voted], speakers[voted]
    loss = _cross_validated(log_p, n, who, seed)
    method = min(loss, key=lambda name: (round(loss[name], 3), list(loss).index(name)))
    farthest = float(np.quantile(distance, 1 - abstain / 5))
    chosen = _fitted(method, log_p, n).model_copy(update={"votes": votes, "loss": loss, "abstain_beyond": farthest})
    shares = chosen.distributions(logits)
    signs = signs_of(shares, distance, log_strength)
    several = whole.sum(1) > 1.5
    if several.sum() < 2:
        return chosen
    centre = signs[several].mean(0)
    coefficients = _concentration(shares[several], whole[several], signs[several] - centre)
    chosen = chosen.model_copy(update={"concentration": tuple(coefficients.tolist()), "centre": tuple(centre.tolist())})
    edge = float(np.quantile(chosen.concentrations(signs), abstain))
    return chosen.model_copy(update={"abstain_below": edge})


def _cross_validated(log_p: Array, counts: Array, speakers: NDArray[np.int64], seed: int) -> dict[str, float]:
    """Log loss per vote of every method on speakers it was not fitted to; with one speaker only `none` is tried."""
    names = np.unique(speakers)
    folds = min(_FOLDS, len(names))
    methods = ("none", "temperature", "dirichlet") if folds > 1 else ("none",)
    fold = dict(
        zip(generator(seed, "calibration").permutation(names).tolist(), np.arange(len(names)) % folds, strict=True)
    )
    place = np.array([fold[speaker] for speaker in speakers.tolist()])
    total = dict.fromkeys(methods, 0.0)
    for number in range(folds):
        inside, outside = place != number, place == number
        for method in methods:
            fitted = _fitted(method, log_p[inside], counts[inside]) if method != "none" else Calibration()
            p = fitted.distributions(log_p[outside])
            total[method] -= float((counts[outside] * np.log(np.maximum(p, 1e-300))).sum())
    return {method: value / float(counts.sum()) for method, value in total.items()}


def _fitted(method: str, log_p: Array, counts: Array) -> Calibration:
    votes = float(counts.sum())
    if method == "none":
        return Calibration()
    if method == "temperature":

        def loss_of_scale(x: Array) -> tuple[float, Array]:
            scale = np.exp(-x[0])
            z = scale * log_p
            q = np.exp(log_softmax(z))
            value = float((counts.sum(1) * logsumexp(z, axis=1) - (counts * z).sum(1)).sum())
            slope = float((counts.sum(1, keepdims=True) * q * log_p - counts * log_p).sum()) * -scale
            return value / votes, np.array([slope / votes])

        result = minimize(loss_of_scale, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(-3.0, 3.0)])
        return Calibration(method="temperature", temperature=float(np.exp(result.x[0])))
    k = log_p.shape[1]
    clipped, identity = np.maximum(log_p, -30.0), np.eye(k)

    def loss_of_matrix(x: Array) -> tuple[float, Array]:
        w, b = x[: k * k].reshape(k, k), x[k * k :]
        z = clipped @ w.T + b
        q = np.exp(log_softmax(z))
        value = float((counts.sum(1) * logsumexp(z, axis=1) - (counts * z).sum(1)).sum()) / votes
        error = (counts.sum(1, keepdims=True) * q - counts) / votes
        value += _PULL * float(np.square(w - identity).sum() + np.square(b).sum())
        slope = np.concatenate([(error.T @ clipped + 2 * _PULL * (w - identity)).ravel(), error.sum(0) + 2 * _PULL * b])
        return value, slope

    start = np.concatenate([identity.ravel(), np.zeros(k)])
    result = minimize(loss_of_matrix, start, jac=True, method="L-BFGS-B")
    w, b = result.x[: k * k].reshape(k, k), result.x[k * k :]
    return Calibration(method="dirichlet", matrix=tuple(map(tuple, w.tolist())), intercept=tuple(b.tolist()))


def _concentration(shares: Array, counts: Array, signs: Array) -> Array:
    """a and slopes of ln concentration: the largest Dirichlet-multinomial likelihood times a prior.

    The prior: a, at the mean of the signs, is normal about ln 5 with deviation 1 (two times in three a concentration
    between 2 and 14); slopes, of signs in units of their deviation, are normal about 0 with variance 1/2. It is counted
    once with the likelihood of all utterances: it matters with 20 of them, not with 1,000.
    """
    spread = np.where(signs.std(0) > 1e-9, signs.std(0), 1.0)
    scaled = signs / spread

    def loss(x: Array) -> float:
        strength = np.exp(np.clip(x[0] + scaled @ x[1:], -3.0, np.log(LARGEST)))
        likelihood = float(log_probability(shares, strength, counts).sum())
        away = (x[0] - _USUAL) / _USUAL_DEVIATION
        return (0.5 * float(away) ** 2 + float(np.square(x[1:]).sum()) - likelihood) / len(counts)

    result = minimize(loss, np.concatenate([[_USUAL], np.zeros(signs.shape[1])]), method="L-BFGS-B")
    return np.concatenate([[result.x[0]], result.x[1:] / spread])
