"""EmotionLines: lines of dialogues with a string of seven counts, the votes of five raters on the text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import TableError
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import consensus_of, json_content, listing, names_in, not_the_corpus
from alm_proxies.stages.read.formats.emotionlines import EmotionlinesSource
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.splits import split_word
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import CROWD, Finding

WORDS = ("neutral", "joy", "sadness", "fear", "anger", "surprise", "disgust")
"""The order of the counts in a line's annotation."""
_RATERS = 5
_NO_MAJORITY = "non-neutral"
_FILE = re.compile(r"(friends|emotionpush)(?:[_.](train|dev|test))?\.json", re.IGNORECASE)
_FOLDERS = ("friends", "emotionpush")
_LOOKED_FOR = "Friends/friends_train.json, EmotionPush/emotionpush_train.json ... or friends.json"
_FORM = '{"speaker": "Kim", "utterance": "...", "emotion": "surprise", "annotation": "2000030"}'
_TEXT = pl.String()
_LINE = {"own": _TEXT, "dialogue": _TEXT, "turn": pl.Int32(), "speaker": _TEXT, "transcript": _TEXT, "split": _TEXT,
         "part": _TEXT, "published": _TEXT, "counts": _TEXT}  # fmt: skip


def read_emotionlines(source: EmotionlinesSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The lines of EmotionLines and the votes of their raters, whose names are not published."""
    corpus = source.corpus
    lines, findings = _once({path: _lines(path) for path in _files(source.source)}, corpus)
    files = list(lines)
    rows = [row for path in files for row in lines[path]]
    if not rows:
        raise TableError("holds no line", where=str(files[0]), fix=f"A line looks like: {_FORM}")
    frame = pl.DataFrame(rows, schema=_LINE)
    utterances = frame.select(
        (pl.lit(f"{corpus}/") + pl.col("own")).alias("utterance_id"),
        pl.lit(corpus).alias("corpus"),
        (pl.lit(f"{corpus}/") + pl.col("dialogue")).alias("dialogue"),
        "turn",
        (pl.lit(f"{corpus}/") + pl.col("part") + "/" + pl.col("speaker")).alias("speaker"),
        pl.lit("en").alias("language"),
        "transcript",
        "split",
        "part",
    )
    annotated = frame["counts"].str.contains(rf"^[0-9]{{{len(WORDS)}}}$").fill_null(False)
    if not annotated.any():
        message = f"has no line with an annotation of {len(WORDS)} digits, so no votes"
        raise TableError(message, where=str(files[0]), fix=f"A line looks like: {_FORM}")
    have, rest = ("line has", "lines have"), f"no annotation of {len(WORDS)} digits, so the votes are not known"
    findings += listing("unread_lines", frame.filter(~annotated)["own"], have, rest, corpus)
    heard = frame.filter(annotated).with_columns(
        pl.col("counts").str.slice(place, 1).cast(pl.Int64).alias(word) for place, word in enumerate(WORDS)
    )
    odd = heard.filter(pl.sum_horizontal(WORDS) != _RATERS)
    rest = f"other than {_RATERS} votes, which are read"
    findings += listing("odd_count", odd["own"], have, rest, corpus)
    long = heard.unpivot(index="own", on=WORDS, variable_name="word", value_name="count")
    votes, lost = vocabulary.tallied(long.select(*_whose(corpus, CROWD), "word", "count"), corpus)
    agreed = frame.filter(pl.col("published").is_not_null() & (pl.col("published").str.to_lowercase() != _NO_MAJORITY))
    published = agreed.select(*_whose(corpus, ""), pl.col("published").alias("word"))
    published = published.with_columns(annotator=pl.lit(consensus_of(corpus)))
    consensus, _ = vocabulary.votes(published, corpus)
    other = agreed.filter(~pl.col("published").str.to_lowercase().is_in(WORDS))
    rest = f"a published label that is none of {', '.join(WORDS)}"  # the words of the others are those of the votes
    findings += listing("out_of_vocabulary", other["own"], have, rest, corpus)
    no_majority = frame.filter(pl.col("published").str.to_lowercase() == _NO_MAJORITY).height
    if no_majority:
        has = counted(no_majority, "line has", "lines have")
        message = f"{has} no published majority label ({_NO_MAJORITY}); the votes are read"
        findings.append(finding("no_majority", message, where=corpus, count=no_majority))
    votes = pl.concat([votes, consensus], how="diagonal")
    return Part(utterances, votes, tuple(files), [*findings, *lost])


def _whose(corpus: str, annotator: str) -> list[pl.Expr]:
    return [
        (pl.lit(f"{corpus}/") + pl.col("own")).alias("utterance_id"),
        pl.lit(corpus + annotator).alias("annotator"),
        pl.lit("human").alias("source"),
    ]


def _files(source: Path) -> list[Path]:
    """The published files; those with translated copies of the lines (augmented) are no votes of their own."""
    if source.is_file():
        if _FILE.fullmatch(source.name):
            return [source]
        raise not_the_corpus(source, "EmotionLines", _LOOKED_FOR)
    folders = [source, *(source / name for name in names_in(source) if name.lower() in _FOLDERS)]
    files = [folder / name for folder in folders for name in names_in(folder, [".json"]) if _FILE.fullmatch(name)]
    if not files:
        raise not_the_corpus(source, "EmotionLines", _LOOKED_FOR)
    return files


def _once(
    lines: dict[Path, list[dict[str, Any]]], corpus: str
) -> tuple[dict[Path, list[dict[str, Any]]], list[Finding]]:
    """The lines of each file, those of a part once: of its splits, or of the file of all if it holds more of them.

    EmotionLines itself has a file for each split; the EmotionX challenge published the same lines as one file a part.
    """
    findings = []
    for part in _FOLDERS:
        whole = [path for path in lines if path.stem.lower() == part]
        splits = [path for path in lines if re.match(rf"{part}[_.]", path.name, re.IGNORECASE) and path not in whole]
        if not whole or not splits:
            continue
        in_splits = sum(len(lines[path]) for path in splits)
        again = whole if in_splits >= max(len(lines[path]) for path in whole) else splits
        names, count = " and ".join(path.name for path in again), sum(len(lines[path]) for path in again)
        kept = " and ".join(path.name for path in (splits if again is whole else whole))
        message = (
            f"{counted(count, 'line')} of {names} left out, which {kept} {'hold' if again is whole else 'holds'} too"
        )
        findings.append(finding("repeated", message, where=corpus, count=count))
        lines = {path: rows for path, rows in lines.items() if path not in again}
    return lines, findings


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file in the order of their dialogues; ids are places, because lines have none."""
    content = json_content(path)
    named = _FILE.fullmatch(path.name)
    assert named is not None
    if not isinstance(content, list):
        raise TableError("is not a list of dialogues", where=str(path), fix=f"A line looks like: {_FORM}")
    rows = []
    for number, dialogue in enumerate(content):
        valid = isinstance(dialogue, list) and all(isinstance(line, dict) for line in dialogue)
        if not valid:
            message = "is not a dialogue, a list of lines"
            raise TableError(message, where=f"{path}, dialogue {number + 1}", fix=f"A line looks like: {_FORM}")
        own = f"{path.stem}_{number}"
        rows += [
            {
                "own": f"{own}_{turn}",
                "dialogue": own,
                "turn": turn,
                "speaker": _text(line, "speaker"),
                "transcript": _text(line, "utterance"),
                "split": split_word(named[2]) if named[2] else None,
                "part": named[1].lower(),
                "published": _text(line, "emotion"),
                "counts": _text(line, "annotation"),
            }
            for turn, line in enumerate(dialogue)
        ]
    return rows


def _text(line: dict[str, Any], key: str) -> str | None:
    """A text of a line without half characters, a whole number as text; None if there is none."""
    value = line.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().encode("utf-8", "replace").decode()
