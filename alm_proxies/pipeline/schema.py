"""JSON Schemas for editors, of the files that users write: keys, types, bounds, and meanings."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.metric_keys import DESCRIPTIONS, FLAGS, MAPS_OF_TEXT, TEXTS
from alm_proxies.metrics import ENDS, METRICS
from alm_proxies.pipeline.file import FileSettings
from alm_proxies.plugins import plugins
from alm_proxies.stage import FILE_WIDE, Stage
from alm_proxies.stages.registry import STAGES, stage_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def annotator_schema() -> dict[str, Any]:
    """The schema of an annotator file."""
    return {"$schema": _DIALECT, "title": "alm-proxies annotator", **_of(AnnotatorFile)}


def pipeline_schema() -> dict[str, Any]:
    """The schema of a pipeline file: its top-level keys, and a section for every stage."""
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


def metrics_schema() -> dict[str, Any]:
    """The schema of every metrics.json, and of a line of metrics.jsonl: each known name with what it means.

    Names of methods, strata, labels and proxies stand where the table of metrics says, and what lies below any name is
    a number, null, a list or more names: text and yes or no stand under the names that are for them alone.
    """
    tree = {"$ref": "#/$defs/figures"}
    text = {"type": ["string", "null"], "not": {"enum": ["inf", "-inf", "nan", "Infinity", "NaN"]}}
    texts = {"anyOf": [text, {"type": "array", "items": text}]}
    named: dict[str, Any] = {}
    for name, meaning in {**ENDS, **DESCRIPTIONS, **{name: metric.meaning for name, metric in METRICS.items()}}.items():
        own: dict[str, Any] = tree
        if name in TEXTS:
            own = {"anyOf": [texts, tree]}
        elif name in FLAGS:
            own = {"anyOf": [{"type": ["boolean", "null"]}, tree]}
        elif name in MAPS_OF_TEXT:
            own = {"type": "object", "additionalProperties": {"type": "string"}}
        named[name] = {"description": meaning, **own}
    end = {"type": ["number", "null"]}
    interval = {
        "type": "object",
        "properties": {"value": end, "low": end, "high": end, "p_value": end, "method": text},
        "required": ["value", "low", "high"],
    }
    for name in ("nll_per_vote", "less_baseline", "jsd_base2", "brier", "dirichlet_multinomial_nll"):
        described = named[name]["description"]
        named[name] = {"description": described, "anyOf": [{"$ref": "#/$defs/interval"}, end, tree]}
    figures = {
        "anyOf": [
            {"type": ["number", "null"]},
            {"type": "array", "items": tree},
            {"type": "object", "properties": named, "additionalProperties": tree},
        ]
    }
    return {
        "$schema": _DIALECT,
        "title": "alm-proxies metrics",
        "type": "object",
        "properties": {**named, "sets": {"type": "array", "items": {"$ref": "#"}}},
        "additionalProperties": False,
        "$defs": {"figures": figures, "interval": interval},
    }


def _section(stage: Stage, definitions: dict[str, Any]) -> dict[str, Any]:
    if stage.choice is None:
        models: list[type[BaseModel]] = [stage.block or stage.settings]
    else:
        models = [plugin.load().settings for plugin in plugins(stage.choice.kind).values()]
    schemas = []
    for model in models:
        schema = _of(model)
        definitions.update(schema.pop("$defs", {}))
        schemas.append(schema)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _of(model: type[BaseModel]) -> dict[str, Any]:
    return TypeAdapter(model).json_schema(by_alias=True)
