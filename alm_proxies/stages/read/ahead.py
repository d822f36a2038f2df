"""The forecast of read: it reads the sources, and keeps nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from alm_proxies.audio.folder import SOUNDS, files_below
from alm_proxies.ballots import without_consensus
from alm_proxies.cards import digests_of_cards
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import could_not_read, digest_file, digest_of
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.printable import counted, sentence
from alm_proxies.remembered import REMEMBERED, Memory, digests_of
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.read.recordings import recordings_under
from alm_proxies.stages.read.remote import state_of_source
from alm_proxies.stages.read.settings import Reader, ReadSettings, Source
from alm_proxies.stages.read.stage import number_of, read, reader_of
from alm_proxies.uris import remote_of

_HASHED_WHOLE = 64 * 2**20
_OF_LABELS = ("processedresults", "labels", "label")
"""Names of folders of label files, in a corpus whose other files are in the folder above."""
_SOUND_OR_PICTURE = frozenset(
    {*SOUNDS, ".m4a", ".sph", ".avi", ".mp4", ".mov", ".mkv", ".flv", ".webm", ".jpg", ".png"}
)
"""Suffixes of files of which no reader takes more than that they are there; later stages look at recordings."""


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The sources and the cards of their corpora."""
    blocks: tuple[Source, ...] = ahead.blocks
    inputs: dict[str, str] = {}
    for source in blocks:
        corpus = source.corpus or source.format
        of_block = {f"{source.proxy or corpus} {ahead.named(source.source)}": _state(source, ahead)}
        of_block |= {name: digest_file(path) for name, path in source.further_files.items()}
        if source.recordings is not None:
            of_block[f"recordings of {corpus}"] = digest_of(recordings_under(source.recordings))
        if (place := getattr(source, "extract", None)) is not None:
            of_block[f"extracted {corpus}"] = ahead.named(place)
        inputs |= {_another(name, inputs): digest for name, digest in of_block.items()}
    corpora = [name for source in blocks for name in (source.corpus, source.format) if name]
    return inputs | digests_of_cards(corpora, ahead.settings.cards)


def _another(name: str, known: Mapping[str, str]) -> str:
    """The name, numbered where an earlier block of the same corpus has it."""
    names = (name, *(f"{name} ({number})" for number in range(2, len(known) + 3)))
    return next(each for each in names if each not in known)


def foresee(ahead: Ahead) -> Foreseen:
    """The corpora as they would be read; for a corpus that is not simulated yet, its counts."""
    settings: ReadSettings = ahead.settings
    there = [source for source in ahead.blocks if source.source not in ahead.inputs.get("sources", ())]
    utterances, votes = ahead.count("sources", "utterances"), ahead.count("sources", "votes")
    simulated = len(there) < len(ahead.blocks)
    if not there:
        return Foreseen(counts={"utterances": utterances, "votes": votes})
    # the held-out votes of a corpus that is not simulated yet are not known, nor what scores a translation
    wanted = settings.model_copy(update={"hold_out": None, "translate": ()}) if simulated else settings
    try:
        corpus = read(there, wanted)
    except AlmProxiesError as error:
        return Foreseen(problems=(str(error),))
    cast = without_consensus(corpus.votes)
    mean = corpus.cast / max(cast.frame["utterance_id"].n_unique(), 1)
    published = f", {counted(corpus.consensus_labels, 'published consensus label')}" if corpus.consensus_labels else ""
    votes_of = f"{counted(corpus.cast, 'vote')} ({mean:.1f} each){published}"
    facts = [f"{counted(len(corpus.utterances), 'utterance')}, {votes_of}"]
    findings = corpus.findings.frame.filter(pl.col("kind") != "no_audio")  # every recording is looked at by check
    facts += findings.filter(pl.col("severity") == SEVERITIES[0])["message"].to_list()
    others = findings.filter(pl.col("severity") != SEVERITIES[0])
    warnings = tuple(sentence(message, fix) for message, fix in others.select("message", "fix").iter_rows())
    counts = {"utterances": utterances + len(corpus.utterances), "votes": votes + corpus.cast}
    if simulated:
        return Foreseen(facts=tuple(facts), warnings=warnings, counts=counts)
    counts |= {"left_out": corpus.left_out, "held_out": number_of(cast.frame.filter("held_out"))}
    tables = {"utterances": corpus.utterances, "votes": corpus.votes}
    return Foreseen(facts=tuple(facts), warnings=warnings, counts=counts, tables=tables)


def _state(source: Source, ahead: Ahead) -> str:
    """A digest of a source's files: of their content, of recordings names and sizes, of other large files their times
    too.
    """
    place = source.source
    if remote_of(place) is not None:
        return state_of_source(source, reader_of(source))
    named = [place / name for name in reader_of(source).files if (place / name).is_file()]
    if named:
        return digest_of([[path.name, digest_file(path)] for path in named])
    try:
        place.stat()
        files = _files_of(place, reader_of(source))
        if files == [place] and place.stat().st_size <= _HASHED_WHOLE:
            return digest_file(place)
        base = place.parent if place.is_file() else place
        stats = {_spelled(Path(os.path.relpath(path, base))): (path, path.stat()) for path in files}
    except OSError as error:
        raise could_not_read(error.filename or place, error) from error
    heavy = {name: _of_heavy(path, stat) for name, (path, stat) in stats.items()}
    read = {name: path for name, (path, _) in stats.items() if heavy[name] is None}
    memory = Memory.of(["source", str(place.absolute())], ahead.folder / REMEMBERED, cached=False)
    contents = digests_of(read, memory)
    return digest_of([[name, heavy[name] or contents.get(name)] for name in stats])


def _files_of(place: Path, reader: Reader) -> list[Path]:
    """The files in a folder and below it, or a label file, with what its reader reads beside them."""
    own = sorted(files_below(place)) if place.is_dir() else [place]
    if not reader.beside:
        return own
    folder = place.absolute() if place.is_dir() else place.absolute().parent
    folders = [] if place.is_dir() else [folder]
    folders += [folder.parent] if folder.name.lower() in _OF_LABELS else []
    named = re.compile(reader.beside, re.IGNORECASE)
    found = [path for each in folders for path in each.iterdir() if named.fullmatch(path.name)]
    beside = [path for each in found for path in (files_below(each) if each.is_dir() else [each])]
    return [*own, *sorted(path for path in beside if path != place.absolute() and path.is_file())]


def _of_heavy(path: Path, stat: os.stat_result) -> list[int] | None:
    """What is stated of a file that is not read: its size, and its time if it is no recording; None if it is read."""
    if path.suffix.lower() in _SOUND_OR_PICTURE:
        return [stat.st_size]
    return [stat.st_size, stat.st_mtime_ns] if stat.st_size > _HASHED_WHOLE else None


def _spelled(path: Path) -> str:
    """A path as text, also where its bytes are not valid UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
