"""Shared by the readers of published corpora: text files of any encoding, missing folders, ratings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.files import could_not_read, open_file
from alm_proxies.printable import counted
from alm_proxies.stages.read.rows import TwiceError, each_key_once
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import ATTRIBUTES, CONSENSUS, Finding
from alm_proxies.taxonomy import to_unit

_SHOWN = 5
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def text_lines(path: Path) -> list[str]:
    """The lines of a text file: UTF-8 or UTF-16 with a byte order mark, else latin-1."""
    with open_file(path) as stream:
        content = stream.read()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeError:
        text = content.decode("latin-1")
    return re.split(r"\r\n|\n|\r", text)


def json_content(path: Path) -> Any:
    """The content of a JSON file; a TableError if it is not JSON, or has a key twice: one value would be lost."""
    fix = "Check that it was copied whole."
    with open_file(path) as stream:
        written = stream.read()
    try:
        text = written.decode("utf-16" if written[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        content = json.loads(text, object_pairs_hook=each_key_once)
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"is not {error.encoding} text", where=f"{path}, line {line}", fix="Save it as UTF-8."
        ) from None
    except TwiceError as error:
        raise TableError(str(error), where=str(path), fix="Keep one of them.") from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, character {error.colno}"
        raise TableError(f"is not JSON: {error.msg[:80]}", where=where, fix=fix) from None
    except (ValueError, RecursionError) as error:
        reason = str(error).split(":")[0][:80]
        raise TableError(f"is not JSON: {reason}", where=str(path), fix=fix) from None
    if _HALF.search(text) and re.search("[\ud800-\udfff]", json.dumps(content, ensure_ascii=False)):
        raise TableError("has half a character", where=str(path), fix=fix)
    return content


def consensus_of(corpus: str) -> str:
    """The annotator whose votes are the labels that a corpus publishes."""
    return corpus + CONSENSUS


def names_in(folder: Path, suffixes: Sequence[str] = ()) -> list[str]:
    """The sorted names in a folder, without those that begin with a dot; none if there is no such folder."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:  # a folder may hold hundreds of thousands
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise could_not_read(folder, error) from error
    return [name for name in names if not suffixes or name.lower().endswith(tuple(suffixes))]


def not_the_corpus(source: Path, title: str, looked_for: str) -> InputError:
    """The error for a folder that is not the corpus's, with the files expected and the files found."""
    if not source.is_dir():
        message = f"is not a file of {title}: looked for {looked_for}"
        return InputError(message, where=str(source), fix="Name the folder of the corpus, as it was unpacked.")
    there = names_in(source)
    shown = ", ".join(map(repr, there[:_SHOWN])) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
    message = f"is not the folder of {title}: looked for {looked_for}, found {shown or 'nothing'}"
    return InputError(message, where=str(source), fix="Name the folder as it was unpacked.")


@dataclass(slots=True)
class Unread:
    """Lines that a reader could not parse: how many, and where the first one is."""

    count: int = 0
    first: str = ""
    text: str = ""

    def add(self, path: Path, line: int, text: str) -> None:
        """Count one more line."""
        if not self.count:
            self.first, self.text = f"{path}, line {line}", text if len(text) <= 60 else text[:57] + "..."
        self.count += 1

    def findings(self, form: str) -> list[Finding]:
        """A finding for all of them; `form` is an example of a valid line."""
        if not self.count:
            return []
        lines = counted(self.count, "line could not be read and was", "lines could not be read and were")
        message = f"{lines} left out, the first is {self.text!r}"
        return [finding("unread_lines", message, fix=f"A line looks like: {form}", where=self.first, count=self.count)]


@dataclass(slots=True)
class Answers:
    """Answers in columns, one row each; ratings are on the corpus's own scales."""

    utterance_id: list[str] = field(default_factory=list)
    annotator: list[str] = field(default_factory=list)
    word: list[str | None] | list[list[str] | None] = field(default_factory=list)
    valence: list[float | None] = field(default_factory=list)
    arousal: list[float | None] = field(default_factory=list)
    dominance: list[float | None] = field(default_factory=list)

    def add(
        self,
        utterance: str,
        annotator: str,
        word: object,
        ratings: tuple[float | None, float | None, float | None] = (None, None, None),
    ) -> None:
        """One answer; ratings are valence, arousal, dominance."""
        self.utterance_id.append(utterance)
        self.annotator.append(annotator)
        self.word.append(word)  # type: ignore[arg-type]  # text, or a list of texts, the same for a whole corpus
        for values, rating in zip((self.valence, self.arousal, self.dominance), ratings, strict=True):
            values.append(rating)

    def frame(self, word: pl.DataType) -> pl.DataFrame:
        """The answers as Vocabulary.votes takes them, with ratings not yet scaled to 0..1."""
        text = pl.String()
        schema = {"utterance_id": text, "annotator": text, "word": word, **dict.fromkeys(ATTRIBUTES, pl.Float64())}
        columns = {name: getattr(self, name) for name in schema}
        return pl.DataFrame(columns, schema=schema).with_columns(source=pl.lit("human"))


def on_unit_scales(
    frame: pl.DataFrame, card: Card, where: str, other_way: str = ""
) -> tuple[pl.DataFrame, list[Finding]]:
    """Ratings scaled to 0..1 from the scales of the corpus's card; those outside are left out and counted."""
    findings: list[Finding] = []
    for name in (name for name in ATTRIBUTES if name in frame.columns):
        values = frame[name].cast(pl.Float64).to_numpy()
        if np.isnan(values).all():
            frame = frame.drop(name)
            continue
        if name not in card.scales:
            ways = [f"write scales = {{ {name} = [1, 5] }} into its card", other_way.format(name=name)]
            fix = f"State it: {', '.join(filter(None, ways))}."
            raise SettingsError(f"the scale of {name} is not stated", where=where, fix=fix)
        low, high = card.scales[name]
        outside = (values < min(low, high)) | (values > max(low, high))
        if count := int(outside.sum()):
            message = f"{counted(count, 'rating')} of {name} left out, outside the scale from {low:g} to {high:g}"
            findings.append(finding("missing_number", message, where=where, count=count))
        unit = to_unit(np.where(outside, np.nan, values), low, high)
        frame = frame.with_columns(pl.Series(name, unit).fill_nan(None))
    return frame, findings


def scales_in(frame: pl.DataFrame, card: Card) -> dict[str, tuple[float, float]]:
    """The scales of the ratings, for the votes' metadata."""
    return {name: card.scales[name] for name in ATTRIBUTES if name in frame.columns and name in card.scales}


def with_recordings(
    utterances: pl.DataFrame, there: dict[str, str], looked_for: str, where: str
) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances with the path of their recording; those without one are counted.

    `there`: own id = path under the corpus's root. `utterances` has the column `own`, which is dropped.
    """
    findings: list[Finding] = []
    own = utterances["own"].to_list()
    utterances = utterances.with_columns(audio=pl.Series([there.get(name) for name in own], dtype=pl.String))
    absent = [name for name in own if name not in there]
    if absent:
        shown = ", ".join(map(repr, absent[:3])) + (" ..." if len(absent) > 3 else "")
        message = f"{len(absent)} of {len(own)} utterances have no recording: {shown}; looked for {looked_for}"
        fix = "Put the recordings there; votes and labels can be used without them."
        findings.append(finding("no_audio", message, fix=fix, where=where, count=len(absent)))
    rest = set(there) - set(own)
    if rest:
        shown = ", ".join(map(repr, sorted(rest)[:3])) + (" ..." if len(rest) > 3 else "")
        were = counted(len(rest), "recording without votes was", "recordings without votes were")
        message = f"{were} left out: {shown}"
        findings.append(finding("no_votes", message, where=where, count=len(rest)))
    return utterances.drop("own"), findings


def answered_again(answers: pl.DataFrame, where: str) -> list[Finding]:
    """A finding with the number of answers of raters who had answered for the utterance before; all are votes."""
    again = answers.filter(~pl.struct("utterance_id", "annotator").is_first_distinct())["utterance_id"]
    words = ("answer comes", "answers come")
    return listing("answered_again", again, words, "from a rater who had answered before; each counts as a vote", where)


def listing(
    kind: str, items: Iterable[str], words: tuple[str, str], rest: str, where: str, fix: str = ""
) -> list[Finding]:
    """A finding with the number of some items and the first of them; none if there are no items.

    `words` are those for one item and for several: ("clip has", "clips have").
    """
    listed = list(items)
    if not listed:
        return []
    shown = ", ".join(map(repr, listed[:3])) + (" ..." if len(listed) > 3 else "")
    return [finding(kind, f"{counted(len(listed), *words)} {rest}: {shown}", fix=fix, where=where, count=len(listed))]
