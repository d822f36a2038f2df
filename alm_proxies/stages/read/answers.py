"""Votes from a table's rows or counts, and soft labels from its shares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.errors import SettingsError, TableError
from alm_proxies.printable import counted
from alm_proxies.stages.read.formats.table import MappedSource
from alm_proxies.stages.read.mapping import Many, Mapping, missing_numbers, number
from alm_proxies.stages.read.rows import CALLED_NOTHING, Rows, each_key_once
from alm_proxies.stages.read.sources import finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.table_checks import sum_across
from alm_proxies.tables import ATTRIBUTES, CROWD, Finding
from alm_proxies.taxonomy import to_unit

_MOST = 100_000
_OFF = 0.01  # of a sum of shares, at most
_ROUNDED = 0.005  # of a share that is written with two decimals
_WHOSE = ("utterance_id", "annotator", "source")
_COPIED = (
    "row repeats an earlier row in every column taken",
    "rows repeat an earlier row in every column taken",
    "If they were written twice by mistake, remove the copies.",
)
_ANSWERED = (
    "answer comes from a rater who had answered differently before",
    "answers come from raters who had answered differently before",
    "If each rater should have answered once, keep one answer of each.",
)
_VOTE = ("word", "draw", "weight", "secondary", "status", *ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class File:
    """One file of the table: its rows, and the index of its first row among the rows of all files."""

    rows: Rows
    fields: pl.DataFrame
    start: int


def place(files: list[File], row: int) -> str:
    """The file and line of a row, by its index among the rows of all files."""
    file = next(file for file in reversed(files) if file.start <= row)
    return file.rows.place(row - file.start)


def scales_of(mapping: Mapping, source: MappedSource, card: Any) -> dict[str, tuple[float, float]]:
    """The scales of the mapped attributes: the source's own, else the card's; without one the table is refused."""
    scales: dict[str, tuple[float, float]] = {}
    for name in (name for name in ATTRIBUTES if mapping.has(name)):
        ends = {**card.scales, **source.scales}.get(name)
        if ends is None:
            fix = f"Give the lowest and the highest rating: scales = {{ {name} = [1, 5] }} (--scales {name}=1:5)."
            raise SettingsError(f"the scale of {name} is not known", where=str(source.source), fix=fix)
        scales[name] = ends
    return scales


def votes_of(
    frame: pl.DataFrame,
    files: list[File],
    mapping: Mapping,
    vocabulary: Vocabulary,
    source: MappedSource,
    scales: dict[str, tuple[float, float]],
) -> tuple[pl.DataFrame, list[Finding]]:
    """The votes of all files, from counts or from one row per vote; none if neither is mapped."""
    where = str(source.source)
    nameless = frame.filter(pl.col("annotator").is_null())["_row"] if "annotator" in frame.columns else None
    frame = _whose(frame, files, source.corpus)
    if mapping.counts is not None:
        tables = [_counts(file.rows, mapping.counts, vocabulary) for file in files]
        parts = [_long(table, file.start) for table, file in zip(tables, files, strict=True)]
        whose = frame.select("utterance_id", "annotator", "source", "_row")
        votes, losses = vocabulary.tallied(whose.join(pl.concat(parts), on="_row").sort("_row").drop("_row"), where)
        return votes, _missing(tables, files, mapping.counts) + losses
    if not mapping.has("label", *ATTRIBUTES):
        nothing = {"utterance_id": pl.String(), "annotator": pl.String(), "label": pl.String()}
        return pl.DataFrame(schema=nothing), []
    findings: list[Finding] = []
    word: pl.Series | pl.Expr = pl.lit(None, dtype=pl.String)
    if "label" in frame.columns:
        word, empty = _listed(frame["label"])
        if empty:
            message = f"{counted(empty, 'empty answer', 'empty answers')} in lists of labels left out"
            fix = "Fill them in, or remove them."
            findings.append(finding("empty_label", message, fix=fix, where=where, count=empty))
    heard = frame.with_columns(_on_scales(frame, files, scales)).with_columns(word=word)
    if "secondary" in heard.columns:
        heard = heard.with_columns(secondary=_split(heard["secondary"])[0])
    if "weight" in heard.columns and "draw" not in heard.columns:
        # Weights are shares of one draw, so all rows of an annotator on an utterance are one draw.
        heard = heard.with_columns(draw=pl.lit(0))
    heard = heard.select([name for name in (*_WHOSE, *_VOTE, "_row") if name in heard.columns])
    compared = [name for name in ("word", "status", *ATTRIBUTES) if name in heard.columns]
    silent = pl.col("annotator").str.ends_with(CROWD) & pl.all_horizontal(pl.col(name).is_null() for name in compared)
    spoken = heard.filter(~silent)
    if spoken.height < heard.height:
        count = heard.height - spoken.height
        message = f"{counted(count, 'row has', 'rows have')} no vote"
        findings.append(finding("no_vote", message, where=where, count=count))
    if "weight" not in spoken.columns and "draw" in spoken.columns:
        again = spoken.filter(~pl.struct("utterance_id", "annotator", "draw").is_first_distinct())
        if again.height:
            fix = "Number the votes of each annotator on an utterance, or do not map draw."
            message = f"draw {again['draw'][0]:.0f} of {again['annotator'][0]!r} occurs twice"
            raise TableError(message, where=place(files, again["_row"][0]), fix=fix)
    if nameless is not None:
        findings += _of_no_rater(spoken.filter(pl.col("_row").is_in(nameless.implode())), files, where)
    if mapping.has("label"):
        findings += unlabelled(spoken, where)
    votes, losses = vocabulary.votes(spoken.drop("_row"), where)
    return votes, findings + _again(spoken, files, where) + losses


def _of_no_rater(spoken: pl.DataFrame, files: list[File], where: str) -> list[Finding]:
    """A finding with the number of votes whose column of raters is empty: they count as those of unknown raters."""
    if not spoken.height:
        return []
    named, line = counted(spoken.height, "vote names", "votes name"), place(files, int(spoken["_row"][0]))
    message = f"{named} no rater and count as those of unknown ones, the first in {line}: the column is empty there"
    fix = f"Fill in who voted; raters {CALLED_NOTHING}"
    return [finding("unknown_rater", message, fix=fix, where=where, count=spoken.height)]


def unlabelled(spoken: pl.DataFrame, where: str) -> list[Finding]:
    """A finding with the number of votes with an empty label, and of those among them that have a rating."""
    empty = spoken.filter(pl.col("word").is_null())
    if "status" in spoken.columns:
        empty = empty.filter(pl.col("status").fill_null("ok") == "ok")
    if not empty.height:
        return []
    ratings = [pl.col(name).is_not_null() for name in ATTRIBUTES if name in empty.columns]
    rated = empty.filter(pl.any_horizontal(pl.lit(value=False), *ratings))
    kept = f"; the ratings of {rated.height} of them are kept" if rated.height else ""
    fix = "Fill in the labels, or remove those rows."
    message = f"{counted(empty.height, 'vote has', 'votes have')} no label{kept}"
    return [finding("empty_label", message, fix=fix, where=where, count=empty.height)]


def _again(spoken: pl.DataFrame, files: list[File], where: str) -> list[Finding]:
    """Findings with the number of answers by raters who had answered for the utterance before; all are counted.

    Answers that are equal in every column taken, most likely rows written twice, are counted separately.
    """
    if "draw" in spoken.columns:
        return []
    human = spoken.filter((pl.col("source") == "human") & ~pl.col("annotator").str.ends_with(CROWD))
    human = human.filter(pl.struct("utterance_id", "annotator").is_duplicated())
    again = ~pl.struct("utterance_id", "annotator").is_first_distinct()
    copied = ~pl.struct(pl.exclude("_row")).is_first_distinct()
    same, other = human.filter(again & copied), human.filter(again & ~copied)
    return [
        *_counted_again(same, files, where, "copied_rows", *_COPIED),
        *_counted_again(other, files, where, "answered_again", *_ANSWERED),
    ]


def _counted_again(
    rows: pl.DataFrame, files: list[File], where: str, kind: str, one: str, many: str, fix: str
) -> list[Finding]:
    if not rows.height:
        return []
    who, of, line = rows["annotator"][0], rows["utterance_id"][0], place(files, int(rows["_row"][0]))
    message = f"{counted(rows.height, one, many)}, such as that of {who!r} on {of!r} ({line}); each counts as a vote"
    return [finding(kind, message, fix=fix, where=where, count=rows.height)]


def labels_of(
    frame: pl.DataFrame, files: list[File], mapping: Mapping, vocabulary: Vocabulary, source: MappedSource
) -> tuple[pl.DataFrame | None, list[Finding]]:
    """The soft labels of all files; shares that sum to nearly 1 are normalised, with a finding."""
    if mapping.probabilities is None:
        return None, []
    where = str(source.source)
    parts = [_shares(file.rows, mapping.probabilities, vocabulary) for file in files]
    table = pl.concat(parts, how="diagonal").fill_null(0.0)
    total = table.select(sum_across(table.columns)).to_series().to_numpy()
    stated = table.select(pl.sum_horizontal(pl.all() > 0)).to_series().to_numpy()
    wrong = (np.abs(total - 1) > np.maximum(_OFF, _ROUNDED * stated) + 1e-9) & (total > 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        fix = "The shares of an utterance sum to 1; for numbers of votes use counts."
        raise TableError(f"the shares sum to {total[row]:.6g}", where=place(files, row), fix=fix)
    shares, findings = vocabulary.shares({name: table[name] for name in table.columns}, where)
    findings += _missing(parts, files, mapping.probabilities)
    inside = shares.select(sum_across(shares.columns)).to_series()
    rough = int((np.abs(total - 1) > 1e-6).sum() - (total == 0).sum())
    empty = int((inside == 0).sum())
    for count, kind, message in (
        (rough, "shares_rounded", f"{counted(rough, 'soft label')} normalised, as the sum was 1 only roughly"),
        (empty, "no_label", f"{counted(empty, 'utterance')} without a share of any label, so without a soft label"),
    ):
        if count:
            findings.append(finding(kind, message, where=where, count=count))
    shares = shares.select(pl.all() / inside).insert_column(0, frame["utterance_id"])
    return shares.filter(inside > 0), findings


def _whose(frame: pl.DataFrame, files: list[File], corpus: str) -> pl.DataFrame:
    """The rows with source and annotator: human names get the corpus as a prefix, unnamed raters are the crowd."""
    if "source" not in frame.columns:
        frame = frame.with_columns(source=pl.lit("human"))
    if "annotator" not in frame.columns:
        frame = frame.with_columns(annotator=pl.lit(None, dtype=pl.String))
    frame = frame.with_columns(pl.col("source").fill_null("human"))
    unnamed = frame.filter((pl.col("source") == "proxy") & pl.col("annotator").is_null())
    if unnamed.height:
        fix = 'Name the model: constants = { annotator = "gpt-4o" } (--constants annotator=gpt-4o), or map its column.'
        raise TableError("a proxy's vote does not name its annotator", where=place(files, unnamed["_row"][0]), fix=fix)
    human = pl.col("source") == "human"
    both = frame.group_by("annotator").agg(pl.col("source").n_unique()).filter(pl.col("source") > 1)["annotator"]
    named = both.drop_nulls()
    if named.len():
        fix = "Give the human and the proxy different names."
        row = frame.filter(pl.col("annotator") == named.sort()[0])["_row"][0]
        raise TableError(f"{named.sort()[0]!r} is both human and proxy", where=place(files, row), fix=fix)
    name = pl.when(human).then(prefixed("annotator", corpus)).otherwise("annotator")
    return frame.with_columns(annotator=name.fill_null(corpus + CROWD))


def _on_scales(frame: pl.DataFrame, files: list[File], scales: dict[str, tuple[float, float]]) -> list[pl.Series]:
    scaled = []
    for name, (low, high) in scales.items():
        values = frame[name]
        bad = ~values.is_between(min(low, high), max(low, high)).fill_null(True)
        if bad.any():
            row = int(bad.arg_true()[0])
            fix = "Correct the value, or give the scale: scales (--scales)."
            message = f"{name} = {values[row]:g} is outside its scale from {low:g} to {high:g}"
            raise TableError(message, where=place(files, int(frame["_row"][row])), fix=fix)
        scaled.append(pl.Series(name, to_unit(values.to_numpy(), low, high)).fill_nan(None))
    return scaled


def _listed(words: pl.Series) -> tuple[pl.Series, int]:
    """Words, or lists of words if any cell names several: as a JSON list, or separated by semicolons; and the number of
    empty words in lists with others.
    """
    several = words.str.contains(r"^\[.*\]$|;").fill_null(False)
    return _split(words, ";") if several.any() else (words, 0)


def _split(words: pl.Series, between: str = ",;|") -> tuple[pl.Series, int]:
    cells: list[list[str] | None] = []
    empty = 0
    for word in words:
        parts = _parsed(word) if word is not None else None
        if isinstance(parts, list):
            named = ["" if part is None or part != part else str(part).strip() for part in parts]
        else:
            text = (word or "").translate(dict.fromkeys(map(ord, between), ";")).strip().removesuffix(";")
            named = [part.strip() for part in text.split(";")]
        names = [part for part in named if part]
        empty += len(named) - len(names) if names else 0
        cells.append(names or None)
    return pl.Series(words.name, cells, dtype=pl.List(pl.String)), empty


def _parsed(cell: str) -> Any:
    """A cell parsed as a JSON list or object; None for anything else."""
    if cell[:1] not in "[{":
        return None
    try:
        return json.loads(cell, object_pairs_hook=each_key_once)
    except (ValueError, RecursionError):
        return None


def _long(table: pl.DataFrame, start: int) -> pl.DataFrame:
    numbered = table.with_columns(_row=pl.int_range(start, start + table.height, dtype=pl.UInt32))
    return numbered.unpivot(index="_row", variable_name="word", value_name="count").drop_nulls("count")


def _counts(rows: Rows, counts: Many, vocabulary: Vocabulary) -> pl.DataFrame:
    table = _many(rows, counts, vocabulary)
    for name in table.columns:
        _refuse(rows, table[name], (table[name] % 1 != 0) | ~table[name].is_between(0, _MOST), _named(counts, name))
    return table.cast(pl.Int64)


def _missing(tables: list[pl.DataFrame], files: list[File], many: Many) -> list[Finding]:
    """Findings with the number of missing counts or shares, for words with a column of their own; they count as 0."""
    columns = many if isinstance(many, dict) else {}
    pairs = zip(tables, files, strict=True)
    return [finding for table, file in pairs for finding in missing_numbers(table, file.rows, columns, ", taken as 0")]


def _shares(rows: Rows, shares: Many, vocabulary: Vocabulary) -> pl.DataFrame:
    table = _many(rows, shares, vocabulary)
    for name in table.columns:
        _refuse(rows, table[name], ~table[name].is_between(0, 1 + _OFF), _named(shares, name))
    return table


def _named(many: Many, word: str) -> str | None:
    return many.get(word) if isinstance(many, dict) else many


def _refuse(rows: Rows, values: pl.Series, bad: pl.Series, column: str | None) -> None:
    bad = bad.fill_null(False)
    if bad.any():
        row = int(bad.arg_true()[0])
        fix = f"Counts are whole numbers from 0 to {_MOST}, shares are from 0 to 1."
        raise TableError(f"{values[row]:g} is out of range for {values.name!r}", where=rows.place(row, column), fix=fix)


def _many(rows: Rows, many: Many, vocabulary: Vocabulary) -> pl.DataFrame:
    """A column of numbers for every word, from one column per word or from one column of lists or objects."""
    if isinstance(many, dict):
        return pl.DataFrame(
            [number(rows.frame[column], rows, column, word).alias(word) for word, column in many.items()]
        )
    cells: dict[str, list[float | None]] = {}
    column = str(many)
    for row, cell in enumerate(rows.frame[column]):
        if cell is None:
            continue
        value = _parsed(cell) if isinstance(cell, str) else None
        if isinstance(value, list) and len(value) == len(vocabulary.labels):
            value = dict(zip(vocabulary.labels, value, strict=True))
        if not isinstance(value, dict) or not all(_is_number(n) for n in value.values()):
            fix = f"Write {{label: number}}, or a list of the numbers of {', '.join(vocabulary.labels)}, in that order."
            raise TableError(f"is no list or object of numbers: {cell!r:.60}", where=rows.place(row, column), fix=fix)
        for word, n in value.items():
            cells.setdefault(word, [None] * rows.frame.height)[row] = float(n) if n is not None else None
    if not cells:
        cells[vocabulary.labels[0]] = [None] * rows.frame.height
    return pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.Float64()))


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST
