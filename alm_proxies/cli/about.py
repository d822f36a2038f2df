"""The verbs that say what there is: plug-ins, and the schemas of the files that users write."""

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
    """List readers, estimators, engines, prompts, exports and recipes, ours and others'."""
    from alm_proxies.plugins import KINDS, OURS
    from alm_proxies.plugins import plugins as plugins_of

    found = {kind: plugins_of(kind) for kind in KINDS}
    lines, broken = [], []
    for kind, named in found.items():
        own = [name for name, one in named.items() if one.distribution == OURS]
        lines.append(f"{kind}: {', '.join(own) or 'none'}")
        for name, one in named.items():
            if one.distribution != OURS:
                lines.append(f"  {name} ({one.origin})")
                broken += _broken(one)
    lines += broken
    data = {
        kind: {
            name: {"target": one.target, "distribution": one.distribution, "version": one.version}
            for name, one in named.items()
        }
        for kind, named in found.items()
    }
    return Outcome("\n".join(lines), data, as_json=common.json)


def _broken(plugin: Plugin) -> list[str]:
    """What is wrong with a plug-in of somebody else's, in one line, or nothing."""
    if plugin.kind == "prompts":
        return []
    try:
        plugin.load()
    except SettingsError as error:
        return [f"  wrong: {error}"]
    return []


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
        Which files it describes.
    output
        A file to write instead of printing.
    """
    from alm_proxies.files import write_json
    from alm_proxies.pipeline.schema import annotator_schema, metrics_schema, pipeline_schema

    made = {"pipeline": pipeline_schema, "annotator": annotator_schema, "metrics": metrics_schema}[file]()
    if output is None:
        return Outcome(json.dumps(made, indent=2, ensure_ascii=False), made, as_json=common.json)
    write_json(output, made)
    return Outcome(str(output), {"output": str(output)}, as_json=common.json)
