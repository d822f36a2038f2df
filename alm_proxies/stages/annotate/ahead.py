"""What can be known of annotate before it runs: which votes would be asked for, at what price, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from tempfile import TemporaryDirectory

from alm_proxies.about import about_of
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import OpenAIServe
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import digest_of
from alm_proxies.plugins import plugins
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.annotate.limits import leaves_this_machine, refuse_egress, refuse_same_names
from alm_proxies.stages.annotate.plan import askable, is_told_transcripts, shard_of, to_be_injected
from alm_proxies.stages.annotate.prices import price_of_all, price_of_injection
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import annotate, read_panel
from alm_proxies.tables import Utterances

_PACKAGES = {"transformers": ("transformers", "local"), "vllm": ("vllm", "vllm")}


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The annotators of the panel, each by what decides its votes and by how many they are."""
    panel = [annotator.ready(ahead.labels, ahead.settings.votes) for annotator in read_panel(ahead.settings)]
    inputs = {f"annotator {one.name}": digest_of([one.name, one.digest]) for one in panel}
    inputs |= {f"the number of votes of {one.name}": str(one.votes) for one in panel}
    engines = [plugins("engines").get(one.file.engine) for one in panel]
    return inputs | {f"engine {one.name}": one.origin for one in engines if one is not None and one.origin}


def foresee(ahead: Ahead) -> Foreseen:
    """The votes that each annotator would be asked for and their price, and what a run would stop at."""
    settings: AnnotateSettings = ahead.settings
    facts: list[str] = []
    problems: list[str] = []
    planned, price, votes = 0, 0.0, 0
    panel: list[Annotator] = []
    for path in settings.panel:
        try:
            panel += read_panel(settings.model_copy(update={"panel": (path,)}))
        except AlmProxiesError as error:
            problems.append(str(error))
    if not settings.panel:
        problems.append('[annotate] names no annotator. Write panel = ["annotators/embedded.toml"].')
    try:
        if panel:
            refuse_same_names(panel)
    except AlmProxiesError as error:
        problems.append(str(error))
    before = ahead.folder / "votes.parquet"
    cards = about_of(before).annotators if before.exists() else {}
    utterances: Utterances | None = ahead.table("utterances")
    for annotator in panel:
        try:
            ready = annotator.ready(ahead.labels, settings.votes)
        except AlmProxiesError as error:
            problems.append(str(error))
            continue
        problems += _unmet(ready)
        facts.append(f"{ready.name}: {ready.model_name}, {ready.votes} votes in {len(ready.cells)} cells")
        card = cards.get(ready.name)
        if card is not None and card.digest == ready.digest and card.injected is not None:
            facts.append(f"{ready.name}: the run before measured that {card.injected}")
        if utterances is not None:
            count, cost = _asked(ready, utterances, settings, facts, problems)
        else:
            known = int(ahead.count("utterances", "utterances"))
            count, cost = (min(known, settings.limit) if settings.limit else known) * ready.votes, 0.0
        planned, price, votes = planned + count, price + cost, votes + count
    foreseen = Foreseen(
        facts=tuple(facts),
        problems=tuple(problems),
        counts={"votes": votes, "planned": planned},
        planned_votes=planned,
        price=price,
        budget=settings.budget,
    )
    return _ask(foreseen, ahead) if ahead.ask and not problems else foreseen


def _asked(
    annotator: Annotator, utterances: Utterances, settings: AnnotateSettings, facts: list[str], problems: list[str]
) -> tuple[int, float]:
    corpora = utterances.frame["corpus"].unique().to_list()
    local = not leaves_this_machine(annotator)
    try:
        refuse_egress(corpora, annotator, local, named=settings.may_leave, cards=settings.cards)
    except AlmProxiesError as error:
        problems.append(str(error))
    frame, findings = askable(utterances)
    facts += [finding.message for finding in findings if finding.message not in facts]
    if settings.limit is not None:
        frame = frame.head(settings.limit)
    price = price_of_all([annotator], frame)
    if is_told_transcripts(annotator):
        twice = to_be_injected(frame, settings.injection, shard_of(settings.shard))
        price += price_of_injection([annotator], twice)
        if twice.height:
            said = f"{annotator.name}: {twice.height} utterances twice more, to see what an injected transcript turns"
            facts.append(said)
    return frame.height * annotator.votes, price


def _ask(foreseen: Foreseen, ahead: Ahead) -> Foreseen:
    """Asks each annotator about a few utterances and measures how far an injected transcript decides its votes."""
    facts, problems = list(foreseen.facts), list(foreseen.problems)
    utterances: Utterances | None = ahead.table("utterances")
    written = ahead.inputs["utterances"][0]
    if utterances is None and not written.exists():
        facts.append("no utterance can be asked about before the synthetic corpus is made: run it first")
        return replace(foreseen, facts=tuple(facts))
    spoken = utterances if utterances is not None else Utterances.read(written)
    spoken = Utterances(spoken.frame, spoken.about.with_(taxonomy=ahead.labels))
    pilot = ahead.settings.model_copy(update={"limit": ahead.ask, "injection": ahead.ask, "shard": None})
    for annotator in read_panel(ahead.settings):
        name = annotator.name
        if not is_told_transcripts(annotator):
            facts.append(f"{name} is given no transcripts, so injection does not apply")
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
        facts.append(f"{name}: {turned or 'what an injected transcript turns could not be measured'}{spent}")
        facts += [finding["message"] for finding in made.findings.frame.iter_rows(named=True)]
    return replace(foreseen, facts=tuple(facts), problems=tuple(problems))


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
