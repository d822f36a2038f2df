"""All that can be known about a pipeline before anything is spent: what is missing, what it would ask and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.graph import Node, Run, nodes_of
from alm_proxies.pipeline.task import ahead_of, will_run
from alm_proxies.pipeline.tasks import task_of
from alm_proxies.stage import Foreseen, load


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: facts, and problems that a run would stop at."""

    facts: tuple[str, ...]
    problems: tuple[str, ...]
    planned_votes: int
    expected_price: float
    settings: Mapping[str, Mapping[str, tuple[Any, str]]] = field(default_factory=dict)
    """For every folder of a stage, each setting with its value and where that was said."""
    foreseen: Mapping[str, Foreseen] = field(default_factory=dict)
    """For every folder of a stage, what it foresees."""


def check(
    file: str | Path,
    *,
    folder: str | Path | None = None,
    settings: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    ask: int = 0,
) -> Checked:
    """Read every file a pipeline names and say what it stands for, what it would ask and cost, and what is wrong.

    Nothing is kept, and no engine is asked unless `ask` says about how many utterances: then each annotator that is
    told transcripts is asked about them thrice, to tell which share of its votes an injected one turns.
    """
    pipeline = read_pipeline(file, folder, settings=settings, changes=changes)
    facts = [f"{len(pipeline.runs)} run{'s' if len(pipeline.runs) > 1 else ''} into {pipeline.folder}"]
    problems: list[str] = []
    foreseen: dict[Path, Foreseen] = {}
    effective: dict[str, dict[str, tuple[Any, str]]] = {}
    for one in pipeline.runs:
        nodes = nodes_of(one)
        for node in nodes:
            if node.folder not in foreseen:
                foreseen[node.folder] = _foreseen(node, one, foreseen, 0 if problems else ask)
                facts += [f"{node.title}: {fact}" for fact in foreseen[node.folder].facts]
                problems += foreseen[node.folder].problems
                effective[str(node.folder.relative_to(pipeline.folder))] = dict(_effective(node))
        if not problems:
            facts += _unchanged(nodes, one)
    facts += _costs(foreseen, pipeline.folder)
    return Checked(
        facts=tuple(facts),
        problems=tuple(problems),
        planned_votes=sum(one.planned_votes for one in foreseen.values()),
        expected_price=sum(one.price for one in foreseen.values()),
        settings=effective,
        foreseen={str(place.relative_to(pipeline.folder)): one for place, one in foreseen.items()},
    )


def _foreseen(node: Node, run: Run, known: Mapping[Path, Foreseen], ask: int) -> Foreseen:
    if not node.stage.foresee:
        return Foreseen()
    before = {need: tuple(known[source.node.folder] for source in sources) for need, sources in node.inputs.items()}
    made: Foreseen = load(node.stage.foresee)(ahead_of(task_of(node, run), before=before, ask=ask))
    return made


def _effective(node: Node) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Every setting of a node with its value and origin."""
    section = node.section
    for name, value in section.settings.model_dump(mode="json", by_alias=True).items():
        yield name, (value, section.origins.get(name, "default"))
    for number, block in enumerate(section.blocks):
        for name, value in block.model_dump(mode="json", by_alias=True).items():
            origin = f"[[{section.stage.verb}]]" if name in block.model_fields_set else "default"
            yield f"{number}.{name}", (value, origin)


def _costs(foreseen: Mapping[Path, Foreseen], folder: Path) -> Iterator[str]:
    """What the votes of every folder cost by the price tables, in sum, and beside their budgets."""
    priced = {place: one for place, one in foreseen.items() if one.planned_votes}
    planned, price = sum(one.planned_votes for one in priced.values()), sum(one.price for one in priced.values())
    if not planned:
        return
    if len(priced) > 1:
        for place, one in priced.items():
            yield f"{place.relative_to(folder)}: {one.planned_votes:,} votes planned, about {one.price:.2f}"
    several = f" for {len(priced)} settings of annotate together" if len(priced) > 1 else ""
    yield f"{planned:,} votes planned{several}, about {price:.2f} by the annotators' own price tables"
    for place, one in priced.items():
        if one.budget is not None and one.price > one.budget:
            whose = f"{place.relative_to(folder)}: " if len(priced) > 1 else ""
            yield f"{whose}the budget of {one.budget:.2f} would be reached first: annotate stops before it is passed"
    if len(priced) > 1 and any(one.budget is not None for one in priced.values()):
        most = sum(one.price if one.budget is None else min(one.price, one.budget) for one in priced.values())
        yield f"a budget holds for each setting of annotate, not for all of them: together about {most:.2f} is spent"


def _unchanged(nodes: tuple[Node, ...], run: Run) -> Iterator[str]:
    """Which stages are unchanged, and the first that would run and why; the ones behind it follow it."""
    changed: set[Path] = set()
    for node in nodes:
        if any(source.node.folder in changed for sources in node.inputs.values() for source in sources):
            changed.add(node.folder)
            continue
        because = will_run(task_of(node, run))
        if because is None:
            yield f"{node.title}: unchanged, will be skipped"
            continue
        changed.add(node.folder)
        yield f"{node.title}: {because}, and so does what comes after it"
