"""The check of a pipeline before anything runs: missing inputs, planned votes and cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alm_proxies.audio.looking import look_at_all
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.forecast import forecast_of
from alm_proxies.pipeline.graph import Node, Run, nodes_of
from alm_proxies.pipeline.task import will_run
from alm_proxies.pipeline.tasks import task_of
from alm_proxies.printable import counted, in_money, one_currency
from alm_proxies.shown import Shown
from alm_proxies.stage import Foreseen
from alm_proxies.tables import Utterances


@dataclass(frozen=True, slots=True, repr=False)
class Checked(Shown):
    """The result of a check: facts, warnings, and problems that would stop a run."""

    facts: tuple[str, ...]
    problems: tuple[str, ...]
    planned_votes: int
    """Planned votes, including those already cast."""
    expected_price: float
    """Expected cost of the votes that are not cast yet."""
    warnings: tuple[str, ...] = ()
    """Warnings, with which a run would continue."""
    cast_votes: int = 0
    """Planned votes that are already cast."""
    impossible_votes: int = 0
    """Other planned votes that cannot be requested, such as those on missing recordings."""
    paid: float = 0.0
    """Cost so far."""
    settings: Mapping[str, Mapping[str, tuple[Any, str]]] = field(default_factory=dict)
    """For every folder of a stage, each setting with its value and origin."""
    foreseen: Mapping[str, Foreseen] = field(default_factory=dict)
    """For every folder of a stage, its forecast."""

    def __str__(self) -> str:
        """The result in one line: the numbers of problems and warnings."""
        kinds = ((self.problems, "problem"), (self.warnings, "warning"))
        counts = [counted(len(entries), noun) for entries, noun in kinds if entries]
        line = " and ".join(counts) or "nothing is wrong"
        if counts and not self.problems:
            line += ", none of which would stop a run"
        if self.planned_votes:
            currency = one_currency(forecast.currency for forecast in self.foreseen.values())
            line += f"; {counted(self.planned_votes, 'vote')} planned"
            if self.cast_votes or self.paid:
                line += f", {self.cast_votes:,} cast for {in_money(self.paid, currency)}"
            left = self.planned_votes - self.cast_votes - self.impossible_votes
            if left:
                rest = f"{left:,} left, " if left < self.planned_votes else ""
                line += f", {rest}about {in_money(self.expected_price, currency)}"
        return line


def check(
    file: str | Path,
    *,
    folder: str | Path | None = None,
    settings: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    ask: int = 0,
    quiet: bool = False,
) -> Checked:
    """Read all inputs of a pipeline and report its runs, planned votes, cost, and problems.

    All recordings and the ledgers of earlier runs are read: what was paid, and what is left. Nothing is written but the
    digests of recordings that were touched since a run, so that they are read once. No engine is asked unless `ask`
    gives a number of utterances: then each annotator whose prompt holds transcripts is asked about them three times, to
    measure the share of its votes that an injected transcript changes.
    """
    pipeline = read_pipeline(file, folder, settings=settings, changes=changes)
    facts = [f"{counted(len(pipeline.runs), 'run')} into {pipeline.folder}"]
    warnings = [
        f"{key} ({origin}) has no effect: [vary] gives its values. Take it out of [vary] to choose one."
        for key, origin in pipeline.replaced
    ]
    problems: list[str] = []
    stated: set[Path] = set()
    foreseen: dict[Path, Foreseen] = {}
    effective: dict[str, dict[str, tuple[Any, str]]] = {}
    for run in pipeline.runs:
        nodes = nodes_of(run)
        for node in nodes:
            if node.folder not in foreseen:
                foreseen[node.folder] = forecast_of(node, run, foreseen, ask=0 if problems else ask)
                facts += [f"{node.title}: {fact}" for fact in foreseen[node.folder].facts]
                warnings += [f"{node.title}: {warning}" for warning in foreseen[node.folder].warnings]
                problems += foreseen[node.folder].problems
                if node.stage.verb == "read" and (hearing := [other for other in nodes if other.stage.hears]):
                    foreseen[node.folder] = _looked_at(
                        node, hearing, foreseen[node.folder], facts, warnings, problems, quiet=quiet
                    )
                effective[str(node.folder.relative_to(pipeline.folder))] = dict(_effective(node))
        if not problems:
            facts += [fact for node, fact in _unchanged(nodes, run, quiet=quiet) if node.folder not in stated]
            stated.update(node.folder for node in nodes)
    facts += _costs(foreseen, pipeline.folder)
    return Checked(
        facts=tuple(facts),
        problems=tuple(dict.fromkeys(problems)),
        planned_votes=sum(forecast.planned_votes for forecast in foreseen.values()),
        expected_price=sum(forecast.price for forecast in foreseen.values()),
        warnings=tuple(dict.fromkeys(warnings)),
        cast_votes=sum(forecast.cast_votes for forecast in foreseen.values()),
        impossible_votes=sum(forecast.impossible_votes for forecast in foreseen.values()),
        paid=sum(forecast.paid for forecast in foreseen.values()),
        settings=effective,
        foreseen={str(place.relative_to(pipeline.folder)): forecast for place, forecast in foreseen.items()},
    )


def _looked_at(
    node: Node,
    hearing: Sequence[Node],
    foreseen: Foreseen,
    facts: list[str],
    warnings: list[str],
    problems: list[str],
    *,
    quiet: bool,
) -> Foreseen:
    """Check every recording of a corpus that stages open; gives the forecast of read with their durations."""
    table: Utterances | None = foreseen.tables.get("utterances")
    written = node.folder / node.stage.writes["utterances"]
    if table is None and (foreseen.problems or not written.exists()):
        return foreseen  # of a source that cannot be read, an earlier result has the recordings where they were
    result = look_at_all(table if table is not None else Utterances.read(written), quiet=quiet)
    if not result.recordings and not result.remote:
        if table is not None and any(other.stage.verb == "train" for other in hearing):
            fix = 'Name them in [[read]]: recordings = "FOLDER", or leave [[train]] out.'
            problems.append(f"{node.title}: no utterance has a recording to train on. {fix}")
        return foreseen
    facts.extend(f"{node.title}: {fact}" for fact in result.facts())
    useless = result.all_useless and any(other.stage.verb in _NEEDS_SOUND for other in hearing)
    (problems if useless else warnings).extend(f"{node.title}: {sentence}" for sentence in result.sentences())
    if table is None:
        return foreseen
    return replace(foreseen, tables={**foreseen.tables, "utterances": result.utterances})


_NEEDS_SOUND = ("annotate", "listen", "train", "predict")
"""Stages that need at least one recording."""


def _effective(node: Node) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Every setting of a node with its value and origin."""
    section = node.section
    for name, value in section.settings.model_dump(mode="json", by_alias=True).items():
        yield name, (value, section.origins.get(name, "default"))
    for block, (key, origins) in zip(section.blocks, section.block_origins.items(), strict=True):
        for name, value in block.model_dump(mode="json", by_alias=True).items():
            yield f"{key}.{name}", (value, origins.get(name, "default"))


def _costs(foreseen: Mapping[Path, Foreseen], folder: Path) -> Iterator[str]:
    """The cost of the votes of every folder by the price tables, in total and compared with their budgets."""
    priced = {place: forecast for place, forecast in foreseen.items() if forecast.planned_votes}
    if not priced:
        return
    if len(priced) > 1:
        planned = sum(forecast.planned_votes for forecast in priced.values())
        price = _together((forecast.price, forecast.currency) for forecast in priced.values())
        for place, forecast in priced.items():
            cost = in_money(forecast.price, forecast.currency)
            yield f"{place.relative_to(folder)}: {counted(forecast.planned_votes, 'vote')} planned, about {cost}"
        yield f"{counted(planned, 'vote')} planned for {len(priced)} settings of annotate together, about {price}"
    for place, forecast in priced.items():
        if forecast.budget is not None and forecast.paid + forecast.price > forecast.budget:
            whose = f"{place.relative_to(folder)}: " if len(priced) > 1 else ""
            budget = in_money(forecast.budget, forecast.currency)
            yield f"{whose}the budget of {budget} would be reached first: annotate stops before it is exceeded"
    if len(priced) > 1 and any(forecast.budget is not None for forecast in priced.values()):
        most = _together((_at_most(forecast), forecast.currency) for forecast in priced.values())
        yield f"a budget applies to each setting of annotate, not to all of them: together about {most} is spent"


def _at_most(forecast: Foreseen) -> float:
    """The expected cost, within what is left of the budget."""
    if forecast.budget is None:
        return forecast.price
    return min(forecast.price, max(0.0, forecast.budget - forecast.paid))


def _together(costs: Iterable[tuple[float, str]]) -> str:
    """The sum of costs, with their currency where all have the same."""
    prices, currencies = zip(*costs, strict=True)
    return in_money(sum(prices), one_currency(currencies) if len(set(currencies)) == 1 else "")


def _unchanged(nodes: tuple[Node, ...], run: Run, *, quiet: bool) -> Iterator[tuple[Node, str]]:
    """Which stages are unchanged, and the first that would run, with the reason; later stages run too, except after
    one whose result was moved or lost and is made again as it was."""
    changed: set[Path] = set()
    for node in nodes:
        if any(source.node.folder in changed for sources in node.inputs.values() for source in sources):
            changed.add(node.folder)
            continue
        because = will_run(task_of(node, run), quiet=quiet)
        if because is None:
            yield node, f"{node.title}: unchanged, will be skipped"
            continue
        changed.add(node.folder)
        after = (
            "later stages only if its content differs" if because.same_content else "and so does what comes after it"
        )
        yield node, f"{node.title}: {because}, {after}"
