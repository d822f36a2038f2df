"""Data cards: the description of a corpus, its licence, and whether its audio and transcripts may leave the machine.

A card is a Markdown file with TOML front matter between two lines of +++. Cards of known corpora are shipped; a card in
the user's own folder takes precedence over the shipped one of the same name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_file, read_text, shipped_folder
from alm_proxies.nearest import did_you_mean
from alm_proxies.printable import printable
from alm_proxies.settings import read_toml
from alm_proxies.taxonomy import checked_taxonomy

_FENCE = "+++"


def is_name_of_a_corpus(name: str) -> bool:
    """Whether a corpus may have this name: any that a folder of recordings can have, without spaces at its ends."""
    return name not in ("", ".", "..") and "/" not in name and printable(name.strip()) == name


def checked_corpus(name: str) -> str:
    """The name itself if a corpus may have it, or none; else a ValueError with the reason."""
    if name and not is_name_of_a_corpus(name):
        raise ValueError('the name of a corpus has no "/", no line break and no space at either end')
    return name


def _wide(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] == ends[1] or not all(map(math.isfinite, ends)):
        raise ValueError("a scale needs two different ends, both of them numbers")
    return ends


Scale = Annotated[tuple[float, float], AfterValidator(_wide)]


class Card(BaseModel):
    """A data card: facts about a corpus and its terms of use."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: Annotated[str, Field(min_length=1), AfterValidator(checked_corpus)]
    """The name of the corpus, the prefix of its utterance ids."""
    title: str = Field(min_length=1)
    """Its full name."""
    licence: str = Field(min_length=1)
    """The licence or terms of use."""
    use: str = ""
    """What it may be used for."""
    may_leave: bool
    """Whether audio and transcripts may leave the machine, or be copied into exports and pages."""
    why: str = Field(min_length=1)
    """The reason why it may leave or has to stay."""
    votes: str = Field(min_length=1)
    """The human votes of an utterance: how many, by whom."""
    taxonomy: Annotated[str | tuple[str, ...], AfterValidator(checked_taxonomy)] | None = None
    """Its labels: a taxonomy's name, or the labels in order."""
    scales: dict[Literal["valence", "arousal", "dominance"], Scale] = Field(default_factory=dict)
    """The lowest and the highest rating of each attribute; [5, 1] is a reversed scale."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For the table reader: our column = the table's column, or a pattern such as "dia{Dialogue_ID}"."""
    constants: dict[str, str] = Field(default_factory=dict)
    """For the table reader: our column = one value for every row."""
    files: dict[str, str] = Field(default_factory=dict)
    """For the table reader, when the source is a folder: file = the split of its rows."""
    citation: str = ""
    """The citation."""
    source: str = ""
    """The web address of the corpus."""
    text: str = ""
    """The text below the front matter."""
    path: str | None = None
    """The card's file; none for a corpus without a card."""


def card_of(corpus: str, folder: str | Path | None = None) -> Card:
    """The card of a corpus: from the user's folder, else the shipped one, else a default that forbids leaving the
    machine.
    """
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError("there is no such folder of data cards", where=str(folder), fix="Check the path.")
    if is_name_of_a_corpus(corpus):
        for place in (Path(folder) if folder is not None else None, shipped_folder("data_cards")):
            if place is not None and (place / f"{corpus}.md").is_file():
                return read_card(place / f"{corpus}.md")
    return Card.model_construct(
        name=corpus, title=corpus, licence="not known", may_leave=False, why="it has no data card", votes="not known"
    )


def known_cards(folder: str | Path | None = None) -> list[str]:
    """The corpora that have a card, in the user's folder or shipped, sorted."""
    places = [shipped_folder("data_cards"), *([Path(folder)] if folder is not None else [])]
    return sorted({path.stem for place in places for path in place.glob("*.md")})


def digests_of_cards(corpora: Iterable[str], folder: str | Path | None = None) -> dict[str, str]:
    """The content of the cards of corpora that have one, for digests: a changed card changes results."""
    cards = {corpus: card_of(corpus, folder).path for corpus in corpora}
    return {f"card {corpus}": digest_file(path) for corpus, path in cards.items() if path is not None}


def stays_because(corpus: str, *, named: Collection[str] = (), folder: str | Path | None = None) -> str | None:
    """The reason why a corpus has to stay on this machine, as part of a sentence; None if it may leave.

    It may leave if its card says so, or if the user's own file names it (`named`).
    """
    card = card_of(corpus, folder)
    if card.may_leave or (corpus and corpus in named):
        return None
    return f"the corpus {corpus or '(without a name)'} has to stay on this machine: {card.why}"


def may_leave(corpus: str, *, named: Collection[str] = (), folder: str | Path | None = None) -> bool:
    """Whether audio and transcripts of a corpus may leave the machine."""
    return stays_because(corpus, named=named, folder=folder) is None


def how_to_allow(corpus: str, folder: str | Path | None = None) -> str:
    """How to allow that recordings of a corpus that has to stay are copied, as a sentence."""
    if not corpus:
        return "Name the corpus where it is read (corpus = ...): only then may_leave or a data card can allow copies."
    if card_of(corpus, folder).path is not None:
        return f'Write may_leave = ["{corpus}"] (--may-leave {quote(corpus)}) if its licence allows you to copy them.'
    card = f"give it a data card with may_leave = true ({corpus}.md in the folder of --cards)"
    return f'If you may copy them, write may_leave = ["{corpus}"] (--may-leave {quote(corpus)}), or {card}.'


def forbids_copies(corpus: str, folder: str | Path | None = None) -> bool:
    """Whether a corpus has a card that forbids copies, so that nothing of it is cached.

    A corpus without a card has to stay on this machine too, but the cache is on this machine and private.
    """
    card = card_of(corpus, folder)
    return card.path is not None and not card.may_leave


def read_card(path: str | Path) -> Card:
    """Read and check one card; an invalid one is an error with file, line and fix."""
    path = Path(path)
    lines = read_text(path).removeprefix("\ufeff").splitlines()
    ends = [number for number, line in enumerate(lines) if line.strip() == _FENCE]
    if len(ends) < 2 or ends[0] != 0:
        fix = "Begin it with TOML between two lines of +++, as the shipped cards do."
        raise SettingsError("is not a data card: it has no front matter", where=f"{path}, line 1", fix=fix)
    front = lines[1 : ends[1]]
    # The empty line stands for the first +++, so that errors name the line they have in the file.
    values = read_toml("\n".join(["", *front]), str(path))
    for key in values:
        if key not in _WRITTEN:
            fix = f"{did_you_mean(key, _WRITTEN)} Known keys: {', '.join(_WRITTEN)}.".strip()
            raise SettingsError(f"unknown data-card key {key!r}", where=_place(path, front, key), fix=fix)
    try:
        text = "\n".join(lines[ends[1] + 1 :]).strip()
        card = Card.model_validate({**_tuples(values), "text": text, "path": str(path)})
    except ValidationError as error:
        raise _refused(error, path, front) from None
    if card.name != path.stem:
        fix = f"Rename the file to {card.name}.md, or the card to {path.stem!r}."
        raise SettingsError(f"has the name {card.name!r}", where=_place(path, front, "name"), fix=fix)
    return card


_TABLES = ("scales", "columns", "constants", "files")
_WRITTEN = [name for name in Card.model_fields if name not in ("text", "path")]


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    # Strict types take a tuple for a tuple only, and a float for a float only: TOML has arrays and whole numbers.
    converted = dict(values)
    if isinstance(converted.get("taxonomy"), list):
        converted["taxonomy"] = tuple(converted["taxonomy"])
    if isinstance(converted.get("scales"), dict):
        converted["scales"] = {k: tuple(v) if isinstance(v, list) else v for k, v in converted["scales"].items()}
    return converted


def _place(path: Path, front: list[str], key: str) -> str:
    pattern = re.compile(rf"\s*(\[\s*)?[\"']?{re.escape(key)}[\"']?\s*(=|\.|\])")
    for number, line in enumerate(front):
        if pattern.match(line):
            return f"{path}, line {number + 2}"
    return f"{path}, front matter"


def _refused(error: ValidationError, path: Path, front: list[str]) -> SettingsError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    named = ".".join(place[:2]) if place[0] in _TABLES else place[0]
    if first["type"] == "missing":
        fix = f"Add {place[0]} = ... between the lines of +++."
        return SettingsError(f"has no key {place[0]!r}", where=f"{path}, front matter", fix=fix)
    message = first["msg"].removeprefix("Value error, ")
    given = repr(first["input"])
    shown = given if len(given) <= 60 else given[:57] + "..."
    return SettingsError(
        f"{named} = {shown} is not valid: {message}",
        where=_place(path, front, place[0]),
        fix="Correct that line; the shipped cards are examples.",
    )
