"""Settings of align."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alm_proxies.settings import PLACE, Settings
from alm_proxies.stage import Need, Stage


class AlignSettings(Settings):
    """How labels and proxies are compared with human votes."""

    raters: Literal["crowd", "skilled", "expert"] = "crowd"
    """Who the human raters are: how much worse than a rater the alt-test lets a proxy be (0.1, 0.15, 0.2)."""
    examples: int = Field(default=12, ge=0, le=200)
    """How many of the most disputed utterances are shown."""
    transcripts: bool = False
    """Show their transcripts, where the corpus's card allows it."""
    audio: bool = False
    """Put their recordings into the page, where the corpus's card allows it."""
    may_leave: tuple[str, ...] = ()
    """Corpora whose card forbids it and whose recordings and transcripts you may copy into a page all the same."""
    cards: Annotated[Path, PLACE] | None = None
    """A folder of data cards that come before the shipped ones."""
    at_most: int = Field(default=20_000, ge=100)
    """More utterances than this are reported on by a random sample of them."""
    seed: int = 0
    """Random seed of samples and intervals."""


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
            help="The votes files behind the labels, held-out human votes included.",
        ),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            help="The utterances: who speaks, and every group column to report by.",
        ),
    ),
    writes={"page": "report.html", "metrics": "metrics.json"},
    depends="alm_proxies.stages.align.ahead:inputs_of",
    foresee="alm_proxies.stages.align.ahead:foresee",
)
