"""What later stages would refuse of the tables that read has just written, before anything is spent on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alm_proxies.errors import InputError
from alm_proxies.pipeline.forecast import forecast_of
from alm_proxies.pipeline.graph import Node, Run
from alm_proxies.stage import Foreseen
from alm_proxies.tables import Utterances, Votes


def refuse_tables(nodes: Sequence[Node], run: Run) -> None:
    """Raise for the first problem that a stage foresees from the tables of read, which must be there."""
    known: dict[Path, Foreseen] = {}
    for node in nodes:
        known[node.folder] = Foreseen()
        if node.stage.verb == "read":
            files = {name: node.folder / file for name, file in node.stage.writes.items()}
            tables = {"utterances": Utterances.read(files["utterances"]), "votes": Votes.read(files["votes"])}
            known[node.folder] = Foreseen(tables=tables)
        elif node.stage.refuses_tables:
            known[node.folder] = foreseen = forecast_of(node, run, known)
            if foreseen.problems:
                raise InputError(foreseen.problems[0])
