"""MSP-IMPROV: Evalution.txt has a block per turn, with a line for the turn and one for every worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.audio.folder import files_below
from alm_proxies.cards import Card
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import (
    Answers,
    Unread,
    consensus_of,
    names_in,
    not_the_corpus,
    on_unit_scales,
    scales_in,
    text_lines,
    with_recordings,
)
from alm_proxies.stages.read.formats.msp_improv import MspImprovSource
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary

_FILES = ("evalution.txt", "evaluation.txt")
_NUMBER = r"(-?\d+(?:\.\d+)?|NaN)"
_TURN = re.compile(
    r"(?:UTD|MSP)-IMPROV-(S\d\d([A-Z])-([FM]\d\d)-([A-Z])-([FM]{2}\d\d))\.(?:avi|wav)\s*;\s*([A-Z])\s*;(.*)"
)
_OF_TURN = re.compile(r"\s*(?:UTD|MSP)-IMPROV-", re.IGNORECASE)
_WORKER = re.compile(r"\s*([^;]+?)\s*;\s*([^;:]+?)\s*;(.*)")
_RATING = {
    name: re.compile(rf"(?:^|[;\s]){letter}:\s*{_NUMBER}")
    for name, letter in zip(("valence", "arousal", "dominance"), "VAD", strict=True)
}
_INTENDED = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
_FORM = "UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.0; V:3.5; D:3.0 ; N:4.0;"
_LOOKED_FOR = "Evalution.txt (spelled like this in the release)"
_NO_AGREEMENT = "X"


def read_msp_improv(source: MspImprovSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The turns of MSP-IMPROV with their workers' votes."""
    path, root = _file(source.source)
    rows: dict[str, dict[str, Any]] = {}
    answers, unread = Answers(), Unread()
    heard: set[tuple[str, str]] = set()
    turn, turns, repeated, no_majority = "", 0, 0, 0
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        if head := _TURN.fullmatch(line.strip()):
            turn = f"MSP-IMPROV-{head[1]}"
            if turn in rows:
                turns += 1
                continue
            rows[turn] = _described(head, turn, source.corpus)
            if head[6] == _NO_AGREEMENT:
                no_majority += 1
            else:
                answers.add(turn, consensus_of(source.corpus), head[6], _ratings(head[7]))
        elif _OF_TURN.match(line):  # whose answers follow is not known
            turn = ""
            unread.add(path, number, line)
        elif turn and (worker := _WORKER.fullmatch(line)):
            if (turn, worker[1]) in heard:
                repeated += 1
                continue
            heard.add((turn, worker[1]))
            answers.add(turn, f"{source.corpus}/{worker[1]}", worker[2], _ratings(worker[3]))
        else:
            unread.add(path, number, line)
    if not rows:
        raise not_the_corpus(path, "MSP-IMPROV", f"lines such as {_FORM!r} in {path}")
    where = source.corpus
    findings = unread.findings(_FORM)
    if repeated:
        message = f"{counted(repeated, 'repeated answer')} of a worker for the same turn left out"
        findings.append(finding("repeated", message, where=str(path), count=repeated))
    if turns:
        repeat = counted(turns, "line repeats", "lines repeat")
        message = f"{repeat} a turn: the answers below are read, the published label was read once"
        findings.append(finding("repeated", message, where=str(path), count=turns))
    if no_majority:
        has = counted(no_majority, "turn has", "turns have")
        message = f"{has} no published majority label (X); the votes are read"
        findings.append(finding("no_majority", message, where=where, count=no_majority))
    utterances = pl.DataFrame(list(rows.values()))
    utterances, silent = with_recordings(utterances, _recordings(root), "Audio/session*/S*/*/<turn>.wav", where)
    frame, wrong = on_unit_scales(answers.frame(pl.String()), card, where)
    votes, lost = vocabulary.votes(frame.with_columns(prefixed("utterance_id", where)), where)
    findings += [*silent, *wrong, *lost]
    return Part(utterances, votes, (path,), findings, root=root, scales=scales_in(frame, card))


def _file(source: Path) -> tuple[Path, Path]:
    if source.is_file():
        return source, source.parent
    for folder in (source, *(source / name for name in names_in(source))):
        for name in names_in(folder, [".txt"]):
            if name.lower() in _FILES:
                return folder / name, source
    raise not_the_corpus(source, "MSP-IMPROV", _LOOKED_FOR)


def _described(head: re.Match[str], turn: str, corpus: str) -> dict[str, Any]:
    return {
        "own": turn,
        "utterance_id": f"{corpus}/{turn}",
        "corpus": corpus,
        "speaker": f"{corpus}/{head[3]}",
        "gender": "female" if head[3][0] == "F" else "male",
        "language": "en",
        "dialogue": f"{corpus}/{head[1].rpartition('-')[0]}",
        "intended": _INTENDED.get(head[2]),
        "sentence": head[1][:3],
        "session": str(int(head[3][1:])),
        "scenario": head[4],
    }


def _ratings(text: str) -> tuple[float | None, float | None, float | None]:
    """Valence, arousal and dominance, in any order, from the rest of a line; NaN is a missing rating."""
    matches = [pattern.search(text) for pattern in _RATING.values()]
    values = [None if match is None or match[1] == "NaN" else float(match[1]) for match in matches]
    return values[0], values[1], values[2]


def _recordings(root: Path) -> dict[str, str]:
    """The recording of each turn, relative to the root."""
    folders = [name for name in names_in(root) if name.lower() == "audio"]
    paths = sorted(path for folder in folders for path in files_below(root / folder) if not path.name.startswith("."))
    return {path.stem: path.relative_to(root).as_posix() for path in paths if path.suffix.lower() == ".wav"}
