"""Files with keys, a change of every key, and the task that a stage has of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from alm_proxies.pipeline.perform import Task
from alm_proxies.settings import CHANGES_NOTHING, marks_of, models_in
from alm_proxies.stages.registry import stage_of

Path_ = tuple[str, ...]


LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")


@dataclass(frozen=True)
class Case:
    """Settings of a stage with all keys of one kind, and the values to change them to."""

    verb: str
    settings: dict[str, Any] = field(default_factory=dict)
    block: dict[str, Any] | None = None
    others: dict[str, Any] = field(default_factory=dict)
    """Values of keys that no rule can change; `@x` is the path x in the folder."""


def in_place(value: Any, folder: Path) -> Any:
    """A value with the paths of a folder in it."""
    if isinstance(value, str):
        return str(folder / value[1:]) if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: in_place(inner, folder) for key, inner in value.items()}
    return [in_place(inner, folder) for inner in value] if isinstance(value, list | tuple) else value


def task_of(case: Case, place: Path, settings: dict[str, Any], block: dict[str, Any] | None) -> Task:
    needs = {"utterances": "utterances.parquet", "votes": "votes.parquet", "labels": "labels.parquet", "model": "model"}
    inputs = {need.name: [str(place / needs[need.name])] for need in stage_of(case.verb).needs if need.name in needs}
    blocks = [in_place(block, place)] if block is not None else []
    settings = in_place(settings, place)
    return Task(case.verb, str(place / "out"), settings, blocks, inputs, labels=list(LABELS), beside=str(place))


def leaves(model: type[BaseModel], values: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any, Any, bool]]:
    """Every key of a model: its path, its field, its value, and whether it is marked as changing nothing."""
    for name, declared in model.model_fields.items():
        key = declared.alias or name
        inner, value = next(models_in(declared.annotation), None), values[key]
        nothing = CHANGES_NOTHING in marks_of(declared)
        if inner is not None and isinstance(value, dict):
            yield from ((p, f, v, nothing or n) for p, f, v, n in leaves(inner, value, (*path, key)))
        else:
            yield (*path, key), declared, value, nothing


def changed(path: Path_, declared: Any, value: Any, others: dict[str, Any]) -> list[Any]:
    """Other values of a key: the listed one, or several by rule, of which the first valid one is used."""
    for name in (".".join(path), path[-1]):
        if name in others:
            return [others[name]]
    parts = (declared.annotation, *get_args(declared.annotation))
    literal = next((part for part in parts if get_origin(part) is Literal), None)
    if literal is not None:
        return [choice for choice in get_args(literal) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 2, 2 * value]
    if isinstance(value, float):
        return [value / 2 if value else 0.5, 1.0, 2.0]
    if isinstance(value, str) and value:
        return [value + "x"]
    if isinstance(value, list | tuple) and value and all(isinstance(item, int | float) for item in value):
        return [[value[0] / 2 if isinstance(value[0], float) else value[0], *value[1:-1], value[-1] + 1]]
    return [3, 0.5, "x", ["x"]]


def put(values: dict[str, Any], path: Path_, other: Any) -> dict[str, Any]:
    copied = json.loads(json.dumps(values))
    inner = copied
    for part in path[:-1]:
        inner = inner[part]
    if isinstance(other, dict) and "*" in other:
        return dict(other["*"])
    if isinstance(other, dict) and path[-1] in other:  # a change of several keys that only go together
        inner.update(other)
    else:
        inner[path[-1]] = other
    return dict(copied)


ANNOTATOR: dict[str, Any] = {
    "name": "one", "engine": "scripted", "model": "m", "prompt": "prompt.toml", "serve": {"answers": "a.csv"},
    "cross": {"temperature": [0.7], "focus": ["tone"]},
}  # fmt: skip


PROMPT: dict[str, Any] = {
    "describes": "x", "elicits": "label", "system": "You hear speech.", "before": "Listen.",
    "after": "{{ choices }} {% if focus %}{{ focus }}{% endif %} {% for x in turns %}{{ x.transcript }}{% endfor %}",
    "turns": 2,
    "focus": {"tone": "Mind the tone.", "words": "Mind the words."}, "requires": [], "scale": [0.0, 1.0],
}  # fmt: skip


def toml(values: dict[str, Any]) -> str:
    """Values as TOML."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items() if inner is not None)
            + " }"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def card(**values: Any) -> str:
    values_of_card: dict[str, Any] = {
        "name": "mine", "title": "Mine", "licence": "CC", "use": "w", "may_leave": True, "why": "It is mine.",
        "votes": "one", "taxonomy": "crema6", "scales": {"valence": [1, 5]}, "columns": {"label": "heard"},
        "constants": {"language": "en"}, "files": {"a.csv": "train"}, "citation": "x", "source": "y", **values,
    }  # fmt: skip
    return f"+++\n{toml(values_of_card)}+++\nText.\n"
