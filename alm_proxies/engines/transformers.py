"""The engine transformers in this process: waiting requests are batched, clips are encoded once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from alm_proxies.engines.engine import Abilities, Failure, Reply, Request
from alm_proxies.engines.registry import TransformersServe
from alm_proxies.engines.turns import conversation_of
from alm_proxies.errors import InputError
from alm_proxies.models.audio_lm import Asked, AudioLM, Drawn, Draws
from alm_proxies.models.chat_inputs import Conversation
from alm_proxies.models.checkpoints import has_head
from alm_proxies.models.families import notes_on
from alm_proxies.models.headed_lm import HeadedLM

_BATCH_ON_A_GPU = 16
_ONE_THREAD = 20_000_000
"""Weights up to which a model on a CPU gets one thread: several would wait for each other longer than they compute,
much longer beside other programs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    request: Request
    reply: asyncio.Future[Reply]


class Transformers:
    """Any model with a chat template and audio; every draw is seeded on its own. A model with a head is scored only."""

    def __init__(self, lm: AudioLM | HeadedLM, *, batch: int | None = None) -> None:
        self._lm = lm
        self._batch = batch or (1 if lm.device.type == "cpu" else _BATCH_ON_A_GPU)
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None
        small = lm.device.type == "cpu" and lm.weights <= _ONE_THREAD
        self._threads = torch.get_num_threads()
        own = 1 if small else self._threads
        self._thread = ThreadPoolExecutor(1, "transformers", torch.set_num_threads, (own,))
        answers = isinstance(lm, AudioLM)
        head = () if answers else ("a head of its own gives the labels' probabilities, so it is scored only",)
        self._abilities = Abilities(
            engine="transformers",
            model=lm.name,
            local=True,
            answers=answers,
            seeds="each" if answers else "none",
            log_probabilities=True,
            score=True,
            score_words=True,
            structured=answers,
            max_audio_seconds=lm.inputs.max_audio_seconds,
            rate=lm.inputs.rate,
            in_flight=2 * self._batch,
            notes=(*notes_on(lm.inputs.family), *head),
        )

    @classmethod
    async def open(cls, model: str, serve: TransformersServe, *, revision: str | None = None) -> Transformers:
        """Load the model."""
        lm: AudioLM | HeadedLM
        if has_head(model):
            lm = HeadedLM.load(model, device=serve.device, dtype=serve.dtype)
        else:
            lm = AudioLM.load(model, revision=revision, device=serve.device, dtype=serve.dtype)
        return cls(lm, batch=serve.batch)

    @property
    def abilities(self) -> Abilities:
        """The abilities: all except JSON schemas; of a model with a head, only scores of its labels."""
        return self._abilities

    async def ask(self, request: Request) -> Reply:
        """The reply to a request, after its batch has run."""
        started = time.monotonic()
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            reply = await asyncio.wait_for(waiting.reply, request.seconds)
        except TimeoutError:
            reply = Reply(request.key, failure=Failure("timeout", f"no answer within {request.seconds:.0f} s"))
        seconds = sum(clip.seconds for clip in request.audio)
        return replace(reply, latency=time.monotonic() - started, audio_seconds=seconds, model=self._lm.name)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...]:
        """The number of tokens of each answer."""
        return tuple(len(self._lm.inputs.answer(text)) for text in texts)

    async def close(self) -> None:
        """Stop the worker and its thread."""
        if self._worker is not None:
            self._worker.cancel()
        with suppress(RuntimeError):  # it is closed already
            self._thread.submit(torch.set_num_threads, self._threads)  # threads that start later take the last number
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        """Run the waiting requests in order, batch by batch, until none is left."""
        while batch := self._next_batch():
            requests = [waiting.request for waiting in batch]
            try:
                replies = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, requests)
            except Exception as error:  # not a failure of one request: every request of the batch raises it
                for waiting in batch:
                    if not waiting.reply.done():
                        waiting.reply.set_exception(error)
            else:
                for waiting, reply in zip(batch, replies, strict=True):
                    if not waiting.reply.done():
                        waiting.reply.set_result(reply)

    def _next_batch(self) -> list[_Waiting]:
        """The first waiting request and the similar ones that directly follow it."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._batch:
            if self._waiting[0].reply.done():
                self._waiting.popleft()  # it has timed out
            elif batch and self._kind(self._waiting[0]) != self._kind(batch[0]):
                break
            else:
                batch.append(self._waiting.popleft())
        return batch

    def _kind(self, waiting: _Waiting) -> tuple[bool, tuple[int, ...]]:
        clips = waiting.request.audio if self._lm.inputs.equal_lengths_only else ()
        return waiting.request.elicit == "score", tuple(len(clip.samples) for clip in clips)

    def _run(self, requests: list[Request]) -> list[Reply]:
        """A reply for each request; a batch that fails is split in halves, so that only the bad request fails."""
        try:
            return self._score(requests) if requests[0].elicit == "score" else self._draw(requests)
        except (InputError, RuntimeError, ValueError) as error:
            if len(requests) > 1:
                half = len(requests) // 2
                return self._run(requests[:half]) + self._run(requests[half:])
            return [Reply(requests[0].key, failure=self._failure(requests[0], error))]

    def _failure(self, request: Request, error: Exception) -> Failure:
        longest = self._lm.inputs.max_audio_seconds
        if longest is not None and any(clip.seconds > longest for clip in request.audio):
            return Failure("too_long", str(error))
        if isinstance(error, InputError):
            return Failure("bad_request", str(error))
        if isinstance(error, torch.OutOfMemoryError):
            return Failure("server_error", "the device's memory does not hold this request")
        return Failure("server_error", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")

    def _score(self, requests: list[Request]) -> list[Reply]:
        asked = [
            [
                Asked(self._conversation(request, place), question.choices)
                for place, question in enumerate(request.questions)
            ]
            for request in requests
        ]
        return [
            Reply(
                request.key,
                log_probabilities=tuple(tuple(float(score) for score in row) for row in scores),
                tokens_in=sum(
                    len(self._lm.inputs.tokens(self._lm.inputs.text(order.conversation))) for order in orders
                ),
            )
            for request, orders, scores in zip(requests, asked, self._lm.score(asked), strict=True)
        ]

    def _draw(self, requests: list[Request]) -> list[Reply]:
        wanted = [
            Draws(
                self._conversation(request, 0),
                request.seeds,
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                top_k=request.sampling.top_k,
                repetition_penalty=request.sampling.repetition_penalty,
                max_tokens=request.sampling.max_tokens,
                only=request.questions[0].choices if request.constrained else (),
            )
            for request in requests
        ]
        drawn = self._lm.draw(wanted)
        return [
            self._reply(request, draws, answers)
            for request, draws, answers in zip(requests, wanted, drawn, strict=True)
        ]

    def _reply(self, request: Request, draws: Draws, answers: list[Drawn]) -> Reply:
        return Reply(
            request.key,
            texts=tuple(answer.text for answer in answers),
            finish=tuple(answer.finish for answer in answers),
            reasoning=("",) * len(answers),
            tokens_in=len(self._lm.inputs.tokens(self._lm.inputs.text(draws.conversation))),
            tokens_out=sum(answer.tokens for answer in answers),
            seeds_honoured=True,
        )

    def _conversation(self, request: Request, place: int) -> Conversation:
        return conversation_of(request.questions[place], self._lm.inputs.rate)
