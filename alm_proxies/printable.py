"""Escape external text (ids, paths, labels, replies) so that it cannot control a terminal or a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

_STEERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_STEERS_BUT_ENDS_LINES = re.compile(_STEERS.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    """The text in one line; control characters, line breaks, invisible and direction marks become \\x1b, \\u202e ..."""
    return _STEERS.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same for text that may have several lines and tabs."""
    return _STEERS_BUT_ENDS_LINES.sub(_escaped, text)


def printable_json(text: str) -> str:
    """Equivalent JSON without such characters."""
    return _STEERS_BUT_ENDS_LINES.sub(_json_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[place : place + 2]):04x}" for place in range(0, len(units), 2))


def sentence(message: str, fix: str | None = "", aside: str = "") -> str:
    """A message as a sentence, an aside before its full stop, and the fix behind it; a list that breaks off keeps its
    three dots, and a question its mark.
    """
    message = message.rstrip()
    ended = f"{message}{aside}" if message.endswith("...") else f"{message.rstrip('.')}{aside}"
    stop = "" if ended.endswith(("...", "?")) else "."
    return f"{ended}{stop} {fix or ''}".rstrip()


def counted(count: float, noun: str, nouns: str = "") -> str:
    """A count with its noun, and a verb that agrees if given both: 1 vote, 4,800 votes, 1 clip has, 2 clips have."""
    number = f"{count:,.0f}"
    return f"{number} {noun if number == '1' else nouns or f'{noun}s'}"


def in_shell(path: Path) -> str:
    """A path as a word of a command that is shown, which a shell and a command read as a path."""
    text = str(path)
    return quote(f"./{text}" if text.startswith("-") else text)


def in_money(price: float, currency: str = "") -> str:
    """A price as text: two decimals, or two significant digits if it is small: 12.30 EUR, 0.05, 0.00042."""
    small = price != 0.0 and abs(price) < 0.1
    figures = f"{price:.{1 - math.floor(math.log10(abs(price)))}f}" if small else f"{price:.2f}"
    return f"{figures} {currency}".rstrip()


def one_currency(stated: Iterable[str | None]) -> str:
    """The only currency that is stated; empty if none is, or several are."""
    currencies = {currency for currency in stated if currency}
    return currencies.pop() if len(currencies) == 1 else ""


def in_speakers(known: int, unknown: int) -> str:
    """The number of known speakers, and of utterances that have none: "10 speakers (9 of the utterances are ...)"."""
    if not known:
        return "unknown speakers"
    aside = f" ({unknown:,} of the utterances {'is' if unknown == 1 else 'are'} of unknown speakers)" if unknown else ""
    return f"{counted(known, 'speaker')}{aside}"
