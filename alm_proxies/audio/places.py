"""Where a table's recordings are: paths on this machine or addresses, and which of them may be cached."""

from __future__ import annotations

from pathlib import Path

from alm_proxies.cards import forbids_copies
from alm_proxies.tables import About
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
        """Whether copies of a corpus's remote recordings may be cached: not if its card forbids copies."""
        if corpus not in self._keeps:
            self._keeps[corpus] = corpus not in self._about.stays and not forbids_copies(corpus, self._cards)
        return self._keeps[corpus]
