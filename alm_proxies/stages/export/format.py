"""What a format of export is: its name, who reads it, what it needs of the items, and the function that writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.stages.export.items import Items


@dataclass(frozen=True, slots=True)
class Format:
    """One format: `write(items, folder)` writes its files; the rest says what it can hold."""

    name: str
    title: str
    """Who reads it, in a few words."""
    write: Callable[[Items, Path], None]
    one_label: bool = False
    """Whether it holds one label an item, so that ties need a policy and distributions are lost."""
    needs_audio: bool = True
    """Whether an item without a recording is left out."""
    whole_files: bool = True
    """Whether it cannot hold seconds of a longer file, so that these are cut."""
    embeds: bool = False
    """Whether recordings become part of it, so that restricted corpora are left out."""
    beside: bool = False
    """Whether recordings must lie in its folder."""
    needs_header: bool = False
    """Whether it holds sampling rates and numbers of frames, read from each recording."""
    losses: str = ""
    """Which loss fits the targets it holds, where a trainer has the choice."""


def by_split_name(items: Items, names: dict[str, str], other: str = "{}") -> Iterator[tuple[str, Items]]:
    """The items of each split under a trainer's name for it; splits it has no name for keep theirs."""
    merged: dict[str, list[str]] = {}
    for split in items.by_split():
        merged.setdefault(names.get(split, other.format(split)), []).append(split)
    column = items.frame["split"].fill_null("train")
    for name, splits in merged.items():
        yield name, items.where(column.is_in(splits))
