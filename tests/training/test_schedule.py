from __future__ import annotations

import itertools

import pytest

from alm_proxies.training.schedule import NewBob, rate_of


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine() -> None:
    rates = [rate_of(step, 2, 12, "cosine") for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0, abs=1e-12)
    assert all(late <= early for early, late in itertools.pairwise(rates[2:]))


def test_newbob_stays_after_its_warm_up_until_it_is_told() -> None:
    assert [rate_of(step, 2, 12, "newbob", 0.25) for step in (0, 1, 2, 11)] == [0.5, 1.0, 0.25, 0.25]


def test_newbob_falls_where_the_score_no_longer_does() -> None:
    bob = NewBob(factor=0.5, threshold=0.0025)
    assert bob.after([1.0], 1.0) == 1.0
    assert bob.after([1.0, 0.9], 1.0) == 1.0
    assert bob.after([1.0, 0.998], 1.0) == 0.5
    assert bob.after([1.0, 0.9, 1.1], 0.5) == 0.25
