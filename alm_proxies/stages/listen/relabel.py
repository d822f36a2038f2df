"""Labels for the second round: human votes fused with the predictions of the first round."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl

from alm_proxies.estimators.blocks import Block
from alm_proxies.estimators.counts import Counts
from alm_proxies.estimators.estimator import NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.training.folds import Material, Relabel
from alm_proxies.training.heads import Array, Index

_CLASSES = 8
_PENALTY = 0.003


def relabelling(material: Material, seed: int) -> Relabel:
    """A function from rows and predictions to the rows' fused labels, fitted to the votes of these rows only."""

    rows_of_all = len(material.votes)
    every = Counts(
        labels=material.labels,
        utterances=pl.Series("utterance_id", [str(row) for row in range(rows_of_all)]),
        human=material.votes,
        blocks=(),
        columns=np.zeros((rows_of_all, 0)),
        speakers=material.fold,
        speakers_known=True,
        draws=material.draws,
        findings=(),
    )

    def relabel(rows: Index, shares: Array) -> Array:
        listener = Block("listener", ("listener",), "shares", shares, np.ones(len(rows)))
        counts = replace(every.rows(rows), blocks=(listener,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            estimator = Gated(_CLASSES, _PENALTY, seed=seed).fit(counts)
        return estimator.posterior(counts).mean

    return relabel
