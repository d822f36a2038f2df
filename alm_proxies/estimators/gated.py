"""The default estimator: latent Dirichlet classes over human votes, with weights predicted from the proxies."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alm_proxies.errors import SettingsError
from alm_proxies.estimators.counts import Array, Counts, unique_rows
from alm_proxies.estimators.estimator import (
    Estimator,
    Posterior,
    assumed_strength,
    fitting_rows,
    learned_part,
    minimise,
)
from alm_proxies.estimators.features import GateFeatures
from alm_proxies.estimators.likelihood import (
    LOG_ALPHA,
    DirichletMultinomial,
    beyond_limits,
    posterior_moments,
    softmax,
)
from alm_proxies.estimators.pooling import mixed
from alm_proxies.estimators.sample import FIT_ROWS
from alm_proxies.seeds import generator

_DARK_NEEDED = 30
_BASE_STRENGTH = 5.0
_ALPHA_PENALTY = 0.5
_WEIGHT_PENALTY = 0.1


class Gated(Estimator):
    """K latent classes, each a Dirichlet over human votes; the proxies set only the probability of each class.

    p(n | x) = sum_c w_c(x) DM(n | alpha_c),   w(x) = softmax(b + B x)
    fit        max sum_i log p(n_i | x_i) - N penalty |B|^2 / 2 - weak priors on log alpha and b     (L-BFGS)
    posterior  sum_c r_c Dirichlet(n + alpha_c),   r_c proportional to w_c(x) DM(n | alpha_c)

    x: for each block of proxies centred log smoothed shares, entropy, a missing flag; and numeric columns. Human votes
    are modelled given the proxies, never the proxies themselves, so no class is spent on a worthless proxy: a mixture
    of experts (Jacobs et al. 1991) with Dirichlet-multinomial experts (Minka 2000). Without proxies it is a Dirichlet
    mixture over human votes alone. Single votes have no information about the variation between listeners. Where few
    utterances have two, this posterior counts by the part `learned_part_`; by the rest counts that of a Dirichlet about
    the mean sum_c w_c(x) alpha_c / A_c, with one strength from an assumed agreement of .3 (`assumed_strength`).
    """

    name: ClassVar[str] = "gated"
    takes: ClassVar[tuple[str, ...]] = ("classes", "penalty", "seed")

    def __init__(
        self,
        classes: int = 16,
        penalty: float = 0.001,
        *,
        seed: int = 0,
        rows: int = FIT_ROWS,
        iterations: int = 500,
        tolerance: float = 1e-7,
        start: Gated | None = None,
    ) -> None:
        if classes < 1 or penalty <= 0:
            raise SettingsError(
                f"{classes} classes with a penalty of {penalty} cannot be fitted",
                fix="Use one class or more and a positive penalty.",
            )
        self.classes = classes
        self.penalty = penalty
        self.seed = seed
        self.rows = rows
        self.iterations = iterations
        self.tolerance = tolerance
        self.start = start

    def _learn(self, counts: Counts) -> None:
        counts = fitting_rows(counts, self.seed, self.rows)
        self.shares_ = counts.shares
        self.features_ = GateFeatures().fit(counts)
        inputs, human = self.features_.of(counts), counts.whole(self.seed)
        objective = _Objective(human, inputs, self.shares_, self.classes, self.penalty)
        result = minimise(objective, self._begin(inputs.shape[1]), self.iterations, self.tolerance)
        self.alpha_, self.bias_, self.slope_ = _parts(result.x, self.classes, len(self.shares_), inputs.shape[1])
        gate = softmax(inputs @ self.slope_ + self.bias_)
        dark = self.features_.dark(counts)
        self.gate_knows_dark_ = bool(dark.sum() >= _DARK_NEEDED or not inputs.any())
        self.average_gate_ = gate.mean(0)
        self.learned_part_ = learned_part(counts, beside=bool(inputs.any()))
        if self.learned_part_ < 1.0:
            means = self.alpha_ / self.alpha_.sum(1, keepdims=True)
            self.strength_ = assumed_strength(self.shares_, gate @ means, human)
            self.dark_strength_ = assumed_strength(self.shares_, human=human)
        self.settled(result)

    def _begin(self, inputs: int) -> Array:
        labels = len(self.shares_)
        if self.start is not None and self.start.slope_.shape == (inputs, self.classes):
            first = self.start
            return np.concatenate([np.log(first.alpha_).ravel(), first.bias_, first.slope_.ravel()])
        rng = generator(self.seed, "gated start", self.classes)
        corners = rng.dirichlet(0.05 + 0.3 * labels * self.shares_, size=self.classes)
        means = 0.7 * corners + 0.3 * self.shares_
        if self.classes == 1:
            means = self.shares_[None, :]
        return np.concatenate([np.log(6.0 * means).ravel(), np.zeros(self.classes), np.zeros(inputs * self.classes)])

    def gate(self, counts: Counts) -> Array:
        """Class weights before any human vote: utterances x classes."""
        gates = softmax(self.features_.of(counts) @ self.slope_ + self.bias_)
        if not self.gate_knows_dark_:
            gates = np.where(self.features_.dark(counts)[:, None], self.average_gate_, gates)
        return gates

    def posterior(self, counts: Counts) -> Posterior:
        """Moments of sum_c r_c Dirichlet(n + alpha_c), and of what is assumed for the part that is not learned."""
        gate = self.gate(counts)
        if self.learned_part_ == 0.0:
            return self._assumed_posterior(counts, gate)
        mean, concentration = posterior_moments(counts.human, self.alpha_, self._responsibility(counts, gate))
        if self.learned_part_ < 1.0:
            assumed = self._assumed_posterior(counts, gate)
            means, strengths = np.stack([mean, assumed.mean]), np.stack([concentration, assumed.concentration])
            mean, concentration = mixed(means, strengths, np.array([self.learned_part_, 1.0 - self.learned_part_]))
        return Posterior(mean, concentration)

    def responsibility(self, counts: Counts) -> Array:
        """Posterior class probabilities after the human votes: utterances x classes."""
        return self._responsibility(counts, self.gate(counts))

    def _responsibility(self, counts: Counts, gate: Array) -> Array:
        distinct, which = unique_rows(counts.human)
        logs = DirichletMultinomial(distinct).log(self.alpha_)
        likelihood = np.exp(logs - logs.max(1, keepdims=True))
        responsibility: Array = gate * likelihood[which] + 1e-300
        responsibility /= responsibility.sum(1, keepdims=True)
        return responsibility

    def _assumed_posterior(self, counts: Counts, gate: Array) -> Posterior:
        means = gate @ (self.alpha_ / self.alpha_.sum(1, keepdims=True))
        strength = np.where(self.features_.dark(counts), self.dark_strength_, self.strength_)
        total = strength + counts.human.sum(1)
        return Posterior((counts.human + strength[:, None] * means) / total[:, None], total)


class _Objective:
    """Penalised negative conditional log-likelihood per utterance with human votes, and its gradient.

    Classes are rows and utterances columns, utterances with equal human votes are adjacent: sums over classes and over
    equal votes, which take most of the time, are then contiguous in memory.
    """

    def __init__(self, human: Array, inputs: Array, shares: Array, classes: int, penalty: float) -> None:
        distinct, which = unique_rows(human)
        self.likelihood = DirichletMultinomial(distinct)
        self.inputs = np.ascontiguousarray(inputs[np.argsort(which, kind="stable")].T)
        self.sizes = np.bincount(which, minlength=len(distinct))
        self.first = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.classes = classes
        self.penalty = penalty
        self.centre = np.log(_BASE_STRENGTH * shares)
        self.rows = len(human)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        alpha, bias, slope = _parts(theta, self.classes, len(self.centre), len(self.inputs))
        gate = slope.T @ self.inputs
        gate += bias[:, None]
        gate -= gate.max(0)
        np.exp(gate, out=gate)
        gate /= gate.sum(0)
        logs = self.likelihood.log(alpha)
        top = logs.max(1)
        posterior = np.repeat(np.exp(logs - top[:, None]).T, self.sizes, axis=1)
        posterior *= gate
        posterior += 1e-300
        total = posterior.sum(0)
        value = float(np.log(total).sum() + self.sizes @ top)
        posterior /= total
        grouped = np.add.reduceat(posterior, self.first, axis=1).T
        posterior -= gate
        beyond = beyond_limits(theta[: alpha.size]).reshape(alpha.shape)
        away = np.log(alpha) - self.centre + beyond
        value -= 0.5 * self.penalty * self.rows * float(np.square(slope).sum())
        value -= 0.5 * _ALPHA_PENALTY * float(np.square(away).sum())
        value -= 0.5 * _WEIGHT_PENALTY * float(np.square(bias).sum())
        d_alpha = self.likelihood.gradient(grouped, alpha) * alpha * (beyond == 0) - _ALPHA_PENALTY * away
        d_bias = posterior.sum(1) - _WEIGHT_PENALTY * bias
        d_slope = self.inputs @ posterior.T - self.penalty * self.rows * slope
        gradient = np.concatenate([d_alpha.ravel(), d_bias, d_slope.ravel()])
        return -value / self.rows, -gradient / self.rows


def _parts(theta: Array, classes: int, labels: int, inputs: int) -> tuple[Array, Array, Array]:
    cut = classes * labels
    alpha = np.exp(np.clip(theta[:cut], -LOG_ALPHA, LOG_ALPHA)).reshape(classes, labels)
    return alpha, theta[cut : cut + classes], theta[cut + classes :].reshape(inputs, classes)
