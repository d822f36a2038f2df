"""A table's recordings: paths on this machine or addresses, which of them may be cached, and whether they changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from alm_proxies.cards import forbids_copies
from alm_proxies.files import digest_of
from alm_proxies.finding import Finding
from alm_proxies.printable import counted
from alm_proxies.remembered import Memory, digests_of, status_of
from alm_proxies.remote.copies import known_by_store, need_packages
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


State = tuple[int, int] | None
"""The size in bytes of a file and the time of its last change in nanoseconds; None where there is none, or a pipe."""


def states_of(table: Utterances) -> dict[str, State]:
    """The state of every recording of a table on this machine, by path."""
    places = Places(table.about)
    pairs = table.frame.select("corpus", "audio").drop_nulls().unique().sort("corpus", "audio")
    paths = [str(places.of(*pair)) for pair in pairs.iter_rows() if not is_remote(pair[1])]
    return {path: _state(path) for path in paths}


def changed_meanwhile(before: Mapping[str, State]) -> list[Finding]:
    """A finding if recordings are not in the state that they were in before a stage read them."""
    changed = [path for path, state in before.items() if _state(path) != state]
    if not changed:
        return []
    message = (
        f"{counted(len(changed), 'recording')} changed while being read, such as {changed[0]}: what was made of them "
        "may be of what they were or of what they are"
    )
    fix = "Run the same command again when nothing writes to them."
    return [Finding.of("changed_meanwhile", message, fix, count=len(changed))]


def _state(path: str) -> State:
    status = status_of(path)
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _name_of(audio: str) -> str:
    """A recording's name in its corpus; an absolute path is a place, so that its last part is the name."""
    path = audio.removeprefix("file://")
    return path.rpartition("/")[2] if path.startswith("/") else path


def recordings_digest(
    table: Utterances, *, own: Path | None = None, cards: Path | None = None, quiet: bool = True
) -> str:
    """A digest of the recordings: their names in the corpus and their content; of remote ones what the store states.

    A recording is read only if its size or time of change is not as remembered; of corpora whose cards forbid copies
    this is remembered in the folder `own`, if there is one.
    """
    places = Places(table.about, cards)
    pairs = list(table.frame.select("corpus", "audio").drop_nulls().unique().sort("corpus", "audio").iter_rows())
    by_corpus: dict[str, list[str]] = {}
    for corpus, audio in pairs:
        if not is_remote(audio):
            by_corpus.setdefault(corpus, []).append(audio)
    local = []
    for corpus, names in by_corpus.items():
        root = str(Path(table.about.roots.get(corpus, "")).absolute())
        memory = Memory.of(["recordings", corpus, root], own, cached=places.keeps(corpus))
        paths = {audio: os.path.join(root, audio.removeprefix("file://")) for audio in names}  # noqa: PTH118 - many
        digests = digests_of(paths, memory, message="reading recordings", quiet=quiet)
        local += sorted([corpus, _name_of(audio), digest] for audio, digest in digests.items())
    remote = [(corpus, audio) for corpus, audio in pairs if is_remote(audio)]
    if not remote:
        return digest_of(local)
    need_packages(audio for _, audio in remote)
    known = known_by_store([audio for _, audio in remote])
    return digest_of([local, [[*pair, state] for pair, state in zip(remote, known, strict=True) if state is not None]])
