"""A public function that was given another table, path or settings than it takes says so in a sentence."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from alm_proxies.errors import AlmProxiesError, SettingsError, TableError

P = ParamSpec("P")
T = TypeVar("T")
_TABLES = ("Utterances", "Votes", "Labels")
_PLAIN = (str, Path, list, tuple, dict)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with its tables, paths and settings looked at first, by the names in its annotations."""
    takes = {name: str(kind).split(" | ") for name, kind in function.__annotations__.items()}
    signature = inspect.signature(function)

    @wraps(function)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> T:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if error := _wrong(name, value, takes.get(name, [])):
                error.where = function.__name__
                raise error
        return function(*args, **kwargs)

    return with_checks


def _wrong(name: str, value: Any, takes: list[str]) -> AlmProxiesError | None:
    if value is None and "None" in takes:
        return None
    if "Mapping[str, Labels]" in takes:
        return _wrong_mapping(name, value)
    if wanted := next((kind for kind in takes if kind in _TABLES), None):
        path_is_good = isinstance(value, str | Path) and "Path" in takes
        return None if path_is_good else _wrong_table(name, value, wanted)
    if wanted := next((kind for kind in takes if kind.endswith("Settings")), None):
        return _wrong_settings(name, value, wanted)
    if set(takes) == {"str", "Path"} and not isinstance(value, str | os.PathLike):
        fix = f'Give a path: {name}="results". Settings come after it.'
        return SettingsError(f"{name} is {_kind_of(value)}, not a path", fix=fix)
    return None


def _wrong_mapping(name: str, value: Any) -> AlmProxiesError | None:
    if isinstance(value, Mapping):
        wrong = (_wrong_table(f"{name}[{key!r}]", one, "Labels") for key, one in value.items())
        return next(filter(None, wrong), None)
    fix = 'Name each: {"mine": labels, "theirs": others}.'
    return TableError(f"{name} is {_kind_of(value)}, not a dict of labels", fix=fix)


def _wrong_table(name: str, value: Any, wanted: str) -> TableError | None:
    """Only what is surely another thing is refused: other tables, frames, paths, whole results."""
    kind = type(value).__name__
    if kind == wanted:
        return None
    if isinstance(value, str | Path):
        fix = f"Read it: {wanted}.read({str(value)!r})."
    elif kind in ("DataFrame", "LazyFrame"):
        fix = f"Make a table of it: {wanted}.of(frame)."
    elif type(getattr(value, wanted.lower(), None)).__name__ == wanted:
        fix = f"Give its .{wanted.lower()}."
    elif kind in _TABLES:
        fix = "Check the order of the arguments."
    elif value is None or isinstance(value, _PLAIN):
        fix = f"Give {wanted}; combine puts several together."
    else:
        return None
    return TableError(f"{name} is {_kind_of(value)}, not {wanted}", fix=fix)


def _wrong_settings(name: str, value: Any, wanted: str) -> SettingsError | None:
    kinds = [kind.__name__ for kind in type(value).__mro__]
    if wanted in kinds or not ("Settings" in kinds or value is None or isinstance(value, _PLAIN)):
        return None
    return SettingsError(f"{name} is {_kind_of(value)}, not {wanted}", fix=f"Give {wanted}(...).")


def _kind_of(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
