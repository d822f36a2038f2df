"""Asking: recordings decoded ahead, as many requests at once as the engine bears, every outcome acknowledged."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import scores_of_silence
from alm_proxies.annotators.asking import Asking
from alm_proxies.audio.clip import LONGEST, RecordingError, open_clip
from alm_proxies.engines.away import Reached
from alm_proxies.engines.engine import ENDS_THE_JOB, LEFT_OPEN, Audio, Engine
from alm_proxies.errors import EngineError, InputError
from alm_proxies.files import digest_file
from alm_proxies.progress import Progress
from alm_proxies.stages.annotate.figures import in_money
from alm_proxies.stages.annotate.ledger import Heard, Ledger, Lost, Sending
from alm_proxies.stages.annotate.limits import RAISE_THE_BUDGET, Estimate, Halt, Purse, Tally
from alm_proxies.stages.annotate.outcomes import not_asked, outcomes
from alm_proxies.stages.annotate.plan import Plan, Seat, lent_by
from alm_proxies.stages.annotate.recording import Recorder
from alm_proxies.stages.annotate.settings import Stop

_AHEAD = 8
_MENDS = {
    "unauthorised": "Mend the annotator file or the key, then run the same command again.",
    "engine_died": "Its own log says more; the same command goes on.",
    "gone": "Start the server again, then run the same command: it asks only for the votes that are missing.",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """One recording, opened or not: `wrong` says why not."""

    place: int
    row: Mapping[str, Any]
    audio: Audio | None
    digest: str
    size: int
    changed: int
    wrong: tuple[str, str] | None = None


@dataclass(slots=True)
class Counted:
    """What all groups of a run share; tallies and the reasons to have stopped go by annotator number."""

    recorder: Recorder
    purse: Purse
    tallies: dict[int, Tally]
    human: Mapping[str, float]
    stop: Stop
    seed: int
    halt: Halt
    progress: Progress
    numbers: count[int]
    stopped: dict[int, str]


class Group:
    """The seats that one engine serves, asked utterance by utterance."""

    def __init__(self, plan: Plan, seats: Sequence[Seat], engine: Engine, counted: Counted) -> None:
        self._plan = plan
        self._seats = seats
        self._engine = engine
        self._counted = counted
        self._estimates = {seat.number: Estimate(seat.annotator, engine.abilities) for seat in seats}
        self._slots = asyncio.Semaphore(engine.abilities.in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._silence: dict[int, NDArray[np.float64] | None] = {}
        self._error: BaseException | None = None

    async def ask(self) -> None:
        """Ask for everything that is missing, until it is there or there is a reason to stop."""
        for seat in self._seats:
            self._silence[seat.number] = await scores_of_silence(seat.annotator, self._engine)
        try:
            async with aclosing(self._opened()) as every:
                async for opened in every:
                    for seat in self._seats:
                        await self._utterance(seat, opened)
                    if self._halted():
                        break
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            raise
        finally:
            if self._running:
                await asyncio.gather(*self._running, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _halted(self) -> bool:
        return self._error is not None or self._counted.halt.now or self._all_stopped()

    def _all_stopped(self) -> bool:
        return all(seat.number in self._counted.stopped for seat in self._seats)

    async def _utterance(self, seat: Seat, opened: Opened) -> None:
        counted = self._counted
        missing = seat.missing[opened.place].nonzero()[0].tolist()
        if not missing or seat.number in counted.stopped or self._halted():
            return
        annotator, row = seat.annotator, opened.row
        lent = lent_by(row, annotator.prompt.turns)
        wrong = opened.wrong
        longest = self._engine.abilities.max_audio_seconds
        audio = opened.audio
        if audio is not None and longest is not None and audio.seconds > longest:
            if annotator.file.too_long == "crop":
                audio = Audio(audio.samples[: int(longest * audio.rate)], audio.rate)
            else:
                wrong = (
                    "too_long",
                    f"{audio.seconds:.2f} s of audio, {self._engine.abilities.model} hears {longest:g} s",
                )
        if lacking := lent.missing(annotator.prompt.requires):
            wrong = wrong or (f"no_{lacking[0]}", f"the prompt needs its {lacking[0]}")
        if audio is None or wrong is not None:
            kind, message = wrong or ("missing", "")
            await counted.recorder.arrived(not_asked(seat.number, row["number"], missing, kind, message, time.time()))
            counted.progress.advance(len(missing))
            return
        material = annotator.material(opened.digest, row["start"], row["end"], lent)
        heard = Heard(seat.number, row["number"], material, row["path"], opened.size, opened.changed, opened.digest)
        for asking in annotator.askings(row["utterance_id"], missing, audio, lent, counted.seed):
            await self._slots.acquire()
            price = self._estimates[seat.number].of(asking)
            taken = price * self._estimates[seat.number].tries
            if not await self._may_send(seat, taken):
                self._slots.release()
                return
            task = asyncio.create_task(self._request(seat, row, asking, heard, price, taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if counted.purse.budget is not None and not self._estimates[seat.number].learned:
                await asyncio.wait({task})  # the first reply tells what a token count is worth

    async def _may_send(self, seat: Seat, taken: float) -> bool:
        """Whether to send a request, once what is in flight leaves enough of the budget for it at its dearest."""
        counted = self._counted
        while not (self._halted() or seat.number in counted.stopped):
            if counted.purse.take(taken):
                return True
            if not self._running:
                spent = f"{in_money(counted.purse.spent)} are spent"
                message = f"the next request could pass the budget of {counted.purse.budget:g}: {spent}"
                counted.halt.because(f"{message}, and it may cost up to {in_money(taken)}", RAISE_THE_BUDGET)
                return False
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _request(
        self, seat: Seat, row: Mapping[str, Any], asking: Asking, heard: Heard, price: float, taken: float
    ) -> None:
        counted = self._counted
        try:
            number = next(counted.numbers)
            await counted.recorder.sending(Sending(number, len(asking.draws), price), heard)
            reply = await self._engine.ask(asking.request)
            estimate = self._estimates[seat.number]
            estimate.learn(asking, reply)
            rows, read = outcomes(
                (seat.annotator, seat.number),
                (row["number"], row["utterance_id"]),
                asking,
                reply,
                tokens_in=estimate.used(asking, reply),
                silence=self._silence[seat.number],
                material=heard.material,
                seed=counted.seed,
                at=time.time(),
            )
            cast = [row for row in rows if row.kind not in LEFT_OPEN]
            paid = sum(outcome.price for outcome in rows)
            wasted = paid - sum(outcome.price for outcome in cast)
            lost = Lost(1, len(rows) - len(cast), wasted) if wasted > 0.0 else None
            await counted.recorder.arrived(cast, number, lost)
            counted.purse.settle(taken, paid)
            self._judge(seat, [(one.status, one.shares) for one in read if one.kind not in LEFT_OPEN])
            for failure in (reply.failure, *reply.failures):
                if failure is not None and failure.kind in ENDS_THE_JOB:
                    fix = _MENDS.get(failure.kind, "Mend the annotator file, then run the same command again.")
                    raise EngineError(f"{failure.kind}: {failure.message}", where=seat.annotator.where, fix=fix)
            note = f"{in_money(counted.purse.spent)} spent" if counted.purse.spent else None
            counted.progress.advance(len(cast), note)
        except Exception as error:  # kept for the run, which sends nothing more and raises it
            self._error = self._error or error
        finally:
            self._slots.release()

    def _judge(self, seat: Seat, read: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> None:
        tally = self._counted.tallies[seat.number]
        for status, shares in read:
            tally.count(status, shares)
        verdict = tally.verdict(self._counted.stop, self._counted.human)
        if verdict is not None:
            self._counted.stopped.setdefault(seat.number, verdict)

    async def _opened(self) -> AsyncGenerator[Opened]:
        """Recordings in asking order, a few opened ahead by threads."""
        loop = asyncio.get_running_loop()
        rate = self._engine.abilities.rate
        rows = self._plan.rows(self._seats)
        threads = min(4, (os.cpu_count() or 1) + 1)
        digest = lru_cache(maxsize=256)(_digest)
        with ThreadPoolExecutor(threads, thread_name_prefix="open-recordings") as pool:
            waiting: deque[asyncio.Future[Opened]] = deque()
            try:
                while True:
                    while len(waiting) < _AHEAD and (item := next(rows, None)) is not None:
                        waiting.append(loop.run_in_executor(pool, _open, *item, rate, digest))
                    if not waiting:
                        return
                    yield await waiting.popleft()
            finally:
                for future in waiting:
                    future.cancel()


def record_trial(ledger: Ledger, annotator: Annotator, engine: Engine) -> float:
    """Write down what trying the engine's server out came to, at the annotator's prices; gives the price."""
    if not isinstance(engine, Reached) or not engine.tried_out.requests:
        return 0.0
    took = engine.tried_out
    price = annotator.file.price.of(
        audio_seconds=took.audio_seconds, tokens_in=took.tokens_in, tokens_out=took.tokens_out
    )
    ledger.add_tried_out(took.requests, price)
    return price


def _digest(path: str, size: int, changed: int) -> str:
    """The digest of a file as it is now; a file may hold many utterances, so a few are kept."""
    return digest_file(path)


def _open(place: int, row: Mapping[str, Any], rate: int, digest_of: Callable[[str, int, int], str]) -> Opened:
    path = row["path"]
    try:
        status = Path(path).stat()
        digest = digest_of(path, status.st_size, status.st_mtime_ns)
        clip = open_clip(path, start=row["start"], end=row["end"], rate=rate, longest=LONGEST)
    except RecordingError as error:
        return Opened(place, row, None, "", 0, 0, (error.kind, error.message))
    except OSError as error:
        return Opened(place, row, None, "", 0, 0, ("missing", f"{path}: {error.strerror or error}"))
    except InputError as error:
        return Opened(place, row, None, "", 0, 0, ("unreadable", error.message))
    return Opened(place, row, Audio(clip.samples, clip.rate), digest, status.st_size, status.st_mtime_ns)
