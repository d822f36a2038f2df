"""Attributes against held-out ratings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import SettingsError
from alm_proxies.measures.held_out import score_held_out
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")


def predicting(valence: Sequence[float] | np.ndarray, ids: Sequence[str]) -> Labels:
    frame = pl.DataFrame({"utterance_id": ids, "valence": valence})
    return Labels.of(frame.with_columns(pl.lit(0.25).alias(f"p_{label}") for label in LABELS), taxonomy=LABELS)


def test_a_rater_who_names_several_labels_rates_once():
    frame = pl.DataFrame(
        {
            "utterance_id": ["c/1"] * 4 + ["c/2"] * 2,
            "annotator": ["c/a", "c/a", "c/a", "c/b", "c/a", "c/b"],
            "draw": pl.Series([0, 0, 0, 0, 0, 0], dtype=pl.Int32),
            "label": ["angry", "happy", "sad", "sad", "sad", "sad"],
            "weight": [1 / 3] * 3 + [1.0] * 3,
            "held_out": True,
            "valence": [0.9, 0.9, 0.9, 0.3, 0.2, 0.4],
        }
    )
    predicted = predicting([0.6, 0.3], ["c/1", "c/2"])
    assert score_held_out(predicted, Votes.of(frame, taxonomy=LABELS)).score("rmse_valence") == pytest.approx(0)


def test_attributes_are_scored_where_predicted_and_voted(wording):
    rng = np.random.default_rng(2)
    heard = rng.random(50)
    ids = [f"c/{row:05d}" for row in range(50)]
    frame = pl.DataFrame(
        {
            "utterance_id": ids,
            "annotator": "c/a",
            "label": "sad",
            "held_out": True,
            "valence": heard,
        }
    )
    predicted = 0.5 * heard + 0.2
    scored = score_held_out(predicting(predicted, ids), Votes.of(frame, taxonomy=LABELS))
    spread = predicted.var() + heard.var() + (predicted.mean() - heard.mean()) ** 2
    assert scored.score("ccc_valence") == pytest.approx(2 * np.cov(predicted, heard, ddof=0)[0, 1] / spread)
    assert scored.score("rmse_valence") == pytest.approx(np.sqrt(np.mean((predicted - heard) ** 2)))
    with wording.refused(SettingsError):
        scored.score("ccc_arousal")


def test_attributes_are_scored_where_the_held_out_votes_have_no_label():
    rng = np.random.default_rng(3)
    heard, predicted = rng.random(60), rng.random(60)
    ids = [f"c/{row:05d}" for row in range(60)]
    frame = pl.DataFrame(
        {
            "utterance_id": ids,
            "annotator": "c/a",
            "label": [None if row % 3 == 0 else "sad" for row in range(60)],
            "held_out": True,
            "valence": heard,
        }
    )
    about = {"utterance_id": ids, "speaker": [f"c/s{row % 25:02d}" for row in range(60)]}
    utterances = Utterances.of(pl.DataFrame({**about, "gender": ["female", "male"] * 30}))
    votes = Votes.of(frame, taxonomy=LABELS)
    scored = score_held_out(predicting(predicted, ids), votes, utterances, groups=["gender"])
    assert scored.score("rmse_valence") == pytest.approx(np.sqrt(np.mean((predicted - heard) ** 2)))
    assert scored.findings.counts() == {"no_label": 20}
    assert (scored.utterances("rmse_valence"), scored.utterances("nll_per_vote")) == (60, 40)
    women = (predicted - heard)[::2]
    assert scored.score("rmse_valence", "gender", "female") == pytest.approx(np.sqrt(np.mean(women**2)))
