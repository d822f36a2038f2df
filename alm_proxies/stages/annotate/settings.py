"""Settings of annotate: how a panel is asked, and when an annotator is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from alm_proxies.settings import CHANGES_NOTHING, PLACE, Alias, Settings
from alm_proxies.stage import Need, Stage


class Stop(Settings):
    """When an annotator is stopped: shares of its votes, judged once `after` of them have been cast."""

    collapse: Annotated[float, Field(gt=0, le=1)] = 0.95
    """An annotator that gives one label in more than this share of its votes is stopped, unless human votes do too."""
    failed: Annotated[float, Field(ge=0, le=1)] = 0.10
    """Largest share of failed votes."""
    refused: Annotated[float, Field(ge=0, le=1)] = 0.20
    """Largest share of refused votes."""
    after: Annotated[int, Field(ge=1)] = 200
    """Votes of an annotator before it is judged."""


class AnnotateSettings(Settings):
    """How a panel is asked."""

    panel: Annotated[tuple[str, ...], PLACE, Alias("annotator")] = ()
    """Annotator files, relative to the pipeline file, or names of shipped ones, such as "embedded"."""
    votes: int | None = Field(default=None, ge=1, le=10_000)
    """Votes per utterance of every annotator; null = what each file says."""
    seed: int = 0
    """Random seed."""
    budget: Annotated[float | None, CHANGES_NOTHING] = Field(default=None, ge=0)
    """Most to be spent in total, earlier runs into the same folder included; no request that could exceed it is
    sent."""
    stop: Stop = Stop()
    """When an annotator is stopped."""
    limit: int | None = Field(default=None, ge=1)
    """A pilot: at most this number of utterances, a representative sample; the price of all is extrapolated."""
    shard: str | None = None
    """I/N: only the Ith of N parts, with its own ledger; merge them at the end."""
    injection: int | None = Field(default=None, ge=0)
    """Number of utterances that are asked about twice more, once with a sentence that gives an answer after the
    transcript and once with one that gives none: it measures how far transcripts decide the votes. Only for annotators
    whose prompt contains transcripts; null = 20, or a tenth of the utterances where that is fewer; 0 = none."""
    accept_loss: Annotated[bool, CHANGES_NOTHING] = False
    """Go on although the ledger has lost votes that cannot be restored: they are asked, and paid, again."""
    max_minutes: Annotated[float | None, CHANGES_NOTHING] = Field(default=None, gt=0)
    """Stop cleanly after this number of minutes; the same command goes on."""
    may_leave: Annotated[tuple[str, ...], CHANGES_NOTHING] = ()
    """Corpora that may be sent over the network although their data card forbids it or is missing."""
    cards: Annotated[Path, PLACE, CHANGES_NOTHING] | None = None
    """A folder with data cards of your own; they say which recordings may be sent away, and change no vote."""


STAGE = Stage(
    verb="annotate",
    settings=AnnotateSettings,
    function="alm_proxies.stages.annotate.stage:annotate",
    needs=(
        Need("utterances", "utterances", first=("read/utterances",), help="The utterances file."),
        Need(
            "votes",
            "votes",
            every=("read/votes",),
            optional=True,
            flag="human",
            help="Human votes: collapse is judged by them, and a pilot is drawn fairly.",
        ),
    ),
    writes={"votes": "votes.parquet"},
    into_folder=True,
    made={"panel": "alm_proxies.stages.annotate.stage:read_panel"},
    depends="alm_proxies.stages.annotate.ahead:inputs_of",
    foresee="alm_proxies.stages.annotate.ahead:foresee",
    hears=True,
)
