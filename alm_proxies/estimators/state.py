"""A fitted estimator as JSON, and back: what `explain` needs to trace a label without a second fit.

Only what our own estimators consist of is kept: numbers, text, arrays, tuples, lists, mappings, and objects of this
package's estimators. Reading makes such objects and runs no code from the file, unlike pickle. Functions and tables
(how a fit was tried out) are left out; no prediction uses them.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import polars as pl

from alm_proxies.estimators.estimator import Estimator

_PACKAGE = "alm_proxies.estimators."
_OTHERS = ("alm_proxies.interval", "alm_proxies.finding")
_ARRAYS = "biuf"


class NotKeptError(ValueError):
    """A value that is not kept, or a file that holds something else."""


def state_of(estimator: object) -> dict[str, Any] | None:
    """The state of a fitted estimator; None where it consists of something else, as those of other packages may."""
    try:
        state = _written(estimator)
    except NotKeptError:
        return None
    return state if isinstance(estimator, Estimator) else None


def estimator_of(state: object) -> Estimator:
    """The estimator of a state; raises NotKeptError for anything that is none."""
    try:
        estimator = _read(state)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError, RecursionError) as error:
        raise NotKeptError(f"is no state of an estimator ({type(error).__name__})") from error
    if not isinstance(estimator, Estimator):
        raise NotKeptError("is no state of an estimator")
    return estimator


def _written(value: object) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic):
        return _written(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _ARRAYS:
            raise NotKeptError(f"an array of {value.dtype}")
        plain = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        content = base64.b64encode(plain.tobytes()).decode("ascii")
        return {"array": content, "type": plain.dtype.str, "shape": list(value.shape)}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_written(item) for item in value]}
    if isinstance(value, frozenset | set):
        return {"set": [_written(item) for item in sorted(value)]}
    if isinstance(value, Mapping):
        return {"dict": [[_written(key), _written(item)] for key, item in value.items()]}
    if isinstance(value, FunctionType | MethodType | pl.DataFrame):
        return None
    kind = type(value)
    if not _is_ours(kind):
        raise NotKeptError(f"a {kind.__name__}")
    state = {name: _written(part) for name, part in _parts(value).items()}
    return {"object": f"{kind.__module__}:{kind.__qualname__}", "state": state}


def _parts(value: object) -> dict[str, object]:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return vars(value)


def _is_ours(kind: type) -> bool:
    """Whether objects of a class may be kept: those of the estimators, and two that they hold."""
    place = kind.__module__.startswith(_PACKAGE) or kind.__module__ in _OTHERS
    return place and (is_dataclass(kind) or issubclass(kind, Estimator) or hasattr(kind, "__dict__"))


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise NotKeptError("a bare list")
    if "object" in value:
        return _object(value["object"], value["state"])
    if "array" in value:
        kind = np.dtype(value["type"])
        if kind.kind not in _ARRAYS:
            raise NotKeptError(f"an array of {kind}")
        content = base64.b64decode(value["array"], validate=True)
        return np.frombuffer(content, kind).reshape(value["shape"]).copy()
    if "float" in value:
        return float(value["float"])
    if "dict" in value:
        return {_read(key): _read(item) for key, item in value["dict"]}
    if "set" in value:
        return frozenset(_read(item) for item in value["set"])
    return tuple(map(_read, value["tuple"])) if "tuple" in value else [_read(item) for item in value["list"]]


def _object(place: str, state: dict[str, Any]) -> object:
    module, _, name = place.partition(":")
    if not (module.startswith(_PACKAGE) or module in _OTHERS):
        raise NotKeptError(f"an object of {module}")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and kind.__module__ == module and _is_ours(kind)):
        raise NotKeptError(f"{place} is no class of an estimator")
    estimator: object = object.__new__(kind)
    for attribute, part in state.items():
        object.__setattr__(estimator, attribute, _read(part))
    return estimator
