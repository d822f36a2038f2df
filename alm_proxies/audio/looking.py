"""A check of every recording of a corpus before a run: missing, empty, truncated or not audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from alm_proxies.audio.clip import RecordingError, Source, decode_ahead, finding_of, look_at
from alm_proxies.audio.places import Places
from alm_proxies.printable import counted, sentence
from alm_proxies.progress import Progress
from alm_proxies.remote.buckets import need_packages
from alm_proxies.remote.copies import states_of
from alm_proxies.remote.fault import FetchError, State, gone
from alm_proxies.tables import Finding, Utterances
from alm_proxies.uris import is_remote

_NAMED = 3
_SAMPLE = 32
"""Remote recordings that are looked for."""
_SECONDS = 15.0
"""The time to look for one of them."""
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
    remote: int = 0
    """The number of recordings elsewhere."""
    asked_for: int = 0
    """The number of these that were looked for."""
    unreached: tuple[FetchError, ...] = ()
    """The errors of those that cannot be reached."""

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
            yield sentence(f"{len(errors):,} of {self.recordings:,} recordings {words}: {shown}", errors[0].fix)
        if self.unreached:
            count, first = len(self.unreached), self.unreached[0]
            yield f"{count} of {self.asked_for} remote recordings that were looked for cannot be fetched: {first}"

    @property
    def all_useless(self) -> bool:
        """Whether no recording can be used, as far as was looked at."""
        return not self.usable and len(self.unreached) == self.asked_for

    def facts(self) -> Iterator[str]:
        """What was found, in sentences."""
        if self.recordings:
            yield f"{self.usable:,} of {self.recordings:,} recordings are present and complete"
        if self.remote:
            reached = self.asked_for - len(self.unreached)
            yield (
                f"{counted(self.remote, 'recording is', 'recordings are')} remote; {reached} of {self.asked_for} "
                "that were looked for are there"
            )


def look_at_all(utterances: Utterances, *, quiet: bool = False, threads: int = 4) -> LookedAt:
    """Open every recording on this machine and read its header and end, without decoding it.

    Of remote ones a few are looked for, spread over the table, and none is fetched.
    """
    by_row = _sources(utterances)
    remote = _remote(utterances)
    sample = remote[:: max(1, -(-len(remote) // _SAMPLE))]
    need_packages(sample)
    states = states_of(sample, seconds=_SECONDS, tries=1)
    unreached = [_error_of(uri, state) for uri, state in zip(sample, states, strict=True)]
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
    missing = tuple(error for error in unreached if error is not None)
    return LookedAt(len(sources), kinds, Utterances(frame, utterances.about), len(remote), len(sample), missing)


def faults_of(utterances: Utterances, *, stage: str, threads: int = 4) -> list[Finding]:
    """A finding for each utterance whose local recording cannot be used, as far as its header and end show."""
    sources = _sources(utterances)
    looked = dict.fromkeys(source for source in sources if source is not None)
    lengths = dict(zip(looked, decode_ahead(looked, _look, threads=threads, ahead=64), strict=True))
    findings = []
    for name, source in zip(utterances.frame["utterance_id"], sources, strict=True):
        error = lengths[source] if source is not None else None
        if isinstance(error, RecordingError):
            findings.append(finding_of(error, stage, name))
    return findings


def _sources(utterances: Utterances) -> list[Source | None]:
    """The recording of each utterance, or its slice; None if it is not on this machine."""
    places = Places(utterances.about)
    sources: list[Source | None] = []
    for corpus, audio, start, end in utterances.frame.select("corpus", "audio", "start", "end").iter_rows():
        there = bool(audio) and not is_remote(audio)
        sources.append(Source("", places.of(corpus, audio), start, end) if there else None)
    return sources


def _remote(utterances: Utterances) -> list[str]:
    """The addresses of remote recordings, each once."""
    audio = utterances.frame["audio"].drop_nulls().unique(maintain_order=True)
    return [uri for uri in audio.filter(audio.str.contains("://", literal=True)) if is_remote(uri)]


def _error_of(uri: str, state: State | FetchError | None) -> FetchError | None:
    return gone(uri) if state is None else state if isinstance(state, FetchError) else None


def _look(source: Source) -> float | RecordingError:
    try:
        return look_at(source.path, start=source.start, end=source.end)[0]
    except RecordingError as error:
        return error
