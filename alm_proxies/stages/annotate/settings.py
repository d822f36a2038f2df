"""Settings of annotate: the panel, its budget, and when an annotator is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from alm_proxies.settings import CHANGES_NOTHING, PLACE, Alias, Settings
from alm_proxies.stage import Need, Stage


class Stop(Settings):
    """When an annotator is stopped: shares of its votes, judged once `after` of them have been cast."""

    collapse: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Stop an annotator that gives one label in more than this share of its votes, unless human votes do too."""
    failed: Annotated[float, Field(ge=0, le=1)] = 0.10
    """Maximum share of failed votes."""
    refused: Annotated[float, Field(ge=0, le=1)] = 0.20
    """Maximum share of refused votes."""
    after: Annotated[int, Field(ge=1)] = 200
    """Number of votes before an annotator is judged."""


class AnnotateSettings(Settings):
    """Settings of annotate."""

    panel: Annotated[tuple[str, ...], PLACE, Alias("annotator")] = ()
    """Annotator files (in a pipeline file, relative to it), or names of shipped ones, such as "embedded"."""
    votes: int | None = Field(default=None, ge=1, le=10_000)
    """Votes per utterance of every annotator; null = the number in each file."""
    seed: int = 0
    """Random seed."""
    budget: Annotated[float | None, CHANGES_NOTHING] = Field(default=None, ge=0)
    """Maximum total spending, including earlier runs into the same folder; no request that could exceed it is
    sent."""
    stop: Stop = Stop()
    """When an annotator is stopped."""
    limit: int | None = Field(default=None, ge=1)
    """A pilot: at most this number of utterances, a representative sample; the price of all is extrapolated."""
    shard: str | None = None
    """I/N: only shard I of N, with its own ledger; merge the shards at the end."""
    injection: int | None = Field(default=None, ge=0)
    """Number of utterances that are requested twice more, once with a sentence that gives an answer after the
    transcript and once with one that gives none: it measures how much transcripts decide the votes. Only for annotators
    whose prompt contains transcripts; null = 20, or a tenth of the utterances if that is fewer; 0 = none."""
    accept_loss: Annotated[bool, CHANGES_NOTHING] = False
    """Continue although the ledger has lost votes that cannot be restored: they are requested, and paid, again."""
    max_minutes: Annotated[float | None, CHANGES_NOTHING] = Field(default=None, gt=0)
    """Stop cleanly after this number of minutes; run the same command again to continue."""
    may_leave: Annotated[tuple[str, ...], CHANGES_NOTHING] = ()
    """Corpora that may be sent over the network although their data card forbids it or is missing."""
    cards: Annotated[Path, PLACE, CHANGES_NOTHING] | None = None
    """A folder with your own data cards; they state which recordings may be sent away, and change no vote."""


STAGE = Stage(
    verb="annotate",
    settings=AnnotateSettings,
    function="alm_proxies.stages.annotate.stage:annotate",
    needs=(
        Need("utterances", "utterances", first=("read/utterances",), help="The utterances, or a folder of recordings."),
        Need(
            "votes",
            "votes",
            every=("read/votes",),
            optional=True,
            flag="human",
            by_files="alm_proxies.stages.annotate.human_votes:human_votes_in",
            help="Human votes, to detect collapse and to draw a representative pilot.",
        ),
    ),
    writes={"votes": "votes.parquet"},
    into_folder=True,
    working=("ledger*", "features/*", "human_votes/*"),
    made={"panel": "alm_proxies.stages.annotate.stage:read_panel"},
    depends="alm_proxies.stages.annotate.ahead:inputs_of",
    foresee="alm_proxies.stages.annotate.ahead:foresee",
    hears=True,
    revision=2,
)
