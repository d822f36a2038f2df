"""The header of an audformat database: what each column of its tables holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alm_proxies.errors import InputError, SettingsError, TableError, need
from alm_proxies.files import open_file
from alm_proxies.nearest import known_names
from alm_proxies.stages.read.corpus_files import names_in, not_the_corpus
from alm_proxies.stages.read.formats.audformat import AudformatSource
from alm_proxies.stages.read.rows import Rows, read_rows
from alm_proxies.stages.read.splits import split_word
from alm_proxies.tables import ATTRIBUTES

HEADER = "db.yaml"
_SUFFIXES = (".parquet", ".csv")
"""The first that is there is read, as audformat itself does."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_RATINGS = {**{name: name for name in ATTRIBUTES}, "activation": "arousal"}
_DESCRIBED = {
    "speaker": "speaker", "gender": "gender", "sex": "gender", "language": "language",
    "transcription": "transcript", "transcript": "transcript", "text": "transcript",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rater:
    """Who is behind a column: a person, a model, or what the corpus publishes."""

    name: str = ""
    kind: str = ""
    """human, machine, published, or empty where the column names no rater."""


@dataclass(frozen=True, slots=True)
class DatabaseTable:
    """A table of the database and the columns of it that can be read."""

    name: str
    segmented: bool
    split: str | None
    words: dict[str, Rater] = field(default_factory=dict)
    """Columns with labels."""
    ratings: dict[str, tuple[str, Rater]] = field(default_factory=dict)
    """Columns with ratings of an attribute."""
    counts: dict[str, str] = field(default_factory=dict)
    """Label = column with the number of its votes."""
    shares: dict[str, str] = field(default_factory=dict)
    """Label = column with its share."""
    described: dict[str, str] = field(default_factory=dict)
    """Our column = a column that describes the utterance."""
    others: tuple[str, ...] = ()

    @property
    def voted(self) -> bool:
        """Whether it has votes or shares."""
        return bool(self.words or self.ratings or self.counts or self.shares)


@dataclass(frozen=True, slots=True)
class Database:
    """A database's folder and header."""

    root: Path
    header: Mapping[str, Any]
    labels: tuple[str, ...]
    scheme: str

    @property
    def path(self) -> Path:
        """The file of the header."""
        return self.root / HEADER

    @property
    def counted(self) -> bool:
        """Whether a table counts the votes for labels."""
        return any(self._counting(_keys(_keys(table).get("columns"))) for table in self._tables.values())

    @property
    def languages(self) -> list[str]:
        """The languages of the database."""
        given = self.header.get("languages")
        return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []

    def scales(self, attribute: str, columns: list[str]) -> tuple[float, float] | None:
        """The lowest and the highest rating that the schemes of these columns (table/column) state."""
        for place in columns:
            table, _, column = place.partition("/")
            scheme = self._scheme(_keys(self._columns(table).get(column)))
            ends = (scheme.get("minimum"), scheme.get("maximum"))
            if all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends) and ends[0] != ends[1]:
                return float(str(ends[0])), float(str(ends[1]))
        return None

    def tables(self, wanted: tuple[str, ...] = ()) -> list[DatabaseTable]:
        """Its tables; of those that are not wanted, only what describes the utterances."""
        there, counted = self._tables, self.counted
        for name in wanted:
            if name not in there:
                raise SettingsError(f"has no table {name!r}", where=str(self.path), fix=known_names(name, there))
        tables = []
        for name, given in there.items():
            table = self._table(name, _keys(given), counted)
            if wanted and name not in wanted:
                table = DatabaseTable(name, table.segmented, table.split, described=table.described)
            tables.append(table)
        return tables

    def rows(self, name: str) -> Rows:
        """The rows of one of its tables."""
        if not _NAME.fullmatch(name):
            fix = "A table is named by letters, digits, dots, dashes and underscores."
            raise TableError(f"names a table {name[:40]!r}", where=str(self.path), fix=fix)
        for suffix in _SUFFIXES:
            path = self.root / f"db.{name}{suffix}"
            if path.is_file():
                return read_rows(path)
        pickled = (self.root / f"db.{name}.pkl").is_file()
        fix = 'Save it again: db.save(folder, storage_format="csv").' if pickled else "Check that it was copied whole."
        message = f"the table {name!r} is {'only a pickle' if pickled else 'missing'}"
        raise InputError(f"{message}: looked for db.{name}.csv and .parquet", where=str(self.root), fix=fix)

    def speakers(self) -> dict[str, dict[str, Any]]:
        """What is known of each speaker, from the labels of the scheme speaker or its table."""
        return self.described("speaker") if "speaker" in _keys(self.header.get("schemes")) else {}

    def described(self, scheme: str) -> dict[str, dict[str, Any]]:
        """The labels of a scheme, from the header or a misc table, and what is known of each."""
        labels = _keys(_keys(self.header.get("schemes")).get(scheme)).get("labels")
        if not isinstance(labels, str):
            known = _keys(labels)
            return {label: _keys(known.get(label)) for label in _labels(labels)}
        there = _keys(self.header.get("misc_tables"))
        if labels not in there:
            message = f"the scheme {scheme!r} takes its labels from the misc table {labels!r}, which there is not"
            raise TableError(message, where=str(self.path), fix=known_names(labels, there))
        rows = self.rows(labels)
        key = next(iter(rows.columns), "")
        return {str(row[key]): row for row in rows.frame.iter_rows(named=True)}

    @property
    def not_named(self) -> list[str]:
        """The files of tables in its folder that the header does not name: it may have been cut."""
        known = {*self._tables, *_keys(self.header.get("misc_tables"))}
        files = [name for name in names_in(self.root, _SUFFIXES) if name.startswith("db.")]
        return [name for name in files if name.removeprefix("db.").rpartition(".")[0] not in known]

    @property
    def _tables(self) -> dict[str, Any]:
        return _keys(self.header.get("tables"))

    def _columns(self, table: str) -> dict[str, Any]:
        return _keys(_keys(self._tables.get(table)).get("columns"))

    def _numbers(self, columns: Mapping[str, Any]) -> list[str]:
        """The columns that bear the names of labels, if there are several: they hold counts or shares."""
        numbers = [column for column in columns if column in self.labels]
        return numbers if len(numbers) > 1 else []

    def _counting(self, columns: Mapping[str, Any]) -> bool:
        numbers = self._numbers(columns)
        return bool(numbers) and all(self._scheme(_keys(columns[each])).get("dtype") == "int" for each in numbers)

    def _scheme(self, column: Mapping[str, Any]) -> dict[str, Any]:
        return _keys(_keys(self.header.get("schemes")).get(str(column.get("scheme_id"))))

    def _rater(self, column: Mapping[str, Any], table: str, counted: bool) -> Rater | None:
        """The rater of a column; None for a rater of another kind.

        A column without one holds answers of a crowd, unless the database counts its votes: then it is the label that
        most of them are for, such as emotion.0 and (of a tie) emotion.1 of audb's crema-d.
        """
        named = column.get("rater_id")
        if named is None:
            return Rater("", "published" if counted or "gold_standard" in table else "")
        kind = _keys(_keys(self.header.get("raters")).get(str(named))).get("type", "human")
        known = {"human": "human", "machine": "machine", "ground truth": "published", "vote": "published"}
        return Rater(str(named), known[kind]) if isinstance(kind, str) and kind in known else None

    def _table(self, name: str, given: Mapping[str, Any], counted: bool) -> DatabaseTable:
        columns = {column: _keys(each) for column, each in _keys(given.get("columns")).items()}
        words: dict[str, Rater] = {}
        ratings: dict[str, tuple[str, Rater]] = {}
        described: dict[str, str] = {}
        others = []
        many = {column: column for column in self._numbers(columns)}
        counts = self._counting(columns)
        for column, each in columns.items():
            rater = self._rater(each, name, counted)
            scheme = str(each.get("scheme_id"))
            attribute = _RATINGS.get(column, _RATINGS.get(scheme))
            if column in many:
                continue
            if scheme == self.scheme and "desired" in name.split("."):
                described.setdefault("intended", column)  # what an actor was asked for is no vote
            elif rater is not None and scheme == self.scheme:
                words[column] = rater
            elif rater is not None and attribute is not None:
                ratings[column] = (attribute, rater)
            elif (ours := _DESCRIBED.get(column, _DESCRIBED.get(scheme))) is not None and ours not in described:
                described[ours] = column
            else:
                others.append(column)
        split = given.get("split_id")
        kind = _keys(_keys(self.header.get("splits")).get(str(split))).get("type")
        known = kind if kind in ("train", "dev", "test") else split
        return DatabaseTable(
            name,
            segmented=given.get("type") == "segmented",
            split=split_word(str(known)) if split is not None else None,
            words=words,
            ratings=ratings,
            counts=many if counts else {},
            shares={} if counts else many,
            described=described,
            others=tuple(others),
        )


def database(source: AudformatSource) -> Database:
    """The database of a folder, or of its db.yaml."""
    root = source.source if source.source.is_dir() else source.source.parent
    path = root / HEADER
    if not path.is_file() or (source.source.is_file() and source.source.name != HEADER):
        raise not_the_corpus(source.source, "an audformat database", HEADER)
    header = _keys(_yaml(path))
    if not _keys(header.get("tables")):
        raise TableError("has no tables", where=str(path), fix="Name the folder of an audformat database.")
    schemes = _keys(header.get("schemes"))
    scheme = source.scheme or _scheme(header, schemes, path)
    if scheme not in schemes:
        raise SettingsError(f"has no scheme {scheme!r}", where=str(path), fix=known_names(scheme, schemes))
    for place, column in _each_column(header):
        named = column.get("scheme_id")
        if named is not None and str(named) not in schemes:
            message = f"the column {place} names the scheme {named!r}, which there is not"
            raise TableError(message, where=str(path), fix=known_names(str(named), schemes))
    base = Database(root, header, (), scheme)
    return replace(base, labels=tuple(base.described(scheme)))


def _scheme(header: Mapping[str, Any], schemes: Mapping[str, Any], path: Path) -> str:
    """The scheme of the emotion labels: by its name, or the only one with labels that a rater used."""
    if "emotion" in schemes:
        return "emotion"
    used = {str(column.get("scheme_id")) for _, column in _each_column(header) if column.get("rater_id") is not None}
    known = [name for name, scheme in schemes.items() if _keys(scheme).get("labels") and name in used]
    if len(known) == 1:
        return known[0]
    fix = f"Name it: --scheme NAME (scheme). There are: {', '.join(schemes) or 'none'}."
    raise SettingsError("the scheme of the emotion labels is not known", where=str(path), fix=fix)


def _each_column(header: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every column of a table, by table/column."""
    for name, table in _keys(header.get("tables")).items():
        for column, given in _keys(_keys(table).get("columns")).items():
            yield f"{name}/{column}", _keys(given)


def _labels(given: Any) -> tuple[str, ...]:
    listed = list(given) if isinstance(given, list | dict) else []
    return tuple(str(label) for label in listed if isinstance(label, str | int))


def _keys(value: Any) -> dict[str, Any]:
    """A mapping with names as text; empty for anything else."""
    return {str(name): each for name, each in value.items()} if isinstance(value, dict) else {}


def _yaml(path: Path) -> Any:
    yaml = need("yaml", "audformat")
    with open_file(path) as stream:
        try:
            return yaml.load(stream.read(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
            raise TableError("is not YAML", where=place, fix="Check that it was copied whole.") from None
