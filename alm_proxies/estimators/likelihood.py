"""The Dirichlet-multinomial: log-likelihood of counts under many Dirichlets, its gradient, and moment matching."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from alm_proxies.estimators.counts import Array, Index, unique_rows

LOG_ALPHA = 8.0
"""The limit of the logarithms of alpha, either way."""


def beyond_limits(logs: Array) -> Array:
    """By how much logarithms of alpha exceed their limits."""
    return np.asarray(logs - np.clip(logs, -LOG_ALPHA, LOG_ALPHA))


class DirichletMultinomial:
    """Log-likelihood of fixed count vectors n under Dirichlets alpha_c (rows of `alpha`):

    log p(n | alpha) = sum_j [lnG(n_j + alpha_j) - lnG(alpha_j)] + lnG(A) - lnG(N + A),   A = sum_j alpha_j

    without the multinomial coefficient, which does not depend on alpha. Only non-zero counts cost anything: equal
    (label, count) cells are looked up in a table.
    """

    def __init__(self, counts: Array) -> None:
        row, label = np.nonzero(counts)
        cells, cell = unique_rows(np.stack([label.astype(np.float64), counts[row, label]], axis=1))
        self._cells = _ones(cell, np.bincount(row, minlength=len(counts)), len(cells))
        self._label = cells[:, 0].astype(np.int64)
        self._count = cells[:, 1]
        self._totals, self._total = np.unique(counts.sum(1), return_inverse=True)

    @cached_property
    def _by_cell_and_total(self) -> Any:
        """The matrix that sums rows by their cells, and by their totals."""
        from scipy import sparse

        return sparse.vstack([self._cells.T.tocsr(), _sums_at(self._total, len(self._totals))], format="csr")

    def log(self, alpha: Array) -> Array:
        """Rows x classes."""
        from scipy.special import gammaln

        cell = alpha[:, self._label].T
        strength = alpha.sum(1)
        total = gammaln(strength) - gammaln(self._totals[:, None] + strength)
        before = gammaln(alpha)[:, self._label].T
        log_probability: Array = self._cells @ (gammaln(self._count[:, None] + cell) - before) + total[self._total]
        return log_probability

    def gradient(self, responsibility: Array, alpha: Array) -> Array:
        """Derivative by alpha of sum over rows and classes of responsibility * log p."""
        from scipy.special import digamma

        cell = alpha[:, self._label].T
        strength = alpha.sum(1)
        before = digamma(alpha)[:, self._label].T
        grouped = self._by_cell_and_total @ responsibility
        by_cell, by_total = grouped[: len(self._label)], grouped[len(self._label) :]
        by_cell *= digamma(self._count[:, None] + cell) - before
        slope = by_total * (digamma(strength) - digamma(self._totals[:, None] + strength))
        slopes = np.zeros_like(alpha)
        np.add.at(slopes.T, self._label, by_cell)
        slopes += slope.sum(0)[:, None]
        return slopes


def _ones(columns: Index, lengths: Index, width: int) -> Any:
    """The sparse matrix with ones in these columns, some for each row."""
    from scipy import sparse

    ends = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(lengths), width))


def _sums_at(places: Index, count: int) -> Any:
    """The sparse matrix that adds each row to the sum at its place."""
    return _ones(np.argsort(places, kind="stable"), np.bincount(places, minlength=count), len(places))


def softmax(logits: Array) -> Array:
    """Softmax of each row."""
    shares: Array = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares


def posterior_moments(counts: Array, alpha: Array, responsibility: Array) -> tuple[Array, Array]:
    """Mean and matched Dirichlet strength of the posterior sum_c r_c Dirichlet(n + alpha_c).

    mean_j = sum_c r_c (n_j + a_cj) / T_c, T_c = N + A_c. The strength S is that of the Dirichlet of this mean whose
    variances sum to the mixture's: S = (1 - M) / (M - sum_j mean_j^2), M = sum_c r_c sum_j E[q_j^2 | c].
    """
    strength = alpha.sum(1)
    total = counts.sum(1)[:, None] + strength
    share = responsibility / total
    mean = counts * share.sum(1, keepdims=True) + share @ alpha
    squares = np.square(counts).sum(1)[:, None] + 2.0 * counts @ alpha.T + np.square(alpha).sum(1)
    second = (share * (squares + total) / (total + 1.0)).sum(1)
    return mean, matched_strength(mean, second)


def matched_strength(mean: Array, second: Array) -> Array:
    """The strength of the Dirichlet with this mean and this sum of second moments."""
    spread = np.maximum(second - np.square(mean).sum(1), 1e-12)
    strength: Array = np.maximum((1.0 - second) / spread, 1e-6)
    return strength
