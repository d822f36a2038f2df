"""The values that a measure can have: an interval of few speakers may reach beyond them, where nothing can be."""

from __future__ import annotations

from math import inf
from types import MappingProxyType

SHARE = (0.0, 1.0)
"""A share, a probability, an agreement, and the Jensen-Shannon divergence with base 2."""
DIFFERENCE = (-1.0, 1.0)
"""The difference of two of them, a correlation, and a kappa."""
DIFFERENCE_OF_KAPPAS = (-2.0, 2.0)
SHARE_OF_LOSS = (-inf, 1.0)
"""The share of a loss that is taken off; negative where the loss rises."""
_RANGES = MappingProxyType({
    "nll_per_vote": (0.0, inf), "jsd_base2": SHARE,  "brier": (0.0, 2.0), "ece": SHARE, "accuracy": SHARE,
    "jsd_base2_to_truth": SHARE, "kld_nats_to_truth": (0.0, inf),
    "macro_f1": SHARE, "uar": SHARE, "macro_f1_with_ties": SHARE, "uar_with_ties": SHARE,
    "r2_over_utterances": SHARE_OF_LOSS,
})  # fmt: skip


def range_of(measure: str) -> tuple[float, float]:
    """The lowest and the highest value of a measure by name; infinite where it has no bound."""
    if measure.startswith("ccc_"):
        return DIFFERENCE
    return (0.0, inf) if measure.startswith("rmse_") else _RANGES.get(measure, (-inf, inf))


def range_of_difference(measure: str) -> tuple[float, float]:
    """The range of the difference of two values of a measure."""
    low, high = range_of(measure)
    return low - high, high - low
