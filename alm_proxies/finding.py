"""One finding: something left out, corrected or worth knowing; finding_kinds.py declares the kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from alm_proxies.finding_kinds import Severity, severity_of
from alm_proxies.renamed import renamed
from alm_proxies.uris import redacted

_WORDS: ContextVar[Callable[[str], str]] = ContextVar("_WORDS", default=str)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something left out, corrected or worth knowing: what, where, how often, and what to do about it.

    Its kind is declared in finding_kinds.py, with its severity.
    """

    stage: str
    kind: str
    message: str
    fix: str = ""
    utterance_id: str | None = None
    where: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("message", "fix", "where"):
            text = getattr(self, name)
            if text and ":/" in text:
                object.__setattr__(self, name, redacted(text))

    @property
    def severity(self) -> Severity:
        """The severity of its kind: info, warning or problem."""
        return severity_of(self.kind)

    @classmethod
    def of(
        cls,
        kind: str,
        message: str,
        fix: str = "",
        *,
        utterance_id: str | None = None,
        where: str | None = None,
        count: int = 1,
    ) -> Finding:
        """A finding without a stage: the calling stage's name is added when findings are gathered."""
        return cls("", kind, message, fix, utterance_id, where, count)

    @property
    def placed(self) -> str:
        """The message with the place it is about in front, unless the message names it."""
        return placed(self.message, self.where)

    @property
    def what(self) -> str:
        """The old name of `message`."""
        renamed("what", "message")
        return self.message

    @property
    def mend(self) -> str:
        """The old name of `fix`."""
        renamed("mend", "fix")
        return self.fix


def placed(message: str, where: str | None) -> str:
    """A finding's message with the place it is about in front, unless the message names it."""
    return message if not where or where in message else f"{where}: {message}"


@contextmanager
def shown_in(words: Callable[[str], str]) -> Iterator[None]:
    """Let pages that are made inside use other words, such as keys of a file in place of flags."""
    before = _WORDS.set(words)
    try:
        yield
    finally:
        _WORDS.reset(before)


def in_words(finding: Finding) -> Finding:
    """A finding in the words that pages show it in now."""
    return replace(finding, message=worded(finding.message), fix=worded(finding.fix))


def worded(text: str) -> str:
    """A sentence in the words that pages show it in now."""
    return _WORDS.get()(text)
