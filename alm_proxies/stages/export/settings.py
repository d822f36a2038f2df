"""Settings of export: format, ties, audio, labels and names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from alm_proxies.settings import PLACE, Settings
from alm_proxies.stage import Choice, Need, Stage
from alm_proxies.taxonomy import checked_names


class ExportSettings(Settings):
    """The settings of export."""

    format: str = "csv"
    """The format's name: huggingface, emobox, odyssey, speechbrain, nemo, lhotse ...; `plugins` lists them all."""
    name: str = Field(default="labels", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The data set's name in file names and cards."""
    targets: Literal["labels", "votes"] = "labels"
    """The distributions that are written: those of the labels, or the plain shares of the human votes that are not held
    out (a label where an utterance has none). Weights are the labels' in either case.
    """
    ties: Literal["leave_out", "first", "spread"] = "leave_out"
    """For formats with one label, if several are equally likely: leave the utterance out, take the first in taxonomy
    order, or write a row for each with its share of the weight.
    """
    audio: Literal["reference", "copy", "link"] = "reference"
    """How recordings are included. reference: only their paths are written; copy: into the export; link: symbolic
    links in the export. Recordings of restricted corpora are never copied or linked. Those that the format or `copy`
    takes into the export are decoded, and silent ones and those with samples that are no numbers are left out; of all
    others only header and end are looked at."""
    map: Annotated[dict[str, str], AfterValidator(checked_names)] = Field(default_factory=dict)
    """The name of a label in the export: happy = "joy". Several labels may get one name; their shares add up."""
    transcripts: bool = True
    """Whether transcripts are written, if the corpus's card allows it."""
    pseudonyms: bool = False
    """Whether speakers, dialogues and utterances get pseudonyms; use audio = "copy" too, as original paths may identify
    speakers. findings.parquet, which is no part of the export, has the original names: do not pass it on.
    """
    may_leave: tuple[str, ...] = ()
    """Corpora whose audio and transcripts you may copy although their card forbids it."""
    cards: Annotated[Path, PLACE] | None = None
    """A folder of data cards that take precedence over the shipped ones."""
    seed: int = Field(default=0, ge=0)
    """Random seed of pseudonyms and of label texts drawn by share."""


class ChatSettings(ExportSettings):
    """The settings of exports for trainers of audio-language models."""

    prompt: str = "Which emotion does the speaker express? Answer with one of: {labels}."
    """The question of every chat; {labels} stands for the labels."""


STAGE = Stage(
    verb="export",
    settings=ExportSettings,
    function="alm_proxies.stages.export.stage:export",
    needs=(
        Need("labels", "labels", first=("balance/labels", "fuse/labels"), help="The labels to export."),
        Need(
            "utterances",
            "utterances",
            first=("balance/utterances", "read/utterances"),
            help="The utterances: recordings, speakers, splits, transcripts; or a folder of recordings.",
        ),
        Need(
            "votes",
            "votes",
            every=("read/votes",),
            optional=True,
            help="Human votes: their counts are written if the format has them, their shares with targets = votes. "
            "Held-out votes are not.",
        ),
        Need("metrics", "json", first=("align/metrics",), optional=True, help="The report's metrics, for the card."),
    ),
    writes={"folder": "."},
    into_folder=True,
    blocks="named",
    choice=Choice("format", "exports"),
    plugins={"format": "exports"},
    replaces=True,
    hears=True,
    states_places=True,
    depends="alm_proxies.stages.export.ahead:inputs_of",
    foresee="alm_proxies.stages.export.ahead:foresee",
    revision=4,
)
