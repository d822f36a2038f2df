"""The TOML files users write, read into typed settings; what is wrong is said with file, line, key and fix."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from alm_proxies.columns import did_you_mean
from alm_proxies.errors import SettingsError
from alm_proxies.files import read_text

M = TypeVar("M", bound=BaseModel)


def read_settings(path: str | Path, model: type[M]) -> M:
    """A settings file as its model."""
    text = read_text(path)
    return settings_of(model, read_toml(text, str(path)), str(path), text)


def read_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as a dictionary; a slip is named with its line."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+)", str(error))
        place = f"{where}, line {found[1]}" if found else where
        message = re.sub(r" \(at .*\)$", "", str(error)) or "it is nested too deeply"
        raise SettingsError(f"is not TOML: {message}", where=place, fix='Write key = "value", one a line.') from None


def settings_of(model: type[M], values: dict[str, Any], where: str, text: str = "") -> M:
    """Values as their model; the first thing wrong is said with its key, its line in `text` and the right key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refused(error, model, where, text) from None


def settings_from_flags(model: type[M], values: dict[str, Any], verb: str) -> M:
    """What the flags of a command say as the model they stand for; the first thing wrong is said with its flag."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        path = [str(part) for part in problem["loc"] if isinstance(part, int) or not _is_branch(part)]
        given = [] if isinstance(problem["input"], dict) else [_shown(problem["input"])]
        named = " ".join([f"--{path[0].replace('_', '-')}", *path[1:], *given]) if path else verb
        raise SettingsError(f"{named}: {_reason(problem['msg'])}", fix=f"See alm-proxies {verb} --help.") from None


def _refused(error: ValidationError, model: type[BaseModel], where: str, text: str) -> SettingsError:
    # An unknown key first: it is the likelier slip when a needed key is missing too.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    path = tuple(part for part in problem["loc"] if isinstance(part, int) or not _is_branch(part))
    key = ".".join(str(part) for part in path) or "the settings"
    place = where + _line_of(path, text)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        near = _own_place(model, path) or did_you_mean(str(path[-1]), known)
        fix = f"{near} Known here: {', '.join(known)}.".strip()
        return SettingsError(f"{key!r} is not a key that is known{more}", where=place, fix=fix)
    if problem["type"] == "missing":
        return SettingsError(f"{key!r} is missing{more}", where=place, fix="Write it.")
    message = _reason(problem["msg"])
    if not path:
        return SettingsError(f"{message}{more}", where=place)
    if problem["type"] in ("tuple_type", "list_type"):
        fix = f"Write [[{key}]] above each." if isinstance(problem["input"], dict) else f"Write {key} = [...]."
        return SettingsError(f"{key} is a list{more}", where=place, fix=fix)
    return SettingsError(f"{key} = {_shown(problem['input'])}: {message}{more}", where=place, fix="Correct it.")


def _own_place(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Where a key belongs that stands in a table but is one of the whole file; nothing for any other key."""
    key = str(path[-1])
    if len(path) == 1 or key not in _keys_at(model, ()):
        return ""
    field = next(field for name, field in model.model_fields.items() if key == (field.alias or name))
    if _model_in(field.annotation) is None:
        return f"{key} = ... stands at the top of the file, above the first table."
    return (
        f"[[{key}]] is a list of its own."
        if get_origin(field.annotation) is tuple
        else f"[{key}] is a table of its own."
    )


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")


def _is_branch(part: str) -> bool:
    """Whether pydantic put the name of a union's branch here, not a key of the file."""
    return bool(re.search(r"[\[\](]", part)) or part in ("str", "int", "float", "bool") or part[:1].isupper()


def _line_of(path: tuple[int | str, ...], text: str) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names or not text:
        return ""
    pattern = re.compile(rf"""^\s*(?:\[+)?["']?(?:[\w.-]+\.)?{re.escape(names[-1])}["']?\s*[=\]]""")
    inline = re.compile(rf"""[{{,]\s*["']?{re.escape(names[-1])}["']?\s*=""")
    lines = text.splitlines()
    for search in (pattern.match, inline.search):
        found = [number for number, line in enumerate(lines, 1) if search(line)]
        if len(found) == 1:
            return f", line {found[0]}"
    return ""


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
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
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is not None or isinstance(annotation, UnionType):
        for argument in get_args(annotation):
            if (found := _model_in(argument)) is not None:
                return found
    return None
