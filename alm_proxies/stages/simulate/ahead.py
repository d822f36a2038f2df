"""The forecast of simulate."""

from __future__ import annotations

import polars as pl

from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.simulate.cues import LABELS
from alm_proxies.stages.simulate.settings import SimulateSettings
from alm_proxies.tables import Labels

_SECONDS = 0.1
"""Seconds of one core per utterance (benchmarks/simulate/speed.py)."""


def foresee(ahead: Ahead) -> Foreseen:
    """The number of utterances and the approximate number of votes."""
    settings: SimulateSettings = ahead.settings
    votes = settings.utterances * (sum(settings.votes) / 2 + settings.dense)
    columns = {"utterance_id": pl.String, **{f"p_{label}": pl.Float64 for label in LABELS}}
    return Foreseen(
        facts=(f"{counted(settings.utterances, 'utterance')} of synthetic speech",),
        counts={"utterances": settings.utterances, "votes": votes},
        seconds=settings.utterances * _SECONDS,
        tables={"truth": Labels.of(pl.DataFrame(schema=columns), taxonomy=LABELS)},  # only its labels are known
    )
