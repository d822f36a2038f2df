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
"""More utterances than these are fitted on a seeded sample of them."""
_TOLERANCE = 1e-6
Maker = Callable[[int], Estimator]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the stack: its sizes and penalties are averaged, so that it counts once however many there are."""

    name: str
    makers: tuple[Maker, ...]
    """Each is given the seed."""
    by_rater: bool = False
    """Needs raters by name, and counts only where votes left out show that it helps."""


def _gated(classes: int, penalty: float) -> Maker:
    return lambda seed: Gated(classes, penalty, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE)


WITHOUT = (
    Method("dirichlet", (lambda _: Dirichlet(),)),
    Method("gated", (_gated(8, 0.01), _gated(16, 0.01))),
)
"""Methods of human votes alone."""
WITH = (
    Method("weighted", (lambda _: Weighted(),)),
    Method("loglinear", (lambda seed: Loglinear(seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
    Method("gated", (_gated(8, 0.003), _gated(16, 0.01))),
    Method("mixture", (lambda seed: Mixture(16, seed=seed, rows=MEMBER_ROWS, tolerance=_TOLERANCE),)),
)
"""Methods of human votes and proxies."""
RATERS = Method("raters", (lambda seed: KnownRaters(seed=seed, tolerance=_TOLERANCE),), by_rater=True)
"""The method that joins those of either level where raters are known."""
