"""Recipes: how a generated utterance is made from others, as JSON; and access to every utterance's audio by its id."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from alm_proxies.audio.clip import (
    LONGEST,
    RATE,
    Clip,
    Opened,
    RecordingError,
    Source,
    decode_ahead,
    finding_of,
    open_source,
    remote_copy,
    suffix_of,
)
from alm_proxies.audio.effects import apply, mix, parameters_of
from alm_proxies.audio.places import Places
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import canonical_json, digest_file, digest_of
from alm_proxies.printable import counted
from alm_proxies.remote.buckets import need_packages
from alm_proxies.remote.copies import AT_ONCE
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Utterances
from alm_proxies.uris import is_remote

_DEEPEST = 16  # recipes of recipes


class Recipe(BaseModel):
    """A recipe of a generated utterance: its parents, the effects on their mixture, and the random seed.

    One parent is used whole; several are mixed by share, each at the level of the first and cut to the shortest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    parents: tuple[tuple[str, float], ...] = Field(min_length=1)
    """Utterance ids and their shares, which sum to 1."""
    effects: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Names of effects and their parameters, in order of application."""
    seed: int = Field(ge=0)
    """The random seed of all effects."""

    @field_validator("parents")
    @classmethod
    def _shares(cls, parents: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
        if len({parent for parent, _ in parents}) < len(parents):
            raise ValueError("a parent is listed twice")
        if not all(0 < share <= 1 for _, share in parents) or abs(sum(share for _, share in parents) - 1) > 1e-6:
            raise ValueError("the shares of the parents must be above 0 and sum to 1")
        return parents

    @field_validator("effects")
    @classmethod
    def _checked(cls, effects: tuple[tuple[str, dict[str, Any]], ...]) -> tuple[tuple[str, dict[str, Any]], ...]:
        return tuple((name, parameters_of(name, given).model_dump()) for name, given in effects)

    @classmethod
    def read(cls, written: str | Mapping[str, Any], where: str | None = None) -> Self:
        """Parse a recipe from JSON; an error has its place and fix."""
        fix = "A recipe is {parents: [[id, share] ...], effects: [[name, {...}] ...], seed}."
        try:
            value = json.loads(written) if isinstance(written, str) else dict(written)
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"the recipe's {place or 'content'} is wrong: {first['msg'].removeprefix('Value error, ')}"
            raise SettingsError(message, where=where, fix=fix) from None
        except ValueError as error:
            raise SettingsError(f"the recipe is not JSON ({error})", where=where, fix=fix) from None
        except SettingsError as error:
            raise SettingsError(error.message, where=where, fix=error.fix) from None

    def written(self) -> str:
        """The recipe as canonical JSON: keys in order, defaults filled in, no spaces."""
        return canonical_json(self.model_dump(mode="json"))


def render(recipe: Recipe, parents: Sequence[Clip]) -> Clip:
    """Render a recipe from its parents' clips, given in the recipe's order and at one rate.

    Computed in double precision; a clip that would exceed full scale is scaled down.
    """
    if len(parents) != len(recipe.parents):
        parents_of = counted(len(recipe.parents), "parent")
        clips = counted(len(parents), "clip was", "clips were")
        raise InputError(f"the recipe has {parents_of} and {clips} given")
    rate = parents[0].rate
    if any(clip.rate != rate for clip in parents):
        rates = ", ".join(str(clip.rate) for clip in parents)
        raise InputError(f"the parents' clips are at {rates} Hz", fix="Open all at one rate.")
    sounds = [clip.samples.astype(np.float64) for clip in parents]
    samples = mix(sounds, [share for _, share in recipe.parents], rate) if len(sounds) > 1 else sounds[0]
    for number, (name, parameters) in enumerate(recipe.effects):
        samples = apply(name, samples, rate, parameters, generator(recipe.seed, "effect", number, name))
    peak = float(np.max(np.abs(samples), initial=0.0))
    return Clip(samples=(samples / max(peak, 1.0)).astype(np.float32), rate=rate)


CONDITIONS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "noise": ("noise", {"snr": 10.0}),
    "telephone": ("telephone", {}),
    "room": ("room", {"seconds": 0.5, "direct": 0.0}),
}
"""Degraded conditions for tests of a model: pink noise 10 dB below the sound's energy-weighted level, a telephone band,
0.5 s of reverberation."""


def in_condition(clip: Clip, condition: str, utterance_id: str) -> Clip:
    """The clip in one of the CONDITIONS; deterministic for a clip."""
    seed = int(generator(0, condition, utterance_id).integers(2**31))
    return with_effect(clip, utterance_id, CONDITIONS[condition], seed)


def with_effect(clip: Clip, utterance_id: str, effect: tuple[str, Mapping[str, Any]], seed: int) -> Clip:
    """The clip of an utterance after one effect."""
    return render(Recipe(parents=((utterance_id, 1.0),), effects=(effect,), seed=seed), [clip])


class Sounds:
    """The audio of a table's utterances by id: recorded ones are opened, generated ones rendered.

    `cards` is a folder of data cards that take precedence over the shipped ones: what they forbid is not cached.
    """

    def __init__(
        self,
        utterances: Utterances,
        *,
        stage: str,
        rate: int = RATE,
        longest: float = LONGEST,
        cards: Path | None = None,
    ) -> None:
        self._stage = stage
        self._open = partial(open_source, stage=stage, rate=rate, longest=longest)
        self._sources: dict[str, Source] = {}
        self._recipes: dict[str, str] = {}
        self._corpora: dict[str, str] = {}
        self._ids = utterances.frame["utterance_id"].to_list()
        self._known = frozenset(self._ids)
        self._places = places = Places(utterances.about, cards)
        columns = ["utterance_id", "corpus", "audio", "start", "end", "recipe"]
        for utterance_id, corpus, audio, start, end, recipe in utterances.frame.select(columns).iter_rows():
            self._corpora[utterance_id] = corpus
            if audio is not None and is_remote(audio):
                self._sources[utterance_id] = Source(utterance_id, audio, start, end, places.keeps(corpus))
            elif audio is not None:
                self._sources[utterance_id] = Source(utterance_id, places.of(corpus, audio), start, end)
            elif recipe is not None:
                self._recipes[utterance_id] = recipe
        remote = [source.path for source in self._sources.values() if isinstance(source.path, str)]
        need_packages(remote)
        self._least = AT_ONCE if remote else 1

    def open(self, utterance_id: str) -> Opened:
        """The utterance's clip, or a finding with the reason for none; an invalid recipe is an error."""
        return self._opened(utterance_id, ())

    def ahead(
        self, ids: Iterable[str] | None = None, *, threads: int = 2, ahead: int = 8
    ) -> Generator[Opened, None, None]:
        """The clips of these utterances, or of all, in order, opened ahead by threads; by more if some are remote."""
        threads = self.threads(threads)
        ahead = max(ahead, 2 * self._least)
        return decode_ahead(self._ids if ids is None else ids, self.open, threads=threads, ahead=ahead)

    def threads(self, wanted: int) -> int:
        """The number of threads that open recordings; more than is wanted if some are remote."""
        return max(wanted, self._least)

    def mark(self, utterance_id: str) -> str | None:
        """A digest of the content of its recording or slice, and of the suffix; None if the file cannot be read."""
        source = self._sources.get(utterance_id)
        if source is None:
            return None
        try:
            return digest_of([_digest(source), source.start, source.end, suffix_of(source)])
        except InputError:
            return None

    def has_changed(self, utterance_id: str, mark: str | None) -> bool:
        """Whether its file on this machine has other content than when its `mark` was taken."""
        source = self._sources.get(utterance_id)
        return source is not None and isinstance(source.path, Path) and self.mark(utterance_id) != mark

    def kept_as(self, utterance_id: str) -> str | None:
        """The corpus under whose name what is computed of it may be cached; None if it, or a parent's, may not."""
        corpus = self._corpora.get(utterance_id)
        if corpus is None or not self._places.keeps(corpus):
            return None
        written = self._recipes.get(utterance_id)
        parents = Recipe.read(written, where=utterance_id).parents if written is not None else ()
        return corpus if all(self.kept_as(parent) is not None for parent, _ in parents) else None

    def of_file(self, finding: Finding, utterance_id: str) -> Finding:
        """A finding on a recording of the same content, as that of this utterance."""
        source = self._sources.get(utterance_id)
        where = str(source.path) if finding.where is not None and source is not None else None
        return replace(finding, stage=self._stage, utterance_id=utterance_id, where=where)

    def _opened(self, utterance_id: str, children: tuple[str, ...]) -> Opened:
        source = self._sources.get(utterance_id)
        if source is not None:
            return self._open(source)
        written = self._recipes.get(utterance_id)
        if written is None:
            known = utterance_id in self._known
            kind = "no_audio" if known else "unknown_utterance"
            message = "has no recording" if known else "is not in the table of utterances"
            fix = "Give a recording on this machine, or leave it out."
            return self._failed(RecordingError(kind, message, where=utterance_id, fix=fix), utterance_id)
        if utterance_id in children or len(children) >= _DEEPEST:
            line = " of ".join([utterance_id, *reversed(children)])
            raise SettingsError(
                f"a recipe is its own ancestor or is nested too deeply: {line}",
                where=utterance_id,
                fix=f"A recipe's parents may be generated, to a depth of {_DEEPEST}, without cycles.",
            )
        return self._rendered(utterance_id, Recipe.read(written, where=utterance_id), (*children, utterance_id))

    def _rendered(self, utterance_id: str, recipe: Recipe, children: tuple[str, ...]) -> Opened:
        clips: list[Clip] = []
        for parent, _ in recipe.parents:
            opened = self._opened(parent, children)
            if opened.clip is None:
                why = "; ".join(f"{finding.kind}: {finding.message}" for finding in opened.findings)
                error = RecordingError(
                    "parent_failed",
                    f"its parent {parent} cannot be opened ({why})",
                    where=opened.findings[0].where or parent,
                    fix=opened.findings[0].fix,
                )
                return self._failed(error, utterance_id)
            clips.append(opened.clip)
        return Opened(utterance_id, render(recipe, clips))

    def _failed(self, error: RecordingError, utterance_id: str) -> Opened:
        return Opened(utterance_id, None, (finding_of(error, self._stage, utterance_id),))


def _digest(source: Source) -> str:
    if not isinstance(source.path, str):
        return digest_file(source.path)
    copy = remote_copy(source.path, source.keep)
    os.close(copy.handle)
    return copy.digest[:16]
