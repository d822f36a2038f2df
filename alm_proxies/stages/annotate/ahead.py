"""The forecast of annotate before it runs: planned votes, price, and missing requirements."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from tempfile import TemporaryDirectory

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.registry import OpenAIServe
from alm_proxies.errors import AlmProxiesError
from alm_proxies.files import digest_of
from alm_proxies.plugins import plugins
from alm_proxies.printable import counted, in_money, one_currency
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.annotate.askable import askable, chosen, is_gone, shard_of, with_turns
from alm_proxies.stages.annotate.egress import leaves_this_machine, refuse_egress
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.injection import injection_sample, shows_transcripts
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.limits import refuse_same_names
from alm_proxies.stages.annotate.paid import Expectation, expectation_of, ledger_at
from alm_proxies.stages.annotate.prices import currency_of, price_of_injection
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import annotate, read_panel
from alm_proxies.tables import Utterances

_PACKAGES = {"transformers": ("transformers", "local"), "vllm": ("vllm", "vllm")}


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The annotators of the panel, each by the digest of its settings and its number of votes."""
    panel = [annotator.ready(ahead.labels, ahead.settings.votes) for annotator in read_panel(ahead.settings)]
    inputs = {f"annotator {annotator.name}": digest_of([annotator.name, annotator.digest]) for annotator in panel}
    inputs |= {f"the number of votes of {annotator.name}": str(annotator.votes) for annotator in panel}
    inputs |= {
        f"what {annotator.name} was trained on": digest_of(annotator.file.trained_on)
        for annotator in panel
        if annotator.file.trained_on
    } | {
        f"where {annotator.name} was measured": digest_of(annotator.file.measured.model_dump())
        for annotator in panel
        if annotator.file.measured is not None
    }
    engines = [plugins("engines").get(annotator.file.engine) for annotator in panel]
    return inputs | {
        f"engine {engine.name}": engine.state for engine in engines if engine is not None and engine.origin
    }


def foresee(ahead: Ahead) -> Foreseen:
    """The planned votes of each annotator with their price, and problems that would stop a run."""
    settings: AnnotateSettings = ahead.settings
    facts: list[str] = []
    warnings: list[str] = []
    problems: list[str] = []
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
            currency_of(panel)
    except AlmProxiesError as error:
        problems.append(str(error))
    before = ahead.folder / "votes.parquet"
    cards = about_of(before).annotators if before.exists() else {}
    utterances = _utterances(ahead)
    expected: dict[str, Expectation] = {}
    price_injected, paid = 0.0, 0.0
    with ExitStack() as stack:
        ledger = _ledger(ahead, stack, problems)
        paid = ledger.spent() if ledger is not None else 0.0
        for annotator in panel:
            try:
                ready = annotator.ready(ahead.labels, settings.votes)
                if utterances is not None:
                    _refuse_egress(ready, utterances, settings)
            except AlmProxiesError as error:
                problems.append(str(error))
                continue
            problems += _unmet(ready)
            votes = f"{counted(ready.votes, 'vote')} in {counted(len(ready.cells), 'cell')}"
            facts.append(f"{ready.name}: {ready.model_name}, {votes}")
            card = cards.get(ready.name)
            if card is not None and card.digest == ready.digest and card.injected is not None:
                facts.append(f"{ready.name}: the previous run measured that {card.injected}")
            if utterances is None:
                if ready.file.price.of(audio_seconds=1, tokens_in=1, tokens_out=1):
                    when = "is not known before the synthetic corpus exists, and counts as 0 here"
                    warnings.append(f"the price of {ready.name} {when}. Set a budget, or check again when it exists.")
                known = int(ahead.count("utterances", "utterances"))
                count = (min(known, settings.limit) if settings.limit else known) * ready.votes
                expected[ready.name] = Expectation(count, 0, 0.0, 0.0, None)
                continue
            every, findings = askable(utterances, settings.cards)
            warnings += [text for finding in findings if (text := f"{finding.message}. {finding.fix}") not in warnings]
            frame = chosen(every, settings, HumanVotes.of(ahead.table("votes")))
            frame = with_turns(frame, utterances.frame, ready.prompt.turns)
            expected[ready.name] = expectation_of(ready, frame, ledger, settings.seed)
            facts.append(f"{ready.name}: {expected[ready.name]}")
            price_injected += _injected(ready, frame, settings, ledger, expected[ready.name].price_of_vote, facts)
    planned = sum(counts.planned for counts in expected.values())
    foreseen = Foreseen(
        facts=tuple(facts),
        warnings=tuple(warnings),
        problems=tuple(problems),
        counts={"votes": planned, "planned": planned},
        planned_votes=planned,
        cast_votes=sum(counts.cast for counts in expected.values()),
        impossible_votes=sum(counts.impossible for counts in expected.values()),
        paid=paid,
        price=sum(counts.price for counts in expected.values()) + price_injected,
        budget=settings.budget,
        currency=one_currency(annotator.file.price.currency for annotator in panel),
        data={name: {**asdict(counts), "left": counts.left} for name, counts in expected.items()},
    )
    return _ask(foreseen, ahead) if ahead.ask and not problems else foreseen


def _utterances(ahead: Ahead) -> Utterances | None:
    """The utterances as they will be read, or from an earlier run; None if they are not known yet."""
    table: Utterances | None = ahead.table("utterances")
    written = ahead.inputs["utterances"][0]
    if table is None and written.exists():
        written_ = Utterances.read(written)
        return written_ if len(written_) == ahead.count("utterances", "utterances") else None
    return table


def _ledger(ahead: Ahead, stack: ExitStack, problems: list[str]) -> Ledger | None:
    """The ledger of earlier runs, read only; None if there is none."""
    path = ledger_at(ahead.folder, shard_of(ahead.settings.shard))
    if not path.exists():
        return None
    try:
        return stack.enter_context(Ledger.look(path))
    except AlmProxiesError as error:
        problems.append(str(error))
        return None


def _refuse_egress(annotator: Annotator, utterances: Utterances, settings: AnnotateSettings) -> None:
    corpora = utterances.frame["corpus"].unique().to_list()
    local = not leaves_this_machine(annotator)
    refuse_egress(corpora, annotator, local, named=settings.may_leave, cards=settings.cards)


def _injected(
    annotator: Annotator,
    frame: pl.DataFrame,
    settings: AnnotateSettings,
    ledger: Ledger | None,
    price_of_vote: float | None,
    facts: list[str],
) -> float:
    """The expected cost of the votes with injected transcripts, by the measured price of a vote if it is known."""
    if not shows_transcripts(annotator):
        return 0.0
    twice = injection_sample(frame, settings.injection, shard_of(settings.shard))
    twice = twice.filter(pl.Series([not is_gone(path) for path in twice["path"]], dtype=pl.Boolean))
    if twice.height:
        fact = (
            f"{annotator.name}: {counted(twice.height, 'utterance')} twice more, to measure the effect of an "
            "injected transcript"
        )
        facts.append(fact)
    planned, cast, failed = 0, 0, 0
    if ledger is not None and ledger.number_of(annotator.name, annotator.digest, settings.seed) is not None:
        planned, cast, failed = ledger.injected_so_far()
    left = 1.0 - (cast - failed) / planned if planned else 1.0
    if price_of_vote is not None:
        return left * 2.0 * price_of_vote * annotator.votes * twice.height
    return left * price_of_injection([annotator], twice)


def _ask(foreseen: Foreseen, ahead: Ahead) -> Foreseen:
    """Ask each annotator about a few utterances and measure how much an injected transcript decides its votes."""
    facts, problems = list(foreseen.facts), list(foreseen.problems)
    utterances: Utterances | None = ahead.table("utterances")
    written = ahead.inputs["utterances"][0]
    if utterances is None and not written.exists():
        facts.append("no utterance can be requested before the synthetic corpus exists: run the pipeline first")
        return replace(foreseen, facts=tuple(facts))
    spoken = utterances if utterances is not None else Utterances.read(written)
    spoken = Utterances(spoken.frame, spoken.about.with_(taxonomy=ahead.labels))
    pilot = ahead.settings.model_copy(update={"limit": ahead.ask, "injection": ahead.ask, "shard": None})
    left = None if pilot.budget is None else max(0.0, pilot.budget - foreseen.paid)
    for annotator in read_panel(ahead.settings):
        name = annotator.name
        if not shows_transcripts(annotator):
            facts.append(f"the prompt of {name} shows no transcripts, so injection does not apply")
            continue
        try:
            with TemporaryDirectory(prefix="alm-proxies-") as folder:
                of_budget = pilot.model_copy(update={"budget": left})
                written_ = annotate(spoken, [annotator], folder, of_budget, quiet=True)
        except AlmProxiesError as error:
            problems.append(str(error))
            continue
        if written_.interrupted:
            raise KeyboardInterrupt
        spent = written_.spent
        left = None if left is None else max(0.0, left - spent.price)
        cost = f"; asking cost {in_money(spent.price, spent.currency)}" if spent.price else ""
        turned = written_.votes.about.annotators[name].injected
        facts.append(f"{name}: {turned or 'what an injected transcript turns could not be measured'}{cost}")
        facts += [finding["message"] for finding in written_.findings.frame.iter_rows(named=True)]
    return replace(foreseen, facts=tuple(facts), problems=tuple(problems))


def _unmet(annotator: Annotator) -> Iterator[str]:
    """Missing requirements of an annotator: a package, a key in the environment, a folder with weights."""
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
