"""Markdown tables, inline code and first sentences, shared by the generated pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; line breaks in a cell become spaces, bars are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """Text as inline code; nothing where there is none."""
    return f"`{text}`" if str(text) else ""


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, with its full stop."""
    text = plain(" ".join((docstring or "").strip().split("\n\n")[0].split()))
    first = re.split(r"(?<=[a-z0-9)\]`'\"])[.:](?:\s|$)", text, maxsplit=1)[0].rstrip(".")
    return f"{first}." if first else ""


def plain(text: str) -> str:
    """Text in which Markdown sees no formatting but inline code: * _ < and [ stand for themselves."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]$])", r"\\\1", text).replace("<", "&lt;")  # Markdown knows no escape of <


def _cell(value: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))
