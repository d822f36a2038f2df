"""Pipeline files: their settings, and the runs that they define.

A section of the file holds the settings of one stage and has its name. `[vary]` makes a run for each combination
of its values; a stage that no varied key reaches runs once and is shared. Precedence: `[vary]`, a flag, a settings
file, the pipeline file, the default.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from alm_proxies.errors import SettingsError
from alm_proxies.files import read_text, shipped_folder
from alm_proxies.nearest import did_you_mean
from alm_proxies.pipeline.changes import (
    Put,
    called,
    combinations,
    flattened,
    is_varied,
    placed,
    put_in,
    puts_in,
    spread,
)
from alm_proxies.pipeline.graph import Run, Section, nodes_of
from alm_proxies.printable import in_shell
from alm_proxies.settings import (
    Layer,
    Settings,
    line_of,
    located,
    not_a_list,
    path_in,
    read_toml,
    settings_from,
    unknown_key,
)
from alm_proxies.stage import FILE_WIDE, Stage
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.taxonomy import checked_taxonomy, taxonomy_of


class FileSettings(Settings):
    """The top-level settings of a pipeline file."""

    folder: Path
    """The output folder, relative to the file unless it is absolute. Paths of a shipped file, and those of flags,
    are relative to the current folder."""
    taxonomy: Annotated[str | tuple[str, ...], AfterValidator(checked_taxonomy)]
    """The labels: a name such as "msp8", or the labels in order."""
    seed: int = Field(default=0, ge=0, strict=True)
    """Random seed of every stage that has no seed of its own."""
    cards: Path | None = None
    """A folder of data cards that override the shipped ones; default: the file's folder."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline: the path of its file, and its runs."""

    path: Path
    runs: tuple[Run, ...]
    replaced: tuple[tuple[str, str], ...] = ()
    """Keys of flags or the settings file, with their origin, that have no effect because [vary] gives their values."""

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.runs[0].folder


def read_pipeline(
    path: str | Path,
    folder: str | Path | None = None,
    *,
    settings: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Read and validate a pipeline file, given by its path or as a shipped one by name ("demo").

    `folder` overrides the file's `folder`. `settings` is a file in the same form whose values override those of
    the pipeline file; `changes` ({"fuse.method": "pool"}) override both.
    """
    given = Path(path)
    path = _found(given)
    text = read_text(path)
    values = read_toml(text, str(path))
    vary = values.pop("vary", {})
    if not isinstance(vary, dict):
        raise SettingsError("vary is not a table of lists", where=str(path), fix="Write [vary], then seed = [1, 2, 3].")
    shipped = path != given
    if isinstance(values.get("folder"), str) and not shipped:
        values["folder"] = str(path_in(path.parent, Path(values["folder"]), str(path)))
    puts = list(puts_in(settings)) if settings is not None else []
    puts += [(key, placed(key, value, Path(), "flag"), "flag") for key, value in (changes or {}).items()]
    if folder is not None:
        puts.append(("folder", str(folder), "flag"))
    puts = list(spread(values, puts))
    if any(key.split(".")[0] == "vary" for key in changes or {}):
        fix = "Write it into the pipeline file, or run the file once for each value, each into its own folder."
        raise SettingsError("[vary] cannot be set from outside the pipeline file", fix=fix)
    runs = []
    beside = Path() if shipped else path.parent
    for chosen in combinations(vary, str(path)):
        varied = [(key, value, "[vary]") for key, value in chosen.items()]
        file = _File(path.absolute(), text, beside.absolute(), None if settings is None else str(settings))
        runs.append(_run(values, [*puts, *varied], chosen, file))
    keys = dict(flattened(vary))
    replaced = dict.fromkeys((key, origin) for key, _, origin in puts if is_varied(key, keys))
    return Pipeline(path.absolute(), tuple(runs), tuple(replaced))


@dataclass(frozen=True, slots=True)
class _File:
    """A pipeline file, as errors name it and paths in it are resolved."""

    path: Path
    text: str
    beside: Path
    """The folder that paths in the file are relative to."""
    settings: str | None = None
    """The settings file, whose values override those of the pipeline file."""

    def place(self, key: tuple[int | str, ...], origin: str | None = None) -> str:
        """Where a key is: its line in the file; for one from elsewhere the settings file, or this file alone."""
        if origin is None:
            return f"{self.path}{line_of(key, self.text)}"
        return origin if origin == self.settings else str(self.path)

    def layer(self, key: str, value: Any, origin: str | None) -> Layer:
        """A key at the top of the file; for one from elsewhere no line is named."""
        if origin is None:
            return Layer({key: value}, "the file", where=str(self.path), text=self.text)
        return Layer({key: value}, origin, where=self.place((key,), origin))


def _run(values: dict[str, Any], puts: Sequence[Put], chosen: dict[str, Any], file: _File) -> Run:
    path = file.path
    changed = copy.deepcopy(values)
    origins: dict[tuple[str, ...], str] = {}
    for key, value, origin in puts:
        put_in(changed, key, value, str(path), origin)
        parts = tuple(key.split("."))
        origins = {**{other: stated for other, stated in origins.items() if other != parts}, parts: origin}
    top = list(FileSettings.model_fields)
    wide = {key: changed[key] for key in FILE_WIDE if key in changed}
    known = [*dict.fromkeys([*top, *FILE_WIDE]), *STAGES, "vary"]
    for key in changed:
        if key not in known:
            raise unknown_key(key, key, known, file.place((key,), _origin_of(origins, (key,))))
    _refuse_misplaced(changed, file)
    layers = [file.layer(key, changed[key], _origin_of(origins, (key,))) for key in top if key in changed]
    # a missing key is missing in the file
    own, _ = settings_from(FileSettings, *layers, Layer({}, "the file", where=str(path)))
    cards = path_in(file.beside, own.cards, f"{path}: cards") if own.cards is not None else file.beside
    wide["cards"] = cards
    if own.cards is None:
        origins["cards",] = "default"
    reader = _Sections(file, wide, origins)
    sections = {verb: read for verb in STAGES if (read := tuple(reader.read(stage_of(verb), changed.get(verb))))}
    run = Run(own.folder, taxonomy_of(own.taxonomy).labels, sections, chosen, file.beside)
    try:
        nodes_of(run)
    except SettingsError as error:
        raise SettingsError(error.message, where=str(path), fix=error.fix) from None
    return run


def _origin_of(origins: Mapping[tuple[str, ...], str], *spellings: tuple[str, ...]) -> str | None:
    """The origin of the last value from outside the file for a key, for one in it, or for a table that it is in."""
    for parts, origin in reversed(list(origins.items())):
        if any(parts[: len(keys)] == keys[: len(parts)] for keys in spellings):
            return origin
    return None


def _refuse_misplaced(values: Mapping[str, Any], file: _File) -> None:
    """Raise for a key that the top of the file needs and that is in a table, which is easily written above it."""
    for key in (name for name, field in FileSettings.model_fields.items() if field.is_required()):
        verbs = [verb for verb in STAGES if isinstance(table := values.get(verb), dict) and key in table]
        if key not in values and verbs:
            fix = f"{key} = ... belongs at the top of the file, above the first table."
            raise SettingsError(f"{key} is in [{verbs[0]}]", where=file.place((verbs[0], key)), fix=fix)


@dataclass(frozen=True, slots=True)
class _Sections:
    """Reads the sections of one file."""

    file: _File
    wide: Mapping[str, Any]
    origins: Mapping[tuple[str, ...], str]

    def read(self, stage: Stage, section: Any) -> Iterator[Section]:
        """The sections of a stage: none, one, or one for each named block."""
        verb = stage.verb
        place = self.file.place((verb,), self.origins.get((verb,)))
        if stage.blocks == "one":
            if section is None:
                if stage.follows:  # it runs whenever the other does
                    own, origins = self._wide(stage)
                    yield Section(stage, "", own, (), origins, stated=False)
                return
            if not isinstance(section, dict):
                raise SettingsError(f"{verb} is not a table", where=place, fix=f"Write [{verb}], then its keys.")
            own, origins = self._one(stage, section, (verb,), wide=True)
            yield Section(stage, "", own, (), origins)
            return
        if section is not None and not isinstance(section, list):
            raise not_a_list(verb, section, place)
        wide = stage.blocks == "named"
        keys = [called(stage, block) if isinstance(block, dict) else "" for block in section or ()]
        keys = [key if keys.count(key) == 1 and key and not key.isdecimal() else str(at) for at, key in enumerate(keys)]
        read = [
            self._one(stage, block, (verb, at), wide=wide, block=key)
            for at, (block, key) in enumerate(zip(section or (), keys, strict=True))
        ]
        if stage.blocks == "combined":
            own, origins = self._wide(stage)
            blocks = tuple(settings for settings, _ in read)
            stated = dict(zip(keys, (origins for _, origins in read), strict=True))
            yield Section(stage, "", own, blocks, origins, stated=bool(read), block_origins=stated)
            return
        names = [_name_of(stage, settings) for settings, _ in read]
        for name, (settings, origins) in zip(names, read, strict=True):
            if not name or names.count(name) > 1:
                whose = (
                    f"two blocks of [[{verb}]] are called {name!r}" if name else f"a block of [[{verb}]] has no name"
                )
                raise SettingsError(whose, where=place, fix="Give each a name of its own: name = ...")
            yield Section(stage, name, settings, (), origins)

    def _one(
        self, stage: Stage, section: Any, at: tuple[int | str, ...], *, wide: bool, block: str = ""
    ) -> tuple[BaseModel, dict[str, str]]:
        if not isinstance(section, dict):
            raise not_a_list(str(at[0]), section, self.file.place(at))
        try:
            model = stage.settings_for(section)
        except SettingsError as error:
            raise SettingsError(error.message, where=self.file.place(at), fix=error.fix) from None
        layers = self._layers_of_file(model) if wide else []
        name = called(stage, section)
        verb = str(at[0])
        put = {key: _origin_of(self.origins, (verb, name, key), (verb, key)) for key in section}
        named = f"[[{at[0]}]]" if len(at) > 1 else f"[{at[0]}]"
        top = (*FileSettings.model_fields, *FILE_WIDE)
        own = {key: value for key, value in section.items() if put[key] is None}
        here = Layer(own, named, where=str(self.file.path), text=self.file.text, at=at, block=block, top=top)
        layers.append(here)
        for key, origin in put.items():
            if origin is not None:
                where = self.file.place(at, origin)
                layers.append(Layer({key: section[key]}, origin, where=where, at=at, block=block, top=top))
        layers.append(replace(here, values={}))  # a missing key is missing in the section
        settings, origins = settings_from(model, *layers)
        return self._located(settings, (verb, name), (verb,)), origins

    def _located(self, settings: BaseModel, *at: tuple[str, ...]) -> BaseModel:
        """The settings with every path resolved relative to its origin: this file, a settings file, or a flag."""
        by: dict[Path, set[str]] = {}
        tables: dict[str, BaseModel] = {}
        for name, field in type(settings).model_fields.items():
            value, own = getattr(settings, name), [(*keys, field.alias or name) for keys in at]
            if isinstance(value, Settings):
                tables |= {name: inner} if (inner := self._located(value, *own)) is not value else {}
                continue
            origin = _origin_of(self.origins, *own)
            place = Path() if origin == "flag" else self.file.beside
            by.setdefault(Path(origin).parent if origin and origin == self.file.settings else place, set()).add(name)
        settings = settings.model_copy(update=tables) if tables else settings
        for place, names in by.items():
            settings = located(settings, place, names)
        return settings

    def _wide(self, stage: Stage) -> tuple[BaseModel, dict[str, str]]:
        below = Layer({}, "", where=str(self.file.path))  # at least one, to name the file
        settings, origins = settings_from(stage.settings, below, *self._layers_of_file(stage.settings))
        return located(settings, self.file.beside), origins

    def _layers_of_file(self, model: type[BaseModel]) -> list[Layer]:
        """The keys at the top of the file that are also settings of a stage."""
        values = {key: value for key, value in self.wide.items() if key in model.model_fields}
        return [self.file.layer(key, value, _origin_of(self.origins, (key,))) for key, value in values.items()]


def _name_of(stage: Stage, settings: BaseModel) -> str:
    """The name of a block: its own, otherwise the choice of the stage, otherwise the default."""
    if stage.choice is not None and "name" not in settings.model_fields_set:
        return str(getattr(settings, stage.choice.key))
    return str(getattr(settings, "name", ""))


def _found(path: Path) -> Path:
    shipped = shipped_folder("pipelines")
    named = shipped / f"{path}.toml"
    if not path.is_file() and path.suffix == "" and len(path.parts) == 1 and named.is_file():
        return named  # also beside a folder of that name, such as the corpus's own
    if path.is_dir():
        fix = f"Name a TOML file. What a folder of results holds: alm-proxies status {in_shell(path)}."
        raise SettingsError("is a folder, not a pipeline file", where=str(path), fix=fix)
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        known = sorted(p.stem for p in shipped.glob("*.toml"))
        near = did_you_mean(path.name, known)
        raise SettingsError(f"there is no file {path}", fix=f"{near} Shipped: {', '.join(known)}.".strip())
    return path
