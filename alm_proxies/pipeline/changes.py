"""Values in place of those of a pipeline file: from flags, from a settings file and from its own `[vary]`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_of, read_text
from alm_proxies.nearest import did_you_mean
from alm_proxies.pipeline.graph import spelled
from alm_proxies.settings import keys_at, path_in, read_toml
from alm_proxies.stage import Stage
from alm_proxies.stages.registry import STAGES, stage_of

MAX_RUNS = 1000

Put = tuple[str, Any, str]
"""A dotted key, its value and its origin."""


def puts_in(path: str | Path) -> Iterator[Put]:
    """The changes of a settings file to a pipeline, key by key."""
    for key, value in read_toml(read_text(path), str(path)).items():
        if key in STAGES and isinstance(value, dict):
            yield from ((f"{key}.{inner}", deeper, str(path)) for inner, deeper in value.items())
        elif key in STAGES or key == "vary":
            fix = f"Write [{key}] and the keys to be changed in all its blocks." if key in STAGES else "Leave it out."
            raise SettingsError(f"{key} cannot be put in place of the pipeline's", where=str(path), fix=fix)
        else:
            yield key, placed(key, value, Path(path).parent, str(path)), str(path)


def placed(key: str, value: Any, folder: Path, where: str) -> Any:
    """A value from outside the file; of a path at the top of it, relative to where it was stated."""
    if key == "cards" and isinstance(value, str | Path):
        return str(path_in(folder.absolute(), Path(value), where))
    return str(path_in(folder, Path(value), where)) if key == "folder" and isinstance(value, str | Path) else value


def combinations(vary: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The values of each run that `[vary]` stands for, by dotted key."""
    flat = dict(flattened(vary))
    count = 1
    for key, values in flat.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"vary.{key} is not a list of values", where=where, fix=f'Write "{key}" = [a, b].')
        if key.split(".")[0] == "folder":
            raise SettingsError("the folder cannot be varied", where=where, fix="Each run gets its own place in it.")
        if key.split(".")[0] == "vary":
            fix = 'Write what varies under [vary]: "fuse.method" = ["human", "auto"].'
            raise SettingsError(f"vary.{key} is no setting", where=where, fix=fix)
        if len({digest_of(value) for value in values}) < len(values):
            raise SettingsError(f"vary.{key} names a value twice", where=where, fix="Name each value once.")
        if len({spelled(value) for value in values}) < len(values):
            message = f"vary.{key} has values whose folders would have one name"
            raise SettingsError(message, where=where, fix="Write all of them as numbers, or all as text.")
        count *= len(values)
    if count > MAX_RUNS:
        raise SettingsError(f"[vary] stands for {count} runs", where=where, fix=f"Keep it under {MAX_RUNS}.")
    for values in itertools.product(*flat.values()):
        yield dict(zip(flat, values, strict=True))


def is_varied(key: str, keys: Iterable[str]) -> bool:
    """Whether [vary] gives the value of a key: by the key itself, a table that it is in, or a key of all blocks."""
    parts = key.split(".")
    spellings = [parts]
    if parts[0] in STAGES and stage_of(parts[0]).blocks != "one":
        spellings.append([parts[0], *parts[2:]])  # without the name of the block
    varied = [name.split(".") for name in keys]
    return any(spelling[: len(name)] == name for spelling in spellings for name in varied)


def flattened(vary: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables by dotted key."""
    for key, value in vary.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            yield from flattened(value, f"{name}.")
        else:
            yield name, value


def put_in(values: dict[str, Any], key: str, value: Any, where: str, origin: str) -> None:
    """Set the value of a dotted key, in every block of a list or in those of that name."""
    *path, last = key.split(".")
    places: list[Any] = [values]
    stage = stage_of(path[0]) if path and path[0] in STAGES else None
    where = where if origin in ("flag", "[vary]") else origin
    if stage is not None and stage.blocks != "one" and stage.verb not in values:
        raise SettingsError(f"{key} is in no block: there is no [[{stage.verb}]]", where=where, fix="Write one.")
    for depth, part in enumerate(path):
        if depth == 1 and stage is not None:
            named = _named(stage, places, part)
            if named:
                places = named
                continue
            _refuse_unknown_block(stage, places, part, where)
        below: list[Any] = []
        for place in places:
            inner = place.setdefault(part, {}) if isinstance(place, dict) else None
            below.extend(inner if isinstance(inner, list) else [inner])
        places = below
    if stage is not None and len(path) == 1 and isinstance(value, dict):
        _refuse_unknown_block(stage, places, last, where)
    for place in places:
        if not isinstance(place, dict):
            name = f"vary.{key}" if origin == "[vary]" else key
            raise SettingsError(f"{name} does not lead to a setting", where=where, fix="Name section.key.")
        place[last] = value


def spread(values: Mapping[str, Any], changes: Iterable[Put]) -> Iterator[Put]:
    """The changes, with a table of a block ([train.wavlm] in a settings file) as one change for each of its keys."""
    for key, value, origin in changes:
        verb, _, name = key.partition(".")
        blocks = values.get(verb) if verb in STAGES else None
        if isinstance(value, dict) and isinstance(blocks, list) and _named(stage_of(verb), blocks, name):
            yield from ((f"{key}.{inner}", deeper, origin) for inner, deeper in value.items())
        else:
            yield key, value, origin


def _named(stage: Stage, places: Sequence[Any], name: str) -> list[dict[str, Any]]:
    """The blocks of a stage with that name, if it is no key of theirs."""
    named = [place for place in places if isinstance(place, dict) and called(stage, place) == name]
    return named if named and name not in named[0] else []


def _refuse_unknown_block(stage: Stage, places: Sequence[Any], name: str, where: str) -> None:
    """Raise for a name that is neither that of a block nor a key of the blocks there are."""
    if stage.blocks == "one":
        return
    blocks = [place for place in places if isinstance(place, dict)]
    if any(name in (*block, *keys_at(stage.settings_for(block), ())) for block in blocks):
        return
    known = list(dict.fromkeys(called(stage, block) for block in blocks))
    fix = f"{did_you_mean(name, known)} Blocks of [[{stage.verb}]] here: {', '.join(known)}.".strip()
    raise SettingsError(f"no block of [[{stage.verb}]] is called {name!r}", where=where, fix=fix)


def called(stage: Stage, block: Mapping[str, Any]) -> str:
    """The name of a block as written in a dotted key: its name or corpus, otherwise its choice, otherwise the default.

    read.mine.source is the source of the block with corpus = "mine", export.csv.targets that of format = "csv".
    """
    chosen = stage.choice.key if stage.choice is not None else ""
    stated = next((block[key] for key in ("name", "corpus", chosen) if key in block), None)
    if stated is not None or "name" not in stage.settings.model_fields:
        return str(stated or "")
    return str(stage.settings.model_fields["name"].default)
