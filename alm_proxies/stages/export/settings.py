"""Settings of export: which format, what becomes of ties, audio, labels and names."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExportSettings(BaseModel):
    """What is written for a trainer, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    format: str = "csv"
    """The format's name: huggingface, emobox, odyssey, speechbrain, nemo, lhotse ...; `plugins` lists them."""
    name: str = Field(default="labels", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The data set's name, as it stands in file names and cards."""
    ties: Literal["leave_out", "first", "spread"] = "leave_out"
    """Where a format holds one label alone and several are equally likely: leave the utterance out, take the first in
    taxonomy order, or write a row for each with its share of the weight."""
    audio: Literal["reference", "copy", "link"] = "reference"
    """reference: the recordings stay where they are and their paths are written; copy: into the export; link: symbolic
    links in the export. Recordings of restricted corpora are never copied or linked."""
    map: dict[str, str] = Field(default_factory=dict)
    """What a label is called in the export: happy = "joy". Several labels may get one name; their shares add up."""
    transcripts: bool = True
    """Whether transcripts are written, where the corpus's card allows it."""
    pseudonyms: bool = False
    """Whether speakers, dialogues and utterances get names that do not tell who they are; copy the audio then, as
    paths of the originals would tell."""
    prompt: str = "Which emotion does the speaker express? Answer with one of: {labels}."
    """The question in chat formats; {labels} stands for the labels."""
    may_leave: tuple[str, ...] = ()
    """Corpora whose card forbids it and whose audio and transcripts you may copy all the same."""
    cards: str | None = None
    """A folder of data cards that come before the shipped ones."""
    seed: int = Field(default=0, ge=0)
    """Random seed of pseudonyms and of label texts drawn by share."""
