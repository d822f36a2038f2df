"""The commands plugins and schema: list plug-ins, and print the JSON Schemas of the files that users write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, Outcome
from alm_proxies.errors import SettingsError
from alm_proxies.plugins import Plugin

_COMMON = Common()


def plugins(*, common: Common = _COMMON) -> Outcome:
    """List all readers, estimators, engines, prompts, exports and recipes, shipped and third-party."""
    from alm_proxies.plugins import KINDS, OURS
    from alm_proxies.plugins import plugins as plugins_of

    by_kind = {kind: plugins_of(kind) for kind in KINDS}
    lines: list[str] = []
    broken: dict[tuple[str, str], str] = {}
    for kind, named in by_kind.items():
        own = [name for name, plugin in named.items() if plugin.distribution == OURS]
        lines.append(f"{kind}: {', '.join(own) or 'none'}")
        for name, plugin in named.items():
            if plugin.distribution != OURS:
                lines.append(f"  {name} ({plugin.origin})")
                if fault := _fault(plugin):
                    broken[kind, name] = fault
    lines += [f"  wrong: {fault}" for fault in broken.values()]
    data = {
        kind: {
            name: {
                "target": plugin.target, "distribution": plugin.distribution, "version": plugin.version,
                "fault": broken.get((kind, name)),
            }
            for name, plugin in named.items()
        }
        for kind, named in by_kind.items()
    }  # fmt: skip
    return Outcome("\n".join(lines), data, as_json=common.json)


def _fault(plugin: Plugin) -> str | None:
    """The error of a broken third-party plug-in, in one line; None if it loads."""
    from alm_proxies.annotators.prompts import read_prompt

    try:
        loaded = plugin.load()
        if plugin.kind == "prompts":
            read_prompt(loaded)
    except SettingsError as error:
        return str(error)
    return None


def schema(
    file: Literal["pipeline", "annotator", "metrics"],
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    common: Common = _COMMON,
) -> Outcome:
    """Print the JSON Schema of pipeline, annotator or metrics files, for editors.

    Parameters
    ----------
    file
        The kind of file that the schema describes.
    output
        A file to write instead of printing.
    """
    from alm_proxies.files import write_json
    from alm_proxies.pipeline.schema import annotator_schema, metrics_schema, pipeline_schema

    schema_ = {"pipeline": pipeline_schema, "annotator": annotator_schema, "metrics": metrics_schema}[file]()
    if output is None:
        return Outcome(json.dumps(schema_, indent=2, ensure_ascii=False), schema_, as_json=common.json)
    write_json(output, schema_)
    return Outcome(str(output), {"output": str(output)}, as_json=common.json)
