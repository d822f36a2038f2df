"""The wording of messages and pages, kept in one file that people read: tests/wording.snapshot.

A test asserts kinds, values and counts itself, and hands what people read to the fixture `wording`:

    def test_a_label_outside_the_taxonomy_is_refused(wording: Wording) -> None:
        with wording.refused(TableError):
            Votes.of(frame, taxonomy="happy,sad")

Report pages are pinned too: `wording.page(html)` notes all sentences of a page, with # in place of every number.

Every sentence must be in the snapshot under the name of the test, in this order, and no other: a missing, an extra and
a changed one fail. `make wording` writes the snapshot anew, never where CI is set. Folders of the test read
<tmp>, the checkout <checkout>.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

SNAPSHOT = Path(__file__).with_name("wording.snapshot")
_CHECKOUT = str(Path(__file__).parents[1])
_TEXT_TAGS = frozenset({"title", "h1", "h2", "p", "li", "figcaption", "summary", "button", "dt"})
_DATA_TAGS = frozenset({"td", "dd", "svg", "article", "script", "style", "header", "nav", "strong"})
_FIRST, _MORE = "    - ", "      "
_NUMBER = re.compile(r"[-+\u2212]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:e[-+]?\d+)?")
_TEMPORARY = re.compile(r"/\S*?pytest-of-[^/\s]+/pytest-\d+/[^/\s'\"]+")


@dataclass
class Wording:
    """The sentences that one test has seen, compared with the snapshot when it ends."""

    test: str
    seen: list[str] = field(default_factory=list)

    def __call__(self, *texts: str) -> None:
        """Note what a person reads."""
        for text in texts:
            plain = _TEMPORARY.sub("<tmp>", text).replace(_CHECKOUT, "<checkout>").strip()
            self.seen.append("\n".join(line.rstrip() for line in plain.splitlines()))

    def page(self, html: str) -> None:
        """Note the sentences of a report page; numbers are replaced by #, because their last digits vary."""
        self(*sentences(html))

    @contextmanager
    def refused(self, kind: type[BaseException]) -> Iterator[pytest.ExceptionInfo[BaseException]]:
        """pytest.raises, noting the error's sentence."""
        with pytest.raises(kind) as raised:
            yield raised
        self(str(raised.value))


class _Sentences(HTMLParser):
    """Collects the texts of a page: headings, paragraphs, captions, column names, hints; no cells, no data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "svg" and given.get("aria-label"):
            self._note(str(given["aria-label"]))
        if tag == "button" and given.get("data-tip"):
            self._note(str(given["data-tip"]))
        if tag in ("span", "small"):
            self._text.append(" ")
        if tag in _TEXT_TAGS or tag in _DATA_TAGS:
            self._open.append(tag)
            if len(self._open) == 1:
                self._text = []

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag == self._open[-1]:
            self._open.pop()
            if not self._open and tag in _TEXT_TAGS:
                self._note("".join(self._text))

    def handle_data(self, data: str) -> None:
        if self._open and not set(self._open) & _DATA_TAGS:
            self._text.append(data)

    def _note(self, text: str) -> None:
        plain = _NUMBER.sub("#", " ".join(text.split()))
        if re.search(r"[A-Za-z]", plain) and plain not in self.found:
            self.found.append(plain)


def sentences(html: str) -> list[str]:
    """The distinct sentences of a report page, in order, with # in place of numbers."""
    parser = _Sentences()
    parser.feed(html)
    return parser.found


def read(path: Path = SNAPSHOT) -> dict[str, list[str]]:
    """The snapshot: the sentences of each test."""
    snapshot: dict[str, list[str]] = {}
    test = ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line.startswith(_FIRST):
            snapshot[test].append(line.removeprefix(_FIRST))
        elif line.startswith(_MORE):
            snapshot[test][-1] += "\n" + line.removeprefix(_MORE)
        elif line and not line.startswith("#"):
            test = line
            snapshot[test] = []
    return snapshot


def write(sentences_of: dict[str, list[str]], path: Path = SNAPSHOT) -> None:
    """Write the snapshot, sorted by test."""
    lines = ["# What people read, by the test that sees it said. Renewed by `make wording`; read the change.", ""]
    for test, sentences in sorted(sentences_of.items()):
        lines.append(test)
        for sentence in sentences:
            first, *more = sentence.split("\n")
            lines += [f"{_FIRST}{first}", *(f"{_MORE}{line}" for line in more)]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")


def renewing() -> bool:
    """Whether the snapshot is to be written anew; in continuous integration it never is."""
    return os.environ.get("ALM_PROXIES_WORDING") == "renew" and os.environ.get("CI") != "true"


def compare(wording: Wording) -> None:
    """Fail where the sentences are not those of the snapshot, or write them there."""
    known = read()
    if renewing():
        known[wording.test] = wording.seen
        write(known)
        return
    expected = known.get(wording.test, [])
    assert wording.seen == expected, "the wording has changed: run `make wording` and read what it changed"
