"""What users write, as typed settings: one base class, files read into it, and errors worded alike.

A field of a Settings class is a key of a file, a flag of a command and an argument of a function. Its docstring is
its help text everywhere.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from alm_proxies.errors import SettingsError
from alm_proxies.files import read_text
from alm_proxies.nearest import did_you_mean
from alm_proxies.uris import remote_of

M = TypeVar("M", bound=BaseModel)
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on a field's type: `budget: Annotated[float, CHANGES_NOTHING] = 1.0`."""

    name: str


CHANGES_NOTHING = Mark("changes nothing")
"""The field changes no result: it is in no digest, and does not cause a finished stage to run again."""
PLACE = Mark("place")
"""The field is a path relative to the file it is in, or a name if there is no such path; it is in no digest."""
HUB = Mark("hub")
"""With PLACE: OWNER/NAME is a name on the hub where there is no such folder; a path begins with ./, ../, / or ~."""
NAMED = Mark("named")
"""With PLACE: a word without a slash that does not end in .toml is a name, whatever files there are."""

ARGUMENT = Mark("argument")
"""On the command line the field is a positional argument."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a field's flag, without the dashes."""

    flag: str


@dataclass(frozen=True, slots=True)
class Choices:
    """The field names a plug-in of a kind: help lists them."""

    kind: str


class Settings(BaseModel):
    """Frozen settings with a docstring for each field; unknown keys and numbers that no file can hold are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, defer_build=True
    )

    @field_validator("*", mode="after")
    @classmethod
    def _numbers_that_can_be_kept(cls, value: Any) -> Any:
        refuse_numbers(value)
        return value


def refuse_numbers(value: object) -> None:
    """Validate numbers at any depth: infinite ones, NaN and those longer than 64 bits are errors."""
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError("is larger than 64 bits allow")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number")
    if isinstance(value, Mapping):
        for inner in value.values():
            refuse_numbers(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            refuse_numbers(inner)


def deciding(settings: BaseModel) -> dict[str, Any]:
    """The settings that decide the result, as plain data: without paths and fields that change nothing."""
    return settings.model_dump(mode="json", exclude=_aside(settings), by_alias=True)


def _aside(settings: BaseModel) -> dict[str, Any]:
    """The fields that decide nothing, inside nested settings too, as pydantic excludes them."""
    aside: dict[str, Any] = {name: True for mark in (CHANGES_NOTHING, PLACE) for name in marked(type(settings), mark)}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings) and name not in aside and (inner := _aside(value)):
            aside[name] = inner
    return aside


def marked(model: type[BaseModel], mark: Mark) -> list[str]:
    """The fields of a model with a mark."""
    return [name for name, field in model.model_fields.items() if mark in marks_of(field)]


def marks_of(field: FieldInfo) -> tuple[Any, ...]:
    """The marks of a field, those inside a union (Annotated[Path, PLACE] | None) too."""
    inside = [mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())]
    return (*field.metadata, *inside)


def located(settings: M, folder: Path, only: Container[str] | None = None) -> M:
    """The settings with every path resolved relative to a folder, inside nested settings too; ~ is the user's home,
    names are unchanged.
    """
    changed: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings) and (only is None or name in only):
            changed[name] = located(value, folder)
    for name in marked(type(settings), PLACE):
        if only is not None and name not in only:
            continue
        value = getattr(settings, name)
        if value in _names_in(type(settings).model_fields[name].annotation):
            continue
        if HUB in marks_of(type(settings).model_fields[name]) and _on_the_hub(value, folder):
            continue
        if NAMED in marks_of(type(settings).model_fields[name]) and is_name(value):
            continue
        if isinstance(value, tuple):
            changed[name] = tuple(_located(item, folder, name) for item in value)
        elif isinstance(value, str | Path):
            changed[name] = _located(value, folder, name)
    return settings.model_copy(update=changed) if changed else settings


def is_name(value: str) -> bool:
    """Whether a value marked NAMED is a name, not a path."""
    return "/" not in value and not value.endswith(".toml")


def _on_the_hub(value: Any, folder: Path) -> bool:
    if not isinstance(value, str) or value.startswith((".", "/", "~")) or len(Path(value).parts) != 2:
        return False
    return not (folder / value).exists()


def _names_in(annotation: Any) -> tuple[Any, ...]:
    """The literal values of a type: they are never taken as paths, whatever files exist."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(name for inner in get_args(annotation) for name in _names_in(inner))


def _located(value: Any, folder: Path, name: str) -> Any:
    if isinstance(value, Path):
        return path_in(folder, value, name)
    path = path_in(folder, Path(value), name)
    is_path = path.exists() or path.suffix or len(Path(value).parts) > 1 or value.startswith((".", "~"))
    return str(path) if is_path else value


def path_in(folder: Path, path: Path, where: str) -> Path:
    """A path from a file in `folder`, resolved relative to that folder; ~ is the user's home, an address unchanged."""
    if remote_of(path) is not None:
        return path
    try:
        return folder / path.expanduser()
    except RuntimeError:
        raise SettingsError(f"the home folder of {path} is not known", where=where, fix="Write it in full.") from None


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one origin: a section of a file, a settings file, or the flags of a command."""

    values: Mapping[str, Any]
    origin: str
    """Its name in `check`."""
    where: str = ""
    """The file."""
    text: str = ""
    """The file's text, for line numbers in errors."""
    at: tuple[int | str, ...] = ()
    """The place of the values in the file, such as ("read", 0)."""
    block: str = ""
    """The name of that block in errors, or its number."""
    verb: str = ""
    """The command, if the values are its flags."""
    top: tuple[str, ...] = field(default=())
    """Keys at the top of the file, and sections: errors for a misplaced key name its right place."""


def settings_from(model: type[M], *layers: Layer) -> tuple[M, dict[str, str]]:
    """The merged settings of layers, later ones taking precedence, and the origin of each value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values.update(layer.values)
        origins.update(dict.fromkeys(layer.values, layer.origin))
    try:
        return model.model_validate(values), origins
    except ValidationError as error:
        raise _refused(error, model, layers) from None


def read_settings(path: str | Path, model: type[M]) -> M:
    """A settings file as its model."""
    text = read_text(path)
    return settings_of(model, read_toml(text, str(path)), str(path), text)


def read_layer(path: str | Path) -> Layer:
    """A settings file as a layer: its keys are those of the settings."""
    text = read_text(path)
    return Layer(read_toml(text, str(path)), str(path), where=str(path), text=text)


def read_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as a dictionary; an error names its line."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        match = re.search(r"\(at line (\d+)", str(error))
        place = f"{where}, line {match[1]}" if match else where
        message = re.sub(r" \(at .*\)$", "", str(error)) or "it is nested too deeply"
        fix = next(
            (fix for words, fix in _TOML_FIXES.items() if words in message), 'Write key = "value", one per line.'
        )
        message = re.sub(r"\(('[^)]*)\)", lambda name: f"[{'.'.join(re.findall(_QUOTED, name[1]))}]", message)
        raise SettingsError(f"is not TOML: {message}", where=place, fix=fix) from None


_QUOTED = re.compile("'([^']*)'")
_BACKSLASH = "Write / in place of \\, or the value in single quotes."
_TOML_FIXES = {
    "Cannot declare": "Write that table once, with all its keys.",
    "Cannot overwrite": "Write that key once.",
    "Unescaped": _BACKSLASH,
    "Invalid hex value": _BACKSLASH,
}
"""How to correct what tomllib says in these words."""


def settings_of(model: type[M], values: dict[str, Any], where: str, text: str = "") -> M:
    """Values as their model; an error names the first wrong key, its line in `text` and the nearest right key."""
    return settings_from(model, Layer(values, where, where=where, text=text))[0]


def _refused(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> SettingsError:
    """The first error as one sentence; unknown keys come first, since they also explain missing ones."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    path = tuple(part for part in problem["loc"] if isinstance(part, int) or not _is_branch(part))
    layer = next((layer for layer in reversed(layers) if path and path[0] in layer.values), layers[-1])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if layer.verb:
        return _refused_flag(problem, path, layer, more, model)
    full = (*layer.at, *path)
    at = (*layer.at[:-1], layer.block) if layer.block else layer.at
    key = ".".join(str(part) for part in (*at, *path)) or "the settings"
    place = layer.where + line_of(full, layer.text)
    if problem["type"] == "extra_forbidden":
        return unknown_key(key, str(path[-1]), keys_at(model, path[:-1]), place, _own_place(model, path, layer), more)
    if problem["type"] == "missing":
        table = layer.where + line_of(full[:-1], layer.text)  # a line with such a key is that of another table
        return SettingsError(f"{key!r} is missing{more}", where=table, fix="Write it.")
    message = _reason(problem)
    if not path:
        named = f"{key}: " if layer.at else ""
        return SettingsError(f"{named}{message}{more}", where=place)
    if problem["type"] in ("tuple_type", "list_type"):
        return not_a_list(key, problem["input"], place, more)
    return SettingsError(f"{key} = {_shown(problem['input'])}: {message}{more}", where=place, fix="Correct it.")


def _refused_flag(
    problem: Any, path: tuple[int | str, ...], layer: Layer, more: str, model: type[BaseModel]
) -> SettingsError:
    fix = f"See alm-proxies {layer.verb} --help."
    if not path:
        return SettingsError(f"{layer.verb}: {_reason(problem)}", fix=fix)
    flag = f"--{str(path[0]).replace('_', '-')}"
    if problem["type"] == "missing":
        rest = f": {'.'.join(map(str, path[1:]))} is needed" if path[1:] else " is needed"
        return SettingsError(f"{flag}{rest}{more}", fix=fix)
    if problem["type"] == "extra_forbidden" and len(path) > 1:
        return unknown_key(str(path[-1]), str(path[-1]), keys_at(model, path[:-1]), flag, more=more)
    given = [] if isinstance(problem["input"], dict) else [_shown(problem["input"])]
    named = " ".join([flag, *(str(part) for part in path[1:]), *given])
    return SettingsError(f"{named}: {_reason(problem)}{more}", fix=fix)


def unknown_key(
    key: str, name: str, known: Sequence[str], where: str, elsewhere: str = "", more: str = ""
) -> SettingsError:
    """The error for an unknown key."""
    fix = f"{elsewhere or did_you_mean(name, known)} Known here: {', '.join(known)}.".strip()
    return SettingsError(f"unknown key {key!r}{more}", where=where, fix=fix)


def not_a_list(key: str, given: Any, where: str, more: str = "") -> SettingsError:
    """The error for a single value where a list is needed."""
    fix = f"Write [[{key}]] above each." if isinstance(given, dict) else f"Write {key} = [...]."
    return SettingsError(f"{key} is a list{more}", where=where, fix=fix)


def _own_place(model: type[BaseModel], path: tuple[int | str, ...], layer: Layer) -> str:
    """The right place of a key of the whole file that was found in a table; empty for any other key."""
    key = str(path[-1])
    if layer.at and key in layer.top:
        return f"{key} = ... belongs at the top of the file, above the first table."
    if len(path) == 1 or key not in keys_at(model, ()):
        return ""
    field = next(field for name, field in model.model_fields.items() if key == (field.alias or name))
    if _model_in(field.annotation) is None:
        return f"{key} = ... belongs at the top of the file, above the first table."
    return (
        f"[[{key}]] is a list of its own."
        if get_origin(field.annotation) is tuple
        else f"[{key}] is a table of its own."
    )


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


def _reason(problem: Any) -> str:
    """What is wrong with a value, in words also where it is no path or does not match the pattern of a name."""
    if problem["type"] == "path_type":
        return "a path is text, in quotation marks"
    name = re.fullmatch(r".*\[[^]]+\]\[((?:A-Z)?)a-z0-9([_./-]*)\]\*.*", problem.get("ctx", {}).get("pattern", ""))
    if problem["type"] != "string_pattern_mismatch" or name is None:
        return str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    letters = "the letters a to z" if name[1] else "the small letters a to z"
    before = '"human" or "proxy:" and a name; a name' if "proxy:" in problem["ctx"]["pattern"] else "it"
    return f"{before} may have {letters}, digits and {' '.join(name[2])} only, and begins with a letter or digit"


def _is_branch(part: str) -> bool:
    """Whether this part of pydantic's location is the name of a union's branch, not a key of the file."""
    return bool(re.search(r"[\[\](]", part)) or part in ("str", "int", "float", "bool") or part[:1].isupper()


def line_of(path: tuple[int | str, ...], text: str) -> str:
    """', line N' for the line of a key, if only one line has it."""
    names = [part for part in path if isinstance(part, str)]
    if not names or not text:
        return ""
    pattern = re.compile(rf"""^\s*(?:\[+)?["']?(?:[\w.-]+\.)?{re.escape(names[-1])}["']?\s*[=\]]""")
    inline = re.compile(rf"""[{{,]\s*["']?{re.escape(names[-1])}["']?\s*=""")
    lines = text.splitlines()
    for search in (pattern.match, inline.search):
        numbers = [number for number, line in enumerate(lines, 1) if search(line)]
        if len(numbers) == 1:
            return f", line {numbers[0]}"
    return ""


def keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that a model knows at a place inside it."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return next(models_in(annotation), None)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None or isinstance(annotation, UnionType):
        for argument in get_args(annotation):
            yield from models_in(argument)
