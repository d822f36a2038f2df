"""The methods that are stacked by default: with proxies and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alm_proxies.estimators.dirichlet import Dirichlet, Weighted
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.known_raters import KnownRaters
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.mixture import Mixture

MEMBER_ROWS = 20_000
"""With more utterances than this, a method is fitted on a seeded sample of them."""
_TOLERANCE = 1e-6
Maker = Callable[[int], Estimator]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the stack: its sizes and penalties are averaged, so that it counts once however many there are."""

    name: str
    makers: tuple[Maker, ...]
    """Constructors of the method's sizes; each takes the seed."""
    by_rater: bool = False
    """Needs raters by name, and counts only if held-out votes show that it helps."""


def _gated(classes: int, penalty: float) -> Maker:
    return lambda seed: Gated(classes, penalty, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE)


WITHOUT = (
    Method("dirichlet", (lambda _: Dirichlet(),)),
    Method("gated", (_gated(8, 0.01), _gated(16, 0.01))),
)
"""Methods without proxies."""
WITH = (
    Method("weighted", (lambda _: Weighted(),)),
    Method("loglinear", (lambda seed: Loglinear(seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
    Method("gated", (_gated(8, 0.003), _gated(16, 0.01))),
    Method("mixture", (lambda seed: Mixture(16, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
)
"""Methods with proxies."""
RATERS = Method("raters", (lambda seed: KnownRaters(seed=seed, tolerance=_TOLERANCE),), by_rater=True)
"""The method added to both levels if raters are known."""
