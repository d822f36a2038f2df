"""Settings of evaluate."""

from __future__ import annotations

from pydantic import Field

from alm_proxies.settings import Settings
from alm_proxies.stage import Need, Stage


class EvaluateSettings(Settings):
    """Settings of the comparison of predictions with held-out human votes."""

    baseline: str | None = None
    """The prediction that the others are compared with, by name; null = the class shares of the other human votes."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the intervals and of the split of held-out votes into halves."""


STAGE = Stage(
    verb="evaluate",
    settings=EvaluateSettings,
    function="alm_proxies.stages.evaluate.stage:evaluate",
    needs=(
        Need(
            "predictions",
            "labels",
            every=("predict/labels",),
            help="The labels files to compare, one per model; all are scored on the same utterances.",
        ),
        Need("votes", "votes", every=("read/votes",), help="Human votes, some of them held out for scoring."),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            help="The utterances, with speakers and group columns to report by.",
        ),
        Need(
            "truth",
            "labels",
            first=("simulate/truth",),
            optional=True,
            help="The true distributions of a simulated corpus.",
        ),
        Need(
            "fused",
            "labels",
            first=("fuse/labels",),
            optional=True,
            help="Fused labels of the test utterances, which add scores for equal shares of all labels.",
        ),
    ),
    writes={"page": "report.html", "metrics": "metrics.json"},
    foresee="alm_proxies.stages.evaluate.ahead:foresee",
    refuses_tables=True,
    contains=("report_charts/*",),
    revision=3,
)
