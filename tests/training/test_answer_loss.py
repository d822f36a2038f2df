from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.training.losses import answer_loss

LABELS, END = (1, 4), 3


def logits_of(shares: list[float], ended: float) -> torch.Tensor:
    """Logits whose probabilities are: `said` of the labels at the prompt's end, `ended` of the end after the answer."""
    logits = torch.full((1, 2, 6), -30.0)
    logits[0, 0, list(LABELS)] = torch.tensor(shares).log()
    logits[0, 1, END], logits[0, 1, 0] = math.log(ended), math.log(1 - ended)
    return logits


def test_the_loss_is_the_surprise_at_the_answer_and_at_its_end() -> None:
    loss = answer_loss(logits_of([0.25, 0.75], 0.5), torch.tensor([[0.6, 0.4]]), LABELS, END, torch.ones(1))
    assert float(loss) == pytest.approx(-0.6 * math.log(0.25) - 0.4 * math.log(0.75) - math.log(0.5), abs=1e-5)


@settings(deadline=None)
@given(share=st.floats(0.05, 0.95), answered=st.floats(0.05, 0.95))
def test_no_answer_is_less_surprising_than_the_shares_themselves(share: float, answered: float) -> None:
    shares, weights = torch.tensor([[share, 1 - share]]), torch.ones(1)
    best = answer_loss(logits_of([share, 1 - share], 0.9), shares, LABELS, END, weights)
    other = answer_loss(logits_of([answered, 1 - answered], 0.9), shares, LABELS, END, weights)
    assert float(other) >= float(best) - 1e-5


def test_probability_outside_the_labels_is_lost() -> None:
    shares, weights = torch.tensor([[0.5, 0.5]]), torch.ones(1)
    held = answer_loss(logits_of([0.5, 0.5], 0.9), shares, LABELS, END, weights)
    leaking = logits_of([0.5, 0.5], 0.9)
    leaking[0, 0, 0] = 0.0
    assert float(answer_loss(leaking, shares, LABELS, END, weights)) == pytest.approx(
        float(held) + math.log(2), abs=1e-5
    )


def test_rows_count_by_their_weight() -> None:
    logits = torch.cat([logits_of([0.2, 0.8], 0.5), logits_of([0.9, 0.1], 0.5)])
    shares = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weighed = answer_loss(logits, shares, LABELS, END, torch.tensor([3.0, 1.0]))
    each = [float(answer_loss(logits[row : row + 1], shares[:1], LABELS, END, torch.ones(1))) for row in (0, 1)]
    assert float(weighed) == pytest.approx((3 * each[0] + each[1]) / 4, abs=1e-5)
