"""A check of every recording of a corpus before a run: missing, empty, truncated or not audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.audio.clip import RecordingError, Source, decode_ahead, look_at
from alm_proxies.progress import Progress
from alm_proxies.tables import Utterances

_NAMED = 3
_WORDS = {
    "missing": ("is missing", "are missing"),
    "empty": ("is empty", "are empty"),
    "truncated": ("ends early", "end early"),
    "slice_outside": ("is shorter than its utterance", "are shorter than their utterances"),
    "slice_wrong": ("has a start that is not before the end", "have a start that is not before the end"),
    "not_audio": ("is not an audio file", "are not audio files"),
    "length_unknown": ("does not state its length", "do not state their length"),
    "unreadable": ("cannot be opened", "cannot be opened"),
}


@dataclass(frozen=True, slots=True)
class LookedAt:
    """The result of checking every recording."""

    recordings: int
    """The number of recordings on this machine that utterances name."""
    faults: dict[str, tuple[RecordingError, ...]]
    """The errors by kind (missing, empty, truncated ...), in the order of the table."""
    utterances: Utterances
    """The utterances with their durations, if the recordings state them."""

    @property
    def usable(self) -> int:
        """The number of recordings without an error that can be found without decoding."""
        return self.recordings - sum(map(len, self.faults.values()))

    def sentences(self) -> Iterator[str]:
        """A sentence for each kind of error, with the first few names and the fix."""
        for kind, errors in self.faults.items():
            shown = ", ".join(str(error.where) for error in errors[:_NAMED]) + (" ..." if len(errors) > _NAMED else "")
            single, many = _WORDS.get(kind, (kind.replace("_", " "),) * 2)
            words = single if len(errors) == 1 else many
            yield f"{len(errors):,} of {self.recordings:,} recordings {words}: {shown}. {errors[0].fix or ''}".rstrip()


def look_at_all(utterances: Utterances, *, quiet: bool = False, threads: int = 4) -> LookedAt:
    """Open every recording that the utterances name and read its header and end, without decoding it."""
    by_row = _sources(utterances)
    sources = list(dict.fromkeys(source for source in by_row if source is not None))
    seconds: dict[Source, float] = {}
    faults: dict[str, list[RecordingError]] = {}
    with Progress("checking recordings", total=len(sources), quiet=quiet) as progress:
        for source, length in zip(sources, decode_ahead(sources, _look, threads=threads, ahead=64), strict=True):
            progress.advance()
            if isinstance(length, RecordingError):
                faults.setdefault(length.kind, []).append(length)
            else:
                seconds[source] = length
    measured = pl.Series([seconds.get(source) if source is not None else None for source in by_row], dtype=pl.Float64)
    frame = utterances.frame.with_columns(pl.col("duration").fill_null(measured))
    order = dict.fromkeys([*_WORDS, *faults])
    kinds = {kind: tuple(faults[kind]) for kind in order if kind in faults}
    return LookedAt(len(sources), kinds, Utterances(frame, utterances.about))


def _sources(utterances: Utterances) -> list[Source | None]:
    """The recording of each utterance, or its slice; None if it is not on this machine."""
    roots = utterances.about.roots
    sources: list[Source | None] = []
    for corpus, audio, start, end in utterances.frame.select("corpus", "audio", "start", "end").iter_rows():
        plain = (audio or "").removeprefix("file://")
        there = bool(plain) and "://" not in plain
        sources.append(Source("", Path(roots.get(corpus, "")) / plain, start, end) if there else None)
    return sources


def _look(source: Source) -> float | RecordingError:
    try:
        return look_at(source.path, start=source.start, end=source.end)
    except RecordingError as error:
        return error
