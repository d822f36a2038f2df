from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.errors import InputError
from alm_proxies.measures.class_shares import class_shares, proxy_weight


def corpus(rng: np.random.Generator, n: int, elsewhere: int, skill: float, speakers: int | None = None):
    """Shares of three human and ten proxy votes whose proxies hear the truth with a bias, and the true class shares."""
    total = n + elsewhere
    who = rng.integers(0, speakers, total) if speakers else None
    mean = np.array([3.0, 2.0, 1.0])
    alpha = mean if who is None else rng.gamma(mean, size=(speakers, 3))[who] + 0.05
    gamma = rng.gamma(np.broadcast_to(alpha, (total, 3)))
    truth = gamma / gamma.sum(1, keepdims=True)
    heard = skill * truth + (1 - skill) * rng.dirichlet(mean, total)
    heard = 0.8 * heard + 0.2 * np.array([0.0, 0.0, 1.0])
    human, proxy = rng.multinomial(3, truth) / 3, rng.multinomial(10, heard) / 10
    return human[:n], proxy[:n], proxy[n:], who, truth


def test_the_weight_is_the_formula_for_each_label():
    rng = np.random.default_rng(0)
    y, f, g, _, _ = corpus(rng, 200, 1000, 0.9)
    expected = []
    for label in range(3):
        together = np.cov(y[:, label], f[:, label])[0, 1]
        spread = np.var(np.concatenate([f[:, label], g[:, label]]), ddof=1)
        expected.append(together / ((1 + 200 / 1000) * spread))
    np.testing.assert_allclose(proxy_weight(y, f, g), np.clip(expected, 0, 1))
    assert (proxy_weight(y, f, g[:0]) == 0).all()
    assert (proxy_weight(y, 1 - f, 1 - g) == 0).all()


def test_good_proxies_narrow_the_interval_and_worthless_ones_leave_it():
    rng = np.random.default_rng(1)
    narrow = class_shares(*corpus(rng, 300, 5000, 1.0)[:3])
    same = class_shares(*corpus(rng, 300, 5000, 0.0)[:3])

    def width(estimated, kind=""):
        return np.array(getattr(estimated, f"{kind}high")) - np.array(getattr(estimated, f"{kind}low"))

    assert (width(narrow) < 0.96 * width(narrow, "human_")).all()
    assert width(same) == pytest.approx(width(same, "human_"), rel=0.06)
    assert (narrow.with_human, narrow.without_human) == (300, 5000)


@pytest.mark.parametrize("speakers", [None, 40])
def test_intervals_cover_the_true_shares_although_the_proxies_are_biased(speakers):
    rng = np.random.default_rng(2)
    held = np.zeros(3)
    target = np.array([3.0, 2.0, 1.0]) / 6
    if speakers:
        draws = rng.gamma([3.0, 2.0, 1.0], size=(400_000, 3)) + 0.05
        target = (draws / draws.sum(1, keepdims=True)).mean(0)
    for _ in range(200):
        y, f, g, who, _ = corpus(rng, 150, 600, 0.9, speakers)
        named = {} if who is None else {"speakers": who[:150], "speakers_elsewhere": who[150:]}
        estimated = class_shares(y, f, g, **named)
        held += (np.array(estimated.low) <= target) & (target <= np.array(estimated.high))
    assert (held >= 178).all()
    assert (held < 200).any()


def test_few_speakers_with_human_votes_widen_the_interval_however_many_others_there_are():
    rng = np.random.default_rng(4)
    target, held = np.array([0.5, 0.3, 0.2]), np.zeros(3)

    def part(speakers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        who = np.repeat(np.arange(speakers), 20)
        bounds = rng.dirichlet(20 * target, size=speakers).cumsum(1)[who]
        heard = (rng.random((len(who), 1)) > bounds[:, :2]).sum(1)
        answered = np.where(rng.random(len(who)) < 0.6, heard, rng.integers(0, 3, len(who)))
        return np.eye(3)[heard], np.eye(3)[answered], who

    for _ in range(300):
        (y, f, here), (_, g, elsewhere) = part(6), part(100)
        estimated = class_shares(y, f, g, speakers=here, speakers_elsewhere=100 + elsewhere)
        held += (np.array(estimated.low) <= target) & (target <= np.array(estimated.high))
    assert (held >= 0.92 * 300).all()


def test_without_votes_elsewhere_it_is_the_human_mean_and_its_t_interval():
    rng = np.random.default_rng(3)
    y, f, g, _, _ = corpus(rng, 50, 0, 0.9)
    estimated = class_shares(y, f, g)
    np.testing.assert_allclose(estimated.share, y.mean(0))
    assert estimated.low == estimated.human_low
    assert estimated.high == estimated.human_high
    assert estimated.proxy_weight == (0, 0, 0)


def test_too_little_or_mismatched_input_is_refused():
    row = np.array([[1.0, 0.0]])
    with pytest.raises(InputError, match="Two are needed"):
        class_shares(row, row, row)
    with pytest.raises(InputError, match="same rows"):
        class_shares(np.repeat(row, 3, 0), np.repeat(row, 2, 0), row)
    with pytest.raises(InputError, match="one side only"):
        class_shares(np.repeat(row, 3, 0), np.repeat(row, 3, 0), row, speakers=["a", "b", "c"])
