"""Requesting the missing votes: requests run concurrently, and every outcome is recorded in the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import finish, scores_of_silence
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import ENDS_THE_JOB, LEFT_OPEN, Audio, Engine
from alm_proxies.engines.third_party import guarded
from alm_proxies.engines.trials import ACCOUNT, BOOK_AGAIN, OverBudgetError, showing
from alm_proxies.errors import EngineError, InputError
from alm_proxies.files import canonical_json
from alm_proxies.printable import counted
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.budget import Booked, Budget, Estimate
from alm_proxies.stages.annotate.egress import refuse_all_egress
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.limits import (
    RAISE_THE_BUDGET,
    Halt,
    Tally,
    tally_of,
)
from alm_proxies.stages.annotate.monitor import RunMonitor
from alm_proxies.stages.annotate.open_recordings import Recording, opened_ahead
from alm_proxies.stages.annotate.outcomes import STAGE, not_asked, outcomes
from alm_proxies.stages.annotate.plan import PanelMember, Plan
from alm_proxies.stages.annotate.prices import currency_of
from alm_proxies.stages.annotate.recording import Recorder
from alm_proxies.stages.annotate.records import Heard, Lost, Sending
from alm_proxies.stages.annotate.settings import AnnotateSettings, Stop
from alm_proxies.stages.annotate.trials import BilledEngine, LedgerAccount
from alm_proxies.tables import Finding

_FIXES = {
    "unauthorised": "Correct the annotator file, the key or the account, then run the same command again.",
    "engine_died": "See its log, then run the same command again to continue.",
    "gone": "Start the server again, then run the same command: it requests only the missing votes.",
}
_AHEAD = 8
"""One further request for this many in flight is prepared and recorded, so that a server does not wait for the disk."""
Opener = Callable[[Annotator], Awaitable[Engine]]


@dataclass(slots=True)
class RunState:
    """The state that all groups of a run share; tallies and reasons for stopping are by annotator number."""

    ledger: Ledger
    recorder: Recorder
    budget: Budget
    tallies: dict[int, Tally]
    human: Mapping[str, float]
    stop: Stop
    seed: int
    halt: Halt
    progress: Progress
    quiet: bool
    stopped: dict[int, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    numbers: count[int] = field(default_factory=lambda: count(1))


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of asking: the reason if it stopped, by annotator, and findings."""

    halt: Halt | None = None
    stopped: Mapping[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def ask_for_missing(
    plans: tuple[Plan, Plan],
    ledger: Ledger,
    settings: AnnotateSettings,
    human: HumanVotes | None,
    engine_of: Opener,
    quiet: bool,
) -> Asked:
    """Request the votes, and then, from the same engine, those with an injected sentence."""
    total = sum(plan.missing for plan in plans)
    if not total:
        return Asked()
    halt = Halt(settings.max_minutes)
    members = [member for plan in plans for member in plan.members]
    state = RunState(
        ledger=ledger,
        recorder=Recorder(ledger),
        budget=Budget(settings.budget, ledger.spent(), currency_of(member.annotator for member in members)),
        tallies={member.number: tally_of(ledger, member.annotator.name, member.number) for member in members},
        human=human.shares if human is not None else {},
        stop=settings.stop,
        seed=settings.seed,
        halt=halt,
        progress=Progress("annotating", total=total, quiet=quiet),
        quiet=quiet,
    )
    for member in members:
        verdict = state.tallies[member.number].verdict(settings.stop, state.human)
        if verdict is not None and member.missing.any():
            state.stopped[member.number] = verdict

    monitor = RunMonitor(halt, state.progress, quiet)

    async def work() -> None:
        async with monitor:
            for group in _by_engine(plans):
                if halt.now:
                    return
                if not all(member.number in state.stopped for part in group for member in part):
                    await _ask_group(plans, group, state, settings, engine_of, monitor)

    try:
        finish(work(), monitor.interrupt)
    except asyncio.CancelledError:
        if not halt.interrupted:
            raise
        raise KeyboardInterrupt from None  # a second signal cancelled the requests in flight
    return Asked(halt, state.stopped, tuple(state.findings))


Parts = tuple[list[PanelMember], list[PanelMember]]
"""Members of the plan, and of the plan with an injected sentence."""


def _by_engine(plans: tuple[Plan, Plan]) -> list[Parts]:
    """The members of both plans with missing votes, grouped by engine."""
    groups: dict[str, Parts] = {}
    for place, plan in enumerate(plans):
        for member in plan.members:
            if member.missing.any():
                file = member.annotator.file
                engine = canonical_json([file.engine, member.annotator.model, file.revision, file.serve])
                groups.setdefault(engine, ([], []))[place].append(member)
    return list(groups.values())


async def _ask_group(
    plans: tuple[Plan, Plan],
    group: Parts,
    state: RunState,
    settings: AnnotateSettings,
    engine_of: Opener,
    monitor: RunMonitor,
) -> None:
    """Open the engine of a group and request all missing votes."""
    asked = list({member.annotator.name: member.annotator for part in group for member in part}.values())
    dearest = max(asked, key=_price_of_a_request)
    account = LedgerAccount(state.ledger, state.budget, dearest, state.quiet)
    pays = ACCOUNT.set(account)
    progress = partial(state.progress.advance, 0)
    try:
        with showing(progress):
            engine = guarded(await engine_of(asked[0]), asked[0].file.engine)
    except OverBudgetError as error:
        state.halt.because(str(error), RAISE_THE_BUDGET)
        return
    finally:
        ACCOUNT.reset(pays)
    monitor.engine = engine
    try:
        say(str(engine.abilities), quiet=state.quiet)
        with showing(progress):
            for annotator in asked:
                await annotator.check_engine(engine)
        corpora = plans[0].utterances["corpus"].unique().to_list()
        refuse_all_egress(corpora, asked, settings, local=engine.abilities.local)
        for plan, part in zip(plans, group, strict=True):
            stopped = {member.annotator.name for member in plans[0].members if member.number in state.stopped}
            remaining = [member for member in part if plan is plans[0] or member.annotator.name not in stopped]
            if remaining and not state.halt.now:
                await Group(plan, remaining, engine, state).ask()
    except OverBudgetError as error:
        state.halt.because(str(error), RAISE_THE_BUDGET)
    finally:
        monitor.engine = None
        await engine.close()


def _price_of_a_request(annotator: Annotator) -> float:
    return annotator.file.price.of(audio_seconds=1.0, tokens_in=100.0, tokens_out=10.0)


class Group:
    """The panel members that share an engine, asked utterance by utterance."""

    def __init__(
        self,
        plan: Plan,
        members: Sequence[PanelMember],
        engine: Engine,
        state: RunState,
    ) -> None:
        self._plan = plan
        self._members = members
        self._engine = engine
        self._state = state
        self._estimates = {member.number: Estimate(member.annotator, engine.abilities) for member in members}
        can = engine.abilities
        ahead = can.in_flight // _AHEAD if can.engine == "openai" else 0  # which limits what is in flight itself
        self._slots = asyncio.Semaphore(can.in_flight + ahead)
        self._running: set[asyncio.Task[None]] = set()
        self._silence: dict[int, NDArray[np.float64] | None] = {}
        self._error: BaseException | None = None

    async def ask(self) -> None:
        """Request all missing votes until they are complete or there is a reason to stop."""
        ledger, budget, quiet = self._state.ledger, self._state.budget, self._state.quiet
        for member in self._members:
            account = LedgerAccount(ledger, budget, member.annotator, quiet)
            billed = BilledEngine(self._engine, account, self._estimates[member.number])
            try:
                self._silence[member.number] = await scores_of_silence(member.annotator, billed)
            except EngineError:
                if self._state.halt.now:
                    return  # it was called off
                raise
        try:
            rows, rate = self._plan.rows(self._members), self._engine.abilities.rate
            async with aclosing(opened_ahead(rows, rate, remote=self._plan.remote)) as recordings:
                async for recording in recordings:
                    for member in self._members:
                        await self._utterance(member, recording)
                    if self._halted():
                        break
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            raise
        finally:
            if self._running:
                await asyncio.gather(*self._running, return_exceptions=True)
        self._report_implausible()
        if self._error is not None:
            raise self._error
        if not self._halted():
            for member in self._members:
                self._state.tallies[member.number].refuse_broken()

    def _report_implausible(self) -> None:
        for member in self._members:
            estimate = self._estimates[member.number]
            if estimate.implausible:
                answers = counted(estimate.implausible, "answer")
                message = f"{member.annotator.name}: {answers} had impossible token counts"
                message = f"{message}; the maximum is booked for them"
                fix = "Check the bill of the server."
                self._state.findings.append(
                    Finding(STAGE, "implausible_usage", message, fix, count=estimate.implausible)
                )
                say(f"implausible_usage: {message}", quiet=self._state.quiet)

    def _halted(self) -> bool:
        return self._error is not None or self._state.halt.now or self._all_stopped()

    def _all_stopped(self) -> bool:
        return all(member.number in self._state.stopped for member in self._members)

    async def _utterance(self, member: PanelMember, recording: Recording) -> None:
        state = self._state
        missing = member.missing[recording.place].nonzero()[0].tolist()
        if not missing or member.number in state.stopped or self._halted():
            return
        annotator, row = member.annotator, recording.row
        context = PromptContext.of(row, annotator.prompt.turns)
        audio, wrong = self._fitting(annotator, recording)
        askings: list[Asking] = []
        if audio is not None and wrong is None:
            try:
                askings = annotator.askings(row["utterance_id"], missing, audio, context, state.seed)
            except InputError as error:
                wrong = ("no_prompt", error.message)
        if audio is None or wrong is not None:
            kind, message = wrong or ("missing", "")
            await state.recorder.arrived(not_asked(member.number, row["number"], missing, kind, message, time.time()))
            state.progress.advance(len(missing))
            return
        material = annotator.material(recording.digest, row["start"], row["end"], context)
        heard = Heard(
            member.number, row["number"], material, row["path"], recording.size, recording.changed, recording.digest
        )
        for asking in askings:
            await self._slots.acquire()
            most = self._estimates[member.number].most(asking.request)
            if not await self._may_send(member, most):
                self._slots.release()
                return
            again = partial(self._estimates[member.number].again, asking.request)
            booked = Booked(state.budget, most, again)
            task = asyncio.create_task(self._request(member, row, asking, heard, booked))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _fitting(self, annotator: Annotator, recording: Recording) -> tuple[Audio | None, tuple[str, str] | None]:
        """The recording in the engine's format, or the reason why it cannot be used."""
        audio, longest = recording.audio, self._engine.abilities.max_audio_seconds
        if audio is None or longest is None or audio.seconds <= longest:
            return audio, recording.wrong
        if annotator.file.too_long == "crop":
            return Audio(audio.samples[: int(longest * audio.rate)], audio.rate), recording.wrong
        message = f"{audio.seconds:.2f} s of audio, {self._engine.abilities.model} takes {longest:g} s"
        return audio, ("too_long", message)

    async def _may_send(self, member: PanelMember, most: float) -> bool:
        """Whether the budget allows a request at its maximum cost; if not yet, waits for requests in flight."""
        state = self._state
        while not (self._halted() or member.number in state.stopped):
            if state.budget.book(most):
                return True
            if not self._running:
                most_of_it = state.budget.in_money(most)
                message = f"the next request could exceed {state.budget}, and it may cost up to {most_of_it}"
                state.halt.because(message, RAISE_THE_BUDGET)
                return False
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _request(
        self, member: PanelMember, row: Mapping[str, Any], asking: Asking, heard: Heard, booked: Booked
    ) -> None:
        state, estimate = self._state, self._estimates[member.number]
        try:
            BOOK_AGAIN.set(booked.book_again)  # only in this task
            number = next(state.numbers)
            in_flight = Sending(number, len(asking.draws), estimate.in_flight(asking.request))
            await state.recorder.sending(in_flight, heard)
            reply = await self._engine.ask(asking.request)
            rows, read = outcomes(
                (member.annotator, member.number),
                (row["number"], row["utterance_id"]),
                asking,
                reply,
                estimate.used(asking.request, reply),
                silence=self._silence[member.number],
                material=heard.material,
                seed=state.seed,
                at=time.time(),
            )
            cast = [row for row in rows if row.kind not in LEFT_OPEN]
            paid = sum(outcome.price for outcome in rows)
            wasted = paid - sum(outcome.price for outcome in cast) if len(cast) < len(rows) else 0.0
            lost = Lost(1, len(rows) - len(cast), wasted, "called off") if wasted > 0.0 else None
            await state.recorder.arrived(cast, number, lost)
            booked.settle(paid)
            self._judge(member, [(answer.status, answer.shares) for answer in read if answer.kind not in LEFT_OPEN])
            for failure in (reply.failure, *reply.failures):
                if failure is not None and failure.kind in ENDS_THE_JOB:
                    fix = _FIXES.get(failure.kind, "Correct the annotator file, then run the same command again.")
                    raise EngineError(f"{failure.kind}: {failure.message}", where=member.annotator.where, fix=fix)
                if failure is not None and failure.error is not None:
                    state.tallies[member.number].broke(row["utterance_id"], failure.error)
            note = f"{state.budget.in_money(state.budget.spent)} spent" if state.budget.spent else None
            state.progress.advance(len(cast), note)
        except Exception as error:  # ask() stops and raises it
            self._error = self._error or error
        finally:
            self._slots.release()

    def _judge(self, member: PanelMember, read: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> None:
        tally = self._state.tallies[member.number]
        for status, shares in read:
            tally.count(status, shares)
        verdict = tally.verdict(self._state.stop, self._state.human)
        if verdict is not None:
            self._state.stopped.setdefault(member.number, verdict)
