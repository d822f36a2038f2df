"""The generative mixture: every source has a Dirichlet in every class; good with good proxies, harmed by bad ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alm_proxies.errors import SettingsError
from alm_proxies.estimators.counts import Array, Counts, Index, unique_rows
from alm_proxies.estimators.estimator import Estimator, Posterior, fitting_rows, minimise
from alm_proxies.estimators.likelihood import (
    LOG_ALPHA,
    DirichletMultinomial,
    beyond_limits,
    posterior_moments,
    softmax,
)
from alm_proxies.estimators.sample import FIT_ROWS
from alm_proxies.seeds import generator

_BASE_STRENGTH = 5.0
_ALPHA_PENALTY = 0.5
_WEIGHT_PENALTY = 0.1


class Mixture(Estimator):
    """K latent classes, each with a Dirichlet for the human votes and one for every block of proxies.

    p(n, m_1 ...) = sum_c w_c DM(n | alpha_c) prod_b DM(m_b | beta_bc), by L-BFGS with weak priors; an absent block
    multiplies by one. The classes follow any variation of the proxies, useful or not: shuffled proxies harm it, but not
    `gated` (real_votes.py measures both), so use it in a stack or choice by cross-validation, not alone.
    """

    name: ClassVar[str] = "mixture"
    takes: ClassVar[tuple[str, ...]] = ("classes", "seed")

    def __init__(
        self,
        classes: int = 16,
        *,
        seed: int = 0,
        rows: int = FIT_ROWS,
        iterations: int = 500,
        tolerance: float = 1e-7,
    ) -> None:
        if classes < 1:
            raise SettingsError(f"{classes} classes cannot be fitted", fix="Use one class or more.")
        self.classes = classes
        self.seed = seed
        self.rows = rows
        self.iterations = iterations
        self.tolerance = tolerance

    def _learn(self, counts: Counts) -> None:
        counts = fitting_rows(counts, self.seed, self.rows)
        objective = _Objective(_sources(counts.with_human(counts.whole(self.seed))), self.classes)
        rng = generator(self.seed, "mixture start", self.classes)
        starts = []
        for shares in objective.shares:
            corners = rng.dirichlet(0.05 + 0.3 * len(shares) * shares, size=self.classes)
            starts.append(np.log(6.0 * (0.7 * corners + 0.3 * shares)).ravel())
        result = minimise(objective, np.concatenate([*starts, np.zeros(self.classes)]), self.iterations, self.tolerance)
        self.alphas_, logits = objective.parts(result.x)
        self.weights_ = softmax(logits[None, :])[0]
        self.settled(result)

    def posterior(self, counts: Counts) -> Posterior:
        """Moments of sum_c r_c Dirichlet(n + alpha_c), r from all sources."""
        logs = np.tile(np.log(self.weights_ + 1e-300), (len(counts), 1))
        for source, alpha in zip(_sources(counts), self.alphas_, strict=True):
            distinct, which = unique_rows(source)
            logs += DirichletMultinomial(distinct).log(alpha)[which]
        return Posterior(*posterior_moments(counts.human, self.alphas_[0], softmax(logs)))


class _Objective:
    def __init__(self, sources: list[Array], classes: int) -> None:
        self.classes = classes
        self.shares = []
        self.parts_: list[tuple[DirichletMultinomial, Index, Index, Index]] = []
        for source in sources:
            total = source.sum(0) + 1.0 / source.shape[1]
            self.shares.append(total / total.sum())
            distinct, which = unique_rows(source)
            order = np.argsort(which, kind="stable")
            first = np.searchsorted(which[order], np.arange(len(distinct)))
            self.parts_.append((DirichletMultinomial(distinct), which, order, first))
        self.rows = len(sources[0])
        self.labels = sources[0].shape[1]

    def parts(self, theta: Array) -> tuple[list[Array], Array]:
        size = self.classes * self.labels
        alphas = [
            np.exp(np.clip(theta[i * size : (i + 1) * size], -LOG_ALPHA, LOG_ALPHA)).reshape(self.classes, -1)
            for i in range(len(self.shares))
        ]
        return alphas, theta[len(self.shares) * size :]

    def __call__(self, theta: Array) -> tuple[float, Array]:
        alphas, logits = self.parts(theta)
        weight = softmax(logits[None, :])[0]
        posterior = np.tile(np.log(weight + 1e-300), (self.rows, 1))
        for (likelihood, which, _, _), alpha in zip(self.parts_, alphas, strict=True):
            posterior += likelihood.log(alpha).take(which, axis=0)
        top = posterior.max(1, keepdims=True)
        posterior -= top
        np.exp(posterior, out=posterior)
        total = posterior.sum(1)
        value = float((np.log(total) + top[:, 0]).sum())
        posterior /= total[:, None]
        slopes = []
        logs = theta[: theta.size - self.classes]
        beyond = beyond_limits(logs)
        parts = zip(self.parts_, alphas, self.shares, beyond.reshape(len(alphas), self.classes, -1), strict=True)
        for (likelihood, _, order, first), alpha, shares, over in parts:
            grouped = np.add.reduceat(posterior.take(order, axis=0), first, axis=0)
            away = np.log(alpha) - np.log(_BASE_STRENGTH * shares) + over
            value -= 0.5 * _ALPHA_PENALTY * float(np.square(away).sum())
            slope = likelihood.gradient(grouped, alpha) * alpha * (over == 0)
            slopes.append((slope - _ALPHA_PENALTY * away).ravel())
        value -= 0.5 * _WEIGHT_PENALTY * float(np.square(logits).sum())
        slopes.append(posterior.sum(0) - self.rows * weight - _WEIGHT_PENALTY * logits)
        return -value / self.rows, -np.concatenate(slopes) / self.rows


def _sources(counts: Counts) -> list[Array]:
    return [counts.human, *(block.counts for block in counts.blocks)]
