"""All that can be known about a pipeline before anything is spent: what is missing, what it would ask and cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from alm_proxies.about import about_of
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import OpenAIServe
from alm_proxies.errors import AlmProxiesError
from alm_proxies.pipeline.file import Run, read_pipeline
from alm_proxies.pipeline.task import will_run
from alm_proxies.pipeline.tasks import seeded, settings_of_read, sources_of, tasks_of, with_cards
from alm_proxies.stages.annotate.injection import is_told_transcripts, price_of_injection, to_be_injected
from alm_proxies.stages.annotate.limits import leaves_this_machine, price_of_all, refuse_egress, refuse_same_names
from alm_proxies.stages.annotate.plan import askable, shard_of
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate, read_panel
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.stage import read
from alm_proxies.tables import Utterances

_PACKAGES = {"transformers": ("transformers", "local"), "vllm": ("vllm", "vllm")}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: facts, and problems that a run would stop at."""

    facts: tuple[str, ...]
    problems: tuple[str, ...]
    planned_votes: int
    expected_price: float


def check(file: str | Path, *, folder: str | Path | None = None, ask: int = 0) -> Checked:
    """Read every file a pipeline names and say what it stands for, what it would ask and cost, and what is wrong.

    Nothing is kept, and no engine is asked unless `ask` says about how many utterances: then each annotator that is
    told transcripts is asked about them thrice, to tell which share of its votes an injected one turns.
    """
    pipeline = read_pipeline(file, folder)
    facts: list[str] = []
    problems: list[str] = []
    planned, price = 0, 0.0
    corpora: dict[Path, Utterances | None] = {}
    priced: dict[Path, tuple[int, float, float | None]] = {}
    facts.append(f"{len(pipeline.runs)} run{'s' if len(pipeline.runs) > 1 else ''} into {pipeline.folder}")
    for one in pipeline.runs:
        corpus, place = one.place("read"), one.place("annotate")
        if corpus not in corpora:
            corpora[corpus] = _corpus(one, pipeline.path.parent, facts, problems)
        utterances = corpora[corpus]
        if not problems:
            facts += _stages(one, pipeline.path.parent)
        if one.file.annotate is not None and place not in priced:
            settings = seeded(one.file.annotate, one.file.seed)
            votes, cost = _panel(one, settings, pipeline.path.parent, utterances, facts, problems)
            priced[place] = votes, cost, settings.budget
            planned, price = planned + votes, price + cost
            if ask and not problems:
                _ask(one, settings, pipeline.path.parent, utterances, ask, facts, problems)
    facts += _costs(priced, pipeline.folder)
    return Checked(tuple(facts), tuple(problems), planned, price)


def _costs(priced: Mapping[Path, tuple[int, float, float | None]], folder: Path) -> Iterator[str]:
    """What the votes of every annotate folder cost by the price tables, in sum, and beside their budgets."""
    planned, price = sum(votes for votes, _, _ in priced.values()), sum(cost for _, cost, _ in priced.values())
    if not planned:
        return
    if len(priced) > 1:
        for place, (votes, cost, _) in priced.items():
            yield f"{place.relative_to(folder)}: {votes:,} votes planned, about {cost:.2f}"
    several = f" for {len(priced)} settings of annotate together" if len(priced) > 1 else ""
    yield f"{planned:,} votes planned{several}, about {price:.2f} by the annotators' own price tables"
    for place, (_, cost, budget) in priced.items():
        if budget is not None and cost > budget:
            whose = f"{place.relative_to(folder)}: " if len(priced) > 1 else ""
            yield f"{whose}the budget of {budget:.2f} would be reached first: annotate stops before it is passed"
    if len(priced) > 1 and any(budget is not None for _, _, budget in priced.values()):
        most = sum(cost if budget is None else min(cost, budget) for _, cost, budget in priced.values())
        yield f"a budget holds for each setting of annotate, not for all of them: together about {most:.2f} is spent"


def _stages(one: Run, beside: Path) -> Iterator[str]:
    """Which stages are unchanged, and the first that would run and why; the ones after it follow it."""
    for task in tasks_of(one, beside, quiet=True):
        because = will_run(task)
        if because is not None:
            yield f"{task.stage}: {because}, and so does what comes after it"
            return
        yield f"{task.stage}: unchanged, will be skipped"


def _corpus(one: Run, beside: Path, facts: list[str], problems: list[str]) -> Utterances | None:
    """Reads the corpora, says what they hold, and gives their utterances if they could be read."""
    if one.file.simulate is not None:
        facts.append(f"simulate: {one.file.simulate.utterances} utterances of synthetic speech")
    sources = sources_of(one.file, beside)
    if not sources:
        return None
    try:
        corpus = read(sources, settings_of_read(one.file, beside))
    except AlmProxiesError as error:
        problems.append(str(error))
        return None
    votes = corpus.votes
    mean = len(votes) / max(votes.frame["utterance_id"].n_unique(), 1)
    facts.append(f"read: {len(corpus.utterances):,} utterances, {len(votes):,} votes ({mean:.1f} each)")
    facts += [f"read: {row['message']}" for row in corpus.findings.frame.iter_rows(named=True)]
    if one.file.simulate is not None:  # what is held out, and of whom, shows when the synthetic corpus is there
        return corpus.utterances
    if one.file.hold_out is not None:
        try:
            votes, told = hold_out(votes, corpus.utterances, one.file.hold_out, one.file.seed)
        except AlmProxiesError as error:
            problems.append(str(error))
            return corpus.utterances
        facts += [f"read: {finding.message}" for finding in told]
    if one.file.align is not None and not votes.frame["held_out"].any():
        facts.append("align: no votes are held out, so nothing can be scored; write [hold_out]")
    return corpus.utterances


def _panel(
    one: Run,
    settings: AnnotateSettings,
    beside: Path,
    utterances: Utterances | None,
    facts: list[str],
    problems: list[str],
) -> tuple[int, float]:
    """Says what each annotator would be asked; gives the votes planned and their price."""
    planned, price = 0, 0.0
    panel: list[Annotator] = []
    for path in settings.panel:
        try:
            panel += read_panel(settings.model_copy(update={"panel": (path,)}), beside)
        except AlmProxiesError as error:
            problems.append(str(error))
    if not settings.panel:
        problems.append('[annotate] names no annotator. Write panel = ["annotators/embedded.toml"].')
    try:
        if panel:
            refuse_same_names(panel)
    except AlmProxiesError as error:
        problems.append(str(error))
    before = one.place("annotate") / "votes.parquet"
    cards = about_of(before).annotators if before.exists() else {}
    for annotator in panel:
        try:
            ready = annotator.ready(one.labels, settings.votes)
        except AlmProxiesError as error:
            problems.append(str(error))
            continue
        problems += _unmet(ready)
        facts.append(f"annotate: {ready.name}: {ready.model_name}, {ready.votes} votes in {len(ready.cells)} cells")
        card = cards.get(ready.name)
        if card is not None and card.digest == ready.digest and card.injected is not None:
            facts.append(f"annotate: {ready.name}: the run before measured that {card.injected}")
        if utterances is not None:
            votes, cost = _asked(ready, utterances, settings, beside, facts, problems)
        else:
            count = one.file.simulate.utterances if one.file.simulate is not None else 0
            votes, cost = count * ready.votes, 0.0
        planned, price = planned + votes, price + cost
    return planned, price


def _asked(
    annotator: Annotator,
    utterances: Utterances,
    settings: AnnotateSettings,
    beside: Path,
    facts: list[str],
    problems: list[str],
) -> tuple[int, float]:
    corpora = utterances.frame["corpus"].unique().to_list()
    local = not leaves_this_machine(annotator)
    own = with_cards(settings, corpora, beside).cards
    try:
        refuse_egress(corpora, annotator, local, named=settings.may_leave, cards=Path(own) if own else None)
    except AlmProxiesError as error:
        problems.append(str(error))
    frame, findings = askable(utterances)
    facts += [f"annotate: {finding.message}" for finding in findings]
    if settings.limit is not None:
        frame = frame.head(settings.limit)
    price = price_of_all([annotator], frame)
    if is_told_transcripts(annotator):
        shard = shard_of(settings.shard) if settings.shard else None
        twice = to_be_injected(frame, settings.injection, shard)
        price += price_of_injection([annotator], twice)
        if twice.height:
            said = f"{annotator.name}: {twice.height} utterances twice more, to see what an injected transcript turns"
            facts.append(f"annotate: {said}")
    return frame.height * annotator.votes, price


def _ask(
    one: Run,
    settings: AnnotateSettings,
    beside: Path,
    utterances: Utterances | None,
    count: int,
    facts: list[str],
    problems: list[str],
) -> None:
    """Asks each annotator about a few utterances, and says how far a transcript that tells the answer decides."""
    written = one.place("read") / "utterances.parquet"
    if utterances is None and not written.exists():
        facts.append("annotate: no utterance can be asked about before the synthetic corpus is made: run it first")
        return
    spoken = utterances if utterances is not None else Utterances.read(written)
    spoken = Utterances(spoken.frame, spoken.about.with_(taxonomy=one.labels))
    own = with_cards(settings, spoken.frame["corpus"].unique().to_list(), beside)
    pilot = own.model_copy(update={"limit": count, "injection": count, "shard": None})
    for annotator in read_panel(settings, beside):
        name = annotator.name
        if not is_told_transcripts(annotator):
            facts.append(f"annotate: {name} is told no transcripts: there is nothing to inject into")
            continue
        try:
            with TemporaryDirectory(prefix="alm-proxies-") as folder:
                made = annotate(spoken, [annotator], folder, pilot, quiet=True)
        except AlmProxiesError as error:
            problems.append(str(error))
            continue
        if made.interrupted:
            raise KeyboardInterrupt
        spent = f"; asking cost {made.spent.price:.2f}" if made.spent.price else ""
        turned = made.votes.about.annotators[name].injected
        facts.append(f"annotate: {name}: {turned or 'what an injected transcript turns could not be measured'}{spent}")
        facts += [f"annotate: {finding['message']}" for finding in made.findings.frame.iter_rows(named=True)]


def _unmet(annotator: Annotator) -> Iterator[str]:
    """What an annotator needs that is not there: a package, a key in the environment, a folder with weights."""
    engine, serve = annotator.file.engine, annotator.serve
    module, extra = _PACKAGES.get(engine, ("", ""))
    if module and find_spec(module) is None:
        yield (
            f"{annotator.where}: the engine {engine} needs {module}, which is not installed. "
            f"Install it with: pip install 'alm-proxies[{extra}]'"
        )
    key = serve.key_from if isinstance(serve, OpenAIServe) else None
    if key and not os.environ.get(key):
        yield f"{annotator.where}: the environment has no {key}. Set it to the server's key: export {key}=..."
