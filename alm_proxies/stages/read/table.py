"""Any table by a mapping of its columns: CSV, JSON lines, Parquet, or a Hugging Face audiofolder.

Long: one row per vote (`columns.label`, or attributes). Wide: one row per utterance, with counts (`counts`). Soft
labels: one row per utterance, with shares (`probabilities`). Several files with the same columns are read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.files import could_not_read
from alm_proxies.printable import counted
from alm_proxies.stages.read.answers import File, labels_of, place, scales_of, votes_of
from alm_proxies.stages.read.formats.table import MappedSource, TableSource
from alm_proxies.stages.read.mapping import (
    FIELDS,
    UTTERANCE_NUMBERS,
    UTTERANCE_TEXT,
    Mapping,
    mapping_of,
    missing_numbers,
    same_names,
)
from alm_proxies.stages.read.recordings import recordings_absent
from alm_proxies.stages.read.remote import without_secrets_in
from alm_proxies.stages.read.rows import CALLED_NOTHING, Rows, read_rows
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.splits import SPLITS, split_word
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import STATUSES, Finding

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_LABELS, _VOTES = "labels.parquet", "votes.parquet"
_GENDERS = {
    "f": "female", "w": "female", "woman": "female", "m": "male", "man": "male", "diverse": "other",
}  # fmt: skip
_NOBODY = ["unknown", "unk", "n/a", "none"]
_FEW = 2**31 - 1


def read_table(source: TableSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The utterances, votes and soft labels of a table under a mapping."""
    mapping = mapping_of(source, card)
    root = source.source if source.source.is_dir() else source.source.parent
    findings: list[Finding] = []
    paths = _paths(source, mapping, findings)
    rows_of = partial(read_rows, encoding=source.encoding)
    part = mapped_part(source, vocabulary, card, root, paths, rows_of)
    return replace(part, findings=[*findings, *part.findings])


def mapped_part(
    source: MappedSource,
    vocabulary: Vocabulary,
    card: Card,
    root: Path,
    paths: Sequence[tuple[Path, str | None]],
    rows_of: Callable[[Path, Sequence[str] | None], Rows],
) -> Part:
    """The utterances, votes and soft labels of files, each with its split, whose rows `rows_of` gives."""
    mapping = mapping_of(source, card)
    findings: list[Finding] = []
    files: list[File] = []
    for path, split in paths:
        wanted = mapping.wanted(split) if mapping.given else None
        rows = rows_of(path, wanted)
        if not mapping.given:
            mapping = same_names(mapping, rows)
        wanted = mapping.wanted(split)
        rows.need(*wanted)
        _ignored(rows, wanted, findings)
        start = files[-1].start + files[-1].rows.frame.height if files else 0
        fields = _in_our_words(rows, mapping, split, root, path, source.corpus, findings)
        findings += missing_numbers(fields, rows, {name: mapping.columns[name] for name in mapping.numbers})
        files.append(File(rows, fields, start))
    frame = pl.concat([file.fields for file in files], how="diagonal").with_row_index("_row")
    if not frame.height:
        raise TableError("has no rows", where=str(source.source), fix="Check that it was copied whole.")
    wide = bool(mapping.counts or mapping.probabilities)
    utterances = _utterances(frame, files, mapping, wide, findings, source)
    if "audio" in utterances.columns:
        findings += recordings_absent(utterances["audio"].drop_nulls().to_list(), root)
    scales = scales_of(mapping, source, card)
    votes, losses = votes_of(frame, files, mapping, vocabulary, source, scales)
    labels, lost = labels_of(frame, files, mapping, vocabulary, source)
    inputs = tuple(Path(file.rows.path) for file in files)
    return Part(
        utterances,
        votes,
        inputs,
        [*findings, *losses, *lost],
        labels=labels,
        root=root if mapping.has("audio") else None,
        scales=scales,
        bare=mapping.bare,
    )


def _paths(source: TableSource, mapping: Mapping, findings: list[Finding]) -> list[tuple[Path, str | None]]:
    """The files to read, each with the split in its path, if any."""
    folder, files = source.source, source.files or mapping.files
    if folder.is_file():
        return [(folder, files.get(folder.name))]
    if not folder.is_dir():
        raise could_not_read(folder, FileNotFoundError())
    if files:
        there = [name for name in files if (folder / name).is_file()]
        absent = [name for name in files if name not in there]
        findings += [finding("no_file", f"{name} is missing", where=str(folder)) for name in absent]
        if there:
            return [(folder / name, files[name]) for name in there]
        raise InputError(f"has none of {', '.join(files)}", where=str(folder), fix="Check the folder.")
    for pattern in ("", "*/", "*/*/"):
        paths = sorted(path for name in _METADATA for path in folder.glob(pattern + name))
        if paths:
            _refuse_two_of_a_folder(paths)
            names = {"train", "test", "development", *SPLITS}
            return [(path, split_word(path.parent.name) if path.parent.name in names else None) for path in paths]
    if (folder / _LABELS).is_file() and not (folder / _VOTES).is_file():  # of predict or fuse
        return [(folder / _LABELS, None)]
    fix = f"Name the label file itself, list the files to read (files, --files), or add {_METADATA[0]}."
    raise InputError(f"is a folder without any of {', '.join(_METADATA)}", where=str(folder), fix=fix)


def _refuse_two_of_a_folder(paths: Sequence[Path]) -> None:
    """Raise where a folder has its rows in two files, as datasets does: each row would count twice."""
    for first, other in pairwise(paths):
        if first.parent == other.parent:
            fix = "Remove one of them, or name the file to read."
            raise InputError(f"has both {first.name} and {other.name}", where=str(first.parent), fix=fix)


def _ignored(rows: Rows, wanted: list[str], findings: list[Finding]) -> None:
    rest = [name for name in rows.columns if name not in wanted]
    if rest:
        shown = ", ".join(map(repr, rest[:20])) + (" ..." if len(rest) > 20 else "")
        message = f"{counted(len(rest), 'column was', 'columns were')} not read: {shown}"
        fix = "Map them, or keep them as groups."
        findings.append(finding("columns_not_taken", message, fix=fix, where=rows.path, count=len(rest)))


def _in_our_words(
    rows: Rows,
    mapping: Mapping,
    split: str | None,
    root: Path,
    path: Path,
    corpus: str,
    findings: list[Finding],
) -> pl.DataFrame:
    """A file's rows in our fields, ids prefixed, paths under the corpus root."""
    frame = mapping.fields(rows, split)
    if "audio" in frame.columns:
        frame = without_secrets_in(frame, rows.path, findings)
        frame = frame.with_columns(_under_root(root, path.parent))
    if "utterance_id" not in frame.columns:
        if "audio" not in frame.columns:
            fix = 'Map it: columns = { utterance_id = "..." } (--columns utterance_id=...).'
            raise SettingsError("the mapping has no column for the utterance id", where=rows.path, fix=fix)
        frame = frame.with_columns(utterance_id=pl.col("audio").str.replace(r"\.[A-Za-z0-9]{1,5}$", ""))
    nameless = frame["utterance_id"].is_null()
    if nameless.any():
        row, rest = int(nameless.arg_true()[0]), int(nameless.sum()) - 1
        more = f" (and {counted(rest, 'more row')})" if rest else ""
        fix = "Fill that column in every row, and delete rows that are empty."
        raise TableError(f"has no utterance id{more}", where=rows.place(row), fix=fix)
    for name, low, high in (("turn", -_FEW, _FEW), ("draw", 0, _FEW)):
        if name in frame.columns:
            _refuse(rows, frame[name], (frame[name] % 1 != 0) | ~frame[name].is_between(low, high), "a whole number")
    for name in ("start", "end", "duration"):
        if name in frame.columns:
            _refuse(rows, frame[name], frame[name] < 0, "0 or more seconds")
    if "weight" in frame.columns:
        _refuse(rows, frame["weight"], (frame["weight"] <= 0) | (frame["weight"] > 1), "above 0 and at most 1")
    for name, allowed in (("source", ("human", "proxy")), ("status", STATUSES)):
        if name in frame.columns:
            frame = frame.with_columns(pl.col(name).str.to_lowercase())
            _refuse(rows, frame[name], ~frame[name].is_in(allowed), f"one of {', '.join(allowed)}")
    groups = [rows.frame[name].cast(pl.String).str.strip_chars() for name in mapping.groups]
    ours = (*UTTERANCE_TEXT, *UTTERANCE_NUMBERS, "corpus", "recipe")
    if taken := sorted(set(mapping.groups) & {*frame.columns, *ours}):
        raise _taken(taken[0], mapping, rows, ours)
    frame = frame.hstack(groups)
    prefixes = [prefixed(name, corpus) for name in ("utterance_id", "dialogue") if name in frame.columns]
    if "split" in frame.columns:
        words = frame["split"].drop_nulls().unique().to_list()
        prefixes.append(pl.col("split").replace({word: split_word(word) for word in words}))
    return frame.with_columns(prefixes)


def _taken(name: str, mapping: Mapping, rows: Rows, ours: tuple[str, ...]) -> SettingsError:
    """The error for a group column with the name of one of our columns."""
    fix = f'Map it as ours: --columns {name}={name} (columns = {{ {name} = "{name}" }}), not as a group.'
    if mapping.has(name):
        fix = "It is mapped already: leave it out of the groups."
    elif name not in FIELDS:
        fix = "Rename it in the file."
    message = f"the group {name!r} has the name of one of our columns"
    return SettingsError(message, where=rows.path, fix=f"{fix} Ours are: {', '.join(ours)}.")


def _refuse(rows: Rows, values: pl.Series, bad: pl.Series, needed: str) -> None:
    bad = bad.fill_null(False)
    if bad.any():
        row = int(bad.arg_true()[0])
        where = rows.place(row)
        raise TableError(f"{values[row]!r} is not a valid {values.name}", where=where, fix=f"Needed: {needed}.")


def _under_root(root: Path, folder: Path) -> pl.Expr:
    """Audio paths relative to the corpus root; paths elsewhere and URIs are unchanged."""
    audio = pl.col("audio")
    base = f"{root.absolute()}/"
    inside = folder.relative_to(root).as_posix()
    below = audio if inside == "." else pl.lit(f"{inside}/") + audio
    absolute = audio.str.starts_with("/") | audio.str.contains(r"^[A-Za-z][A-Za-z0-9+.-]+:")
    path = pl.when(audio.str.starts_with(base)).then(audio.str.strip_prefix(base)).when(absolute).then(audio)
    return path.otherwise(below).alias("audio")


def _utterances(
    frame: pl.DataFrame, files: list[File], mapping: Mapping, wide: bool, findings: list[Finding], source: MappedSource
) -> pl.DataFrame:
    """One row per utterance; contradicting rows of an utterance are refused."""
    described = [n for n in (*UTTERANCE_TEXT, *UTTERANCE_NUMBERS, *mapping.groups) if n in frame.columns]
    rest = [pl.col(name).drop_nulls().first() for name in described]
    utterances = frame.group_by("utterance_id", maintain_order=True).agg(pl.col("_row").first(), *rest)
    if utterances.height < frame.height:
        if wide:
            again = frame.filter(~pl.col("utterance_id").is_first_distinct()).row(0, named=True)
            fix = "Counts and shares need one row per utterance; map a label for one row per vote."
            raise TableError(f"{again['utterance_id']!r} occurs twice", where=place(files, again["_row"]), fix=fix)
        both = frame.join(
            utterances.select("utterance_id", *described), on="utterance_id", suffix="_first", maintain_order="left"
        )
        for name in described:
            bad = both.filter((pl.col(name) != pl.col(f"{name}_first")).fill_null(False))
            if bad.height:
                row = bad.row(0, named=True)
                message = (
                    f"has {name} = {row[name]!r} for {row['utterance_id']!r}, another row has {row[f'{name}_first']!r}"
                )
                raise TableError(message, where=place(files, row["_row"]), fix="Make them agree, or do not map it.")
    utterances = utterances.drop("_row").with_columns(corpus=pl.lit(source.corpus))
    if "speaker" in utterances.columns:
        findings += _without_speaker(utterances, source)
        utterances = _known(
            utterances, "speaker", ~pl.col("speaker").str.to_lowercase().is_in(_NOBODY), "is unknown", findings, source
        )
        utterances = utterances.with_columns(prefixed("speaker", source.corpus))
    if "gender" in utterances.columns:
        utterances = utterances.with_columns(pl.col("gender").str.to_lowercase().replace(_GENDERS))
        known = pl.col("gender").is_in(["female", "male", "other"])
        fix = "Write female, male or other; f, w and m are understood too."
        utterances = _known(utterances, "gender", known, "is not female, male or other", findings, source, fix)
    return utterances


def _without_speaker(utterances: pl.DataFrame, source: MappedSource) -> list[Finding]:
    """A finding with the number of utterances without a speaker, where others have one."""
    without = utterances.filter(pl.col("speaker").is_null())["utterance_id"]
    if not 0 < len(without) < utterances.height:
        return []
    message = f"{counted(len(without), 'utterance has', 'utterances have')} no speaker, such as {without[0]!r}"
    fix = f"Fill in who speaks; speakers {CALLED_NOTHING}"
    return [finding("unknown_speaker", message, fix=fix, where=str(source.source), count=len(without))]


def _known(
    frame: pl.DataFrame,
    name: str,
    known: pl.Expr,
    message: str,
    findings: list[Finding],
    source: MappedSource,
    fix: str = "",
) -> pl.DataFrame:
    """The table with the values that are known, others empty; and a finding that shows some of the others."""
    cleaned = frame.with_columns(pl.when(known).then(name).alias(name))
    others = frame[name].filter(cleaned[name].is_null() & frame[name].is_not_null())
    if len(others):
        words = (
            f"the {name} of {counted(len(others), 'utterance')} {message}, such as {others[0]!r}, and was left empty"
        )
        findings.append(finding(f"unknown_{name}", words, fix=fix, where=str(source.source), count=len(others)))
    return cleaned
