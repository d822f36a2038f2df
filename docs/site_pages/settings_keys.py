"""The page of settings: every key of a pipeline file, an annotator file and a data card, from the settings classes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from alm_proxies.settings import CHANGES_NOTHING, marks_of
from site_pages.cells import code, first_sentence, plain, table

_HEAD = """# Settings

Every key, from the settings classes of the package. A key of a pipeline section is at the same time a flag of the
command and an argument of the settings class in Python: `[fuse] folds = 5`, `--folds 5` and `FuseSettings(folds=5)` are
one setting. Unknown keys are refused, with the nearest known one. Values rank: a flag, a file named with `--settings`,
the pipeline file, the default.

A finished stage runs again when a key that its result depends on was changed, or the content of a file that a key names
was. Keys marked *Changes no result* are not looked at: what is done stays done.
"""
_FILE = """`alm-proxies run FILE.toml`: these keys at its top, and a section a stage. `[[...]]` may be repeated, a block
each. Editors check a file against [this schema](pipeline.schema.json), annotator files against
[that one](annotator.schema.json). `[vary]` makes a run for each combination of its values. A key in `[vary]` or
`--set` changes all blocks of a stage (`--set train.epochs=5`), or the one that is named: by its `name`
(`train.mine.epochs`), for `[[read]]` by its corpus (`read.mine.source`), for `[[export]]` by its format
(`export.csv.targets`). Paths in the file are relative to the file.
"""


def page() -> str:
    """The keys of everything that a user writes in TOML."""
    from alm_proxies.annotators.annotator_file import AnnotatorFile
    from alm_proxies.annotators.prompts import PromptFile
    from alm_proxies.cards import Card
    from alm_proxies.pipeline.file import FileSettings
    from alm_proxies.stages.registry import STAGES, stage_of

    parts = [_HEAD, "## The pipeline file\n", _FILE, _keys(FileSettings)]
    done: set[type[BaseModel]] = {FileSettings}
    for verb, sentence in STAGES.items():
        stage = stage_of(verb)
        title = f"[{verb}]" if stage.blocks == "one" else f"[[{verb}]]"
        parts.append(f"### {code(title)}\n\n{plain(sentence)}\n")
        for name, model in _models_of(stage):
            own = f"{title} {stage.choice.key} = {name}" if name and stage.choice is not None else title
            parts.append(_section(own, model, done, 4, headed=bool(name)))
        if stage.block is not None and stage.block is not stage.settings:
            parts.append(_section(f"all of {title}", stage.settings, done, 4))
    parts += ["## The annotator file\n", first_sentence(AnnotatorFile.__doc__) + "\n", _keys(AnnotatorFile)]
    parts += [_section(f"{name} = {{ ... }}", model, done) for name, model, _ in _sections(AnnotatorFile)]
    parts += _serve(done)
    parts += ["## The prompt file\n", first_sentence(PromptFile.__doc__) + "\n", _keys(PromptFile)]
    parts += ["## The data card\n", first_sentence(Card.__doc__) + "\n", _keys(Card)]
    return "\n".join(parts)


def _models_of(stage: Any) -> list[tuple[str, type[BaseModel]]]:
    """The settings classes of a stage, by the name that chooses one where there are several."""
    from alm_proxies.plugins import plugins

    if stage.choice is None:
        return [("", stage.block or stage.settings)]
    models = [(name, plugin.load().settings) for name, plugin in plugins(stage.choice.kind).items()]
    return models or [("", stage.settings)]


def _serve(done: set[type[BaseModel]]) -> Iterator[str]:
    from alm_proxies.engines import engine

    for name, model in sorted(vars(engine).items()):
        if (
            name.endswith("Serve")
            and not name.startswith("_")
            and isinstance(model, type)
            and issubclass(model, BaseModel)
        ):
            yield _section(f"serve = {{ ... }} of the engine {name.removesuffix('Serve').lower()}", model, done)


def _section(
    title: str, model: type[BaseModel], done: set[type[BaseModel]], depth: int = 3, *, headed: bool = True
) -> str:
    if model in done:
        return ""
    done.add(model)
    parts = [f"{'#' * min(depth, 5)} {code(title)}\n"] if headed else []
    parts += [f"{first_sentence(model.__doc__)}\n", _keys(model)]
    parts += [_section(f"{title} {name}", inner, done, depth + 1) for name, inner, _ in _sections(model)]
    return "\n".join(parts)


_NO_RESULT = " *Changes no result.*"


def _keys(model: type[BaseModel]) -> str:
    meanings = attribute_docstrings(model)
    rows = [
        (
            code(field.alias or name),
            plain(type_words(field.annotation)),
            plain(_bounds(field)),
            _default(field),
            plain(field.description or meanings.get(name, ""))
            + (_NO_RESULT if CHANGES_NOTHING in marks_of(field) else ""),
        )
        for name, field in model.model_fields.items()
    ]
    return table(("key", "type", "bounds", "default", "meaning"), rows)


def attribute_docstrings(model: type) -> dict[str, str]:
    """The docstrings under a class's attributes, its bases' included."""
    docstrings: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not base.__module__.startswith("alm_proxies"):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for statement, after in pairwise(body.body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                docstrings[statement.target.id] = " ".join(after.value.value.split())
    return docstrings


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """The fields of a model that are models themselves: name, model, whether there may be many."""
    for name, field in model.model_fields.items():
        for inner, many in _models(field.annotation):
            yield field.alias or name, inner, many


def _models(annotation: Any, many: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
        return
    for argument in get_args(annotation):
        yield from _models(argument, many or get_origin(annotation) in (tuple, list))


def type_words(annotation: Any) -> str:
    """A type in words: text, number, whole number, yes or no, one of ..., list of ..."""
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in words:
        return words[annotation]
    if origin is Annotated:
        return type_words(arguments[0])
    if origin is Literal:
        return " or ".join(repr(value).replace("'", '"') for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(a) for a in arguments if a is not type(None)))
    if origin in (tuple, list):
        inner = [type_words(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {inner[0]}" if len(inner) == 1 or arguments[-1] is Ellipsis else f"({', '.join(inner)})"
    if origin is not None and len(arguments) == 2:
        return f"table of {type_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {"Path": "path"}.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "multiple of"), ("pattern", "matches"))
    metadata = [*field.metadata]
    limits = []
    for name, sign in signs:
        for entry in metadata:
            value = getattr(entry, name, None)
            if value is not None:
                limits.append(f"{sign} `{value}`" if name == "pattern" else f"{sign} {value}")
    return ", ".join(dict.fromkeys(limits))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, str):
        return code(f'"{value}"') if value else ""
    if isinstance(value, tuple | list | dict | frozenset | set):
        return code(str(list(value) if isinstance(value, tuple) else value)) if value else ""
    return code(value)
