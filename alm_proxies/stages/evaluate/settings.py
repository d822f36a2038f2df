"""Settings of evaluate."""

from __future__ import annotations

from pydantic import Field

from alm_proxies.settings import Settings
from alm_proxies.stage import Need, Stage


class EvaluateSettings(Settings):
    """How predictions are compared with held-out human votes."""

    baseline: str | None = None
    """The prediction that the others are paired with, by name; null = the class shares of the other human votes."""
    seed: int = Field(default=0, ge=0)
    """Random seed of intervals and of how held-out votes are halved."""


STAGE = Stage(
    verb="evaluate",
    settings=EvaluateSettings,
    function="alm_proxies.stages.evaluate.stage:evaluate",
    needs=(
        Need(
            "predictions",
            "labels",
            every=("predict/labels",),
            help="The labels files to compare, one for each model; all are scored on the same utterances.",
        ),
        Need("votes", "votes", every=("read/votes",), help="Human votes, some of them held out for scoring."),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            help="The utterances: who speaks, and every group column to report by.",
        ),
        Need(
            "truth",
            "labels",
            first=("simulate/truth",),
            optional=True,
            help="The true distributions of a simulated corpus.",
        ),
    ),
    writes={"page": "report.html", "metrics": "metrics.json"},
)
