"""Hugging Face data sets: rows streamed by `datasets`, recordings undecoded, columns mapped like those of a table."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from alm_proxies.audio.folder import files_below
from alm_proxies.cards import Card
from alm_proxies.errors import TableError, need
from alm_proxies.files import is_there, write_bytes
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import listing, not_the_corpus
from alm_proxies.stages.read.formats.huggingface import HuggingfaceSource
from alm_proxies.stages.read.rows import Rows
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.splits import split_word
from alm_proxies.stages.read.table import mapped_part
from alm_proxies.stages.read.vocabulary import Vocabulary

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_LOOKED_FOR = "Parquet or Arrow files, a folder of save_to_disk, or recordings with metadata.csv"
_SIGNS = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}


@dataclass(slots=True)
class _Inside:
    """Recordings that are inside the data set's files."""

    extract: Path | None
    names: dict[str, None] = field(default_factory=dict)
    contents: dict[str, dict[bytes, str]] = field(default_factory=dict)
    """The name of each recording, by the name that the files give it and the digest of its content."""

    @property
    def numbered(self) -> list[str]:
        """The recordings that got a number because another one has their name."""
        return [own for named, known in self.contents.items() for own in known.values() if own != named]

    def own(self, named: str, content: bytes) -> str:
        """The name of a recording in the files; a further one of the same name gets a number."""
        digest, known = hashlib.sha256(content).digest(), self.contents.setdefault(named, {})
        if digest not in known:
            place, number = PurePosixPath(named), max(2, len(known) + 1)
            own = named
            while own in self.names:
                own, number = place.with_name(f"{place.stem}~{number}{place.suffix}").as_posix(), number + 1
            known[digest] = own
            self.names[own] = None
        return known[digest]


def read_huggingface(source: HuggingfaceSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The utterances, votes and soft labels of a data set under a mapping of its columns."""
    place = source.source
    root = place if place.is_dir() else place.parent
    inside = _Inside(source.extract)
    with _quiet():
        splits = {name: _rows(rows, root / name, place, inside) for name, rows in _loaded(place).items()}
    sounds = inside.extract.absolute() if inside.extract is not None else root
    paths = [(sounds / name, split_word(name)) for name in splits]
    part = mapped_part(source, vocabulary, card, sounds, paths, lambda path, wanted: splits[path.name])
    words, rest = ("recording has", "recordings have"), "the name of another one, and got a number"
    same = listing("misnamed", inside.numbered, words, rest, str(place))
    part = replace(part, inputs=tuple(_files(place)), findings=[*part.findings, *same])
    if not inside.names or inside.extract is not None:
        return part
    known = [reported for reported in part.findings if reported.kind != "no_audio"]
    message = (
        f"{counted(len(inside.names), 'recording is', 'recordings are')} inside the data set's files, such as "
        f"{next(iter(inside.names))!r}"
    )
    fix = "extract = FOLDER (--extract FOLDER) writes them out as they are."
    known.append(finding("no_audio", message, fix=fix, where=str(place), count=len(inside.names)))
    audio = pl.when(~pl.col("audio").is_in(list(inside.names))).then("audio").alias("audio")
    people = part.utterances.with_columns(audio) if "audio" in part.utterances.columns else part.utterances
    return replace(part, utterances=people, findings=known)


@contextmanager
def _quiet() -> Iterator[None]:
    """A context in which the packages print nothing: what they report is in the error or in a finding."""
    datasets = need("datasets", "datasets")
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _loaded(place: Path) -> dict[str, Any]:
    """The splits of a data set as streams of rows."""
    datasets = need("datasets", "datasets")
    suffix = place.suffix.lower()
    if place.is_file() and suffix not in _BUILDERS:
        raise not_the_corpus(place, "a Hugging Face data set", _LOOKED_FOR)
    saved = place.is_dir() and any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(str(place))
        elif place.is_file():
            loaded = datasets.load_dataset(_BUILDERS[suffix], data_files=str(place), streaming=True)
        else:
            loaded = datasets.load_dataset(str(place), streaming=True)
        if not saved and (columns := _untyped(loaded)):
            kind, own = ("csv", {"data_files": str(place)}) if place.is_file() else (str(place), {})
            text = datasets.Features(dict.fromkeys(columns, datasets.Value("string")))
            loaded = datasets.load_dataset(kind, **own, streaming=True, features=text)
    except Exception as error:  # the package raises errors of many kinds for files that it cannot load
        raise _not_loaded(place, error) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {name: rows.to_iterable_dataset() if saved else rows for name, rows in splits.items()}


def _untyped(loaded: Mapping[str, Any]) -> list[str]:
    """The columns of CSV files, which state no types: read as text, an id such as 007 stays as it is."""
    first = next(iter(loaded.values()), None)
    if first is None or first.features is not None or first.info.builder_name != "csv":
        return []
    return list(next(iter(first), {}))


def _not_loaded(place: Path, error: Exception) -> TableError:
    reason, *rest = str(error).splitlines() or [""]
    reason = reason[:120] or type(error).__name__
    fix = f"Name the folder or file itself; looked for {_LOOKED_FOR}."
    if reason.startswith("Config name is missing"):
        reason = f"it has several configurations{''.join(re.findall(r':[^:]*$', rest[0])) if rest else ''}"
        fix = "Name the folder of the files of one of them."
    return TableError(f"cannot be loaded by datasets: {reason}", where=str(place), fix=fix)


def _rows(stream: Any, path: Path, place: Path, inside: _Inside) -> Rows:
    """The rows of a split as text; a column of recordings holds their paths."""
    root = place if place.is_dir() else place.parent
    cells: dict[str, list[str | None]] = {}
    number = 0
    try:
        stream, folder = _undecoded(stream)
        for number, row in enumerate(stream, start=1):
            features = stream.features or {}
            row |= {name: {"bytes": None, "path": row.get(name)} for name in folder}
            for name, value in _texts(row, features, path, root, number, inside):
                cells.setdefault(name, [None] * (number - 1)).append(value)
            for column in cells.values():
                column += [None] * (number - len(column))
        frame = pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String()))
    except (OSError, TableError):
        raise
    except Exception as error:  # the package raises errors of many kinds for files that it cannot read
        raise _not_loaded(place, error) from error
    if not number:
        raise TableError("has no rows", where=str(path), fix="Check that it was copied whole.")
    return Rows(str(path), tuple(cells), frame)


def _undecoded(stream: Any) -> tuple[Any, list[str]]:
    """A stream whose recordings are not decoded, and those columns that hold only their paths."""
    datasets = need("datasets", "datasets")
    if stream.features is None:  # of files that state no types, where there is no recording to leave undecoded
        return stream, []
    sounds = [name for name, feature in stream.features.items() if isinstance(feature, datasets.Audio)]
    if stream.info.builder_name != "audiofolder":
        return stream.decode(False), []
    for name in sounds:
        stream = stream.cast_column(name, datasets.Value("string"))
    return stream, sounds


def _texts(
    row: Mapping[str, Any], features: Mapping[str, Any], path: Path, root: Path, number: int, inside: _Inside
) -> Iterator[tuple[str, str | None]]:
    for name, value in row.items():
        if isinstance(value, dict) and {"bytes", "path"} == set(value):
            yield name, _recording(value, path, root, number, inside)
        else:
            yield name, _text(_named(value, features.get(name)))


def _named(value: Any, feature: Any) -> Any:
    """A value with class numbers as the names of their classes."""
    if isinstance(value, list):
        return [_named(each, getattr(feature, "feature", None)) for each in value]
    if hasattr(feature, "int2str") and isinstance(value, int):
        return feature.int2str(value) if value >= 0 else None
    return value


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return json.dumps(value, ensure_ascii=False, default=str)


def _recording(value: Mapping[str, Any], path: Path, root: Path, number: int, inside: _Inside) -> str | None:
    """The path of a recording, under the root where it lies there; one inside the files is written out if asked for."""
    content, named = value["bytes"], value["path"]
    if content is None:
        path_named = str(named).removeprefix("file://") if named else None
        below = path_named is not None and inside.extract is None and Path(path_named).is_relative_to(root.absolute())
        return (
            Path(path_named).relative_to(root.absolute()).as_posix() if path_named is not None and below else path_named
        )
    name = PurePosixPath(str(named or "").replace("\\", "/").replace("\0", "")).name
    if name in ("", ".", ".."):
        sign = next((ending for start, ending in _SIGNS.items() if content.startswith(start)), ".wav")
        name = f"{number - 1:07d}{sign}"
    own = inside.own(f"{path.name}/{name}", content)
    if inside.extract is not None:
        target = inside.extract / own
        if not (is_there(target) and target.stat().st_size == len(content) and target.read_bytes() == content):
            write_bytes(target, content)
    return own


def _files(place: Path) -> list[Path]:
    """The files with the data set's rows."""
    if place.is_file():
        return [place]
    wanted = (*_BUILDERS, ".tsv", ".md")
    return sorted(path for path in files_below(place) if path.suffix.lower() in wanted)
