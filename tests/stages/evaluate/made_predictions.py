"""Predictions of utterances whose true distributions are known, made without a model, and their evaluation."""

from __future__ import annotations

import numpy as np
import polars as pl

from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.stages.evaluate.stage import Evaluation, evaluate
from alm_proxies.tables import Labels, MadeBy, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")
Tables = tuple[np.ndarray, list[str], Votes, Utterances]


def labels_of(shares: np.ndarray, ids: list[str], strength: float | None = 8.0, **kept: object) -> Labels:
    shares = shares / shares.sum(1, keepdims=True)
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    if strength is not None:
        frame = frame.with_columns(concentration=pl.lit(strength))
    labels = Labels.of(frame, taxonomy=LABELS)
    if not kept:
        return labels
    stated = {"trained_on": {"others": ["others/a"]}, **kept}
    return Labels(labels.frame, labels.about.with_(made_by=MadeBy(stage="predict", settings=stated)))


def evaluated(tables: Tables, **settings: object) -> Evaluation:
    truth, ids, votes, utterances = tables
    noisy = 0.6 * truth + 0.4 * np.random.default_rng(5).dirichlet(np.ones(4), 600)
    predictions = {"good": labels_of(0.9 * truth + 0.025, ids), "worse": labels_of(noisy, ids)}
    return evaluate(predictions, votes, utterances, EvaluateSettings.model_validate(settings))
