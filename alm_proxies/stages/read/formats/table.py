"""Any table by a mapping of its columns: CSV, JSON lines, Parquet, or a Hugging Face audiofolder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alm_proxies.cards import Scale
from alm_proxies.stages.read.settings import Reader, Source


class MappedSource(Source):
    """A source whose columns are mapped to ours."""

    several_labels: Literal["each", "share", "first"] = "share"
    """How several labels in one answer ("happy;angry", or a JSON list) count: a vote each, one vote shared among them,
    or only the first.
    """
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column = the table's column, or a pattern of its columns such as "dia{Dialogue_ID}_utt{Utterance_ID}"."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Our column = one value for every row, such as annotator = "gpt-4o"."""
    counts: dict[str, str] | str | None = None
    """Counts in a wide table of votes: label = the column with its count; or one column that holds all counts."""
    probabilities: dict[str, str] | str | None = None
    """Soft labels: label = the column with its share; or one column that holds all shares."""
    groups: tuple[str, ...] = ()
    """The table's columns to keep as group columns."""
    scales: dict[Literal["valence", "arousal", "dominance"], Scale] = Field(default_factory=dict)
    """The lowest and the highest rating of each attribute, where the card does not state them; 5 and 1 is a reversed
    scale.
    """


class TableSource(MappedSource):
    """A table of votes, counts or soft labels."""

    format: Literal["table"] = "table"
    """Any table by a mapping of its columns."""
    files: dict[str, str] = Field(default_factory=dict)
    """The label files, if the source is a folder: file = the split of its rows."""
    encoding: str | None = None
    """The text encoding of label files. By default UTF-8, or UTF-16 with a byte order mark."""


READER = Reader(TableSource, "alm_proxies.stages.read.table:read_table")
