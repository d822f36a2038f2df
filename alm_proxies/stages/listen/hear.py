"""The input features of the listener: a vector for every utterance, by the recipe of the settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.audio.features import relative_to_speaker
from alm_proxies.audio.measured import DIGEST, NAMES, measuring
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.vectors import Compute, Encoding, Floats, Vectors, vectors_of
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.tables import Utterances

STAGE = "listen"
_SHRINK = 5.0  # weight, in clips, of the corpus in a speaker's mean


def hear(utterances: Utterances, settings: ListenSettings, folder: Path, *, quiet: bool) -> tuple[Vectors, str]:
    """The vectors of all utterances, in their order, and a digest of their computation."""
    ids = utterances.frame["utterance_id"].to_list()
    sounds = Sounds(utterances, stage=STAGE)
    compute: Compute | Encoding
    pooling = None
    if settings.recipe == "features":
        compute, width, digest, exact = measuring(STAGE), len(NAMES), DIGEST, DIGEST
        message = "measuring"
    else:
        from alm_proxies.models.pooled import Pooling

        pooling = Pooling(
            str(settings.model),
            stage=STAGE,
            revision=settings.revision,
            layers=settings.layers,
            device=settings.device,
        )
        compute, width, digest, exact = pooling.encoding, pooling.width, pooling.digest, pooling.exact
        message = "encoding"
    try:
        vectors = vectors_of(
            ids,
            sounds,
            compute,
            width=width,
            digest=exact,
            folder=folder,
            message=message,
            threads=settings.threads,
            quiet=quiet,
        )
    finally:
        if pooling is not None:
            pooling.close()
    if settings.speaker_relative:
        vectors = replace(vectors, rows=_relative(vectors, utterances.frame["speaker"], settings.recipe))
    return vectors, digest


def _relative(vectors: Vectors, speakers: pl.Series, recipe: str) -> Floats:
    """Features relative to the speaker: robust z-scores of measured ones; an encoder's minus the speaker's mean.

    The mean of n clips is shrunk to the corpus's with a weight of 5 clips: m = (n mean_speaker + 5 mean_corpus) / (n +
    5).
    """
    if recipe == "features":
        frame = pl.DataFrame(vectors.rows.astype(np.float64), schema=list(NAMES)).fill_nan(None)
        return relative_to_speaker(frame, speakers).fill_null(np.nan).to_numpy().astype(np.float32)
    rows = vectors.rows.copy()
    if not vectors.known.any():
        return rows
    corpus = vectors.rows[vectors.known].mean(0, dtype=np.float64)
    for speaker in speakers.drop_nulls().unique().sort():
        own = (speakers == speaker).fill_null(value=False).to_numpy() & vectors.known
        count = int(own.sum())
        if count:
            mean = (vectors.rows[own].sum(0, dtype=np.float64) + _SHRINK * corpus) / (count + _SHRINK)
            rows[own] -= mean.astype(np.float32)
    unknown = speakers.is_null().to_numpy() & vectors.known
    rows[unknown] -= corpus.astype(np.float32)
    return rows
