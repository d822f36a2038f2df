"""EMO-DB: the acted emotion is in the file names, the share of listeners who recognised it in erkennung.txt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.stages.read.corpus_files import listing, names_in, not_the_corpus, text_lines, with_recordings
from alm_proxies.stages.read.formats.emodb import EmodbSource
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import CROWD, Finding

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z])")
_EMOTIONS = {
    "W": "angry", "L": "bored", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
_MEN = ("03", "10", "11", "12", "15")
_TABLE = "erkennung.txt"
_ROW = re.compile(r"\d*\W*\t\s*(\w+)\.wav\s*\t\D*(\d+(?:[.,]\d+)?)\D*")
_LISTENERS = (20, 21)
_LOOKED_FOR = f"{_TABLE} and wav/03a01Fa.wav ..."


def read_emodb(source: EmodbSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The recordings of EMO-DB with the acted emotion, and a vote for each listener."""
    root = source.source if source.source.is_dir() else source.source.parent
    folder = "wav" if (root / "wav").is_dir() else ""
    there = {name[:-4]: f"{folder}/{name}".lstrip("/") for name in names_in(root / folder, [".wav"])}
    there = {own: path for own, path in there.items() if _NAME.fullmatch(own)}
    table = source.source if source.source.is_file() else root / _TABLE
    shares, findings = _recognised(table) if table.is_file() else ({}, [])
    clips = sorted(there) if there else sorted(shares)
    if not clips:
        raise not_the_corpus(source.source, "EMO-DB", _LOOKED_FOR)
    where = source.corpus
    unreleased = sorted(shares.keys() - set(clips))
    takes, rest = ("take", "takes"), "of the listening test left out, as the recording was not released"
    findings += listing("no_audio", unreleased, takes, rest, where)
    untested = [clip for clip in clips if clip not in shares]
    findings += listing("no_votes", untested, ("recording has", "recordings have"), f"no line in {_TABLE}", where)
    utterances = pl.DataFrame([_described(clip, source.corpus) for clip in clips])
    utterances, silent = with_recordings(utterances, there, "wav/<clip>.wav", where)
    heard, unclear = _answers_of(clips, shares, source.corpus)
    findings += [*silent, *unclear]
    if heard.height:
        others = int((heard["word"] == "").sum())
        message = f"{others} of {heard.height} listeners did not recognise the emotion; their answers are not known"
        fix = "Labels fused from these votes have a lower entropy than the listeners' answers."
        findings.append(finding("no_label", message, fix=fix, where=where, count=others))
    known = heard.filter(pl.col("word") != "")
    votes, lost = vocabulary.votes(known, where)
    inputs = (table,) if table.is_file() else ()
    return Part(utterances, votes, inputs, [*findings, *lost], root=root)


def _recognised(path: Path) -> tuple[dict[str, float], list[Finding]]:
    """The share of listeners, in per cent, who named the acted emotion, by clip; latin-1 with decimal commas."""
    shares: dict[str, float] = {}
    odd = []
    for number, line in enumerate(text_lines(path), start=1):
        row = _ROW.match(line)
        if row and _NAME.fullmatch(row[1]):
            shares[row[1]] = float(row[2].replace(",", "."))
        elif line.strip() and number > 1:
            odd.append(f"line {number}")
    if not shares:
        raise not_the_corpus(path, "EMO-DB", f"rows such as '1<tab>03a01Ab.wav<tab>65,00<tab>35,00' in {path.name}")
    return shares, listing("unread_lines", odd, ("line", "lines"), "could not be read", str(path))


def _described(clip: str, corpus: str) -> dict[str, Any]:
    parts = _NAME.fullmatch(clip)
    assert parts is not None
    return {
        "utterance_id": f"{corpus}/{clip}",
        "own": clip,
        "corpus": corpus,
        "speaker": f"{corpus}/{parts[1]}",
        "gender": "male" if parts[1] in _MEN else "female",
        "language": "de",
        "intended": _EMOTIONS[parts[3]],
        "sentence": parts[2],
    }


def listeners(share: float) -> tuple[int, int] | None:
    """The number of listeners behind a share in per cent, out of 20 or 21; None if it fits neither."""
    if share > 100:
        return None
    for count in _LISTENERS:
        named = round(share / 100 * count)
        if abs(100 * named / count - share) < 0.02:
            return named, count
    return None


def _answers_of(clips: list[str], shares: dict[str, float], corpus: str) -> tuple[pl.DataFrame, list[Finding]]:
    """One row per listener: the acted emotion for those who named it, an empty word for the others."""
    ids: list[str] = []
    words: list[str] = []
    unclear = []
    for clip in (clip for clip in clips if clip in shares):
        inferred = listeners(shares[clip])
        if inferred is None:
            unclear.append(f"{clip} ({shares[clip]:g} %)")
            continue
        named, count = inferred
        ids += [clip] * count
        words += [_EMOTIONS[clip[5]]] * named + [""] * (count - named)
    frame = pl.DataFrame(
        {"utterance_id": ids, "word": words}, schema={"utterance_id": pl.String(), "word": pl.String()}
    )
    frame = frame.with_columns(
        prefixed("utterance_id", corpus), annotator=pl.lit(corpus + CROWD), source=pl.lit("human")
    )
    share, rest = ("share does", "shares do"), "not stand for a whole number of 20 or 21 listeners: votes left out"
    return frame, listing("no_votes", unclear, share, rest, corpus)
