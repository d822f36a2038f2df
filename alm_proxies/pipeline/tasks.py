"""Tasks from the nodes of a run."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from alm_proxies.pipeline.graph import Node, Run
from alm_proxies.pipeline.perform import Task


def task_of(node: Node, run: Run) -> Task:
    """The task of a node, with complete settings, so that every process does the same."""
    stage, section = node.stage, node.section
    blocks = [_plain(block) for block in section.blocks]
    inputs = {need: [str(source.path) for source in sources] for need, sources in node.inputs.items() if sources}
    for source in node.inputs.get(stage.blocks_as, ()):  # a corpus from an earlier stage is one more source
        blocks.append(_plain(stage.settings_for({"format": "tables"})(format="tables", source=source.node.folder)))
        inputs[stage.blocks_as] = [str(source.node.folder) for source in node.inputs[stage.blocks_as]]
    several = [need.name for need in stage.needs if need.every and need.table != "votes"]
    names = {
        name: [source.node.name or source.node.stage.verb for source in node.inputs[name]]
        for name in several
        if node.inputs.get(name) and name != stage.blocks_as
    }
    return Task(
        stage=stage.verb,
        folder=str(node.folder),
        settings=_plain(section.settings),
        blocks=blocks,
        inputs=inputs,
        names=names,
        labels=list(run.labels),
        name=node.name,
        beside=str(run.beside),
    )


def _plain(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)
