"""The fusion of labels as it can be fitted anew to every draw of the votes, by no weights learned on what it predicts.

Which proxies count is not decided anew: the counts are without those that the labels do not count.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from alm_proxies.compare.rivals import method_of
from alm_proxies.estimators.counts import COLUMNS, Counts
from alm_proxies.estimators.dirichlet import Dirichlet, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning, Posterior
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.names import page_name
from alm_proxies.estimators.pooling import mixed
from alm_proxies.estimators.stack_methods import MEMBER_ROWS, Maker
from alm_proxies.estimators.stack_trial import seen_of
from alm_proxies.report.drawing import listed
from alm_proxies.tables import Labels

Refit = Callable[[Counts], Sequence[Estimator]]
"""Fits human votes alone and, if there are proxies, the fusion with them."""
MIXTURE_ROWS = 1_000
"""With more utterances than this the mixture, whose fit takes longer than those of all others, is left out of auto."""
_TOLERANCE = 1e-6
_OF_AUTO: dict[str, Maker] = {
    "weighted": lambda _: Weighted(),
    "loglinear": lambda seed: Loglinear(seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),
    "gated": lambda seed: Gated(16, 0.01, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),
    "mixture": lambda seed: Mixture(8, seed=seed, tolerance=1e-4),
}
"""The methods of auto with proxies in one quick size each, since each draw fits them."""
_METHODS: dict[str, type[Estimator]] = {kind.name: kind for kind in (Gated, Loglinear, Dirichlet, Weighted, Pool)}


class EqualParts(Estimator):
    """The mean of several methods with proxies; `alone`, which is fitted, where an utterance has no proxy.

    It learns no weights, as auto does: auto's were learned on votes that other draws predict.
    """

    name: ClassVar[str] = "equal parts"

    def __init__(self, makers: Sequence[Maker], alone: Estimator, *, seed: int) -> None:
        self.makers = makers
        self.alone = alone
        self.seed = seed

    def _learn(self, counts: Counts) -> None:
        self.members_ = [make(self.seed).fit(counts) for make in self.makers]

    def posterior(self, counts: Counts) -> Posterior:
        """The Dirichlet that matches the mixture of the methods."""
        posteriors = [member.posterior(member.aligned(counts)) for member in self.members_]
        means = np.stack([posterior.mean for posterior in posteriors])
        strengths = np.stack([posterior.concentration for posterior in posteriors])
        mean, strength = mixed(means, strengths, np.full(len(posteriors), 1.0 / len(posteriors)))
        unseen = np.flatnonzero(~seen_of(counts, counts.steering))
        if len(unseen):
            without = self.alone.posterior(self.alone.aligned(counts.rows(unseen)))
            mean[unseen], strength[unseen] = without.mean, without.concentration
        return Posterior(mean, strength)


@dataclass(frozen=True, slots=True)
class Refitted:
    """What is fitted to each draw."""

    words: str
    """What the fusion is, for pages."""
    alone: str
    """What human votes alone are, likewise."""
    fit: Refit
    in_equal_parts: bool = False


def refitted(labels: Labels, utterances: int, *, seed: int) -> Refitted:
    """The method of the labels with its sizes, on human votes alone and with proxies.

    Where it is none of these: gated on human votes alone, whose log loss differed from auto's by .004 at most on
    samples of 200 to 1,000 clips of CREMA-D, and the methods of auto in equal parts with proxies. Gated on human votes
    alone too where the labels use no proxies.
    """
    maker = labels.about.made_by
    account = {} if maker is None else maker.fitted
    kind = _METHODS.get(str(account.get("method")))
    sizes: dict[str, Any] = {}
    if kind is not None:
        sizes = {key: account[key] for key in ("classes", "penalty") if key in kind.takes and key in account}
        sizes |= {"seed": seed} if "seed" in kind.takes else {}
    alone: Callable[[], Estimator] = partial(Gated, seed=seed)
    said = page_name(Gated.name)
    if kind is not None and method_of(labels) is not None:
        alone, said = partial(kind, **sizes), page_name(kind.name)
    if kind is not None:
        words = f"{page_name(kind.name)}, the method of the labels"
        return Refitted(words, said, lambda counts: _both(counts, alone(), lambda _: kind(**sizes)))
    makers = {name: make for name, make in _OF_AUTO.items() if name != "mixture" or utterances <= MIXTURE_ROWS}
    parts = tuple(makers.values())
    return Refitted(
        f"{listed([page_name(name) for name in makers])} in equal parts",
        said,
        lambda counts: _both(counts, alone(), lambda fitted: EqualParts(parts, fitted, seed=seed)),
        in_equal_parts=True,
    )


def _both(counts: Counts, alone: Estimator, fusion: Callable[[Estimator], Estimator]) -> list[Estimator]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        alone.fit(counts.only((COLUMNS,)))
        return [alone, fusion(alone).fit(counts)] if counts.blocks else [alone]
