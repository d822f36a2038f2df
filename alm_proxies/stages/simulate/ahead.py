"""What can be known of simulate before it runs."""

from __future__ import annotations

from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.simulate.settings import SimulateSettings

_SECONDS = 0.1
"""Of one core for an utterance (benchmarks/simulate/speed.py)."""


def foresee(ahead: Ahead) -> Foreseen:
    """How many utterances there will be, and about how many votes."""
    settings: SimulateSettings = ahead.settings
    votes = settings.utterances * (sum(settings.votes) / 2 + settings.dense)
    return Foreseen(
        facts=(f"{settings.utterances} utterances of synthetic speech",),
        counts={"utterances": settings.utterances, "votes": votes},
        seconds=settings.utterances * _SECONDS,
    )
