"""A table's recordings: paths on this machine or addresses, which of them may be cached, and whether they changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.cards import forbids_copies
from alm_proxies.errors import InputError
from alm_proxies.files import digest_file, digest_of
from alm_proxies.finding import Finding
from alm_proxies.printable import counted
from alm_proxies.remembered import Memory, digests_of, known_digests, status_of
from alm_proxies.remote.buckets import need_packages
from alm_proxies.remote.copies import known_by_store
from alm_proxies.tables import About, Utterances
from alm_proxies.uris import is_remote


class Places:
    """The recordings of a table, by corpus and its column `audio`."""

    def __init__(self, about: About, cards: Path | None = None) -> None:
        self._about = about
        self._cards = cards
        self._keeps: dict[str, bool] = {}

    def of(self, corpus: str, audio: str) -> Path | str:
        """The path of a recording, or its address."""
        if is_remote(audio):
            return audio
        return Path(self._about.roots.get(corpus, "")) / audio.removeprefix("file://")

    def keeps(self, corpus: str) -> bool:
        """Whether remote recordings and features of a corpus may be cached: not if its card forbids copies."""
        if corpus not in self._keeps:
            self._keeps[corpus] = corpus not in self._about.stays and not forbids_copies(corpus, self._cards)
        return self._keeps[corpus]


@dataclass(frozen=True, slots=True)
class State:
    """The state of a recording on this machine before a stage reads it."""

    size_and_time: tuple[int, int] | None
    """In bytes, and of the last change in nanoseconds; None where there is no file, or a pipe."""
    digest: str | None
    """Of its content, where that is remembered."""


def states_of(table: Utterances, *, own: Path | None = None, cards: Path | None = None) -> dict[str, State]:
    """The state of every recording of a table on this machine, by path; `own` and `cards` as for recordings_digest."""
    places = Places(table.about, cards)
    states: dict[str, State] = {}
    for corpus, names in _on_this_machine(table).items():
        paths = {audio: str(places.of(corpus, audio)) for audio in names}
        known = known_digests(paths, _memory(table, corpus, places, own))
        states |= {path: State(_size_and_time(path), known.get(audio)) for audio, path in paths.items()}
    return states


def changed_meanwhile(before: Mapping[str, State]) -> list[Finding]:
    """Findings if recordings are not in the state that they were in before a stage read them, or were touched only."""
    changed = [path for path, state in before.items() if _size_and_time(path) != state.size_and_time]
    same = {path: _has_content(path, before[path].digest) for path in changed}
    touched, changed = ([path for path in same if same[path] == wanted] for wanted in (True, False))
    findings = []
    if changed:
        message = (
            f"{counted(len(changed), 'recording')} changed while being read, such as {changed[0]}: what was made of "
            "them may be of what they were or of what they are"
        )
        fix = "Run the same command again when nothing writes to them."
        findings.append(Finding.of("changed_meanwhile", message, fix, count=len(changed)))
    if touched:
        message = (
            f"{counted(len(touched), 'recording')} got another time of change while being read, such as {touched[0]}; "
            "the content is as before"
        )
        findings.append(Finding.of("touched_meanwhile", message, count=len(touched)))
    return findings


def _size_and_time(path: str) -> tuple[int, int] | None:
    status = status_of(path)
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _has_content(path: str, digest: str | None) -> bool:
    if digest is None:
        return False
    try:
        return digest_file(path) == digest
    except InputError:
        return False


def _on_this_machine(table: Utterances) -> dict[str, list[str]]:
    """The recordings that are not remote, by corpus."""
    by_corpus: dict[str, list[str]] = {}
    for corpus, audio in _recordings(table):
        if not is_remote(audio):
            by_corpus.setdefault(corpus, []).append(audio)
    return by_corpus


def _recordings(table: Utterances) -> list[tuple[str, str]]:
    return list(table.frame.select("corpus", "audio").drop_nulls().unique().sort("corpus", "audio").iter_rows())


def _root(table: Utterances, corpus: str) -> str:
    return str(Path(table.about.roots.get(corpus, "")).absolute())


def _memory(table: Utterances, corpus: str, places: Places, own: Path | None) -> Memory:
    return Memory.of(["recordings", corpus, _root(table, corpus)], own, cached=places.keeps(corpus))


def _names_of(recordings: Iterable[str]) -> dict[str, str]:
    """The name of each recording of a corpus. An absolute path is a place: its last part is the name, or what follows
    the folder that all of them are in, where two have the same last part.
    """
    paths = {audio: audio.removeprefix("file://") for audio in recordings}
    absolute = [path for path in paths.values() if path.startswith("/")]
    last = {path: path.rpartition("/")[2] for path in absolute}
    if len(set(last.values())) < len(last):
        shared = os.path.commonpath([path.rpartition("/")[0] or "/" for path in last])
        last = {path: os.path.relpath(path, shared) for path in last}
    return {audio: last.get(path, path) for audio, path in paths.items()}


def recordings_digest(
    table: Utterances, *, own: Path | None = None, cards: Path | None = None, quiet: bool = True
) -> str:
    """A digest of the recordings: their names in the corpus and their content; of remote ones what the store states.

    A recording is read only if its size or time of change is not as remembered; of corpora whose cards forbid copies
    this is remembered in the folder `own`, if there is one.
    """
    places = Places(table.about, cards)
    local = []
    for corpus, names in _on_this_machine(table).items():
        root, memory = _root(table, corpus), _memory(table, corpus, places, own)
        paths = {audio: os.path.join(root, audio.removeprefix("file://")) for audio in names}  # noqa: PTH118 - many
        digests = digests_of(paths, memory, message="reading recordings", quiet=quiet)
        named = _names_of(digests)
        local += sorted([corpus, named[audio], digest] for audio, digest in digests.items())
    remote = [(corpus, audio) for corpus, audio in _recordings(table) if is_remote(audio)]
    if not remote:
        return digest_of(local)
    need_packages(audio for _, audio in remote)
    known = known_by_store([audio for _, audio in remote])
    return digest_of([local, [[*pair, state] for pair, state in zip(remote, known, strict=True) if state is not None]])
