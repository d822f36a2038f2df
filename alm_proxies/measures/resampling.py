"""Whole copies of weighted rows by systematic (low-variance) resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def whole_copies(weights: Array, start: float) -> Index:
    """The number of copies of each row: its weight rounded down or up, so that the sum over any run of rows is kept.

    Copies of row i = floor(W_i - s) - floor(W_(i-1) - s), where W_i = w_1 + ... + w_i and s in [0, 1) is `start`. If s
    is uniform, the expected number of copies is the weight. The sum over adjacent rows is off by less than 1, so
    similar rows should be adjacent.
    """
    ends = np.floor(np.cumsum(weights) - start + 1e-9).astype(np.int64)
    return np.diff(ends, prepend=np.int64(np.floor(1e-9 - start)))
