"""Settings of align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alm_proxies.settings import PLACE, Settings
from alm_proxies.stage import Need, Stage


class AlignSettings(Settings):
    """Settings of the comparison of labels and proxies with human votes."""

    raters: Literal["crowd", "skilled", "expert"] = "crowd"
    """The kind of human raters, which sets the margin (epsilon) of the alt-test for a proxy (0.1, 0.15, 0.2)."""
    examples: int = Field(default=12, ge=0, le=200)
    """Number of most disputed utterances that are shown."""
    transcripts: bool = False
    """Show their transcripts, if the corpus's data card allows it."""
    audio: bool = False
    """Embed their recordings in the page, if the corpus's data card allows it."""
    may_leave: tuple[str, ...] = ()
    """Corpora whose recordings and transcripts you may copy into a page although their data card forbids it."""
    cards: Annotated[Path, PLACE] | None = None
    """A folder of data cards that override the shipped ones."""
    at_most: int = Field(default=20_000, ge=100)
    """Maximum number of utterances; above it, the report uses a random sample."""
    seed: int = 0
    """Random seed of samples, intervals and the starting points of fits."""


STAGE = Stage(
    verb="align",
    settings=AlignSettings,
    function="alm_proxies.stages.align.stage:align",
    needs=(
        Need("labels", "labels", first=("fuse/labels",), help="The labels file that fuse wrote."),
        Need(
            "votes",
            "votes",
            every=("read/votes", "annotate/votes", "listen/votes"),
            help="The votes files behind the labels, including held-out human votes.",
        ),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            help="The utterances, with speakers and group columns to report by.",
        ),
    ),
    writes={"page": "report.html", "metrics": "metrics.json"},
    contains=("report_charts/*",),
    by_files="alm_proxies.stages.align.files:align_files",
    depends="alm_proxies.stages.align.ahead:inputs_of",
    foresee="alm_proxies.stages.align.ahead:foresee",
    revision=6,
)
