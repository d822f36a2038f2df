"""IEMOCAP: the votes of dialog/EmoEvaluation, with the transcripts and recordings that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import (
    Answers,
    Unread,
    answered_again,
    consensus_of,
    listing,
    names_in,
    not_the_corpus,
    on_unit_scales,
    scales_in,
    text_lines,
    with_recordings,
)
from alm_proxies.stages.read.formats.iemocap import IemocapSource
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary

_UTTERANCE = r"Ses0[1-5][MF]_(?:impro|script)\w+_[MF](?:\d{3}|XX\d)"
_SUMMARY = re.compile(
    rf"\[(\d+(?:\.\d+)?) - (\d+(?:\.\d+)?)\]\s+({_UTTERANCE})\s+(\w+)\s+\[([\d.]+), *([\d.]+), *([\d.]+)\]\s*"
)
_CATEGORY = re.compile(r"C-([EFM]\d+):\s*((?:[^;\t]*;)+)\s*(?:\((.*)\))?\s*")
_RATINGS = re.compile(r"A-([EFM]\d+):\s*val *([^;]*); *act *([^;]*); *dom *([^;]*);\s*(?:\((.*)\))?\s*")
_TRANSCRIPT = re.compile(rf"({_UTTERANCE}) *\[[\d.]+ *- *[\d.]+\] *:(.*)")
_FORM = "[3.1000 - 5.4200]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000], C-E2:<tab>Neutral;<tab>()"
_LOOKED_FOR = "Session1/dialog/EmoEvaluation/*.txt"
_NO_MAJORITY = "xxx"


@dataclass(slots=True)
class _Turns:
    """The contents of the evaluation files."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outside: Answers = field(default_factory=Answers)
    repeated: list[str] = field(default_factory=list)
    self_reports: int = 0
    no_majority: int = 0
    blank: int = 0
    unread: Unread = field(default_factory=Unread)


def read_iemocap(source: IemocapSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The turns of IEMOCAP with the votes of its evaluators."""
    root, sessions = _sessions(source.source)
    files = [path for session in sessions for path in _evaluations(session)]
    if not files:
        raise not_the_corpus(source.source, "IEMOCAP", _LOOKED_FOR)
    turns = _Turns()
    for path in files:
        _read_dialogue(path, source, turns)
    if not turns.rows:
        where = str(files[0])
        raise not_the_corpus(source.source, "IEMOCAP", f"turns such as {_FORM.split(', C-')[0]!r} in {where}")
    where = source.corpus
    transcripts, transcript_files = _transcripts(sessions)
    utterances = _utterances(turns, transcripts, source)
    utterances, findings = with_recordings(
        utterances, _recordings(root, sessions), "sentences/wav/<dialogue>/<turn>.wav in each session", where
    )
    answers, wrong = on_unit_scales(turns.outside.frame(pl.List(pl.String)), card, where)
    answers = answers.with_columns(prefixed("utterance_id", source.corpus))
    votes, lost = vocabulary.votes(answers, source.corpus)
    findings += [*answered_again(answers, where), *wrong, *lost, *turns.unread.findings(_FORM)]
    twice = ("turn occurs", "turns occur")
    findings += listing("repeated", turns.repeated, twice, "twice; the first was taken", where)
    if turns.self_reports:
        message = f"{counted(turns.self_reports, 'answer')} of the actors about themselves left out"
        fix = "self_reports = true (--self-reports) reads them."
        findings.append(finding("self_reports", message, fix=fix, where=where, count=turns.self_reports))
    if turns.blank:
        message = f"{counted(turns.blank, 'answer has', 'answers have')} neither an emotion nor a rating"
        findings.append(finding("no_vote", message, where=where, count=turns.blank))
    if turns.no_majority:
        has = counted(turns.no_majority, "turn has", "turns have")
        message = f"{has} no published majority label (xxx); the votes are read"
        findings.append(finding("no_majority", message, where=where, count=turns.no_majority))
    voted = set(turns.outside.utterance_id)
    silent = [name for name in turns.rows if name not in voted]
    findings += listing("no_votes", silent, ("turn has", "turns have"), "no vote of an outside evaluator", where)
    inputs = (*files, *transcript_files)
    return Part(utterances, votes, inputs, findings, root=root, scales=scales_in(answers, card))


def _sessions(source: Path) -> tuple[Path, list[Path]]:
    """The root that recordings are relative to, and the folders of the sessions."""
    if re.fullmatch(r"Session[1-5]", source.name) and (source / "dialog").is_dir():
        return source.parent, [source]
    for root in (source, source / "IEMOCAP_full_release"):
        sessions = [root / name for name in names_in(root) if re.fullmatch(r"Session[1-5]", name)]
        if sessions:
            return root, sessions
    raise not_the_corpus(source, "IEMOCAP", _LOOKED_FOR)


def _evaluations(session: Path) -> list[Path]:
    """The files of all evaluators; the sub-folders repeat the same votes by single raters, and are skipped."""
    folder = session / "dialog" / "EmoEvaluation"
    return [folder / name for name in names_in(folder, [".txt"]) if (folder / name).is_file()]


def _read_dialogue(path: Path, source: IemocapSource, turns: _Turns) -> None:
    turn: str | None = None
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip() or line.startswith("%"):
            continue
        if summary := _SUMMARY.fullmatch(line):
            turn = _begin(summary, path.stem, source, turns)
        elif turn is None or line.lstrip().startswith("["):  # whose answers follow is not known
            turn = None
            turns.unread.add(path, number, line)
        elif category := _CATEGORY.fullmatch(line):
            words = [word.strip() for word in category[2].split(";") if word.strip()]
            _answer(turns, source, turn, f"C-{category[1]}", words or None, (None, None, None))
        elif ratings := _RATINGS.fullmatch(line):
            values = tuple(_number(ratings[place]) for place in (2, 3, 4))
            if any(value is not None and value != value for value in values):
                turns.unread.add(path, number, line)
            else:
                _answer(turns, source, turn, f"A-{ratings[1]}", None, (values[0], values[1], values[2]))
        else:
            turns.unread.add(path, number, line)


def _begin(summary: re.Match[str], dialogue: str, source: IemocapSource, turns: _Turns) -> str:
    """Add a turn and return its name; empty for a repeated turn, whose answers are not taken again."""
    name = summary[3]
    if name in turns.rows:
        turns.repeated.append(name)
        return ""
    side = name.rpartition("_")[2][0]  # the speaker; the letter before is the actor who wore the markers
    turns.rows[name] = {
        "own": name,
        "dialogue": f"{source.corpus}/{dialogue}",
        "speaker": f"{source.corpus}/{name[:5]}{side}",
        "gender": "female" if side == "F" else "male",
        "start": float(summary[1]),
        "end": float(summary[2]),
        "session": name[4],
        "scenario": "improvised" if "_impro" in name else "scripted",
    }
    if summary[4] == _NO_MAJORITY:
        turns.no_majority += 1
    else:
        means = (float(summary[5]), float(summary[6]), float(summary[7]))
        turns.outside.add(name, consensus_of(source.corpus), [summary[4]], means)
    return name


def _answer(
    turns: _Turns,
    source: IemocapSource,
    turn: str,
    rater: str,
    words: list[str] | None,
    ratings: tuple[float | None, float | None, float | None],
) -> None:
    """One line of one evaluator. It is not known whether C- and A- lines number the same people alike."""
    if not turn:
        return
    if rater[2] in "FM" and not source.self_reports:
        turns.self_reports += 1
    elif words is None and all(value is None for value in ratings):
        turns.blank += 1
    else:
        turns.outside.add(turn, f"{source.corpus}/{rater}", words, ratings)


def _number(text: str) -> float | None:
    """A rating: None if blank, NaN if not a number."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return float("nan")


def _transcripts(sessions: list[Path]) -> tuple[dict[str, str], list[Path]]:
    """The transcript of each turn; lines without a turn's name are skipped."""
    transcripts: dict[str, str] = {}
    files = [path for session in sessions for path in _transcript_files(session)]
    for path in files:
        for line in text_lines(path):
            if match := _TRANSCRIPT.fullmatch(line.strip()):
                transcripts.setdefault(match[1], match[2].strip())
    return transcripts, files


def _transcript_files(session: Path) -> Iterator[Path]:
    folder = session / "dialog" / "transcriptions"
    return (folder / name for name in names_in(folder, [".txt"]))


def _recordings(root: Path, sessions: list[Path]) -> dict[str, str]:
    """The recording of each turn, relative to the root."""
    there: dict[str, str] = {}
    for session in sessions:
        folder = session / "sentences" / "wav"
        for dialogue in names_in(folder):
            inside = (folder / dialogue).relative_to(root).as_posix()
            there |= {name[:-4]: f"{inside}/{name}" for name in names_in(folder / dialogue, [".wav"])}
    return there


def _utterances(turns: _Turns, transcripts: dict[str, str], source: IemocapSource) -> pl.DataFrame:
    order = sorted(turns.rows.values(), key=lambda row: (row["dialogue"], row["start"], row["own"]))
    frame = pl.DataFrame(order).with_columns(
        utterance_id=pl.lit(f"{source.corpus}/") + pl.col("own"),
        corpus=pl.lit(source.corpus),
        language=pl.lit("en"),
        turn=pl.int_range(pl.len(), dtype=pl.Int32).over("dialogue"),
        transcript=pl.col("own").replace_strict(transcripts, default=None, return_dtype=pl.String),
    )
    # Each turn has a file of its own, so its place in the dialogue is no slice of its recording.
    frame = frame.with_columns(duration=(pl.col("end") - pl.col("start")).round(4)).drop("start", "end")
    split = split_of_sessions(source.split)
    if split is not None:
        frame = frame.with_columns(split=pl.col("session").replace_strict(split, return_dtype=pl.String))
    return frame


def split_of_sessions(given: str | None) -> dict[str, str] | None:
    """The split of each session under "sessions", "sessions:5" or "sessions:4,5"; None for any other split."""
    if given is None or not given.startswith("sessions"):
        return None
    numbers = [number for number in given.partition(":")[2].split(",") if number]
    if not numbers:
        return {number: f"fold{number}" for number in "12345"}
    split = dict.fromkeys("12345", "train") | {numbers[-1]: "test"}
    return split | ({numbers[0]: "development"} if len(numbers) == 2 else {})
