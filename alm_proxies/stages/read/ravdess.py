"""RAVDESS: seven numbers in each file name give the acted emotion, its strength and the actor. There are no votes."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import listing, names_in, not_the_corpus
from alm_proxies.stages.read.formats.ravdess import RavdessSource
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.vocabulary import Vocabulary

_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
_CHANNELS = {"01": "speech", "02": "song"}
_LOOKED_FOR = "Actor_01/03-01-01-01-01-01-01.wav"


def read_ravdess(source: RavdessSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The recordings of RAVDESS with the acted emotion; there are no votes."""
    root = source.source
    if not root.is_dir():
        raise not_the_corpus(root, "RAVDESS", _LOOKED_FOR)
    folders = ["", *(name for name in names_in(root) if re.fullmatch(r"Actor_\d\d", name))]
    rows: list[dict[str, Any]] = []
    odd, others = [], 0
    for folder in folders:
        for name in names_in(root / folder, [".wav", ".flac"]):
            parts = _NAME.fullmatch(name.rpartition(".")[0])
            if parts is None:
                odd.append(name)
            elif source.channel != "both" and _CHANNELS[parts[2]] != source.channel:
                others += 1
            else:
                rows.append(_described(parts, f"{folder}/{name}".lstrip("/"), source.corpus))
    if not rows and not others:
        raise not_the_corpus(root, "RAVDESS", _LOOKED_FOR)
    where = source.corpus
    rest = "without a file name of RAVDESS left out"
    findings = listing("not_a_clip", odd, ("recording", "recordings"), rest, where)
    if others:
        message = f"{counted(others, 'recording')} of the other channel left out"
        fix = 'channel = "both" (--channel both) reads them.'
        findings.append(finding("not_a_clip", message, fix=fix, where=where, count=others))
    repeated = len(rows) - len({row["utterance_id"] for row in rows})
    if repeated:
        message = f"{counted(repeated, 'recording occurs', 'recordings occur')} twice; the first was taken"
        findings.append(finding("repeated", message, where=where, count=repeated))
    message = (
        f"{counted(len(rows), 'recording has', 'recordings have')} no votes: the release has the acted emotion only "
        "(intended)"
    )
    fix = "Ask an annotator, or read your own votes beside it."
    findings.append(finding("no_votes", message, fix=fix, where=where, count=len(rows)))
    utterances = pl.DataFrame(rows, schema_overrides={"repetition": pl.String()}).unique(
        "utterance_id", keep="first", maintain_order=True
    )
    text = pl.String()
    nothing = pl.DataFrame(schema={"utterance_id": text, "annotator": text, "source": text, "word": text})
    votes, _ = vocabulary.votes(nothing, where)
    return Part(utterances, votes, (), findings, root=root)


def _described(parts: re.Match[str], audio: str, corpus: str) -> dict[str, Any]:
    return {
        "utterance_id": f"{corpus}/{parts[0]}",
        "corpus": corpus,
        "audio": audio,
        "speaker": f"{corpus}/{parts[7]}",
        "gender": "male" if int(parts[7]) % 2 else "female",
        "language": "en",
        "intended": _EMOTIONS[int(parts[3]) - 1],
        "channel": _CHANNELS[parts[2]],
        "intensity": "normal" if parts[4] == "01" else "strong",
        "sentence": parts[5],
        "repetition": parts[6],
    }
