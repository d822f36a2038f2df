"""One Dirichlet: human votes alone, pooling, tuned weights, and empirical Bayes with a strength for each stratum."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alm_proxies.ballots import summed
from alm_proxies.estimators.counts import Array, Counts, Index, LeftOut
from alm_proxies.estimators.estimator import (
    Estimator,
    Posterior,
    assumed_strength,
    fitting_rows,
    learned_part,
    minimise,
)
from alm_proxies.estimators.likelihood import softmax

_RIDGE = 1.0
_FIRST_STRENGTH = 2.0
_FIRST_WEIGHT = 0.3
_LOG_STRENGTH = 8.0
_NEXT_TO_NONE = 1e-6
"""Votes of the corpus shares where nothing says how many: an utterance without votes has these shares."""


class Weighted(Estimator):
    """Pseudo-counts: p = (n + sum_b a_b m_b + c pi) / (its sum), m_b the counts of block b, pi the corpus shares.

    The weights a_b and c minimise the leave-one-out log loss of human votes, with a weak ridge penalty on their
    logarithms. They are numbers of votes, not shares, so weights learned with one vote held out apply to all votes.
    concentration is the sum of the pseudo-counts: the strength that the method claims, not a measured one.
    """

    name: ClassVar[str] = "weighted"
    _free: ClassVar[bool] = True

    def _learn(self, counts: Counts) -> None:
        counts = fitting_rows(counts)
        self.shares_ = counts.shares
        left = counts.left_one_out()
        blocks = [block.counts for block in counts.blocks] if self.uses_proxies else []
        tuned = blocks if self._free else []
        fixed = sum(blocks, np.zeros_like(counts.human)) if not self._free else np.zeros_like(counts.human)
        first = np.log([_FIRST_STRENGTH, *(_FIRST_WEIGHT for _ in tuned)])
        objective = _LeftOutLoss(
            left, fixed[left.rows] + left.contexts, self.shares_, [t[left.rows] for t in tuned], first
        )
        result = minimise(objective, first, 200)
        alpha = np.exp(result.x)
        self.learned_part_ = learned = learned_part(counts, beside=bool(tuned)) if self._free else 1.0
        if learned < 1.0:
            added = _added(counts, self.shares_, alpha)
            strength = assumed_strength(self.shares_, added / added.sum(1, keepdims=True), counts.whole())
            alpha = alpha * (strength / float(added.sum(1).mean())) ** (1.0 - learned)
        self.prior_votes_ = float(alpha[0])
        self.weights_ = alpha[1:] if self._free else np.ones(len(blocks))
        self.settled(result)

    def posterior(self, counts: Counts) -> Posterior:
        """Shares and sum of the pseudo-counts."""
        total = counts.human + _added(counts, self.shares_, np.array([self.prior_votes_, *self.weights_]))
        strength = total.sum(1)
        return Posterior(total / strength[:, None], strength)


class Pool(Weighted):
    """Pooling, the fusion of arXiv 2601.14620: p = (n + sum_b m_b + c pi) / (its sum), only c tuned.

    Without any human vote nothing can be tuned: c is zero, and p are the plain shares of the proxies' votes.
    """

    name: ClassVar[str] = "pool"
    needs_people: ClassVar[bool] = False
    _free: ClassVar[bool] = False

    def _learn(self, counts: Counts) -> None:
        if counts.human.any():
            super()._learn(counts)
            return
        votes = sum((block.counts for block in counts.blocks), np.zeros_like(counts.human))
        votes = votes[votes.any(1)]
        self.shares_ = (votes / votes.sum(1, keepdims=True)).mean(0)
        self.prior_votes_ = _NEXT_TO_NONE
        self.weights_ = np.ones(len(counts.blocks))
        self.converged_, self.iterations_, self.learned_part_ = True, 0, 1.0


class Human(Weighted):
    """Human votes alone: p = (n + c pi) / (N + c), c tuned by leave-one-out log loss of human votes."""

    name: ClassVar[str] = "human"
    uses_proxies: ClassVar[bool] = False


class Dirichlet(Estimator):
    """Empirical Bayes: each utterance's human votes are drawn from Dirichlet(S_s (l_0 pi + sum_b l_b share_b)).

    S_s is the prior strength of stratum s, l a convex mix of corpus shares pi and the blocks' shares, all by maximum
    Dirichlet-multinomial likelihood of the human votes (Minka 2000). Strata: thirds of the entropy of the mean proxy
    share, observable before any human vote; utterances without proxies are a stratum of their own. Human votes alone
    are its limit l_0 = 1, pooling its limit of fixed strength. Where few utterances have two human votes, log S_s is
    learned in part and assumed for the rest (`learned_part`).
    """

    name: ClassVar[str] = "dirichlet"

    def _learn(self, counts: Counts) -> None:
        counts = fitting_rows(counts)
        self.shares_ = counts.shares
        entropy, there = self._entropy(counts)
        self.cuts_ = np.quantile(entropy[there], [1 / 3, 2 / 3]) if there.any() else np.zeros(2)
        self.learned_part_ = learned = learned_part(counts, beside=bool(counts.blocks))
        stratum, human = self._strata(counts), counts.whole()
        fixed = np.log(assumed_strength(self.shares_)) if learned == 0.0 else None
        objective = _DirichletLoss(human, self._sources(counts), stratum, fixed)
        result = minimise(objective, objective.start(), 300)
        self.mix_ = softmax(np.concatenate([[0.0], result.x[4:]])[None, :])[0]
        self.strength_ = np.exp(np.clip(result.x[:4], -_LOG_STRENGTH, _LOG_STRENGTH))
        if learned < 1.0:
            means = np.tensordot(self.mix_, self._sources(counts), 1)
            assumed = np.full(4, assumed_strength(self.shares_, means, human))
            assumed[0] = assumed_strength(self.shares_, human=human)
            self.strength_ = assumed * (self.strength_ / assumed) ** learned
        self.settled(result)

    def posterior(self, counts: Counts) -> Posterior:
        """Mean and strength of the Dirichlet n + alpha."""
        prior = np.tensordot(self.mix_, self._sources(counts), 1)
        strength = self.strength_[self._strata(counts)]
        total = strength + counts.human.sum(1)
        return Posterior((counts.human + strength[:, None] * prior) / total[:, None], total)

    def _sources(self, counts: Counts) -> Array:
        corpus = np.broadcast_to(self.shares_, counts.human.shape)
        sources = [corpus]
        for block in counts.blocks:
            smoothing = 1.0 if block.kind == "votes" else np.where(block.votes > 0, 0.0, 1.0)[:, None]
            sources.append((block.counts + smoothing * self.shares_) / (block.counts.sum(1, keepdims=True) + smoothing))
        return np.stack(sources)

    def _entropy(self, counts: Counts) -> tuple[Array, np.ndarray]:
        total = sum((block.counts for block in counts.blocks), np.zeros_like(counts.human))
        there = total.sum(1) > 0
        share = (total + self.shares_) / (total.sum(1, keepdims=True) + 1.0)
        return -(share * np.log(share)).sum(1), there

    def _strata(self, counts: Counts) -> Index:
        entropy, there = self._entropy(counts)
        return np.where(there, 1 + np.searchsorted(self.cuts_, entropy), 0).astype(np.int64)


def _added(counts: Counts, shares: Array, weights: Array) -> Array:
    pseudo_counts = np.tile(weights[0] * shares, (len(counts), 1))
    for weight, block in zip(weights[1:], counts.blocks, strict=False):
        pseudo_counts += weight * block.counts
    return pseudo_counts


class _LeftOutLoss:
    """Mean leave-one-out log loss of votes under pseudo-counts exp(theta), plus the ridge; and its gradient."""

    def __init__(self, left: LeftOut, fixed: Array, shares: Array, tuned: list[Array], first: Array) -> None:
        self.left, self.fixed, self.tuned, self.first = left, fixed, tuned, first
        self.shares = shares
        self.mass = left.targets * left.mass[:, None]
        self.votes = left.mass.sum()

    def __call__(self, theta: Array) -> tuple[float, Array]:
        weight = np.exp(np.clip(theta, -12, 12))
        count = self.fixed + weight[0] * self.shares
        for block_weight, source in zip(weight[1:], self.tuned, strict=True):
            count = count + block_weight * source
        total = count.sum(1)
        value = float((self.mass * np.log(count)).sum() - self.left.mass @ np.log(total))
        ratio = self.mass / count
        out = self.left.mass / total
        slope = [float((ratio @ self.shares).sum() - out.sum())]
        slope += [float((ratio * source).sum() - out @ source.sum(1)) for source in self.tuned]
        ridge = theta - self.first
        value -= 0.5 * _RIDGE * float(ridge @ ridge)
        gradient = weight * np.array(slope) - _RIDGE * ridge
        return -value / self.votes, -gradient / self.votes


class _DirichletLoss:
    """Negative Dirichlet-multinomial log-likelihood per utterance as a function of (log strengths, mix logits), and its
    gradient.
    """

    def __init__(self, human: Array, sources: Array, stratum: Index, fixed: float | None) -> None:
        self.human, self.sources, self.stratum, self.fixed = human, sources, stratum, fixed

    def start(self) -> Array:
        strength = self.fixed if self.fixed is not None else np.log(_FIRST_STRENGTH)
        return np.concatenate([np.full(4, strength), np.zeros(len(self.sources) - 1)])

    def __call__(self, theta: Array) -> tuple[float, Array]:
        from scipy import special

        log_strength = np.clip(theta[:4], -_LOG_STRENGTH, _LOG_STRENGTH)
        mix = softmax(np.concatenate([[0.0], theta[4:]])[None, :])[0]
        prior = np.tensordot(mix, self.sources, 1)
        strength = np.exp(log_strength)[self.stratum]
        alpha = strength[:, None] * prior
        votes = self.human.sum(1)
        value = float((special.gammaln(self.human + alpha) - special.gammaln(alpha)).sum())
        value += float((special.gammaln(strength) - special.gammaln(strength + votes)).sum())
        by_alpha = special.digamma(self.human + alpha) - special.digamma(alpha)
        by_strength = (by_alpha * prior).sum(1) + special.digamma(strength) - special.digamma(strength + votes)
        d_strength = summed(self.stratum, by_strength * strength, 4) * (np.abs(theta[:4]) < _LOG_STRENGTH)
        if self.fixed is not None:
            d_strength = np.zeros(4)
        by_mix = (self.sources * (by_alpha * strength[:, None])).sum((1, 2))
        d_mix = mix * (by_mix - mix @ by_mix)
        first = self.start()
        away = theta - first
        value -= 0.5 * _RIDGE * 0.1 * float(away @ away)
        gradient = np.concatenate([d_strength, d_mix[1:]]) - 0.1 * _RIDGE * away
        return -value / len(votes), -gradient / len(votes)
