"""The base of every estimator: fit(votes), predict(votes) -> Labels, and a warning when a fit has not converged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self
from warnings import warn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import Array, Counts, counts_of
from alm_proxies.estimators.sample import FIT_ROWS, Sample
from alm_proxies.tables import About, Labels, Votes

CHUNK = 100_000
ASSUMED_AGREEMENT = 0.3
"""Chance-corrected agreement of two listeners, assumed as far as too few utterances have two human votes."""
_PAIRS = 100
"""With two human votes for this number of utterances, a strength is learned and nothing assumed."""
_PAIRS_BESIDE = 200
"""The same beside proxies: they explain a part of the agreement, and what they leave is harder to learn."""
_HARDLY_ANY = 30
_STRENGTH_SPREAD = 0.35
"""Standard deviation of the Gaussian prior on the logarithm of a strength about the assumed one."""
ROUNDING = 1e-6
"""A share that is negative by less is a zero."""


class NotConvergedWarning(UserWarning):
    """A fit stopped before it converged: its labels are usable, its scores may still improve."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """The posterior of each utterance: the mean distribution and its strength in votes."""

    mean: Array
    concentration: Array


class Estimator(ABC):
    """fit learns from votes that are not held out; predict gives Labels for the same or other utterances."""

    name: ClassVar[str]
    uses_proxies: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True
    """Whether it cannot be fitted to proxies alone."""
    takes: ClassVar[tuple[str, ...]] = ()
    """The settings of fuse that its constructor takes: classes, penalty, folds, seed; and quiet."""
    learned_part_: float = 1.0
    """How much of the variation between listeners was learned (`learned_part`); the rest was assumed."""

    def fit(self, votes: Votes | Counts) -> Self:
        """Learn from human votes and proxies; raises if there is no human vote and the method needs some."""
        counts = counts_of(votes)
        if not (counts.human.any() or (not self.needs_people and any(block.votes.any() for block in counts.blocks))):
            raise nothing_to_learn(self.name) if self.needs_people else no_vote_has_a_label()
        self.labels_ = counts.labels
        self.blocks_ = tuple(block.name for block in counts.blocks) if self.uses_proxies else ()
        with one_thread():
            self._learn(counts)
        return self

    def predict(self, votes: Votes | Counts) -> Labels:
        """A distribution for every utterance of the votes."""
        about = votes.about if isinstance(votes, Votes) else About()
        return labels_of(self, counts_of(votes), about)

    def teaches(self, human: Array) -> NDArray[np.bool_]:
        """Which utterances the fit can learn from, by their human counts."""
        return np.asarray(human.any(1))

    @abstractmethod
    def _learn(self, counts: Counts) -> None:
        """Set the fitted attributes."""

    @abstractmethod
    def posterior(self, counts: Counts) -> Posterior:
        """Mean and concentration for every utterance, for blocks in the order of the fit; all in memory at once."""

    def aligned(self, counts: Counts) -> Counts:
        """The counts with the blocks of the fit in its order; unknown blocks are removed, missing ones added without
        votes.
        """
        if not hasattr(self, "labels_"):
            raise InputError(f"{type(self).__name__} has not been fitted", fix="Call fit(votes) first.")
        if counts.labels != self.labels_:
            raise InputError(
                f"the votes have the labels {', '.join(counts.labels)}, the fit has {', '.join(self.labels_)}",
                fix="Fit and predict with one taxonomy.",
            )
        return counts.aligned(self.blocks_)

    def settled(self, result: Any) -> None:
        """Record whether the optimiser converged, and warn if it did not."""
        self.converged_ = bool(result.success)
        self.iterations_ = int(result.nit)
        if not self.converged_:
            warn(
                f"{self.name} stopped after {self.iterations_} iterations before it converged ({result.message})",
                NotConvergedWarning,
                stacklevel=4,
            )


_NOT_FITTED = {
    "held_out": (
        "are held out",
        "Hold out fewer when the corpus is read: --hold-out keep=1 keeps one vote of every utterance for the fit.",
    ),
    "status": ("have a status other than ok", "Give human votes with labels."),
    "rating": (
        "are ratings without a label",
        "Give human votes with labels too: labels cannot be made of ratings alone.",
    ),
}
"""Why human votes are not fitted, and the fix, by the reasons of `not_fitted`."""


def nothing_to_learn(name: str, unused: Mapping[str, int] | None = None) -> InputError:
    """The error for votes without any human vote to fit to, with what became of those that there are (`not_fitted`)."""
    message = f"there are no human votes to fit {name} to"
    reasons = sorted(((count, reason) for reason, count in (unused or {}).items() if count), reverse=True)
    if not reasons:
        fix = (
            "Give some utterances human votes: the weight of proxies cannot be learned from proxies alone. "
            "--method pool takes their plain shares, of which nothing shows how near they are to people's."
        )
        return InputError(message, where="votes", fix=fix)
    whys = " and ".join(f"{count:,} {_NOT_FITTED[reason][0]}" for count, reason in reasons)
    return InputError(f"{message}: {whys}", where="votes", fix=_NOT_FITTED[reasons[0][1]][1])


def no_vote_has_a_label() -> InputError:
    """The error for votes of which none has a label, to a method that proxies alone are enough for."""
    fix = "Give votes with labels. Where annotate cast them, `alm-proxies findings FOLDER --clips` says why not."
    return InputError("none has a label, so there is nothing to fuse", where="votes", fix=fix)


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra in one thread: the matrices are small, and sums are then rounded the same on every machine."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limits


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """The loaded libraries of linear algebra, numpy's and scipy's; a search takes as long as a step of a fit."""
    import scipy.special  # noqa: F401  # scipy's own library is loaded with it
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # the package has no types

    return ThreadpoolController()


def minimise(
    objective: Callable[[Array], tuple[float, Array]], start: Array, iterations: int, tolerance: float = 1e-7
) -> Any:
    """L-BFGS on a function that gives its value and gradient."""
    from scipy.optimize import minimize

    options = {"maxiter": iterations, "maxfun": 2 * iterations + 50, "maxcor": 20, "ftol": tolerance, "gtol": 1e-5}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options)


def labels_of(estimator: Estimator, counts: Counts, about: About) -> Labels:
    """Labels from an estimator's posterior, in chunks; concentration_gain compares with every proxy absent."""
    means, strengths, worths = [], [], []
    for start in range(0, len(counts), CHUNK):
        part = counts.rows(np.arange(start, min(start + CHUNK, len(counts)), dtype=np.int64))
        with one_thread():
            posterior = _checked(estimator.posterior(estimator.aligned(part)), estimator, part)
            worth = np.zeros(len(part))
            if estimator.uses_proxies and estimator.blocks_:
                without = part.without_proxies()
                alone = _checked(estimator.posterior(estimator.aligned(without)), estimator, without)
                worth = posterior.concentration - alone.concentration
        means.append(posterior.mean)
        strengths.append(posterior.concentration)
        worths.append(worth)
    mean = np.concatenate(means)
    mean = np.maximum(mean, 0.0)
    mean /= mean.sum(1, keepdims=True)
    used = counts.aligned(estimator.blocks_ if estimator.uses_proxies else ()).blocks
    proxy = sum((block.votes for block in used), np.zeros(len(counts)))
    frame = pl.DataFrame(
        {
            "utterance_id": counts.utterances,
            **{f"p_{label}": mean[:, j] for j, label in enumerate(counts.labels)},
            "concentration": np.concatenate(strengths),
            "human_votes": counts.human.sum(1),
            "proxy_votes": proxy,
            "concentration_gain": np.concatenate(worths),
        }
    )
    return Labels.of(frame, about=About(taxonomy=counts.labels, annotators=about.annotators), where="labels")


def _checked(posterior: object, estimator: Estimator, counts: Counts) -> Posterior:
    """The posterior that an estimator gave; an error if it is none, or not one distribution for every utterance."""
    where, fix = f"the estimator {estimator.name!r}", "Correct its posterior()."
    if not isinstance(posterior, Posterior):
        message = f"posterior() gave {type(posterior).__name__}, not Posterior(mean, concentration)"
        raise InputError(message, where=where, fix=fix)
    mean, strength = np.asarray(posterior.mean), np.asarray(posterior.concentration)
    wanted = (len(counts), len(counts.labels))
    if (mean.shape, strength.shape) != (wanted, wanted[:1]):
        message = f"posterior() gave a mean of shape {mean.shape} and a concentration of shape {strength.shape}, not "
        message += f"{wanted} (utterances, labels) and {wanted[:1]}"
        raise InputError(message, where=where, fix=fix)
    wrong = ~(np.isfinite(mean).all(1) & (mean.min(1) > -ROUNDING) & (mean.sum(1) > 0) & (strength > 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        shares = ", ".join(f"{share:.3g}" for share in mean[row])
        message = f"posterior() gave the shares {shares} and the concentration {strength[row]:.3g} for "
        message += f"{counts.utterances[row]!r}: shares have to be 0 or more, the concentration above 0"
        raise InputError(message, where=where, fix=fix)
    return Posterior(mean, strength)


def fitting_rows(counts: Counts, seed: int = 0, rows: int = FIT_ROWS) -> Counts:
    """The utterances with human votes, or a seeded sample of them if there are more than `rows`."""
    return sampled(counts, np.asarray(counts.human.any(1)), seed, rows)


def sampled(counts: Counts, usable: NDArray[np.bool_], seed: int = 0, rows: int = FIT_ROWS) -> Counts:
    """The usable utterances, or a seeded sample of them where there are more than `rows`."""
    return counts.rows(np.flatnonzero(Sample(rows, seed).offer(usable)))


def has_pairs(counts: Counts) -> bool:
    """Whether more than hardly any utterance has two human votes or more."""
    return _pairs(counts) >= min(_HARDLY_ANY, max(1, len(counts) // 2))


def learned_part(counts: Counts, *, beside: bool) -> float:
    """How much of the variation is learned from utterances with two human votes or more; the rest is assumed.

    w = min(1, m / M) for m such utterances, M = 100, or 200 beside proxies, or half of the utterances if that is less.
    An agreement from 30 pairs has a standard error of .13, so a strength that is learned from a few is mostly noise.
    """
    return min(1.0, _pairs(counts) / min(_PAIRS_BESIDE if beside else _PAIRS, max(1, len(counts) // 2)))


def _pairs(counts: Counts) -> int:
    return int((counts.human.sum(1) >= 1.5).sum())


def assumed_strength(
    shares: Array, means: NDArray[np.float64] | None = None, human: NDArray[np.float64] | None = None
) -> float:
    """The strength about a mean if listeners' agreement is assumed, corrected by the second votes of `human`.

    Agreement k of two listeners means that distributions vary by k (1 - sum_j shares_j^2) over utterances; the variance
    explained by the predicted means is subtracted: S_0 = E[1 - |mean|^2] / (left over) - 1, without means 1/k - 1.

    max_S  sum_i log DM(n_i | S mean_i) - (log S - log S_0)^2 / (2 .35^2), over utterances with two votes or more
    """
    strength = _prior_strength(shares, means)
    pairs = np.flatnonzero(human.sum(1) >= 1.5) if human is not None else np.zeros(0, dtype=np.int64)
    if human is None or not len(pairs):
        return strength
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    given = human[pairs]
    about = np.maximum(shares if means is None else means[pairs], 1e-12)

    def loss(log_strength: float) -> float:
        total = float(np.exp(log_strength))
        alpha = np.broadcast_to(total * about, given.shape)
        fit = (gammaln(given + alpha) - gammaln(alpha)).sum() + (gammaln(total) - gammaln(total + given.sum(1))).sum()
        return 0.5 * ((log_strength - centre) / _STRENGTH_SPREAD) ** 2 - float(fit)

    centre = float(np.log(strength))
    return float(np.exp(minimize_scalar(loss, bounds=(centre - 4.0, centre + 4.0), method="bounded").x))


def _prior_strength(shares: Array, means: NDArray[np.float64] | None) -> float:
    """S_0 of `assumed_strength`."""
    room = 1.0 - float(np.square(shares).sum())
    if means is None or room <= 0:
        return 1.0 / ASSUMED_AGREEMENT - 1.0
    total = ASSUMED_AGREEMENT * room
    explained = float(np.square(means - means.mean(0)).sum(1).mean())
    left = max(total - explained, 0.2 * total)
    doubt = float((1.0 - np.square(means).sum(1)).mean())
    return max(doubt / left - 1.0, 1.0)
