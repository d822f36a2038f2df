"""annotate: ask a panel of annotators about utterances, many votes each, and never pay for the same vote twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from alm_proxies.about import Injected, MadeBy
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import finish
from alm_proxies.errors import SettingsError
from alm_proxies.files import canonical_json, digest_of, whole
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.figures import in_money
from alm_proxies.stages.annotate.injection import (
    injected_so_far,
    plan_injection,
    price_of_injection,
    to_be_injected,
    with_injections,
)
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.limits import (
    RAISE_THE_BUDGET,
    Halt,
    Purse,
    expected_price,
    human_shares,
    leaves_this_machine,
    measured_prices,
    price_of_all,
    refuse_egress,
    refuse_same_names,
    tally_of,
    trial_price,
)
from alm_proxies.stages.annotate.outcomes import votes_of
from alm_proxies.stages.annotate.plan import STAGE, Plan, Seat, askable, fail_missing, make_plan, shard_of
from alm_proxies.stages.annotate.recording import Recorder
from alm_proxies.stages.annotate.saying import findings_after, say_lost, say_missing, say_plan, say_trial
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.tables import Findings, Utterances, Votes

__all__ = ["AnnotateSettings", "Annotated", "Spent", "annotate", "read_panel"]

if TYPE_CHECKING:
    from alm_proxies.engines.engine import Engine


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run did and cost, in the currency of the price tables."""

    planned: int
    """Votes planned."""
    cast: int
    """Votes with an outcome, this run and earlier ones."""
    cast_now: int
    """Votes with an outcome from this run."""
    injected: int
    """Votes planned with a sentence injected into the transcript: on the bill, and not among the votes."""
    injected_cast: int
    """Those of them with an outcome."""
    price: float
    """Everything paid so far, failures and votes set aside included."""
    price_now: float
    """What this run paid."""
    tried_out: int
    """Requests that found out what servers can do, this run and earlier ones."""
    tried_out_price: float
    """What they cost."""
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
        """Whether every planned vote has an outcome, those with an injected sentence included."""
        return self.spent.cast == self.spent.planned and self.spent.injected_cast == self.spent.injected

    @property
    def counts(self) -> dict[str, float]:
        """Votes planned and cast, what they cost, and how many bring nothing."""
        spent = self.spent
        return {"planned": spent.planned, "cast": spent.cast, "price": spent.price, **counts_of(self.votes)}

    @property
    def line(self) -> str:
        """What came of it, in words."""
        spent = self.spent
        line = f"{spent.cast:,} of {spent.planned:,} votes cast, {spent.cast_now:,} of them now"
        line += f", {in_money(spent.price)} spent"
        if spent.cast < spent.planned:
            line += f", {spent.planned - spent.cast:,} not asked for"
        if spent.whole is not None:
            line += f", about {in_money(spent.whole)} for all utterances"
        return "; ".join([line, *(f"{name}: {one}" for name, one in self._injected.items())])

    @property
    def data(self) -> dict[str, object]:
        """The bill, and what injected transcripts did to the votes."""
        injected = {name: one.model_dump() for name, one in self._injected.items()}
        return {"injected": injected, "spent": asdict(self.spent)}

    @property
    def _injected(self) -> dict[str, Injected]:
        cards = self.votes.about.annotators.items()
        return {name: card.injected for name, card in cards if card.injected is not None}


def counts_of(votes: Votes) -> dict[str, int]:
    """How many votes there are, and how many of them bring nothing; a vote may be several rows."""
    draws = votes.frame.select("utterance_id", "annotator", "draw", "status").unique()
    return {"votes": draws.height, "left_out": int((draws["status"] != "ok").sum())}


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
    _refuse_egress(utterances.frame, seats, settings)
    shard = shard_of(settings.shard) if settings.shard else None
    ending = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    folder = Path(folder)
    with Ledger.open(folder / f"ledger{ending}.sqlite") as ledger:
        ledger.keep("merged", "no")
        ledger.keep("taxonomy", json.dumps(utterances.taxonomy))
        say_lost(ledger.lost, quiet)
        plan = _plan(utterances, seats, ledger, settings, shard, votes)
        injection = plan_injection(plan, ledger, settings.seed, wanted=settings.injection, shard=shard)
        before, missing = ledger.spent(), plan.missing
        plans = (plan, injection)
        say_missing([path for one in plans for path in fail_missing(one, ledger)], quiet)
        measured = measured_prices(ledger, plan)
        expected = expected_price(plan, measured) + expected_price(injection, measured)
        say_plan(plan, injection, expected, measured, quiet)
        stopped: dict[int, str] = {}
        halt = None
        if plan.missing or injection.missing:
            halt = _ask(plans, ledger, settings, votes, engine_of, stopped, quiet)
        decides = settings.model_dump(include={"votes", "seed", "limit", "shard", "injection"})
        made_by = MadeBy(stage=STAGE, settings_digest=digest_of(decides))
        made = with_injections(votes_of(ledger, utterances.taxonomy, made_by), ledger)
        left = _left(ledger, plan)
        injected, injected_cast = injected_so_far(ledger)
        price, tried_out = ledger.spent(), ledger.tried_out()
        spent = Spent(
            planned=plan.planned,
            cast=plan.planned - left,
            cast_now=missing - left,
            injected=injected,
            injected_cast=injected_cast,
            price=price,
            price_now=price - before,
            tried_out=tried_out[0],
            tried_out_price=tried_out[1],
            lost=ledger.lost,
            expected=expected,
            whole=_whole(utterances, plans, settings, ledger, left) if settings.limit else None,
            seconds=time.monotonic() - started,
        )
        findings = findings_after(plans, ledger, stopped, left, halt)
    made.write(folder / f"votes{ending}.parquet")
    findings.write(folder / f"findings{ending}.parquet")
    reason = halt.reason if halt is not None and halt.reason else next(iter(stopped.values()), None)
    return Annotated(made, spent, findings, reason, halt is not None and halt.interrupted)


def read_panel(settings: AnnotateSettings, beside: str | Path = ".") -> list[Annotator]:
    """The annotators that settings name, relative to a folder."""
    if not settings.panel:
        fix = 'Name one: --annotator embedded (panel = ["embedded"]).'
        raise SettingsError("annotate needs an annotator", fix=fix)
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


def _refuse_egress(
    frame: pl.DataFrame, seats: Sequence[Annotator], settings: AnnotateSettings, *, local: bool | None = None
) -> None:
    """Refuse by the annotator file what may not leave, or by what the opened engine says where `local` is given."""
    corpora = frame["corpus"].unique().to_list()
    cards = Path(settings.cards) if settings.cards else None
    for annotator in seats:
        stays = not leaves_this_machine(annotator) if local is None else local
        refuse_egress(corpora, annotator, stays, named=settings.may_leave, cards=cards)


def _ask(
    plans: tuple[Plan, Plan],
    ledger: Ledger,
    settings: AnnotateSettings,
    votes: Votes | None,
    engine_of: Opener,
    stopped: dict[int, str],
    quiet: bool,
) -> Halt:
    """Ask for the votes, and then, of the same engine, for those with an injected sentence."""
    from alm_proxies.stages.annotate.asking import Counted, Group, record_trial
    from alm_proxies.stages.annotate.watching import Watch

    halt = Halt(settings.max_minutes)
    seats = [seat for plan in plans for seat in plan.seats]
    groups: dict[str, tuple[list[Seat], list[Seat]]] = {}
    for place, plan in enumerate(plans):
        for seat in plan.seats:
            if seat.missing.any():
                file = seat.annotator.file
                engine = canonical_json([file.engine, seat.annotator.model, file.revision, file.serve])
                groups.setdefault(engine, ([], []))[place].append(seat)

    async def work() -> None:
        total = sum(plan.missing for plan in plans)
        async with Watch(halt, Progress("annotating", total=total, quiet=quiet), quiet) as watch:
            counted = Counted(
                recorder=Recorder(ledger),
                purse=Purse(settings.budget, ledger.spent()),
                tallies={seat.number: tally_of(ledger, seat.annotator, seat.number) for seat in seats},
                human=human_shares(votes),
                stop=settings.stop,
                seed=settings.seed,
                halt=halt,
                progress=watch.progress,
                numbers=count(1),
                stopped=stopped,
            )
            for seat in seats:
                verdict = counted.tallies[seat.number].verdict(settings.stop, counted.human)
                if verdict is not None and seat.missing.any():
                    stopped[seat.number] = verdict
            for group in groups.values():
                if halt.now:
                    return
                if all(seat.number in stopped for part in group for seat in part):
                    continue
                asked = list({seat.annotator.name: seat.annotator for part in group for seat in part}.values())
                trial = trial_price(asked[0])
                if not counted.purse.take(trial):
                    spent = f"{in_money(counted.purse.spent)} are spent"
                    message = f"trying the server out could pass the budget of {settings.budget:g}: {spent}"
                    halt.because(message, RAISE_THE_BUDGET)
                    return
                say_trial(asked[0], trial, quiet)
                engine = await engine_of(asked[0])
                watch.engine = engine
                try:
                    counted.purse.settle(trial, record_trial(ledger, asked[0], engine))
                    say(str(engine.abilities), quiet=quiet)
                    for annotator in asked:
                        await annotator.check_engine(engine)
                        _refuse_egress(plans[0].utterances, [annotator], settings, local=engine.abilities.local)
                    for plan, part in zip(plans, group, strict=True):
                        names = {seat.annotator.name for seat in plans[0].seats if seat.number in stopped}
                        going_on = [seat for seat in part if plan is plans[0] or seat.annotator.name not in names]
                        if going_on and not halt.now:
                            await Group(plan, going_on, engine, counted).ask()
                finally:
                    watch.engine = None
                    await engine.close()

    try:
        finish(work())
    except asyncio.CancelledError:
        if not halt.interrupted:
            raise
        raise KeyboardInterrupt from None  # a second signal gave up what was in flight
    return halt


def _whole(
    utterances: Utterances, plans: tuple[Plan, Plan], settings: AnnotateSettings, ledger: Ledger, left: int
) -> float:
    """What the pilot's votes have cost, times what all utterances should cost over what these votes should."""
    frame, _ = askable(utterances)
    plan, injection = plans
    seats = [seat.annotator for seat in plan.seats]
    pilot = price_of_all(seats, plan.utterances) + price_of_injection(seats, injection.utterances[::2])
    chosen = to_be_injected(frame, settings.injection, shard_of(settings.shard) if settings.shard else None)
    pilot *= (plan.planned - left) / max(plan.planned, 1)
    price = ledger.spent_on_plan()
    return price * (price_of_all(seats, frame) + price_of_injection(seats, chosen)) / pilot if pilot else 0.0


def _left(ledger: Ledger, plan: Plan) -> int:
    numbers = plan.utterances["number"].to_numpy()
    return sum(int((~ledger.done(seat.number, seat.annotator.votes)[numbers]).sum()) for seat in plan.seats)
