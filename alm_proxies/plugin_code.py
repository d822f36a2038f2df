"""Digests of plug-ins' code and data: the same in every process, and others when their behaviour may have changed."""

from __future__ import annotations

import copyreg
import dis
import inspect
import sys
from collections.abc import Iterator
from contextlib import suppress
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

    Of code that is not installed, such as a script, it includes what this code uses: classes, functions and plain data
    of its module, and the files of modules that are not installed either.

    The same in every process; raises if it holds something that has no description of its content.
    """
    return _described(thing, {})


def _described(value: Any, seen: dict[int, Any]) -> str:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return digest_of_bytes(value) if isinstance(value, bytes) else repr(value)
    if isinstance(value, ModuleType):
        file = getattr(value, "__file__", None)
        if file is None or not Path(file).is_file() or not _is_own(value.__name__, file):
            return f"module {value.__name__}"
        return f"module {value.__name__} {digest_file(file)}"
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
    """The source of a class or function, with what it holds and uses; where there is none, as behind python -c, its
    compiled code; of C its name.
    """
    try:
        source = inspect.getsource(thing)
    except (TypeError, OSError):
        parts = vars(thing).items() if isinstance(thing, type) else [("", thing)]
        codes = [(name, part.__code__) for name, part in parts if isinstance(part, FunctionType)]
        source = f"{thing.__module__}.{thing.__qualname__} {_described(codes, seen)}"
    if isinstance(thing, FunctionType):
        held = _held_by_function(thing, seen)
    elif isinstance(thing, type) and _is_own(thing.__module__, _file_of(thing.__module__)):
        held = _held_by_class(thing, seen)
    else:
        held = []
    return f"{source} with {', '.join(held)}" if held else source


def _held_by_function(function: FunctionType, seen: dict[int, Any]) -> list[str]:
    """What a function captures, its defaults, and what it uses of its module, unless that is installed.

    What an installed function holds without a description counts by its class: a user cannot change it.
    """
    space = function.__globals__
    own = _is_own(str(space.get("__name__")), space.get("__file__"))
    held = {f"default {number}": value for number, value in enumerate(function.__defaults__ or ())}
    held |= {f"default {name}": value for name, value in (function.__kwdefaults__ or {}).items()}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            held[name] = cell.cell_contents
    if own:
        names = sorted(set(_names_read(function.__code__)) & set(space))
        held |= {f"global {name}": space[name] for name in names if _is_used(space[name])}
    return [
        f"{name} {_described(value, seen) if own else _as_far_as_described(value, seen)}"
        for name, value in held.items()
    ]


def _held_by_class(thing: type, seen: dict[int, Any]) -> list[str]:
    """The bases of a class, its plain values, and what its methods hold and use."""
    held = [_described(base, seen) for base in thing.__bases__ if _is_used(base)]
    for name, value in [*vars(thing).items()]:  # pydantic adds a signature once it is looked for
        parts = [getattr(value, part, None) for part in ("__func__", "fget", "fset", "func")]
        functions = [part for part in (value, *parts) if isinstance(part, FunctionType)]
        held += [f"{name} {text}" for function in functions for text in _held_by_function(function, seen)]
        if not (name.startswith("__") and name.endswith("__")) and _is_plain(value):
            held.append(f"{name} {_described(value, seen)}")
    return held


def _as_far_as_described(value: Any, seen: dict[int, Any]) -> str:
    try:
        return _described(value, seen)
    except SettingsError:
        return f"a {type(value).__qualname__}"


def _names_read(code: CodeType) -> Iterator[str]:
    """The global names that compiled code reads, and code within it."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names_read(part)


def _is_used(value: Any) -> bool:
    """Whether a global value counts for the code that reads it: plain data, and code that is not installed."""
    if isinstance(value, ModuleType):
        return _is_own(value.__name__, getattr(value, "__file__", None))
    if isinstance(value, type | FunctionType):
        return _is_own(value.__module__, _file_of(value.__module__))
    return _is_plain(value)


def _is_plain(value: Any, within: tuple[int, ...] = ()) -> bool:
    """Whether a value is made of numbers, texts, paths, arrays and collections of them."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return id(value) not in within and all(_is_plain(part, (*within, id(value))) for part in value)
    numpy = sys.modules.get("numpy")
    array = numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)
    return value is None or array or isinstance(value, bool | int | float | complex | str | bytes | Path)


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _is_own(module: str, file: str | None) -> bool:
    """Whether a module is the user's own: a script, a notebook, or a module that is not installed."""
    if module.partition(".")[0] in (*sys.stdlib_module_names, __name__.partition(".")[0]):
        return module == "__main__"
    return file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts)
