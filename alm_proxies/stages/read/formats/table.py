"""Any table by a mapping of its columns: CSV, JSON lines, Parquet, or a Hugging Face audiofolder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alm_proxies.cards import Scale
from alm_proxies.stages.read.settings import Reader, Source


class TableSource(Source):
    """A table of votes, counts or soft labels."""

    format: Literal["table"] = "table"
    """Any table by a mapping of its columns."""
    several_labels: Literal["each", "share", "first"] = "share"
    """Several labels in one answer: a vote each, one vote shared among them, or the first alone."""
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
    """The ratings that stand for least and most, where the card does not say; 5 and 1 is a scale turned round."""
    encoding: str | None = None
    """The text encoding of label files; UTF-8, or UTF-16 with a byte order mark, if it is left out."""


READER = Reader(TableSource, "alm_proxies.stages.read.table:read_table")
