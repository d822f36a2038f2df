"""The forecast of one node of a run, from those of the nodes before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alm_proxies.pipeline.graph import Node, Run
from alm_proxies.pipeline.keys import foreseen_in_file
from alm_proxies.pipeline.task import ahead_of
from alm_proxies.pipeline.tasks import task_of
from alm_proxies.stage import Foreseen, load


def forecast_of(node: Node, run: Run, known: Mapping[Path, Foreseen], *, ask: int = 0) -> Foreseen:
    """What a node foresees, in the words of the pipeline file; `known` has the forecasts by folder, as far as known."""
    if not node.stage.foresee:
        return Foreseen()
    before = {
        need: tuple(known.get(source.node.folder, Foreseen()) for source in sources)
        for need, sources in node.inputs.items()
    }
    forecast: Foreseen = load(node.stage.foresee)(ahead_of(task_of(node, run), before=before, ask=ask))
    return foreseen_in_file(forecast, node, run)
