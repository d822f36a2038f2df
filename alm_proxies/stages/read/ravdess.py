"""RAVDESS: seven numbers in each file name give the acted emotion, its strength and the actor. There are no votes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import listing, names_in, not_the_corpus
from alm_proxies.stages.read.formats.ravdess import RavdessSource
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.vocabulary import Vocabulary

_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
_CHANNELS = {"01": "speech", "02": "song"}
_LOOKED_FOR = "Actor_01/03-01-01-01-01-01-01.wav"
_ARCHIVE = re.compile(r"audio_(speech|song)_actors_01-24", re.IGNORECASE)
_VIDEOS = (".mp4", ".flv", ".avi", ".mov")


def read_ravdess(source: RavdessSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The recordings of RAVDESS with the acted emotion; there are no votes."""
    root = source.source
    if not root.is_dir():
        raise not_the_corpus(root, "RAVDESS", _LOOKED_FOR)
    rows: list[dict[str, Any]] = []
    odd, others, videos = [], 0, []
    for folder in _folders(root):
        videos += names_in(root / folder, _VIDEOS)
        for name in names_in(root / folder, [".wav", ".flac"]):
            parts = _NAME.fullmatch(name.rpartition(".")[0])
            if parts is None:
                odd.append(name)
            elif source.channel != "both" and _CHANNELS[parts[2]] != source.channel:
                others += 1
            else:
                rows.append(_described(parts, f"{folder}/{name}".lstrip("/"), source.corpus))
    if not rows:
        raise _nothing_read(root, source.channel, others, videos)
    where = source.corpus
    rest = "without a file name of RAVDESS left out"
    findings = listing("not_a_clip", odd, ("recording", "recordings"), rest, where)
    fix = "Recordings are those of Audio_Speech_Actors_01-24.zip and Audio_Song_Actors_01-24.zip."
    findings += listing("not_a_clip", videos, ("video", "videos"), "left out", where, fix)
    if others:
        message = f"{counted(others, 'recording')} of the other channel left out"
        fix = 'channel = "both" (--channel both) reads them.'
        findings.append(finding("not_a_clip", message, fix=fix, where=where, count=others))
    utterances = pl.DataFrame(rows).unique("utterance_id", keep="first", maintain_order=True)
    if repeated := len(rows) - utterances.height:
        message = f"{counted(repeated, 'file repeats', 'files repeat')} a recording that was read, and was left out"
        findings.append(finding("repeated", message, where=where, count=repeated))
    message = (
        f"{counted(utterances.height, 'recording has', 'recordings have')} no votes: the release has the acted emotion "
        "only (intended)"
    )
    fix = "Ask an annotator, or read your own votes beside it."
    findings.append(finding("no_votes", message, fix=fix, where=where, count=utterances.height))
    text = pl.String()
    nothing = pl.DataFrame(schema={"utterance_id": text, "annotator": text, "source": text, "word": text})
    votes, _ = vocabulary.votes(nothing, where)
    return Part(utterances, votes, (), findings, root=root)


def _folders(root: Path) -> list[str]:
    """The folder itself, those of its actors, and those of the archives of speech and song unpacked into it."""
    archives = ["", *(name for name in names_in(root) if _ARCHIVE.fullmatch(name))]
    below = [f"{archive}/{name}".lstrip("/") for archive in archives for name in names_in(root / archive)]
    return ["", *(name for name in below if re.fullmatch(r"Actor_\d\d", name.rpartition("/")[2]))]


def _nothing_read(root: Path, channel: str, others: int, videos: Sequence[str]) -> InputError:
    """The error for a folder with recordings of the other channel only, with videos only, or of something else."""
    if others:
        other = "song" if channel == "speech" else "speech"
        message = f"has {counted(others, 'recording')} of {other} and none of {channel}"
        return InputError(message, where=str(root), fix=f'Read them with channel = "{other}" (--channel {other}).')
    if videos:
        message = f"has {counted(len(videos), 'video')} of RAVDESS, such as {videos[0]!r}, and no recording"
        fix = f"Unpack its archives of sounds: looked for {_LOOKED_FOR}."
        return InputError(message, where=str(root), fix=fix)
    return not_the_corpus(root, "RAVDESS", _LOOKED_FOR)


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
