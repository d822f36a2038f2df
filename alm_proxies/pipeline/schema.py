"""JSON Schemas of the files that users write, for editors: keys, types, bounds, and what each key means."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.pipeline.file import FileSettings
from alm_proxies.plugins import plugins
from alm_proxies.stage import FILE_WIDE, Stage
from alm_proxies.stages.registry import STAGES, stage_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def annotator_schema() -> dict[str, Any]:
    """The schema of an annotator file."""
    return {"$schema": _DIALECT, "title": "alm-proxies annotator", **_of(AnnotatorFile)}


def pipeline_schema() -> dict[str, Any]:
    """The schema of a pipeline file: the keys at its top, and a section for every stage."""
    top = _of(FileSettings)
    definitions: dict[str, Any] = top.pop("$defs", {})
    properties: dict[str, Any] = top["properties"]
    for verb, sentence in STAGES.items():
        stage = stage_of(verb)
        section = _section(stage, definitions)
        several = {"type": "array", "items": section}
        properties[verb] = {**(section if stage.blocks == "one" else several), "description": sentence}
        wide = [name for name in FILE_WIDE if name in stage.settings.model_fields and name not in properties]
        own = _of(stage.settings)
        definitions.update(own.get("$defs", {}))
        properties.update({name: own["properties"][name] for name in wide})
    lists = {"type": "array", "minItems": 1}
    properties["vary"] = {
        "type": "object",
        "description": "A run for each combination of values: key = [values].",
        "additionalProperties": {"anyOf": [lists, {"type": "object"}]},
    }
    return {"$schema": _DIALECT, "title": "alm-proxies pipeline", **top, "$defs": definitions}


def _section(stage: Stage, definitions: dict[str, Any]) -> dict[str, Any]:
    if stage.choice is None:
        models: list[type[BaseModel]] = [stage.block or stage.settings]
    else:
        models = [plugin.load().settings for plugin in plugins(stage.choice.kind).values()]
    made = []
    for model in models:
        one = _of(model)
        definitions.update(one.pop("$defs", {}))
        made.append(one)
    return made[0] if len(made) == 1 else {"anyOf": made}


def _of(model: type[BaseModel]) -> dict[str, Any]:
    return TypeAdapter(model).json_schema(by_alias=True)
