"""Features are scored against those of their own speaker, shrunk to the corpus where a speaker has few clips."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.audio.features import relative_to_speaker
from alm_proxies.errors import InputError


def frame_of(values: dict[str, list[float | None]]) -> tuple[pl.DataFrame, pl.Series]:
    rows = [(speaker, number) for speaker, listed in values.items() for number in listed]
    frame = pl.DataFrame({"utterance_id": [str(n) for n in range(len(rows))], "pitch_level": [v for _, v in rows]})
    speakers = pl.Series([None if speaker == "?" else speaker for speaker, _ in rows], dtype=pl.String)
    return frame.with_columns(pl.col("pitch_level").cast(pl.Float64)), speakers


def scores_of(values: dict[str, list[float | None]]) -> list[float | None]:
    frame, speakers = frame_of(values)
    return relative_to_speaker(frame, speakers)["pitch_level"].to_list()


def test_speakers_with_many_clips_are_measured_against_themselves() -> None:
    draws = np.random.default_rng(0)
    low, high = draws.normal(0, 1, 400), draws.normal(12, 3, 400)
    scores = np.array(scores_of({"a": low.tolist(), "b": high.tolist()}), dtype=float)
    for part in (scores[:400], scores[400:]):
        assert np.median(part) == pytest.approx(0, abs=0.15)
        assert np.std(part) == pytest.approx(1, abs=0.15)


def test_speakers_with_few_clips_lean_on_the_corpus() -> None:
    draws = np.random.default_rng(1)
    many = {f"s{n}": draws.normal(0, 1, 50).tolist() for n in range(6)}
    lone = scores_of(many | {"lone": [8.0]})[-1]
    own = scores_of(many | {"lone": (8.0 + draws.normal(0, 1, 200)).tolist()})[300:]
    assert lone is not None
    assert lone > 5
    assert abs(np.median(np.array(own, dtype=float))) < 0.5


def test_a_speaker_nobody_knows_gets_the_norm_of_the_corpus() -> None:
    scores = scores_of({"?": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert scores == pytest.approx([-2 / 1.4826, -1 / 1.4826, 0, 1 / 1.4826, 2 / 1.4826])


def test_what_is_null_stays_null_and_what_does_not_vary_has_no_score() -> None:
    scores = scores_of({"a": [1.0, None, 3.0], "b": [None], "?": [2.0]})
    assert [score is None for score in scores] == [False, True, False, True, False]
    assert scores_of({"a": [2.0, 2.0], "b": [2.0]}) == [None, None, None]
    assert scores_of({"a": [None, None]}) == [None, None]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "?"]), st.floats(-50, 50).map(lambda x: round(x, 3))),
        min_size=1,
        max_size=30,
    ),
    st.floats(0.1, 10),
    st.floats(-100, 100),
)
def test_scores_do_not_depend_on_unit_offset_or_order(
    rows: list[tuple[str, float]], scale: float, offset: float
) -> None:
    frame = pl.DataFrame({"pitch_level": [number for _, number in rows]})
    speakers = pl.Series([None if speaker == "?" else speaker for speaker, _ in rows], dtype=pl.String)
    scores = relative_to_speaker(frame, speakers)
    moved = relative_to_speaker(frame * scale + offset, speakers)
    turned = relative_to_speaker(frame.reverse(), speakers.reverse()).reverse()
    for before, other in ((scores, moved), (scores, turned)):
        a, b = before["pitch_level"].to_numpy(), other["pitch_level"].to_numpy()
        both = np.isfinite(a) & np.isfinite(b) & (np.abs(a) < 1e6)
        np.testing.assert_allclose(a[both], b[both], rtol=1e-5, atol=1e-5)


def test_other_columns_travel_and_a_wrong_length_is_refused() -> None:
    frame = pl.DataFrame({"utterance_id": ["1", "2"], "mine": [1, 2], "rms_mean": [0.1, 0.3]})
    standardised = relative_to_speaker(frame, pl.Series([None, None], dtype=pl.String))
    assert standardised.select("utterance_id", "mine").equals(frame.select("utterance_id", "mine"))
    with pytest.raises(InputError, match="do not fit together: 2 and 1"):
        relative_to_speaker(frame, pl.Series(["a"]))
