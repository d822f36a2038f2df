"""The worth of proxies is the point on the human-only learning curve with the same loss."""

import sys
from pathlib import Path

import numpy as np
import pytest

from alm_proxies.errors import InputError
from alm_proxies.estimators.trials import Losses, votes_reaching

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "fusion"))
from worth_in_votes import in_words, worth_in_votes


def flat(value: float, n: int = 60) -> Losses:
    return Losses(np.full(n, value), np.ones(n))


CURVE = {1: flat(1.4), 2: flat(1.3), 3: flat(1.25), 4: flat(1.22)}
SPEAKERS = np.arange(60) % 6


@pytest.mark.parametrize(("fused", "votes"), [(1.3, 2.0), (1.275, 2.5), (1.22, 4.0), (1.5, 1.0)])
def test_the_fused_loss_is_found_on_the_curve(fused, votes):
    worth = worth_in_votes(CURVE, flat(fused), SPEAKERS)["all"]
    assert worth.votes == pytest.approx(votes)
    assert worth.low == pytest.approx(votes)
    assert worth.high == pytest.approx(votes)


def test_beyond_the_last_point_it_is_more_than_that():
    worth = worth_in_votes(CURVE, flat(1.1), SPEAKERS)["all"]
    assert worth.votes == float("inf")
    assert in_words(worth, 1) == "more than 3 human votes"


def test_words_say_what_is_gained_beyond_the_votes_given():
    assert in_words(worth_in_votes(CURVE, flat(1.25), SPEAKERS)["all"], 1) == "2.0 human votes (2.0 to 2.0)"


def test_strata_are_read_off_their_own_curves():
    strata = ["easy"] * 30 + ["hard"] * 30
    fused = Losses(np.concatenate([np.full(30, 1.3), np.full(30, 1.22)]), np.ones(60))
    worth = worth_in_votes(CURVE, fused, SPEAKERS, strata=strata)
    assert worth["easy"].votes == pytest.approx(2.0)
    assert worth["hard"].votes == pytest.approx(4.0)
    assert worth["easy"].utterances == 30


def test_the_interval_comes_from_the_speakers():
    rng = np.random.default_rng(0)
    by_speaker = rng.normal(0, 0.05, 6)[SPEAKERS]
    curve = {k: Losses(losses.loss + by_speaker, losses.votes) for k, losses in CURVE.items()}
    noisy = Losses(flat(1.27).loss + rng.normal(0, 0.05, 6)[SPEAKERS], np.ones(60))
    worth = worth_in_votes(curve, noisy, SPEAKERS)["all"]
    assert worth.low < worth.votes < worth.high


def test_a_curve_that_rises_somewhere_is_levelled():
    losses = np.array([1.0, 1.2, 0.8, 0.9])  # levelled to 1.1, 1.1, 0.85, 0.85
    assert votes_reaching([1, 2, 3, 4], losses, 1.1) == 1.0
    assert votes_reaching([1, 2, 3, 4], losses, 0.975) == pytest.approx(2.5)
    assert votes_reaching([1, 2, 3, 4], losses, 0.8) == float("inf")


def test_one_point_is_no_curve():
    with pytest.raises(InputError, match="two numbers"):
        worth_in_votes({1: flat(1.0)}, flat(1.0), SPEAKERS)
