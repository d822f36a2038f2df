"""The mapping of a table's columns to our fields: from the user's settings, the corpus's card, or equal names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import SettingsError, TableError
from alm_proxies.nearest import did_you_mean, known_names
from alm_proxies.printable import counted
from alm_proxies.stages.read.formats.table import MappedSource
from alm_proxies.stages.read.rows import Rows
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import ATTRIBUTES, Finding

UTTERANCE_TEXT = ("audio", "speaker", "dialogue", "gender", "language", "transcript", "intended", "split")
UTTERANCE_NUMBERS = ("start", "end", "duration", "turn")
VOTE_TEXT = ("annotator", "source", "label", "secondary", "status")
VOTE_NUMBERS = ("draw", "weight", *ATTRIBUTES)
FIELDS = ("utterance_id", *UTTERANCE_TEXT, *UTTERANCE_NUMBERS, *VOTE_TEXT, *VOTE_NUMBERS)
_NUMBERS = (*UTTERANCE_NUMBERS, *VOTE_NUMBERS)
_NO_NUMBER = ("na", "n/a", "n.a.", "nan", "none", "null", "-", "--")
_PATTERN = re.compile(r"\{([^{}]*)\}")
Many = dict[str, str] | str | None


@dataclass(frozen=True, slots=True)
class Mapping:
    """Our fields from their columns, patterns and constants; and counts, shares and groups."""

    columns: dict[str, str]
    constants: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    counts: Many = None
    probabilities: Many = None

    @property
    def given(self) -> bool:
        """Whether anything was mapped at all."""
        return bool(self.columns or self.counts or self.probabilities)

    def has(self, *fields: str) -> bool:
        """Whether any of our fields is filled."""
        return any(name in self.columns or name in self.constants for name in fields)

    @property
    def numbers(self) -> list[str]:
        """Our fields of numbers that a column fills."""
        return [name for name in self.columns if name in _NUMBERS]

    @property
    def bare(self) -> bool:
        """Whether it maps nothing about an utterance but its id."""
        return not self.has(*UTTERANCE_TEXT, *UTTERANCE_NUMBERS) and not self.groups

    def wanted(self, split: str | None) -> list[str]:
        """The table's columns that it needs; {split} may also come from the file name."""
        named = [name for value in self.columns.values() for name in _named(value)]
        for many in (self.counts, self.probabilities):
            named += list(many.values()) if isinstance(many, dict) else [many] if many else []
        known = {"split"} if split is not None else set()
        return [name for name in dict.fromkeys([*named, *self.groups]) if name not in known]

    def fields(self, rows: Rows, split: str | None) -> pl.DataFrame:
        """The rows in our fields, with text stripped, numbers parsed and missing values as null."""
        frame = rows.frame if split is None else rows.frame.with_columns(split=pl.lit(split))
        columns = [_column(frame, name, value) for name, value in self.columns.items()]
        columns += [pl.Series(name, [value]).new_from_index(0, frame.height) for name, value in self.constants.items()]
        if split is not None and not self.has("split"):
            columns.append(pl.Series("split", [split]).new_from_index(0, frame.height))
        if not columns:
            return pl.DataFrame()
        return pl.DataFrame([_typed(series, rows, self.columns.get(series.name)) for series in columns])


def mapping_of(source: MappedSource, card: Card) -> Mapping:
    """The mapping of a source, completed by its card unless the source maps the ids itself."""
    for name in (*source.columns, *source.constants):
        if name not in FIELDS:
            fix = f"{did_you_mean(name, FIELDS)} There are: {', '.join(FIELDS)}; use groups for other columns.".strip()
            raise SettingsError(f"{name!r} is not one of our columns", where=_place(source), fix=fix)
    both = sorted(set(source.columns) & set(source.constants))
    if both:
        fix = "Keep one of the two."
        raise SettingsError(f"{both[0]!r} is both a column and a constant", where=_place(source), fix=fix)
    own = Mapping(
        source.columns, source.constants, {}, source.groups, source.counts, source.probabilities
    )  # fmt: skip
    if own.counts and own.has("label"):
        fix = "Map the label (one row per vote) or counts (one row per utterance)."
        raise SettingsError("maps both a label and counts", where=_place(source), fix=fix)
    one_by_one = [name for name in ("secondary", "status", *VOTE_NUMBERS) if own.has(name)]
    if own.counts and one_by_one:
        fix = f"Leave {one_by_one[0]} out: counted votes have none of their own. Votes one by one can have it."
        raise SettingsError(f"maps both counts and {one_by_one[0]}", where=_place(source), fix=fix)
    if not card.columns or "utterance_id" in source.columns or own.counts or own.probabilities:
        return own
    unknown = [name for name in (*card.columns, *card.constants) if name not in FIELDS]
    if unknown:
        fix = known_names(unknown[0], FIELDS)
        raise SettingsError(f"{unknown[0]!r} is not one of our columns", where=str(card.path), fix=fix)
    columns = {name: value for name, value in card.columns.items() if name not in source.constants}
    constants = {name: value for name, value in card.constants.items() if name not in source.columns}
    return replace(
        own,
        columns={**columns, **source.columns},
        constants={**constants, **source.constants},
        files=card.files,
    )


def same_names(mapping: Mapping, rows: Rows) -> Mapping:
    """The mapping of a table without one: columns with our names, file_name as audio, p_<label> as shares.

    A table with shares is one of soft labels, such as fuse, predict and export write: its label is the most likely one
    and its weight that of a trainer, neither a listener's vote.
    """
    shares = {name[2:]: name for name in rows.columns if name.startswith("p_")}
    ours = [name for name in FIELDS if not (shares and name in (*VOTE_TEXT, *VOTE_NUMBERS))]
    there = [name for name in ours if name in rows.columns and name not in mapping.constants]
    there = [name for name in there if name not in _NUMBERS or rows.frame[name].count()]
    columns = {name: name for name in there}
    if "file_name" in rows.columns and not mapping.has("audio"):
        columns["audio"] = "file_name"
    mapped = replace(mapping, columns=columns, probabilities=shares or None)
    if not mapped.has("utterance_id", "audio"):
        listed = ", ".join(rows.columns[:30])
        fix = f'Map them: columns = {{ utterance_id = "...", label = "..." }} (--columns). There are: {listed}.'
        raise TableError("has no column that names the utterance", where=rows.path, fix=fix)
    return mapped


def _place(source: MappedSource) -> str:
    return f"the source {source.source}"


def _named(value: str) -> list[str]:
    return _PATTERN.findall(value) if _PATTERN.search(value) else [value]


def _column(frame: pl.DataFrame, name: str, value: str) -> pl.Series:
    """One of our fields: the table's column as it is, or a filled-in pattern (null where a part of it is null)."""
    if not _PATTERN.search(value):
        return frame.get_column(value).alias(name)
    parts: Sequence[str] = _PATTERN.split(value)
    filled = [pl.col(part).cast(pl.String).str.strip_chars() if i % 2 else pl.lit(part) for i, part in enumerate(parts)]
    return frame.select(pl.concat_str(filled).alias(name)).to_series()


def _typed(series: pl.Series, rows: Rows, theirs: str | None) -> pl.Series:
    if series.name not in _NUMBERS:
        return _stripped(series)
    return number(series, rows, theirs if theirs in rows.columns else None, series.name)


def _stripped(series: pl.Series) -> pl.Series:
    text = series.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def number(series: pl.Series, rows: Rows, theirs: str | None, ours: str) -> pl.Series:
    """A column as finite numbers, null where it is missing; other text is an error with its line."""
    text = series
    if series.dtype == pl.String:
        text = _stripped(series)
        text = text.set(text.str.to_lowercase().is_in(_NO_NUMBER), None)
        text = _with_points(text) if rows.text is not None and rows.text.delimiter != "," else text
    numbers = text.cast(pl.Float64, strict=False)
    bad = text.is_not_null() & ~numbers.is_finite().fill_null(False)
    if bad.any():
        row = int(bad.arg_true()[0])
        where = rows.place(row, theirs)
        fix = "Write numbers with a decimal point; leave missing ones empty, or write n/a."
        raise TableError(f"{series[row]!r} is not a number for {ours}", where=where, fix=fix)
    return numbers.alias(series.name)


def _with_points(text: pl.Series) -> pl.Series:
    """Numbers of a file that commas do not separate, with points in place of decimal commas.

    Spreadsheets write such files where the comma is decimal. A column whose commas may all be between thousands, as in
    1,000, or that has points too, stays as it is.
    """
    decimal = text.str.contains(r"^[+-]?\d+,\d+$")
    thousands = text.str.contains(r"^[+-]?[1-9]\d{0,2},\d{3}$")
    if text.str.contains(".", literal=True).any() or not (decimal & ~thousands).any():
        return text
    return pl.select(pl.when(decimal).then(text.str.replace(",", ".", literal=True)).otherwise(text)).to_series()


def missing_numbers(read_rows: pl.DataFrame, rows: Rows, columns: dict[str, str], meant: str = "") -> list[Finding]:
    """A finding for each text column with missing numbers, with the text that stands for missing."""
    findings = []
    for ours, theirs in columns.items():
        if ours not in read_rows.columns or theirs not in rows.columns or rows.frame[theirs].dtype != pl.String:
            continue
        count = read_rows[ours].null_count()
        if count:
            words = _stripped(rows.frame[theirs].filter(read_rows[ours].is_null()))
            ways = ["is empty"] if words.null_count() else []
            if spelled := words.drop_nulls().unique().sort().to_list():
                ways.append(f"says {', '.join(map(repr, spelled))}")
            message = (
                f"{counted(count, 'row has', 'rows have')} no number for {ours}{meant}: the column {theirs!r} "
                f"{' or '.join(ways)}"
            )
            findings.append(finding("missing_number", message, where=rows.path, count=count))
    return findings
