"""Asking: recordings are decoded ahead, requests run concurrently, and every outcome is recorded in the ledger."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import finish, scores_of_silence
from alm_proxies.annotators.asking import Asking
from alm_proxies.audio.clip import LONGEST, RecordingError, open_clip
from alm_proxies.engines.engine import ENDS_THE_JOB, LEFT_OPEN, Audio, Engine
from alm_proxies.engines.trials import ACCOUNT, BOOK_AGAIN, OverBudgetError, showing
from alm_proxies.errors import EngineError, InputError
from alm_proxies.files import canonical_json, digest_file
from alm_proxies.printable import in_money
from alm_proxies.progress import Progress, say
from alm_proxies.stages.annotate.budget import Booked, Budget, Estimate
from alm_proxies.stages.annotate.figures import counted
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.limits import (
    RAISE_THE_BUDGET,
    Halt,
    Tally,
    human_shares,
    refuse_all_egress,
    tally_of,
)
from alm_proxies.stages.annotate.monitor import RunMonitor
from alm_proxies.stages.annotate.outcomes import STAGE, not_asked, outcomes
from alm_proxies.stages.annotate.plan import PanelMember, Plan, context_of
from alm_proxies.stages.annotate.recording import Recorder
from alm_proxies.stages.annotate.records import Heard, Lost, Sending
from alm_proxies.stages.annotate.settings import AnnotateSettings, Stop
from alm_proxies.stages.annotate.trials import BilledEngine, LedgerAccount
from alm_proxies.tables import Finding, Votes

_TOGETHER = 4
"""Recordings that a thread opens at once."""
_AHEAD = 4
"""How many times that many are opened ahead."""
_FIXES = {
    "unauthorised": "Correct the annotator file or the key, then run the same command again.",
    "engine_died": "See its log, then run the same command again to continue.",
    "gone": "Start the server again, then run the same command: it requests only the missing votes.",
}
Opener = Callable[[Annotator], Awaitable[Engine]]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording; `wrong` is the reason if it could not be opened."""

    place: int
    row: Mapping[str, Any]
    audio: Audio | None
    digest: str
    size: int
    changed: int
    wrong: tuple[str, str] | None = None


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
    votes: Votes | None,
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
        budget=Budget(settings.budget, ledger.spent()),
        tallies={member.number: tally_of(ledger, member.annotator.name, member.number) for member in members},
        human=human_shares(votes),
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

    async def work() -> None:
        async with RunMonitor(halt, state.progress, quiet) as monitor:
            for group in _by_engine(plans):
                if halt.now:
                    return
                if not all(member.number in state.stopped for part in group for member in part):
                    await _ask_group(plans, group, state, settings, engine_of, monitor)

    try:
        finish(work())
    except asyncio.CancelledError:
        if not halt.interrupted:
            raise
        raise KeyboardInterrupt from None  # a second signal gave up what was in flight
    return Asked(halt, state.stopped, tuple(state.findings))


Parts = tuple[list[PanelMember], list[PanelMember]]


def _by_engine(plans: tuple[Plan, Plan]) -> list[Parts]:
    """The members of both plans with missing votes, those of one engine together."""
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
    account = LedgerAccount(state.ledger, state.budget, asked[0], state.quiet)
    pays = ACCOUNT.set(account)
    progress = partial(state.progress.advance, 0)
    try:
        with showing(progress):
            engine = await engine_of(asked[0])
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
            names = {member.annotator.name for member in plans[0].members if member.number in state.stopped}
            going_on = [one for one in part if plan is plans[0] or one.annotator.name not in names]
            if going_on and not state.halt.now:
                await Group(plan, going_on, engine, state, account).ask()
    except OverBudgetError as error:
        state.halt.because(str(error), RAISE_THE_BUDGET)
    finally:
        monitor.engine = None
        await engine.close()


class Group:
    """The panel members that share an engine, asked utterance by utterance."""

    def __init__(
        self,
        plan: Plan,
        members: Sequence[PanelMember],
        engine: Engine,
        state: RunState,
        account: LedgerAccount,
    ) -> None:
        self._plan = plan
        self._members = members
        self._engine = engine
        self._state = state
        self._account = account
        self._estimates = {member.number: Estimate(member.annotator, engine.abilities) for member in members}
        self._slots = asyncio.Semaphore(engine.abilities.in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._silence: dict[int, NDArray[np.float64] | None] = {}
        self._error: BaseException | None = None

    async def ask(self) -> None:
        """Request all missing votes until they are complete or there is a reason to stop."""
        for member in self._members:
            billed = BilledEngine(self._engine, self._account, self._estimates[member.number])
            self._silence[member.number] = await scores_of_silence(member.annotator, billed)
        try:
            async with aclosing(self._recordings()) as every:
                async for recording in every:
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

    def _report_implausible(self) -> None:
        for member in self._members:
            estimate = self._estimates[member.number]
            if estimate.implausible:
                answers = counted(estimate.implausible, "answer")
                message = f"{member.annotator.name}: {answers} had impossible token counts"
                message = f"{message}; the maximum is booked for them"
                fix = "Check the bill of the server."
                found = Finding(STAGE, "implausible_usage", message, fix, count=estimate.implausible)
                self._state.findings.append(found)
                say(f"implausible_usage: {found.message}", quiet=self._state.quiet)

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
        context = context_of(row, annotator.prompt.turns)
        audio, wrong = self._fitting(annotator, recording)
        if lacking := context.missing(annotator.prompt.requires):
            wrong = wrong or (f"no_{lacking[0]}", f"the prompt needs its {lacking[0]}")
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
        """Whether the budget allows a request at its maximum cost; waits for requests in flight if it does not yet."""
        state = self._state
        while not (self._halted() or member.number in state.stopped):
            if state.budget.book(most):
                return True
            if not self._running:
                spent = f"{in_money(state.budget.spent)} are spent"
                message = f"the next request could pass the budget of {state.budget.limit:g}: {spent}"
                state.halt.because(f"{message}, and it may cost up to {in_money(most)}", RAISE_THE_BUDGET)
                return False
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _request(
        self, member: PanelMember, row: Mapping[str, Any], asking: Asking, heard: Heard, booked: Booked
    ) -> None:
        state, estimate = self._state, self._estimates[member.number]
        try:
            BOOK_AGAIN.set(booked.book_again)  # of this task alone
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
            self._judge(member, [(one.status, one.shares) for one in read if one.kind not in LEFT_OPEN])
            for failure in (reply.failure, *reply.failures):
                if failure is not None and failure.kind in ENDS_THE_JOB:
                    fix = _FIXES.get(failure.kind, "Correct the annotator file, then run the same command again.")
                    raise EngineError(f"{failure.kind}: {failure.message}", where=member.annotator.where, fix=fix)
            note = f"{in_money(state.budget.spent)} spent" if state.budget.spent else None
            state.progress.advance(len(cast), note)
        except Exception as error:  # kept for the run, which sends nothing more and raises it
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

    async def _recordings(self) -> AsyncGenerator[Recording]:
        """Recordings in asking order, a few opened ahead by threads."""
        loop = asyncio.get_running_loop()
        rate = self._engine.abilities.rate
        rows = self._plan.rows(self._members)
        threads = min(4, (os.cpu_count() or 1) + 1)
        digest = lru_cache(maxsize=256)(_digest)
        with ThreadPoolExecutor(threads, thread_name_prefix="open-recordings") as pool:
            waiting: deque[asyncio.Future[list[Recording]]] = deque()
            try:
                while True:
                    while len(waiting) < _AHEAD and (items := list(islice(rows, _TOGETHER))):
                        waiting.append(loop.run_in_executor(pool, _open_all, items, rate, digest))
                    if not waiting:
                        return
                    for recording in await waiting.popleft():
                        yield recording
            finally:
                for future in waiting:
                    future.cancel()


def _digest(path: str, size: int, changed: int) -> str:
    """The digest of a file as it is now; a file may hold many utterances, so a few are kept."""
    return digest_file(path)


def _open_all(
    rows: Sequence[tuple[int, Mapping[str, Any]]], rate: int, digest_of: Callable[[str, int, int], str]
) -> list[Recording]:
    return [_open(place, row, rate, digest_of) for place, row in rows]


def _open(place: int, row: Mapping[str, Any], rate: int, digest_of: Callable[[str, int, int], str]) -> Recording:
    path = row["path"]
    try:
        status = Path(path).stat()
        digest = digest_of(path, status.st_size, status.st_mtime_ns)
        clip = open_clip(path, start=row["start"], end=row["end"], rate=rate, longest=LONGEST)
    except RecordingError as error:
        return Recording(place, row, None, "", 0, 0, (error.kind, error.message))
    except OSError as error:
        return Recording(place, row, None, "", 0, 0, ("missing", f"{path}: {error.strerror or error}"))
    except InputError as error:
        return Recording(place, row, None, "", 0, 0, ("unreadable", error.message))
    audio = Audio(clip.samples, clip.rate, clip.pcm)
    return Recording(place, row, audio, digest, status.st_size, status.st_mtime_ns)
