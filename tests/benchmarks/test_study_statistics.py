"""The statistics of the study: slopes, contrasts and corrections for several tests."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "study"))
from study_report import slopes
from study_statistics import Contrast, benjamini_yekutieli, by_actor, contrast, holm

from alm_proxies.measures import alt_test


def test_predictions_drawn_halfway_to_the_mean_have_a_slope_of_two() -> None:
    rng = np.random.default_rng(0)
    votes = rng.multinomial(5, rng.dirichlet(np.ones(3), 400)).astype(float)
    shares = votes / 5
    assert slopes(shares, votes) == pytest.approx(1)
    assert slopes((shares + shares.mean(0)) / 2, votes) == pytest.approx(2)


def test_a_contrast_is_the_t_test_over_actors_of_means_over_replicates() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(3)
    actors = [f"a{number}" for number in range(36)]
    first, second = ([dict(zip(actors, rng.normal(size=36), strict=True)) for _ in range(4)] for _ in range(2))
    each = np.array([[a[who] - b[who] for who in actors] for a, b in zip(first, second, strict=True)]).mean(0)
    test = ttest_1samp(each, 0.0)
    low, high = test.confidence_interval(0.95)
    difference = contrast(first, second)
    assert (difference.estimate, difference.p_value) == pytest.approx((each.mean(), test.pvalue))
    assert (difference.low, difference.high) == pytest.approx((low, high))
    assert (difference.boot_low, difference.boot_high) == pytest.approx((low, high), abs=0.08)
    assert difference.actors == 36


def test_actors_without_scored_votes_do_not_count() -> None:
    means = by_actor(np.array([2.0, 4.0, 3.0]), np.array([1.0, 3.0, 0.0]), np.array(["a", "a", "b"]))
    assert means == {"a": 1.5}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.009, 0.009, "no effect"), (-0.03, -0.001, "lower"), (0.002, 0.03, "higher"), (-0.02, 0.005, "not decided")],
)
def test_no_effect_is_said_only_within_the_smallest_difference(low: float, high: float, verdict: str) -> None:
    assert Contrast((low + high) / 2, low, high, 0.5, low, high, 36).verdict == verdict


def test_holm_rejects_what_its_steps_reject() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.3, 3, 5)
        adjusted = holm(p.tolist())
        rejected = set()
        for step, place in enumerate(np.argsort(p)):
            if p[place] > 0.05 / (5 - step):
                break
            rejected.add(int(place))
        assert {place for place in range(5) if adjusted[place] <= 0.05} == rejected


def test_benjamini_yekutieli_rejects_what_the_alt_test_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.2, 4, 20)
        adjusted = np.array(benjamini_yekutieli(p.tolist()))
        np.testing.assert_array_equal(adjusted <= 0.05, alt_test.benjamini_yekutieli(p, 0.05))
