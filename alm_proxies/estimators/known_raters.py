"""Raters by name: the weight of each rater's votes, learned from how well they predict the votes of others."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from alm_proxies.ballots import summed
from alm_proxies.errors import InputError
from alm_proxies.estimators.ballot_raters import BallotRaters
from alm_proxies.estimators.contexts import contexts_of
from alm_proxies.estimators.counts import Array, Counts, Index
from alm_proxies.estimators.estimator import Estimator, Posterior, fitting_rows, has_pairs, minimise
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.pooling import rescaled, strength_scale

_ROWS = 12_000
_CONFUSED = 0.02
"""The initial weight of a vote for each other label."""
_CROWD_PENALTY = 4.0
_RELIABILITY_PENALTY = 2.0
_CONFUSION_PENALTY = 6.0
_LOG_WORTH = 3.0
_SCALE_SPREAD = 1.0
"""Standard deviation of the prior on the logarithm of the scale of what votes add to the strength."""


class KnownRaters(Estimator):
    """Votes weighted by rater, then the latent classes of `gated`.

    A vote of rater r for label l counts as the vector W_r[l, .] in place of one vote for l:
    log W_r[l, m] = log W_0[l, m] + c[l, m] + s_r + d_r[l, m],   W_0 the identity with .02 off its diagonal
    fit   max sum_v log p(l_v | W of the other votes of its utterance, proxies) - Gaussian priors on c, s, d   (L-BFGS)
    p     the posterior mean of a Dirichlet mixture whose classes and gate were fitted to the votes as they are
    S     S_0 + t (S_n - S_0): what the votes add to the posterior's strength S_0 without them, scaled

    c is the crowd's confusion, s_r the reliability of a rater and d_r its confusion beyond the crowd's. p is the
    distribution of the crowd's next vote, spammers included: a vote of a spammer gets a weight near 0, one of a
    reliable rater more than 1. Raters who are not in the fit count as the crowd. Dawid and Skene (1979) learn
    confusions about one true label; here they are about a distribution, and are fitted to the votes of others only,
    since a likelihood of a rater's own votes explains every surprising vote as an error and so removes ambiguity.
    The fit is of means alone, and a shared vote may count as ten whole ones in it, which is no strength. So where votes
    are shared t is learned after it, by the Dirichlet-multinomial likelihood of whole votes with one or more of the
    others given. It is 1 at most, and 1 for whole votes: learned from one given vote it is too high for three.

    Learned: worth_ (raters x label cast x label counted; the crowd last), raters_, gated_, added_scale_, converged_,
    iterations_.
    """

    name: ClassVar[str] = "raters"
    takes: ClassVar[tuple[str, ...]] = ("seed",)
    added_scale_: float = 1.0

    def __init__(
        self, classes: int = 8, penalty: float = 0.01, *, seed: int = 0, rows: int = _ROWS, tolerance: float = 1e-6
    ) -> None:
        self.classes = classes
        self.penalty = penalty
        self.seed = seed
        self.rows = rows
        self.tolerance = tolerance

    def _learn(self, counts: Counts) -> None:
        if counts.raters is None:
            raise InputError(
                "the method raters needs to know who cast each vote, and no rater of these votes is known",
                where="votes",
                fix="Give votes with rater names, or use another method.",
            )
        counts = fitting_rows(counts, self.seed, self.rows)
        self.gated_ = Gated(self.classes, self.penalty, seed=self.seed, tolerance=self.tolerance).fit(counts)
        self.learned_part_ = self.gated_.learned_part_
        ballots = counts.raters
        assert ballots is not None  # selecting rows keeps them
        self.raters_ = ballots.names
        objective = RaterLoss(self.gated_, self.gated_.aligned(counts), ballots)
        if not (has_pairs(counts) and objective.votes):
            self.worth_ = objective.worth(objective.start())
            self.converged_, self.iterations_ = self.gated_.converged_, self.gated_.iterations_
            return
        result = minimise(objective, objective.start(), 100, 10.0 * self.tolerance)
        self.worth_ = objective.worth(result.x)
        self.settled(result)
        self.added_scale_ = self._learned_scale(counts)

    def _learned_scale(self, counts: Counts) -> float:
        """The scale t."""
        if counts.draws is None:
            return 1.0
        cuts = contexts_of(counts, self.seed)
        kept = np.flatnonzero((cuts.sizes > 0) & (cuts.whole.sum(1) > 1.5)).astype(np.int64)
        if not len(kept) or cuts.raters is None:
            return 1.0
        given = replace(counts, raters=None).rows(cuts.rows[kept])
        given = given.with_human(cuts.given[kept], cuts.raters.of(kept, len(cuts)))
        given = self.gated_.aligned(given)
        found = self.gated_.posterior(given.with_human(self.counted(given)))
        rows, mass = cuts.rows[kept], cuts.mass[kept]
        mass = mass / np.bincount(rows, weights=mass)[rows]
        before, left = self._before(given), cuts.whole[kept]
        return min(strength_scale(found.mean, found.concentration, before, left, mass, _SCALE_SPREAD), 1.0)

    def counted(self, counts: Counts) -> Array:
        """The weighted human votes: utterances x labels."""
        ballots = counts.raters
        if ballots is None:
            return counts.human
        place = {name: row for row, name in enumerate(self.raters_)}
        known = np.array([*(place.get(name, -1) for name in ballots.names), -1], dtype=np.int64)
        return _totals(ballots.rows, vectors_of(self.worth_, known[ballots.raters], ballots.vectors), len(counts))

    def posterior(self, counts: Counts) -> Posterior:
        """The posterior of the classes given the weighted votes, with what these add to its strength scaled."""
        found = self.gated_.posterior(counts.with_human(self.counted(counts)))
        if self.added_scale_ == 1.0:
            return found
        return Posterior(found.mean, rescaled(found.concentration, self._before(counts), self.added_scale_))

    def _before(self, counts: Counts) -> Array:
        """The strengths without human votes."""
        return self.gated_.posterior(counts.with_human(np.zeros_like(counts.human))).concentration


class RaterLoss:
    """Penalised log loss of every vote given the other votes of its utterance, as a function of log weights; and its
    gradient.
    """

    def __init__(self, gated: Gated, counts: Counts, ballots: BallotRaters) -> None:
        sizes = np.bincount(ballots.rows, minlength=len(counts))
        kept = np.flatnonzero(sizes[ballots.rows] > 1)
        self.rows, self.raters, self.vectors = ballots.rows[kept], ballots.raters[kept], ballots.vectors[kept]
        self.votes = float(self.vectors.sum())
        self.utterances, self.names = len(counts), len(ballots.names)
        self.labels = counts.human.shape[1]
        self.alpha = gated.alpha_
        self.gate = np.log(gated.gate(counts) + 1e-300)[self.rows]
        base = np.where(np.eye(self.labels) > 0, 1.0, _CONFUSED)
        self.base = np.log(base)

    def start(self) -> Array:
        """The start: every rater counts like the crowd."""
        return np.zeros(self.names + (self.names + 1) * self.labels**2)

    def worth(self, theta: Array) -> Array:
        """W: raters x label cast x label counted, the crowd's last."""
        reliability, crowd, own = self._parts(theta)
        logs = np.concatenate([crowd + own + reliability[:, None, None], crowd[None]]) + self.base
        worth: Array = np.exp(np.clip(logs, -12.0, _LOG_WORTH))
        return worth

    def _parts(self, theta: Array) -> tuple[Array, Array, Array]:
        cells = self.labels**2
        crowd = theta[self.names : self.names + cells].reshape(self.labels, self.labels)
        own = theta[self.names + cells :].reshape(self.names, self.labels, self.labels)
        return theta[: self.names], crowd, own

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Loss per vote and its gradient."""
        reliability, crowd, own = self._parts(theta)
        worth = self.worth(theta)
        cast = vectors_of(worth, self.raters, self.vectors)
        given = np.maximum(_totals(self.rows, cast, self.utterances)[self.rows] - cast, 0.0)
        value, slope = self._predicted(given)
        # each vote is an input for all others of its utterance: the sum of their slopes less its own
        by_cast = _totals(self.rows, slope, self.utterances)[self.rows] - slope
        by_log = self._by_rater(by_cast) * worth
        by_log[(worth <= np.exp(-12.0)) | (worth >= np.exp(_LOG_WORTH))] = 0.0
        value -= 0.5 * _RELIABILITY_PENALTY * float(reliability @ reliability)
        value -= 0.5 * _CROWD_PENALTY * float(np.square(crowd).sum())
        value -= 0.5 * _CONFUSION_PENALTY * float(np.square(own).sum())
        gradient = [
            by_log[:-1].sum((1, 2)) - _RELIABILITY_PENALTY * reliability,
            (by_log.sum(0) - _CROWD_PENALTY * crowd).ravel(),
            (by_log[:-1] - _CONFUSION_PENALTY * own).ravel(),
        ]
        return -value / self.votes, -np.concatenate(gradient) / self.votes

    def _predicted(self, given: Array) -> tuple[float, Array]:
        """Sum of log p(vote | given) over votes, and its gradient by the given counts.

        p(l | n) = sum_c r_c(n) (n_l + alpha_cl) / (N + A_c), r_c ~ w_c DM(n | alpha_c)
        """
        from scipy.special import digamma, gammaln

        strength = self.alpha.sum(1)
        total = given.sum(1)[:, None] + strength
        log_class = self.gate + gammaln(strength) - gammaln(total)
        by_label = []
        for label in range(self.labels):
            shifted = given[:, label, None] + self.alpha[:, label]
            log_class = log_class + gammaln(shifted) - gammaln(self.alpha[:, label])
            by_label.append(shifted)
        prior = np.exp(log_class - log_class.max(1, keepdims=True))
        prior /= prior.sum(1, keepdims=True)
        value, after = 0.0, np.zeros_like(prior)
        slope = np.zeros_like(given)
        for label in range(self.labels):
            mass = self.vectors[:, label, None]
            joint = prior * by_label[label] / total
            sure = np.maximum(joint.sum(1, keepdims=True), 1e-300)
            value += float((mass * np.log(sure)).sum())
            share = mass * joint / sure
            after += share
            slope[:, label] += (share / by_label[label]).sum(1)
        weight = self.vectors.sum(1)[:, None]
        change = after - weight * prior
        by_total = -(digamma(total) * change).sum(1) - (after / total).sum(1)
        for label in range(self.labels):
            slope[:, label] += (digamma(by_label[label]) * change).sum(1) + by_total
        return value, slope

    def _by_rater(self, by_cast: Array) -> Array:
        """Gradients by the weights of each rater; the crowd (unknown raters) is last."""
        who = np.where(self.raters >= 0, self.raters, self.names)
        by_rater = np.zeros((self.names + 1, self.labels, self.labels))
        for cast in range(self.labels):
            mass = self.vectors[:, cast]
            for counted in range(self.labels):
                by_rater[:, cast, counted] = summed(who, mass * by_cast[:, counted], self.names + 1)
        return by_rater


def vectors_of(worth: Array, raters: Index, vectors: Array) -> Array:
    """The weighted vector of each ballot: its weights times its rater's matrix; -1 is the crowd, the last."""
    labels = vectors.shape[1]
    cast = np.argmax(vectors, axis=1)
    largest = vectors[np.arange(len(vectors)), cast]
    rows_of_votes: Array = worth[raters, cast] * largest[:, None]
    shared = np.flatnonzero(vectors.sum(1) - largest > 1e-12)
    if len(shared):
        rows_of_votes[shared] = np.einsum("vl,vlm->vm", vectors[shared], worth[raters[shared]])
    return rows_of_votes.reshape(-1, labels)


def _totals(rows: Index, vectors: Array, size: int) -> Array:
    return np.stack([summed(rows, column, size) for column in vectors.T], axis=1)
