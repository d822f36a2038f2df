"""What a user says of a source (a [[read]] block), and what the reader of a format hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alm_proxies.cards import Scale
from alm_proxies.stages.read.splits import checked_split
from alm_proxies.tables import Finding

Modality = Literal["voice", "face", "audio-visual"]


class Source(BaseModel):
    """One corpus to read: a [[read]] block of a pipeline file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    corpus: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$")
    """The prefix of its ids; its card is data_cards/<corpus>.md. The format's own name, if it is left out."""
    format: str
    """Which reader: crema_d, table ..."""
    source: Path
    """The corpus's folder, or one of its label files."""
    map: dict[str, str] = Field(default_factory=dict)
    """What becomes of words: Excited = "happy", Other = "outside". Usual synonyms of a label (joy, happiness, anger
    ...) need no entry; a label's own name stands for them too, any other key for that very word, whatever the case."""
    several_labels: Literal["each", "share", "first"] = "share"
    """Several labels in one answer: a vote each, one vote shared among them, or the first alone."""
    split: Annotated[str, AfterValidator(checked_split)] | None = None
    """A split by speaker: "speakers:.7,.1,.2" (train, development, test) or "folds:5"."""
    modality: Modality = "voice"
    """What the raters judged, where a corpus has votes on several."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column = theirs, or a pattern of theirs such as "dia{Dialogue_ID}_utt{Utterance_ID}"."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Our column = one value for every row, such as annotator = "gpt-4o"."""
    counts: dict[str, str] | str | None = None
    """A wide table of votes: label = the column with its count; or one column that holds all counts."""
    probabilities: dict[str, str] | str | None = None
    """Soft labels: label = the column with its share; or one column that holds all shares."""
    groups: tuple[str, ...] = ()
    """Their columns to carry along as group columns."""
    files: dict[str, str] = Field(default_factory=dict)
    """If the source is a folder: file = the split its rows belong to."""
    scales: dict[Literal["valence", "arousal", "dominance"], Scale] = Field(default_factory=dict)
    """The ratings that stand for least and most, where the card does not say."""
    encoding: str | None = None
    """The text encoding of label files; UTF-8, or UTF-16 with a byte order mark, if it is left out."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one source brought: frames in the contract's columns, ids prefixed, words mapped to labels."""

    utterances: pl.DataFrame
    votes: pl.DataFrame
    inputs: tuple[Path, ...]
    findings: list[Finding]
    labels: pl.DataFrame | None = None
    root: Path | None = None
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    bare: bool = False
    """Whether it only speaks of utterances (votes, labels) and does not describe them."""


def finding(kind: str, message: str, *, fix: str = "", where: str | None = None, count: int = 1) -> Finding:
    """A finding of this stage."""
    return Finding(stage="read", kind=kind, message=message, fix=fix, where=where, count=count)


def prefixed(name: str, corpus: str) -> pl.Expr:
    """A column's own ids as "corpus/own id"; ids that have the prefix keep it."""
    own = pl.col(name)
    return pl.when(own.str.starts_with(f"{corpus}/")).then(own).otherwise(pl.lit(f"{corpus}/") + own).alias(name)
