"""Supervised fusion from utterances with dense human votes: an upper bound for the methods without them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.counts import Array, Counts, Index
from alm_proxies.estimators.estimator import Estimator, Posterior, minimise, sampled
from alm_proxies.estimators.features import GateFeatures
from alm_proxies.estimators.likelihood import softmax
from alm_proxies.estimators.trials import folds_of, units_of
from alm_proxies.printable import counted
from alm_proxies.seeds import generator

_MORE_VOTES = 2
_DENSE_NEEDED = 50
_FOLDS = 5
"""Folds of speakers for the strength: means fitted to the very targets would claim too much of it."""


class Supervised(Estimator):
    """Softmax regression of dense human votes on a few of them and the proxies.

    p = softmax(b + B z), z = (log and plain smoothed shares of `votes` human votes, the gate's proxy features). Each
    dense utterance gives `repeats` random draws of `votes` votes as input, the rest of its votes as target; max of
    their log-likelihood - N penalty |B|^2 / 2. Concentration: one strength about p by maximum Dirichlet-multinomial
    likelihood of the targets, p from fits to other speakers. Stacked generalisation (Wolpert 1992), supervised: it
    needs dense votes.
    """

    name: ClassVar[str] = "supervised"
    takes: ClassVar[tuple[str, ...]] = ("seed",)

    def __init__(self, votes: int = 3, *, penalty: float = 1e-4, repeats: int = 4, seed: int = 0) -> None:
        if votes < 1 or repeats < 1 or penalty <= 0:
            raise SettingsError(
                f"supervised from {counted(votes, 'vote')}, {counted(repeats, 'draw')} and a penalty of {penalty} "
                "cannot be fitted",
                fix="Use one vote or more, one draw or more and a positive penalty.",
            )
        self.votes = votes
        self.penalty = penalty
        self.repeats = repeats
        self.seed = seed

    def teaches(self, human: Array) -> NDArray[np.bool_]:
        """Utterances with dense whole human votes."""
        rounded = np.rint(human)
        return np.asarray((rounded.sum(1) >= self.votes + _MORE_VOTES) & (np.abs(rounded - human) < 1e-9).all(1))

    def _learn(self, counts: Counts) -> None:
        dense = int(self.teaches(counts.human).sum())
        if dense < _DENSE_NEEDED:
            raise too_sparse(dense, self.votes)
        rng = generator(self.seed, "supervised")
        counts = sampled(counts, self.teaches(counts.human), self.seed)
        self.shares_ = counts.shares
        self.features_ = GateFeatures().fit(counts)
        human = np.rint(counts.human)
        draws = [
            rng.multivariate_hypergeometric(row.astype(np.int64), self.votes, size=self.repeats, method="marginals")
            for row in human
        ]
        few = np.stack(draws, axis=1).reshape(-1, counts.human.shape[1]).astype(np.float64)
        rest = np.tile(human, (self.repeats, 1)) - few
        inputs = self._inputs(few, np.tile(self.features_.of(counts), (self.repeats, 1)))
        self.centre_ = inputs.mean(0)
        objective = _Objective(inputs - self.centre_, rest, self.penalty)
        result = minimise(objective, np.zeros((inputs.shape[1] + 1) * rest.shape[1]), 500)
        self.bias_, self.slope_ = objective.parts(result.x)
        fold = np.tile(folds_of(units_of(counts)[0], _FOLDS, self.seed), self.repeats)
        self.strength_ = _strength(_held_out(inputs - self.centre_, rest, fold, self.penalty), rest)
        self.settled(result)

    def posterior(self, counts: Counts) -> Posterior:
        """The mean of the regression, and the learned strength."""
        inputs = self._inputs(counts.human, self.features_.of(counts)) - self.centre_
        mean = softmax(inputs @ self.slope_ + self.bias_)
        return Posterior(mean, np.full(len(mean), self.strength_))

    def _inputs(self, human: Array, proxies: Array) -> Array:
        share = (human + self.shares_) / (human.sum(1, keepdims=True) + 1.0)
        return np.concatenate([np.log(share), share, proxies], axis=1)


def too_sparse(dense: int, votes: int = 3) -> InputError:
    """The error for too few utterances with dense human votes."""
    message = (
        f"only {counted(dense, 'utterance has', 'utterances have')} "
        f"{counted(votes + _MORE_VOTES, 'whole human vote')} or more"
    )
    return InputError(message, where="votes", fix="`supervised` learns from dense votes: use gated or auto.")


class _Objective:
    """Penalised negative log-likelihood of the softmax regression per target vote, and its gradient."""

    def __init__(self, inputs: Array, targets: Array, penalty: float) -> None:
        self.inputs, self.targets, self.penalty = inputs, targets, penalty
        self.votes = float(targets.sum())

    def parts(self, theta: Array) -> tuple[Array, Array]:
        labels = self.targets.shape[1]
        return theta[:labels], theta[labels:].reshape(-1, labels)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        bias, slope = self.parts(theta)
        mean = softmax(self.inputs @ slope + bias)
        value = -float((self.targets * np.log(np.maximum(mean, 1e-300))).sum()) / self.votes
        value += 0.5 * self.penalty * float(np.square(slope).sum())
        by_logit = (mean * self.targets.sum(1, keepdims=True) - self.targets) / self.votes
        gradient = np.concatenate([by_logit.sum(0), (self.inputs.T @ by_logit + self.penalty * slope).ravel()])
        return value, gradient


def _held_out(inputs: Array, targets: Array, fold: Index, penalty: float) -> Array:
    """The means of every row by a regression on the rows of other folds."""
    means = np.zeros_like(targets)
    for number in range(int(fold.max()) + 1):
        others, own = fold != number, fold == number
        objective = _Objective(inputs[others], targets[others], penalty)
        result = minimise(objective, np.zeros((inputs.shape[1] + 1) * targets.shape[1]), 500)
        bias, slope = objective.parts(result.x)
        means[own] = softmax(inputs[own] @ slope + bias)
    return means


def _strength(mean: Array, targets: Array) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    votes = targets.sum(1)

    def loss(log_strength: float) -> float:
        strength = np.exp(log_strength)
        alpha = strength * mean
        likelihood = (gammaln(targets + alpha) - gammaln(alpha)).sum() + (
            gammaln(strength) - gammaln(strength + votes)
        ).sum()
        return -float(likelihood)

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 7.0), method="bounded").x))
