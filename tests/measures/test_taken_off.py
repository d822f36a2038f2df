from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.measures.taken_off import taken_off
from alm_proxies.seeds import generator


def test_votes_from_the_truth_take_off_loss_and_votes_at_random_add_to_it() -> None:
    random = generator(1, "taken off")
    truth = random.dirichlet(np.full(4, 0.3), 2000)
    human = random.multinomial(4, truth).astype(np.float64)
    speakers = np.array([f"s{number % 40:02}" for number in range(2000)])
    heard = taken_off(human, random.multinomial(10, truth).astype(np.float64), speakers, whole=True)
    blind = taken_off(human, random.multinomial(10, np.full(4, 0.25), 2000).astype(np.float64), speakers, whole=True)
    assert heard.low > 0.2
    assert blind.high < 0
    assert heard.speakers == 40


def test_stated_shares_that_are_the_class_shares_take_off_nothing_and_rows_without_votes_are_left_out() -> None:
    human = np.tile([[3.0, 1.0], [1.0, 3.0]], (50, 1))
    shares = np.full((100, 2), 0.5)
    speakers = np.repeat(np.array([f"s{number:02}" for number in range(25)]), 4)
    nothing = taken_off(human, shares, speakers, whole=False)
    assert nothing.estimate == pytest.approx(0.0, abs=1e-12)
    without = np.concatenate([human, [[0.0, 0.0]]]), np.concatenate([shares, [[0.9, 0.1]]])
    assert taken_off(*without, np.append(speakers, "s00"), whole=False) == nothing
