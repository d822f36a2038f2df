"""Ambiguity in words: where the normalised entropy of a label is cut into low, medium and high; decided here alone.

The cut points travel in a Labels file, so that all that show or use levels go by the same ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Cuts = tuple[float, float]
Rule = Literal["thirds", "quantiles"] | Cuts
"""thirds of the scale from 0 to 1; quantiles: a third of these very labels each; or the two cut points."""

LEVELS = ("low", "medium", "high")
THIRDS: Cuts = (1 / 3, 2 / 3)


def cuts_of(rule: Rule, entropies: ArrayLike) -> Cuts:
    """The two cut points that a rule stands for, given the normalised entropies of all labels."""
    if rule == "thirds":
        return THIRDS
    if rule == "quantiles":
        values = np.asarray(entropies, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return THIRDS
        first, second = np.quantile(values, THIRDS, method="inverted_cdf")
        return float(first), float(second)
    return rule


def level(entropy: pl.Expr, cuts: Cuts = THIRDS) -> pl.Expr:
    """low up to the first cut point, medium up to the second, high above."""
    low, medium, high = map(pl.lit, LEVELS)
    return pl.when(entropy <= cuts[0]).then(low).when(entropy <= cuts[1]).then(medium).otherwise(high)


def places(entropies: ArrayLike, cuts: Cuts = THIRDS) -> NDArray[np.int64]:
    """The same as 0, 1 and 2."""
    return np.searchsorted(np.asarray(cuts), np.asarray(entropies, dtype=np.float64), side="left").astype(np.int64)


def stated(cuts: Cuts) -> str:
    """The cut points in words."""
    first, second = cuts
    return f"low up to a normalised entropy of {first:.3g}, medium up to {second:.3g}, high above"
