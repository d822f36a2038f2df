"""Any server with an OpenAI-compatible chat interface that takes audio: vllm serve, OpenAI, Gemini, llama-server ..."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from alm_proxies.engines import chat_api, known
from alm_proxies.engines.api_key import ApiKey
from alm_proxies.engines.away import Away
from alm_proxies.engines.bill import Bill, TriedOut, sent_on_account
from alm_proxies.engines.bounds import most_of_question, runs_of
from alm_proxies.engines.completions import (
    Completion,
    first_token_scores,
    forced_score,
    named_token_scores,
    read_completion,
    read_models,
    read_tokens,
)
from alm_proxies.engines.connections import Connections, connections_at_once
from alm_proxies.engines.direct import Answered
from alm_proxies.engines.engine import ASKED_AGAIN, LEFT_OPEN, Abilities, Failure, Question, Reply, Request
from alm_proxies.engines.faults import FaultError, Sent
from alm_proxies.engines.forbidden import Forbidden
from alm_proxies.engines.probe import FIXES, Failing, probe
from alm_proxies.engines.registry import OpenAIServe
from alm_proxies.engines.traffic import Traffic
from alm_proxies.engines.trials import TrialQuestion, asking, showing_faults
from alm_proxies.errors import EngineError
from alm_proxies.printable import counted
from alm_proxies.uris import is_loopback

_MOST_OFFERED = 10
"""Maximum number of a server's models named in a message."""
_LONGEST_NAME = 80
_OPTIONAL_SECONDS = 10.0
"""Timeout of a request whose answer is optional, its one retry included."""
_PROBE_TRIES = 4
"""Minimum number of tries per request of the probe, so that a passing fault is not taken for a missing ability."""
_DOUBTFUL = frozenset({"unsupported", "bad_request"})
"""Kinds of failure after which the cached abilities are deleted."""
_BYTES_OF_A_LIST = 1024 * 1024
_BYTES_OF_TOKENS = 64 * 1024

Draw = tuple[str, str, str, Failure | None]
"""Text, finish and reasoning of one draw, and its failure if it has no answer."""


class OpenAI:
    """A model on one or several identical OpenAI-compatible servers."""

    def __init__(self, model: str, serve: OpenAIServe, abilities: Abilities, key: ApiKey) -> None:
        self._model = model
        self._abilities = abilities
        self._key = key
        self._connections = Connections(
            {"content-type": "application/json"} | key.headers, trust_env=not abilities.local
        )
        self._tokens: dict[str, tuple[int, ...]] = {}
        self._tokenizes = True
        """Whether the server may have an address for tokens."""
        self._trial: Bill | None = None
        """The bill of probing, during probing."""
        self.tried_out = TriedOut()
        """The total cost of probing."""
        self._known_as: str | None = None
        """The cache key of the abilities."""
        self._taken = 2
        """The largest n that the server has accepted."""
        self._forbidden = Forbidden()
        self._most: int | None = None
        """The largest n to request, after the server has refused a larger one."""
        self.traffic = Traffic(
            tuple(address.rstrip("/") for address in serve.base_urls),
            in_flight=abilities.in_flight,
            tries=serve.tries,
            try_seconds=serve.try_seconds,
        )

    @classmethod
    async def open(cls, model: str, serve: OpenAIServe) -> OpenAI:
        """Probe the server's abilities with a few small requests."""
        engine = cls.unprobed(model, serve)
        engine._trial = trial = Bill()
        assumed, asked = engine._abilities, Failing(engine)
        try:
            engine._known_as = await known.key_of(engine._get, serve.base_urls, assumed)
            abilities = known.recall(engine._known_as, assumed)
            if abilities is None:
                with asking("trying out what the server can do"):
                    abilities = await probe(asked, assumed)
                known.remember(engine._known_as, abilities, sure=not asked.failed)
            engine._abilities = abilities
            engine.traffic.open_to(known.window(engine._known_as))
        except FaultError as fault:
            fix = await engine._fix_for(fault.failure, serve)
            await engine.close()
            raise EngineError(
                f"the server could not be probed ({fault.failure.kind}: {fault.failure.message})",
                where=", ".join(serve.base_urls),
                fix=fix,
            ) from None
        except BaseException:
            await engine.close()
            raise
        engine._trial, engine.tried_out = None, trial.tried_out
        return engine

    @classmethod
    def unprobed(cls, model: str, serve: OpenAIServe) -> OpenAI:
        """The engine before the probe, with the abilities that every server has."""
        abilities = Abilities(
            engine="openai",
            model=model,
            local=all(is_loopback(address) for address in serve.base_urls),
            several=False,
            sampling=("temperature", "top_p", "max_tokens"),
            in_flight=connections_at_once(serve.in_flight),
            tries=serve.tries,
        )
        return cls(model, serve, abilities, ApiKey(serve.key_from))

    @property
    def abilities(self) -> Abilities:
        """The probed abilities."""
        return self._abilities

    async def ask(self, request: Request) -> Reply:
        """Answer a request, with retries."""
        started, bill = time.monotonic(), Bill()
        with self._forbidden.number() as number:
            try:
                reply = await (self._scored if request.elicit == "score" else self._answered)(request, bill)
            except FaultError as fault:
                reply = Reply(request.key, failure=fault.failure)
            judged = self._forbidden.judged(reply, number, request.utterance_id)
        if reply.failure is not None and reply.failure.kind in _DOUBTFUL:
            known.forget(self._known_as)  # the abilities may have changed
        return replace(
            judged,
            tokens_in=bill.tokens_in,
            tokens_out=bill.tokens_out,
            audio_seconds=bill.paid_tries * request.questions[0].seconds,
            latency=time.monotonic() - started,
            tries=bill.tries,
            paid_tries=bill.paid_tries,
            counted=bill.counted,
            implausible=bill.implausible,
            without_answer=bill.without_answer,
            model=bill.model,
        )

    async def complete(
        self,
        question: Question,
        fields: Mapping[str, Any],
        *,
        seconds: float,
        answer: str | None = None,
        words: bool = True,
    ) -> Sent[Completion]:
        """One chat completion with the number of its tries; an empty answer is a fault unless `words` is false."""
        body = chat_api.body(self._model, question, fields, answer=answer)
        most = most_of_question(question, fields)

        async def one_try(address: str, try_seconds: float) -> Completion:
            with showing_faults(), self._key.redacting_faults():
                content = await self._post(address + "/chat/completions", body, try_seconds, most.bytes)
                completion = read_completion(content, most, words=words)
            redact = self._key.redact
            texts, reasoning = (tuple(map(redact, each)) for each in (completion.texts, completion.reasoning))
            return replace(completion, texts=texts, reasoning=reasoning, model=redact(completion.model))

        if self._trial is None:
            return await self.traffic.send(one_try, seconds=seconds)
        trial = TrialQuestion(question.seconds, most.tokens_in, most.tokens_out)
        send = partial(self.traffic.send, one_try, seconds=seconds, tries=_PROBE_TRIES)
        return await sent_on_account(send, trial, self._trial)

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """The tokens of a text, from vLLM's address /tokenize; None for servers without it."""
        if text in self._tokens or not self._tokenizes:
            return self._tokens.get(text)

        async def one_try(address: str, try_seconds: float) -> tuple[int, ...] | None:
            body = json.dumps({"model": self._model, "prompt": text, "add_special_tokens": False}).encode()
            url = address.removesuffix("/v1") + "/tokenize"
            with self._key.redacting_faults():
                return read_tokens(await self._post(url, body, try_seconds, _BYTES_OF_TOKENS, kept=False))

        try:
            with asking("asking for tokens, which is optional"):
                sent = await self.traffic.send(one_try, seconds=_OPTIONAL_SECONDS, most_tries=2)
        except FaultError as fault:
            self._tokenizes = fault.failure.kind in ASKED_AGAIN
            return None
        self._tokenizes = sent.answer is not None
        if sent.answer is not None:
            self._tokens[text] = sent.answer
        return sent.answer

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """Number of tokens of each text, or None if the server does not report it."""
        counts = []
        for text in texts:
            tokens = await self.tokenize(text)
            if tokens is None:
                return None
            counts.append(len(tokens))
        return tuple(counts)

    async def _get(self, address: str, seconds: float) -> bytes:
        """The content of a 200 response to one GET, which costs nothing; anything else is a FaultError."""
        return _content(await self._connections.get(address, seconds, most=_BYTES_OF_A_LIST))

    def away(self) -> Away | None:
        """The servers' absence, if none of them can be reached; otherwise None."""
        return self.traffic.away()

    def call_off(self, kind: Literal["gone", "called_off"], message: str) -> None:
        """Stop sending: requests that wait for a server or a retry end at once."""
        self.traffic.call_off(kind, message)

    async def close(self) -> None:
        """Close the connections."""
        known.remember_window(self._known_as, self.traffic.window)
        await self._connections.close()

    def __repr__(self) -> str:
        return f"OpenAI({self._model!r}, {[replica.address for replica in self.traffic.replicas]})"

    async def _fix_for(self, failure: Failure, serve: OpenAIServe) -> str:
        """The fix for a server that cannot be probed."""
        if failure.kind in ("unauthorised", "forbidden") and not failure.message.endswith(chat_api.NO_CREDIT):
            if serve.key_from is not None:
                return f"Check the key in {serve.key_from}, which serve.key_from names."
            setting = 'serve = { base_urls = [...], key_from = "OPENAI_API_KEY" }'
            return f"If it needs a key, write {setting} into the annotator file, and: export OPENAI_API_KEY=..."
        offered = await self._offered() if failure.kind == "bad_request" else ()
        if offered and self._model not in offered:
            more = f" and {len(offered) - _MOST_OFFERED} more" if len(offered) > _MOST_OFFERED else ""
            return f"It offers no model {self._model!r}, but: {', '.join(offered[:_MOST_OFFERED])}{more}."
        return FIXES.get(failure.kind, "See the server's log.")

    async def _offered(self) -> tuple[str, ...]:
        """The models that the server lists; empty if it lists none."""
        try:
            models = read_models(await self._get(self.traffic.replicas[0].address + "/models", _OPTIONAL_SECONDS))
        except FaultError:
            return ()
        return tuple(self._key.redact(model)[:_LONGEST_NAME] for model in models)

    async def _post(self, address: str, body: bytes, seconds: float, most: int, *, kept: bool = True) -> bytes:
        """The content of a 200 response to one POST within `seconds`; anything else is a FaultError."""
        return _content(await self._connections.post(address, body, seconds, most=most, kept=kept))

    async def _answered(self, request: Request, bill: Bill) -> Reply:
        """One text per seed, with as few HTTP requests as the server allows."""
        can, question = self._abilities, request.questions[0]
        fields = {
            **chat_api.sampling_fields(request.sampling, can.sampling),
            **chat_api.form_fields(request, structured=can.structured, schema=can.schema),
        }
        alike = request.sampling.temperature == 0
        runs = runs_of(request.seeds, can, self._most, alike=alike)
        until = time.monotonic() + request.seconds
        answers = [self._run(question, fields, run, bill, until) for run in runs]
        draws_of_runs = await asyncio.gather(*answers) if len(answers) > 1 else [await answers[0]]
        draws = [draw for draws_of_run in draws_of_runs for draw in draws_of_run]
        if alike:
            draws = draws * len(request.seeds)
        failures = tuple(failure for *_, failure in draws)
        failed = [failure for failure in failures if failure is not None]
        if len(failed) == len(draws):
            left_open = [failure for failure in failed if failure.kind in LEFT_OPEN]
            return Reply(request.key, failure=(left_open or failed)[0])
        choices = request.questions[0].choices if request.constrained and can.structured else ()
        return Reply(
            request.key,
            texts=tuple(text for text, *_ in draws),
            finish=tuple("failed" if failure else _finish(text, finish, choices) for text, finish, _, failure in draws),
            reasoning=tuple(reasoning for _, _, reasoning, _ in draws),
            failures=failures,
            seeds_honoured=alike or can.seeds == "each" or (can.seeds == "request" and all(n == 1 for _, n in runs)),
        )

    async def _run(
        self, question: Question, fields: Mapping[str, Any], run: tuple[int, int], bill: Bill, until: float
    ) -> list[Draw]:
        """The draws of one HTTP request."""
        (seed, count), can = run, self._abilities
        extra = ({"seed": seed} if can.seeds != "none" else {}) | ({"n": count} if count > 1 else {})
        try:
            sent = await self._billed(question, {**fields, **extra}, bill, until)
        except FaultError as fault:
            if count > self._taken and chat_api.is_about_n(fault.failure):
                return await self._in_halves(question, fields, run, bill, until)
            return [("", "failed", "", fault.failure)] * count
        self._taken = max(self._taken, count)
        answer = sent.answer
        draws: list[Draw] = [
            (text, finish, reasoning, None)
            for text, finish, reasoning in zip(answer.texts, answer.finish, answer.reasoning, strict=True)
        ]
        missing = Failure("empty", f"{counted(len(draws), 'answer')} instead of {count}")
        return [*draws[:count], *[("", "failed", "", missing)] * (count - len(draws))]

    async def _in_halves(
        self, question: Question, fields: Mapping[str, Any], run: tuple[int, int], bill: Bill, until: float
    ) -> list[Draw]:
        """The draws of a request that was refused because of its n; servers state their limit in no other way."""
        (seed, count), half = run, run[1] // 2
        draws = await self._run(question, fields, (seed, half), bill, until)
        draws += await self._run(question, fields, (seed + half, count - half), bill, until)
        if any(failure is None for *_, failure in draws):
            self._most = self._taken
        return draws

    async def _billed(
        self,
        question: Question,
        fields: Mapping[str, Any],
        bill: Bill,
        until: float,
        *,
        answer: str | None = None,
        words: bool = True,
    ) -> Sent[Completion]:
        """One chat completion; its tries are added to the bill even if it fails."""
        seconds = until - time.monotonic()
        try:
            sent = await self.complete(question, fields, seconds=seconds, answer=answer, words=words)
        except FaultError as fault:
            bill.add_fault(fault)
            raise
        bill.add(sent)
        return sent

    async def _scored(self, request: Request, bill: Bill) -> Reply:
        """log P of every choice of every question, each with the time of the request; the server caches their audio."""
        rows = [await self._score_question(q, bill, time.monotonic() + request.seconds) for q in request.questions]
        return Reply(request.key, log_probabilities=tuple(rows))

    async def _score_question(self, question: Question, bill: Bill, until: float) -> tuple[float, ...]:
        tokens: list[tuple[int, ...]] = []
        if self._abilities.score_words:
            tokens = [await self.tokenize(choice) or () for choice in question.choices]
            if any(not answer for answer in tokens):
                raise FaultError("server_error", "the server did not tokenise an answer", paid=False)
        if any(len(answer) > 1 for answer in tokens):
            return await self._score_words(question, tokens, bill, until)
        fields = chat_api.score_fields(self._abilities.sampling)
        if tokens:
            numbers = [answer[0] for answer in tokens]
            fields |= {"logprob_token_ids": numbers, "return_tokens_as_token_ids": True}
            sent = await self._billed(question, fields, bill, until, words=False)
            scores = named_token_scores(sent.answer, numbers)
        else:
            sent = await self._billed(question, fields | {"top_logprobs": 20}, bill, until, words=False)
            scores = first_token_scores(sent.answer, question.choices)
        if scores is None:
            raise FaultError("no_scores", "the server's log-probabilities do not include every choice")
        return scores

    async def _score_words(
        self, question: Question, tokens: Sequence[tuple[int, ...]], bill: Bill, until: float
    ) -> tuple[float, ...]:
        """Scores from prompts that end with a choice and the end of the turn, one request per choice."""
        fields = {"temperature": 1.0, "max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False}
        asked = (self._billed(question, fields, bill, until, answer=choice, words=False) for choice in question.choices)
        results = await asyncio.gather(*asked, return_exceptions=True)  # if one fails, the others still finish
        scores = []
        for sent, answer in zip(results, tokens, strict=True):
            if isinstance(sent, BaseException):
                raise sent
            score = forced_score(sent.answer, answer)
            if score is None:
                raise FaultError("unsupported", "an answer is not at its position in the scored prompt")
            scores.append(score)
        return tuple(scores)


def _content(response: Answered) -> bytes:
    if response.status != 200:
        raise chat_api.fault_of(response.status, response.headers, response.content)
    return response.content


def _finish(text: str, finish: str, choices: tuple[str, ...]) -> str:
    """The finish reason: a complete choice was not cut off, even at max_tokens; an empty text is not an answer."""
    if text in choices and finish != "failed":
        return "stop"
    return "failed" if not text and finish == "stop" else finish
