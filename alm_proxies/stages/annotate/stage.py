"""annotate: ask a panel of annotators about utterances, many votes each, and never pay for the same vote twice."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from alm_proxies.about import MadeBy
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import finish
from alm_proxies.files import canonical_json, digest_of, whole
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.limits import (
    Halt,
    Purse,
    Stop,
    human_shares,
    leaves_this_machine,
    price_before,
    refuse_egress,
    refuse_same_names,
    tally_of,
)
from alm_proxies.stages.annotate.outcomes import findings_of, votes_of
from alm_proxies.stages.annotate.plan import STAGE, Plan, Seat, askable, make_plan, shard_of
from alm_proxies.stages.annotate.recording import Recorder
from alm_proxies.tables import Finding, Findings, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.engines.engine import Engine

_UNKNOWN_SECONDS = 5.0
"""How long an utterance of unknown length is taken to be, for the price before the run."""


class AnnotateSettings(BaseModel):
    """How a panel is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    panel: tuple[str, ...] = ()
    """Annotator files, relative to the pipeline file, or names of shipped ones, such as "embedded"."""
    votes: int | None = Field(default=None, ge=1, le=10_000)
    """Votes an utterance of every annotator; null = what each file says."""
    seed: int = 0
    """With utterance, annotator and draw, this alone decides a draw's seed."""
    budget: float | None = Field(default=None, ge=0)
    """What may be spent in all, earlier runs into the same folder included; nothing is sent that could pass it."""
    stop: Stop = Stop()
    """When an annotator is stopped."""
    limit: int | None = Field(default=None, ge=1)
    """A pilot: only so many utterances, a fair sample of all; the price is extrapolated."""
    shard: str | None = None
    """I/N: only the Ith of N parts, with a ledger of its own; merge them at the end."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop cleanly after so long; the same command goes on."""
    may_leave: tuple[str, ...] = ()
    """Corpora that may be sent over the network although their card, or the lack of one, says that they stay."""
    cards: str | None = None
    """A folder of data cards of your own."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run did and cost, in the currency of the price tables."""

    planned: int
    """Votes planned."""
    cast: int
    """Votes with an outcome, this run and earlier ones."""
    cast_now: int
    """Votes with an outcome from this run."""
    price: float
    """Everything paid so far, failures and votes set aside included."""
    price_now: float
    """What this run paid."""
    lost: Lost
    """What was in flight when an earlier run was killed, at the price it should have cost."""
    expected: float
    """What the missing votes were expected to cost before this run."""
    whole: float | None
    """For a pilot: what all utterances should cost, by what the pilot cost."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Annotated:
    """What annotate gives: a row for every planned vote, the bill, the findings, and why it stopped, if it did."""

    votes: Votes
    spent: Spent
    findings: Findings
    stopped: str | None = None
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether every planned vote has an outcome."""
        return self.spent.cast == self.spent.planned


Opener = Callable[[Annotator], Awaitable["Engine"]]


def annotate(
    utterances: Utterances,
    panel: Sequence[Annotator],
    folder: str | Path,
    settings: AnnotateSettings,
    *,
    votes: Votes | None = None,
    engine_of: Opener = Annotator.open,
    quiet: bool = False,
) -> Annotated:
    """Votes of every annotator of the panel about every utterance; run again, it asks only for what is missing.

    `votes` are human votes, to judge collapse by and to draw a pilot fairly. `engine_of` opens an annotator's engine.
    `quiet` says nothing on the way.
    """
    started = time.monotonic()
    refuse_same_names(panel)
    seats = [annotator.ready(utterances.taxonomy, settings.votes) for annotator in panel]
    _refuse_egress(utterances, seats, settings)
    shard = shard_of(settings.shard) if settings.shard else None
    ending = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    folder = Path(folder)
    with Ledger.open(folder / f"ledger{ending}.sqlite") as ledger:
        ledger.keep("merged", "no")
        ledger.keep("taxonomy", json.dumps(utterances.taxonomy))
        _say_lost(ledger.lost, quiet)
        plan = _plan(utterances, seats, ledger, settings, shard, votes)
        before, missing = ledger.spent(), plan.missing
        expected = _expected(plan, plan.seats)
        _say_plan(plan, expected, quiet)
        stopped: dict[int, str] = {}
        halt = _ask(plan, ledger, settings, votes, engine_of, stopped, quiet) if missing else None
        decides = settings.model_dump(include={"votes", "seed", "limit", "shard"})
        made_by = MadeBy(stage=STAGE, settings=digest_of(decides))
        made = votes_of(ledger, utterances.taxonomy, made_by)
        left = _left(ledger, plan)
        price = ledger.spent()
        spent = Spent(
            planned=plan.planned,
            cast=plan.planned - left,
            cast_now=missing - left,
            price=price,
            price_now=price - before,
            lost=ledger.lost,
            expected=expected,
            whole=_whole(utterances, plan, price) if settings.limit else None,
            seconds=time.monotonic() - started,
        )
        findings = _findings(plan, ledger, stopped, left, halt)
    made.write(folder / f"votes{ending}.parquet")
    findings.write(folder / f"findings{ending}.parquet")
    reason = halt.reason if halt is not None and halt.reason else next(iter(stopped.values()), None)
    return Annotated(made, spent, findings, reason, halt is not None and halt.interrupted)


def read_panel(settings: AnnotateSettings, beside: str | Path = ".") -> list[Annotator]:
    """The annotators that a pipeline file names, relative to its folder."""
    return [Annotator.read(path, beside=beside) for path in settings.panel]


def _plan(
    utterances: Utterances,
    seats: Sequence[Annotator],
    ledger: Ledger,
    settings: AnnotateSettings,
    shard: tuple[int, int] | None,
    votes: Votes | None,
) -> Plan:
    if not any("evidence" in seat.prompt.lends for seat in seats):
        return make_plan(utterances, seats, ledger, settings.seed, limit=settings.limit, shard=shard, votes=votes)
    from alm_proxies.annotators.evidence import evidence_of

    folder = ledger.path.parent
    evidence = evidence_of(askable(utterances)[0], folder / "features")
    told = {"utterance_id": list(evidence.by_utterance), "evidence": list(evidence.by_utterance.values())}
    with whole(folder / "evidence.parquet") as temporary:
        pl.DataFrame(told, schema={"utterance_id": pl.String, "evidence": pl.String}).write_parquet(temporary)
    plan = make_plan(
        utterances,
        seats,
        ledger,
        settings.seed,
        limit=settings.limit,
        shard=shard,
        votes=votes,
        evidence=evidence.by_utterance,
    )
    return replace(plan, findings=(*plan.findings, *evidence.findings))


def _refuse_egress(utterances: Utterances, seats: Sequence[Annotator], settings: AnnotateSettings) -> None:
    corpora = utterances.frame["corpus"].unique().to_list()
    cards = Path(settings.cards) if settings.cards else None
    for annotator in seats:
        refuse_egress(corpora, annotator, not leaves_this_machine(annotator), named=settings.may_leave, cards=cards)


def _ask(
    plan: Plan,
    ledger: Ledger,
    settings: AnnotateSettings,
    votes: Votes | None,
    engine_of: Opener,
    stopped: dict[int, str],
    quiet: bool,
) -> Halt:
    from alm_proxies.stages.annotate.asking import Counted, Group

    halt = Halt(settings.max_minutes)
    groups: dict[str, list[Seat]] = {}
    for seat in plan.seats:
        if seat.missing.any():
            file = seat.annotator.file
            groups.setdefault(
                canonical_json([file.engine, seat.annotator.model, file.revision, file.serve]), []
            ).append(seat)

    async def work() -> None:
        with _signals(halt, quiet), Progress("annotating", total=plan.missing, quiet=quiet) as progress:
            counted = Counted(
                recorder=Recorder(ledger),
                purse=Purse(settings.budget, ledger.spent()),
                tallies={seat.number: tally_of(ledger, seat.annotator, seat.number) for seat in plan.seats},
                human=human_shares(votes),
                stop=settings.stop,
                seed=settings.seed,
                halt=halt,
                progress=progress,
                numbers=count(1),
                stopped=stopped,
            )
            for seat in plan.seats:
                verdict = counted.tallies[seat.number].verdict(settings.stop, counted.human)
                if verdict is not None and seat.missing.any():
                    stopped[seat.number] = verdict
            for seats in groups.values():
                if halt.now:
                    return
                if all(seat.number in stopped for seat in seats):
                    continue
                engine = await engine_of(seats[0].annotator)
                try:
                    say(str(engine.abilities), quiet=quiet)
                    for seat in seats:
                        await seat.annotator.check_engine(engine)
                        corpora = plan.utterances["corpus"].unique().to_list()
                        local, cards = engine.abilities.local, Path(settings.cards) if settings.cards else None
                        refuse_egress(corpora, seat.annotator, local, named=settings.may_leave, cards=cards)
                    await Group(plan, seats, engine, counted).ask()
                finally:
                    await engine.close()

    try:
        finish(work())
    except asyncio.CancelledError:
        if not halt.interrupted:
            raise
        raise KeyboardInterrupt from None  # a second signal gave up what was in flight
    return halt


@contextmanager
def _signals(halt: Halt, quiet: bool) -> Iterator[None]:
    """SIGTERM and Ctrl-C stop cleanly: what is in flight is awaited; a second one gives that up too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()

    def handle(name: str) -> None:
        if halt.interrupted and main is not None:
            main.cancel()
        halt.interrupted = True
        halt.because(f"{name} received")
        say(f"{name}: waiting for what is in flight (again to give it up)", quiet=quiet)

    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    for one in before:
        loop.add_signal_handler(one, handle, one.name)
    try:
        yield
    finally:
        for one, handler in before.items():
            loop.remove_signal_handler(one)
            signal.signal(one, handler)


def _seconds(frame: pl.DataFrame) -> pl.Series:
    length = pl.coalesce(pl.col("end") - pl.col("start").fill_null(0.0), pl.col("duration"))
    known = frame.select(length.alias("seconds"))["seconds"]
    mean = known.mean()
    return known.fill_null(float(mean) if isinstance(mean, int | float) else _UNKNOWN_SECONDS)


def _expected(plan: Plan, seats: Sequence[Seat]) -> float:
    seconds = _seconds(plan.utterances).to_list()
    return sum(price_before(seat.annotator, seconds, seat.missing.sum(axis=1).tolist()) for seat in seats)


def _whole(utterances: Utterances, plan: Plan, price: float) -> float:
    """The pilot's price times what all utterances should cost over what the pilot should."""
    frame, _ = askable(utterances)

    def full(seconds: Sequence[float]) -> float:
        return sum(price_before(s.annotator, seconds, [s.annotator.votes] * len(seconds)) for s in plan.seats)

    pilot = full(_seconds(plan.utterances).to_list())
    return price * full(_seconds(frame).to_list()) / pilot if pilot else 0.0


def _left(ledger: Ledger, plan: Plan) -> int:
    numbers = plan.utterances["number"].to_numpy()
    return sum(int((~ledger.done(seat.number, seat.annotator.votes)[numbers]).sum()) for seat in plan.seats)


def _findings(plan: Plan, ledger: Ledger, stopped: Mapping[int, str], left: int, halt: Halt | None) -> Findings:
    found = list(plan.findings)
    if ledger.lost.requests:
        lost = ledger.lost
        what = f"{lost.requests} requests for {lost.draws} votes were in flight when an earlier run was killed"
        what = f"{what}; they should have cost {lost.price:.4f}"
        found.append(Finding(STAGE, "lost_in_flight", what, count=lost.draws))
    raise_it = "Raise the limit if this is right, and run it again."
    found += [Finding(STAGE, "stopped", what, raise_it) for what in stopped.values()]
    again = "Run the same command again to go on."
    if halt is not None and halt.reason:
        found.append(Finding(STAGE, "stopped", halt.reason, again))
    if left:
        found.append(Finding(STAGE, "not_cast", f"{left} planned votes have not been cast", again, count=left))
    planned = "annotator IN (SELECT annotator FROM planned_annotator)"
    unseeded = f"SELECT COUNT(*) FROM vote WHERE seeded = 0 AND cell >= 0 AND status = 'ok' AND {planned}"
    (number,) = ledger.sql.execute(unseeded).fetchone()
    if number:
        what = f"{number} votes come from engines that do not honour a seed for each draw: asking again gives others"
        found.append(Finding(STAGE, "not_seeded", what, count=number))
    return Findings.gather([*found, *findings_of(ledger)])


def _say_lost(lost: Lost, quiet: bool) -> None:
    if lost.requests:
        say(
            f"the run before was killed: {lost.requests} requests for {lost.draws} votes were in flight; "
            f"they are asked again and may be paid twice ({lost.price:.4f})",
            quiet=quiet,
        )


def _say_plan(plan: Plan, expected: float, quiet: bool) -> None:
    there = plan.planned - plan.missing
    resumed = f"{there} of {plan.planned} votes are there, " if there else ""
    asked = f"{plan.missing} votes to be asked about {plan.utterances.height} utterances, about {expected:.2f}"
    say(f"{resumed}{asked}", quiet=quiet)
    for finding in plan.findings:
        say(f"{finding.kind}: {finding.what}", quiet=quiet)
