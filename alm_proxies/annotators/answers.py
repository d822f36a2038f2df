"""Answers: the reading of every draw of a request, for every elicitation, and label shares of given clips."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alm_proxies.annotators.asking import Asking, Asks
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.annotators.replies import read_reply
from alm_proxies.annotators.scoring import order_probabilities
from alm_proxies.annotators.wording import Reading
from alm_proxies.engines.engine import Audio, Engine, Failure, Reply
from alm_proxies.errors import EngineError, InputError

T = TypeVar("T")

_SUM_TOLERANCE = 1e-6


def readings(
    asking: Asking, reply: Reply, labels: tuple[str, ...], silence: NDArray[np.float64] | None = None
) -> list[tuple[Reading, str]]:
    """The reading and the raw text of each draw of a request; scores are divided by those of `silence`, if given.

    Every reading meets the contract of the Votes table; one that does not is turned into a failed vote.
    """
    if reply.failure is not None:
        return [(_failed(reply.failure), _storable(reply.failure.message))] * len(asking.draws)
    if asking.request.elicit == "score":
        read = _scored(asking, reply, labels, silence)
    else:
        read = [_answered(asking, reply, place) for place in range(len(asking.draws))]
    return [
        (reading if _keeps_contract(reading, labels) else Reading("failed", "breaks_contract"), _storable(raw))
        for reading, raw in read
    ]


def _keeps_contract(reading: Reading, labels: tuple[str, ...]) -> bool:
    """The same as keeps_contract; readings that are one label and nothing else come again and again."""
    plain = reading.stated is None and len(reading.shares) == 1
    return _keeps_contract_again(reading, labels) if plain else keeps_contract(reading, labels)


def keeps_contract(reading: Reading, labels: Sequence[str]) -> bool:
    """Whether a reading can be written as rows of a Votes table with the taxonomy `labels`.

    Status ok if and only if there is a label or attributes; known labels, each once; shares above 0 that sum to 1;
    attributes from 0 to 1; text that can be encoded.
    """
    names = [label for label, _ in reading.shares]
    shares = [share for _, share in reading.shares]
    texts = [reading.kind, *names, *(reading.secondary or ()), *([reading.stated] if reading.stated else [])]
    return (
        (reading.status == "ok") == bool(reading.shares or reading.attributes)
        and set(names) <= set(labels)
        and len(set(names)) == len(names)
        and all(0.0 < share <= 1.0 for share in shares)
        and (not shares or abs(math.fsum(shares) - 1.0) <= _SUM_TOLERANCE)
        and all(0.0 <= value <= 1.0 for value in reading.attributes or ())
        and all(text == _storable(text) for text in texts)
    )


_keeps_contract_again = lru_cache(maxsize=1024)(keeps_contract)


def _storable(text: str) -> str:
    """The text without characters that a table or terminal cannot encode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


async def scores_of_silence(annotator: Asks, engine: Engine) -> NDArray[np.float64] | None:
    """Log-probability of every label for a second of silence, (cells, labels), if the annotator divides scores by it.

    The utterance's name is "silence", so that a table of answers can include it.
    """
    if not annotator.file.content_free:
        return None
    rate = engine.abilities.rate
    audio = Audio(np.zeros(rate, dtype=np.float32), rate)
    (asking,) = annotator.askings("silence", range(len(annotator.cells)), audio, PromptContext(), 0)
    reply = await engine.ask(asking.request)
    if reply.failure is not None:
        message, where = f"{reply.failure.kind}: {reply.failure.message}", f"{annotator.name}, silence"
        fix = "With content_free = true a second of silence is asked about first: answer it, or write false."
        raise EngineError(message, where=where, fix=fix) from reply.failure.error
    scores = np.array(reply.log_probabilities, dtype=np.float64)
    order_probabilities(scores, content_free=scores)  # raises if a probability is zero
    return scores


async def votes_about(
    annotator: Asks,
    engine: Engine,
    name: str,
    audio: Audio,
    context: PromptContext,
    seed: int,
    silence: NDArray[np.float64] | None = None,
) -> dict[int, Reading]:
    """The readings of an annotator's votes on one clip, by draw."""
    by_draw: dict[int, Reading] = {}

    async def ask(asking: Asking) -> None:
        reply = await engine.ask(asking.request)
        if reply.failure is not None and reply.failure.kind != "refused":
            raise EngineError(f"{reply.failure.kind}: {reply.failure.message}", where=f"{annotator.name}, {name}")
        read = readings(asking, reply, annotator.labels, silence)
        for draw, (reading, _) in zip(asking.draws, read, strict=True):
            by_draw[draw] = reading

    await asyncio.gather(
        *(ask(asking) for asking in annotator.askings(name, range(annotator.votes), audio, context, seed))
    )
    return by_draw


async def shares_of(annotator: Asks, engine: Engine, clips: Sequence[Audio], seed: int) -> NDArray[np.float64]:
    """Mean label shares of the votes on each clip, (clips, labels); nan if no vote can be read."""
    at_once = asyncio.Semaphore(max(1, engine.abilities.in_flight))
    silence = await scores_of_silence(annotator, engine)

    async def mean_shares(place: int) -> NDArray[np.float64]:
        async with at_once:
            votes = await votes_about(annotator, engine, f"clip {place}", clips[place], PromptContext(), seed, silence)
        readable = [dict(reading.shares) for reading in votes.values() if reading.shares]
        rows = np.array(
            [[shares.get(label, 0.0) for label in annotator.labels] for shares in readable], dtype=np.float64
        )
        return rows.mean(axis=0) if readable else np.full(len(annotator.labels), np.nan)

    return np.array(await asyncio.gather(*(mean_shares(place) for place in range(len(clips)))), dtype=np.float64)


def finish(work: Coroutine[Any, Any, T], interrupt: Callable[[], None] | None = None) -> T:
    """Run a coroutine and return its result, also inside a running event loop, as in a notebook.

    There, Ctrl-C calls `interrupt` or cancels the work, which is waited for: it must not go on by itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    results: list[T] = []
    wrong: list[BaseException] = []
    cancels: list[Callable[[], object]] = []
    cancelled, over = threading.Event(), threading.Event()

    def interrupted(number: int, frame: FrameType | None) -> None:
        if interrupt is not None:
            interrupt()
            return
        cancelled.set()
        for cancel in cancels:
            with suppress(RuntimeError):  # it has just ended
                cancel()

    async def noted() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancels.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if cancelled.is_set():  # before there was a task to cancel
            task.cancel()
        return await work

    def aside() -> None:
        try:
            results.append(asyncio.run(noted()))
        except BaseException as error:  # raised again in the caller's thread
            wrong.append(error)
        finally:
            over.set()

    # A handler, since KeyboardInterrupt could be raised anywhere here, also while the thread is being started.
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    if callable(before):
        signal.signal(signal.SIGINT, interrupted)
    try:
        thread = threading.Thread(target=aside, name="alm-proxies")
        thread.start()
        while not over.wait(0.2):  # where a wait cannot be interrupted, a signal is handled after it
            pass
        thread.join()
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)
    if cancelled.is_set():
        raise KeyboardInterrupt
    if wrong:
        raise wrong[0]
    return results[0]


def _failed(failure: Failure) -> Reading:
    return Reading("refused" if failure.kind == "refused" else "failed", failure.kind)


def _answered(asking: Asking, reply: Reply, place: int) -> tuple[Reading, str]:
    if place >= len(reply.texts):
        return Reading("failed", "missing"), ""
    text = reply.texts[place]
    finish = reply.finish[place] if place < len(reply.finish) else "stop"
    thought = reply.reasoning[place] if place < len(reply.reasoning) else ""
    raw = f"<think>{thought}</think>{text}" if thought else text
    failure = reply.failures[place] if place < len(reply.failures) else None
    if failure is not None:
        return _failed(failure), failure.message
    if finish == "failed":
        return Reading("failed", "draw_failed"), raw
    return read_reply(text, asking.asked[place], finish), raw


def _scored(
    asking: Asking, reply: Reply, labels: tuple[str, ...], silence: NDArray[np.float64] | None
) -> list[tuple[Reading, str]]:
    """One distribution per label order."""
    scores = reply.log_probabilities
    blank = None if silence is None else silence[list(asking.cells)]
    raw = [_rounded(order) for order in scores]
    if len(scores) != len(asking.draws) or any(len(order) != len(labels) for order in scores):
        return [(Reading("failed", "missing"), ", ".join(raw))] * len(asking.draws)
    try:
        shares = order_probabilities(scores, content_free=blank)
    except InputError as error:
        return [(Reading("failed", "no_probability"), error.message)] * len(asking.draws)
    if blank is not None:
        pairs = zip(raw, blank.tolist(), strict=True)
        raw = [f'{{"heard": {heard}, "silence": {_rounded(order)}}}' for heard, order in pairs]
    return [
        (Reading("ok", shares=tuple((k, float(p)) for k, p in zip(labels, order, strict=True) if p > 0.0)), text)
        for order, text in zip(shares, raw, strict=True)
    ]


def _rounded(order: Sequence[float]) -> str:
    return json.dumps([round(score, 6) if math.isfinite(score) else None for score in order])
