"""Whole copies keep every weight to one copy, every run of rows to one, and the weights on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.measures.resampling import whole_copies


@given(st.integers(0, 10_000), st.floats(0, 0.999))
def test_a_row_gets_its_weight_rounded_down_or_up_and_any_run_keeps_its_sum(seed: int, start: float) -> None:
    weights = np.random.default_rng(seed).gamma(0.7, 1.5, 60)
    copies = whole_copies(weights, start)
    assert (np.abs(copies - weights) < 1).all()
    for first, last in ((0, 60), (3, 17), (40, 59)):
        assert abs(copies[first:last].sum() - weights[first:last].sum()) < 1 + 1e-6


def test_the_mean_over_starts_is_the_weight() -> None:
    weights = np.array([0.3, 1.7, 0.05, 2.95, 1.0])
    starts = (np.arange(1000) + 0.5) / 1000
    mean = np.mean([whole_copies(weights, float(start)) for start in starts], axis=0)
    np.testing.assert_allclose(mean, weights, atol=2e-3)


def test_whole_weights_are_kept_as_they_are() -> None:
    for start in (0.0, 0.4, 0.999):
        assert whole_copies(np.array([2.0, 0.0, 1.0, 3.0]), start).tolist() == [2, 0, 1, 3]
    assert whole_copies(np.array([0.4]), 0.5).tolist() == pytest.approx([0])
