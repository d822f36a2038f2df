"""Digests of plug-ins' code and data: the same in every process, and others when their behaviour may have changed."""

from __future__ import annotations

import copyreg
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_file, digest_of, digest_of_bytes

DATA = (".toml", ".json", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".ini", ".cfg", ".jinja", ".j2")
"""Endings of files in a package that are data of its code."""
_LARGEST, _LARGEST_SUM = 2**20, 2**24
"""Bytes of a data file, and of all of a package, that are read; beyond them only the size of a file counts."""


@cache
def package_digest(target: str) -> str:
    """Changes when a module of the package that an entry point names does, or one of its data files.

    Found without importing it. States the number of data files of which only the size counts, if there are any.
    """
    try:
        spec = find_spec(target.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "unknown"
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = dict(sorted((name, path) for folder in folders for name, path in _files_in(folder)))
    if not folders and spec.origin is not None:
        files = {Path(spec.origin).name: Path(spec.origin)}
    digests, by_size, room = {}, 0, _LARGEST_SUM
    for name, path in files.items():
        size = 0 if path.suffix == ".py" else path.stat().st_size
        if size > min(_LARGEST, room):
            digests[name] = f"{size} bytes"
            by_size += 1
        else:
            digests[name] = digest_file(path)
            room -= size
    large = f", {by_size} of its data files by size alone" if by_size else ""
    return f"{digest_of(digests)}{large}"


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules and data in a package's folder by their paths in it, without hidden files such as locks of editors."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.suffix in (".py", *DATA) and path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield inside.as_posix(), path


def code_of(thing: Any) -> str:
    """A description of a class, a function or any object that can be called, with the values that it holds.

    The same in every process; raises if it holds something that has no description of its content.
    """
    return _described(thing, {})


def _described(value: Any, seen: dict[int, Any]) -> str:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return digest_of_bytes(value) if isinstance(value, bytes) else repr(value)
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if id(value) in seen:
        return f"value {list(seen).index(id(value))}"
    seen[id(value)] = value  # kept, so that no other value gets the same id
    if isinstance(value, Path):
        return f"path {value}"
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return _source(value, seen)
    if isinstance(value, CodeType):
        parts = (value.co_code, value.co_names, value.co_varnames, value.co_consts)
        return f"code {_described(parts, seen)}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_described(k, seen)}: {_described(v, seen)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(_described(part, seen) for part in value)})"
    if isinstance(value, set | frozenset):
        members = sorted(_described(part, dict(seen)) for part in value)  # each as if it came first: sets have no order
        return f"{{{', '.join(members)}}}"
    return f"object {_described(_parts(value), seen)}"


def _parts(value: Any) -> tuple[Any, ...]:
    """What pickle would write of an object: its class and its state; of a tensor, which pickle gives an address, the
    numbers; of a function that wraps another also that one.
    """
    try:
        if (torch := sys.modules.get("torch")) is not None and isinstance(value, torch.Tensor):
            numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return type(value).__name__, str(value.dtype), tuple(value.shape), numbers.tobytes()
        by_function = copyreg.dispatch_table.get(type(value))
        reduced = by_function(value) if by_function is not None else value.__reduce_ex__(4)
    except Exception as error:  # of any kind, from the object's own code
        message = f"it holds a {type(value).__name__}, which has no description that is the same in every process"
        fix = "Register a function or a class that makes or loads it when it is called."
        raise SettingsError(message, fix=fix) from error
    parts = (reduced, getattr(value, "__wrapped__", None)) if isinstance(reduced, str) else reduced
    return tuple(list(part) if isinstance(part, Iterator) else part for part in parts)


def _source(thing: Any, seen: dict[int, Any]) -> str:
    """The source of a class or function; where there is none, as behind python -c, its compiled code; of C its name."""
    try:
        return inspect.getsource(thing)
    except (TypeError, OSError):
        parts = vars(thing).items() if isinstance(thing, type) else [("", thing)]
        codes = [(name, part.__code__) for name, part in parts if isinstance(part, FunctionType)]
        return f"{thing.__module__}.{thing.__qualname__} {_described(codes, seen)}"
