"""Validation of arrays for measures; an error names the row and the fix."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError

Array = NDArray[np.float64]
SUM_TOLERANCE = 1e-4


def distributions(values: ArrayLike, name: str) -> Array:
    """Rows of shares (..., labels), finite, not negative and summing to 1, renormalised exactly; raises otherwise."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        raise InputError("needs one share for every label, not a single number", where=name, fix="Give rows x labels.")
    _refuse(~np.isfinite(array).all(-1), name, "has a value that is not a finite number", "Leave such rows out.")
    _refuse((array < -1e-12).any(-1), name, "has a negative share", "Shares are between 0 and 1.")
    total = array.sum(-1, keepdims=True)
    _refuse(np.abs(total[..., 0] - 1) > SUM_TOLERANCE, name, "does not sum to 1", "Divide the row by its sum.")
    normalised: Array = np.maximum(array, 0.0) / total
    return normalised


def counts(values: ArrayLike, name: str, *, at_least: float = 0.0) -> Array:
    """Rows of vote counts (..., labels), finite and not negative, with at least that number of votes a row."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        raise InputError("needs one count for every label, not a single number", where=name, fix="Give rows x labels.")
    _refuse(~np.isfinite(array).all(-1), name, "has a value that is not a finite number", "Leave such rows out.")
    _refuse((array < 0).any(-1), name, "has a negative count", "Counts are 0 or more.")
    total = array.sum(-1)
    _refuse((total <= 0) & (at_least > 0), name, "has no votes", "Leave out rows without votes, and count them.")
    _refuse(total < at_least, name, f"has fewer than {at_least:g} votes", "Leave such rows out, and count them.")
    return array


def same_rows(**named: Array) -> None:
    """Raise for arrays of different lengths."""
    lengths = {name: len(array) for name, array in named.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"the rows do not match: {listed}", fix="Give each one row per utterance, in the same order.")


def places(column: pl.Series, among: pl.Series) -> NDArray[np.int64]:
    """The index of each value of a column among distinct values that include all of them."""
    numbered = among.to_frame("value").with_row_index("place")
    joined = column.to_frame("value").join(numbered, on="value", how="left", maintain_order="left")
    return joined["place"].to_numpy().astype(np.int64)


def quantiles(values: Array, at: Array) -> list[float]:
    """What `np.quantile(values, at)` gives for values without NaN, to the last digit, in a quarter of the time."""
    last = len(values) - 1
    points = [float(share) * last for share in at]
    below = [min(int(point), last) for point in points]
    ordered = np.partition(values, sorted({min(last, end) for first in below for end in (first, first + 1)}))
    ends = []
    for point, first in zip(points, below, strict=True):
        low, high = float(ordered[first]), float(ordered[min(first + 1, last)])
        part = point - first
        ends.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return ends


def _refuse(bad: NDArray[np.bool_] | np.bool_, name: str, message: str, fix: str) -> None:
    if not bad.any():
        return
    where = f"{name}, row {int(np.flatnonzero(bad)[0]) + 1}" if bad.ndim else name
    raise InputError(message, where=where, fix=fix)
