"""Flags from settings fields, and plain values from the words after a flag, by one rule.

A scalar is one word. A list is `a,b` or the flag repeated. A mapping or nested settings are `name=value,...` or the
flag repeated; a nested name is `inner.name=value`. A range is `low:high`. A switch is `--x` or `--no-x`. The values
are passed to pydantic unconverted, like those of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alm_proxies.errors import SettingsError
from alm_proxies.plugins import plugins
from alm_proxies.settings import ARGUMENT, Alias, Choices, marks_of


@dataclass(frozen=True, slots=True)
class Flag:
    """A field as a flag."""

    key: str
    """The field's key in a file."""
    names: tuple[str, ...]
    """The flag, and its alias if it has one."""
    negative: str
    """The flag that turns a switch off."""
    switch: bool
    argument: bool
    """Whether it is a positional argument instead of a flag."""
    needed: bool
    help: str
    annotation: Any

    def value(self, words: Sequence[str]) -> Any:
        """Convert the words after the flag to a plain value."""
        return value_of(self.annotation, words, self.names[0])


@cache
def flags_of(model: type[BaseModel]) -> tuple[Flag, ...]:
    """One flag for every field of a settings class."""
    return tuple(_flags(model))


def _flags(model: type[BaseModel]) -> Iterator[Flag]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        flag = f"--{key.replace('_', '-')}"
        aliases = tuple(f"--{mark.flag}" for mark in marks_of(field) if isinstance(mark, Alias))
        yield Flag(
            key=key,
            names=(flag, *aliases),
            negative=f"--no-{key.replace('_', '-')}",
            switch=plain(field.annotation) is bool,
            argument=ARGUMENT in marks_of(field),
            needed=field.is_required(),
            help=_help(field),
            annotation=field.annotation,
        )


def value_of(annotation: Any, words: Sequence[str], flag: str) -> Any:
    """Convert words to a plain value of the expected type."""
    kind = _kind(annotation, words)
    if _is_mapping(kind):
        return _mapping(kind, words, flag)
    if get_origin(kind) in (tuple, list):
        item = get_args(kind)[0]
        if not _is_range(kind):
            if _is_mapping(plain(item)):
                return [_mapping(plain(item), [word], flag) for word in words]
            return [value_of(item, [part.strip()], flag) for word in words for part in word.split(",") if part.strip()]
    if len(words) > 1:
        raise SettingsError(f"{flag} is given {len(words)} times", fix="Give it only once.")
    return _range(words[0], kind, flag) if _is_range(kind) else _scalar(kind, words[0])


def plain(annotation: Any) -> Any:
    """The type without its annotations and without None; a union stays a union."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        parts = [plain(part) for part in get_args(annotation) if part is not NoneType]
        return parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007  # made of a list
    return annotation


def _kind(annotation: Any, words: Sequence[str]) -> Any:
    """The type, or the member of a union that fits the words."""
    kind = plain(annotation)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    parts = get_args(kind)
    mappings = [part for part in parts if _is_mapping(part)]
    if mappings and any("=" in word for word in words):
        models = [part for part in mappings if isinstance(part, type)]
        return models[0] if len(mappings) == len(models) == 1 else dict[str, Any] if models else mappings[0]
    words_alone = [part for part in parts if part is str or get_origin(part) is Literal]
    ranges = [part for part in parts if _is_range(part)]
    named = {value for part in words_alone if part is not str for value in get_args(part)}
    if ranges and str not in words_alone and all(":" in word and word not in named for word in words):
        return ranges[0]
    lists = [part for part in parts if get_origin(part) in (tuple, list) and not _is_range(part)]
    many = len(words) > 1 or any("," in word for word in words)
    if lists and (many or not (words_alone or any(part in (int, float) for part in parts))):
        return str if str in parts and len(words) == 1 else lists[0]
    numbers = [part for part in parts if part in (int, float)]
    return numbers[-1] if numbers else str


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _is_range(kind: Any) -> bool:
    return get_origin(kind) is tuple and len(get_args(kind)) == 2 and get_args(kind)[1] is not Ellipsis


def _scalar(kind: Any, word: str) -> Any:
    """The word as a number if the type is numeric and it can be parsed; otherwise the word, for pydantic to check."""
    numbers = [part for part in (get_args(kind) if get_origin(kind) is Literal else [kind]) if part in (int, float)]
    if kind in (int, float) or numbers:
        for number in (int, float):
            try:
                return number(word)
            except ValueError:
                continue
    return word


def _range(word: str, kind: Any, flag: str) -> list[Any]:
    low, colon, high = word.partition(":")
    if not colon or not low.strip() or not high.strip():
        raise SettingsError(f"{flag} {word!r} is not low:high", fix=f"Write {flag} 1:7.")
    return [_scalar(plain(part), text.strip()) for part, text in zip(get_args(kind), (low, high), strict=True)]


def _mapping(kind: Any, words: Sequence[str], flag: str) -> dict[str, Any]:
    """Parse name=value pairs; a piece without = continues the previous value if that is a list."""
    pieces: dict[str, list[str]] = {}
    last = ""
    for piece in (part for word in words for part in word.split(",")):
        name, equals, value = (text.strip() for text in piece.partition("="))
        if equals and name:
            if name in pieces:
                raise SettingsError(f"{flag} names {name!r} twice", fix="Keep one of them.")
            last = name
            pieces[name] = [value]
        elif last and not equals and _takes_several(_inside(kind, last)):
            pieces[last].append(name)
        else:
            raise SettingsError(f"{flag} {piece!r} is not name=value", fix=f"Write {flag} name=value.")
    values_by_name: dict[str, Any] = {}
    nested: dict[str, list[str]] = {}
    for name, values in pieces.items():
        outer, dot, inner = name.partition(".")
        if dot and _is_mapping(plain(_inside(kind, outer))):
            nested.setdefault(outer, []).append(f"{inner}={','.join(values)}")
        else:
            values_by_name[name] = value_of(_inside(kind, name), values, f"{flag} {name}")
    return values_by_name | {
        name: value_of(_inside(kind, name), values, f"{flag} {name}") for name, values in nested.items()
    }


def _inside(kind: Any, name: str) -> Any:
    """The type of the value with this name."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    fields: Mapping[str, FieldInfo] = {field.alias or key: field for key, field in kind.model_fields.items()}
    return fields[name].annotation if name in fields else str


def _takes_several(annotation: Any) -> bool:
    kind = plain(annotation)
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(get_origin(part) in (tuple, list) and not _is_range(part) for part in parts)


def _help(field: FieldInfo) -> str:
    """The field's docstring, its choices and its default."""
    text = " ".join((field.description or "").split())
    kind = plain(field.annotation)
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    named = next((plugins(mark.kind) for mark in marks_of(field) if isinstance(mark, Choices)), ())
    choices = [*named] or [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if len(choices) > 1:
        text += f" [{' | '.join(choices)}]"
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        default = default.model_dump(mode="json", by_alias=True)
    if isinstance(default, dict):
        default = ",".join(f"{name}={value}" for name, value in default.items())
    if isinstance(default, tuple | list):
        default = (":" if _is_range(kind) else ",").join(map(str, default))
    if isinstance(default, bool):
        default = "true" if default else None
    return text if default is None or default == "" else f"{text} [default: {default}]"
