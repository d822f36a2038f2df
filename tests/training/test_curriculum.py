from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.training.curriculum import curriculum_table, curriculum_weights, exponent, share_kept
from alm_proxies.training.settings import CurriculumSettings

H = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
FILTER = CurriculumSettings(kind="filter")
WEIGHT = CurriculumSettings.model_validate({"kind": "weight", "from": 2.0, "to": 0.0, "floor": 0.15})


def test_filter_keeps_the_papers_shares_from_the_papers_epochs() -> None:
    assert [share_kept(FILTER, epoch) for epoch in range(14)] == [0.5, *[0.6] * 2, *[0.7] * 4, *[0.85] * 4, *[1.0] * 3]
    assert curriculum_weights(H, FILTER, 0, 18).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert curriculum_weights(H, FILTER, 12, 18).tolist() == [1] * 8


def test_reverse_filter_begins_with_the_most_ambiguous() -> None:
    reverse = CurriculumSettings(kind="reverse_filter")
    assert curriculum_weights(H, reverse, 0, 18).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert curriculum_weights(H, reverse, 12, 18).tolist() == [1] * 8


def test_equal_entropies_stay_or_go_together() -> None:
    assert curriculum_weights([0.2, 0.2 + 1e-15, 0.2, 0.9], CurriculumSettings(kind="filter"), 0, 9).tolist() == [
        1,
        1,
        1,
        0,
    ]


def test_weight_is_the_papers_formula() -> None:
    raised = np.maximum(0.15, (1 - H) ** 2)
    np.testing.assert_allclose(curriculum_weights(H, WEIGHT, 0, 5), raised / raised.mean())
    np.testing.assert_allclose(curriculum_weights(H, WEIGHT, 4, 5), np.ones(8))
    assert [exponent(WEIGHT, epoch, 5) for epoch in range(5)] == [2.0, 1.5, 1.0, 0.5, 0.0]
    short = WEIGHT.model_copy(update={"over": 3})
    assert [exponent(short, epoch, 5) for epoch in range(5)] == [2.0, 1.0, 0.0, 0.0, 0.0]
    harder = curriculum_weights(H, CurriculumSettings(kind="reverse_weight"), 0, 5)
    assert (np.diff(harder) >= 0).all()
    assert harder[-1] > harder[0]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.sampled_from(["none", "filter", "weight", "reverse_filter", "reverse_weight"]),
    st.integers(0, 20),
)
@settings(max_examples=200, deadline=None)
def test_weights_are_never_negative_never_all_zero_and_average_to_one(h: list[float], kind: str, epoch: int) -> None:
    weights = curriculum_weights(h, CurriculumSettings.model_validate({"kind": kind}), epoch, 21)
    assert (weights >= 0).all()
    assert weights[weights > 0].mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shares": (0.5,)},
        {"shares": (0.5, 0.4, 0.7, 0.8, 1.0)},
        {"epochs": (2, 3, 4, 5, 6)},
        {"epochs": (1, 2, 2, 5, 6)},
    ],
)
def test_a_schedule_out_of_order_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="shares|epochs"):
        CurriculumSettings.model_validate({"kind": "filter", **wrong})


def test_the_table_shows_each_stratum_in_each_epoch() -> None:
    shares = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]])
    table = curriculum_table(shares, FILTER, 13)
    assert table.columns == ["epoch", "stratum", "utterances", "kept", "weight"]
    first, last = table.filter(epoch=1), table.filter(epoch=13)
    assert dict(zip(first["stratum"], first["kept"], strict=True)) == {"low": 1.0, "medium": 0.0, "high": 0.0}
    assert last["kept"].to_list() == [1.0, 1.0, 1.0]
