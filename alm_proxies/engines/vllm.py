"""The engine vLLM in this process: own prompts, explicit sampling settings, one encoding of an utterance's audio."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from alm_proxies.engines.engine import Abilities, Failure, Question, Reply, Request, Trouble, consecutive_runs
from alm_proxies.engines.registry import VllmServe
from alm_proxies.engines.turns import conversation_of
from alm_proxies.errors import EngineError, InputError, need
from alm_proxies.models.adapters import Adapter, adapter_of, without_adapter
from alm_proxies.models.chat_inputs import ChatInputs, Conversation, clips_of
from alm_proxies.models.checkpoints import has_head
from alm_proxies.models.families import WITHOUT_VLLM_ADAPTERS, notes_on

_ON_A_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Vllm:
    """A model in vLLM's own asynchronous engine; the same prompts and tokens as with transformers."""

    def __init__(
        self,
        engine: Any,
        inputs: ChatInputs,
        abilities: Abilities,
        adapter: Adapter | None = None,
        files: TemporaryDirectory[str] | None = None,
    ) -> None:
        self._engine = engine
        self._inputs = inputs
        self._abilities = abilities
        self._number = 0
        self._refusals = _refusals()
        self._adapter = _request_of(adapter)
        self._lengths = _OneLength() if inputs.equal_lengths_only else None
        self._files = files

    @classmethod
    async def open(cls, model: str, serve: VllmServe, *, revision: str | None = None) -> Vllm:
        """Start the engine; on a CPU with settings that are tested there."""
        if has_head(model):
            fix = 'Write engine = "transformers", or predict with its folder.'
            raise EngineError("this model has a head of its own, which vLLM does not run", where=model, fix=fix)
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        need("vllm", "vllm")
        adapter, base = adapter_of(model, revision), model
        if adapter is not None and adapter.base != model:
            adapter.check_base()
            base, revision = adapter.base, adapter.revision
            if adapter_of(base, revision) is not None:
                fix = "Train it with merge = true, or use the engine transformers."
                raise EngineError(f"vLLM takes one adapter, and {base} has one of its own", where=model, fix=fix)
        inputs = ChatInputs.load(base, revision=revision)
        if adapter is not None and inputs.family in WITHOUT_VLLM_ADAPTERS:
            fix = "Train it with merge = true, or use the engine transformers."
            raise EngineError(f"vLLM takes no LoRA adapter for {inputs.family}", where=model, fix=fix)
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        settings: dict[str, Any] = {
            "model": base,
            "revision": revision,
            "trust_remote_code": False,
            "dtype": serve.dtype,
            "tensor_parallel_size": serve.tensor_parallel,
            "gpu_memory_utilization": serve.memory_share,
            "max_model_len": serve.max_length,
            "max_num_seqs": serve.in_flight,
            "enable_prefix_caching": True,
            "limit_mm_per_prompt": {"audio": 2},
            "max_logprobs": -1,
            "generation_config": "vllm",
            "disable_log_stats": True,
            "seed": 0,
        }
        if adapter is not None:
            # If it wraps an output layer that the adapter does not change, vLLM's CPU engine cannot score a prompt.
            named = {"lora_target_modules": adapter.endings()}
            settings |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank_for(adapter), **named}
        if current_platform.device_type == "cpu":
            for name, value in _ON_A_CPU.items():
                os.environ.setdefault(name, value)
            dtype = "float32" if serve.dtype == "auto" else serve.dtype
            # Seeded draws with chunked prefill stop vLLM's CPU engine; larger blocks never cache a short prompt.
            settings |= {
                "dtype": dtype,
                "enforce_eager": True,
                "block_size": 32,
                "enable_chunked_prefill": False,
                "gpu_memory_utilization": None,
            }
        files = without_adapter(model, revision) if adapter is not None and adapter.base == model else None
        if files is not None:
            settings |= {"model": files.name, "revision": None}
        settings = {name: value for name, value in settings.items() if value is not None}
        try:
            engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))
        except (RuntimeError, ValueError, OSError) as error:
            if files is not None:
                files.cleanup()
            raise EngineError(
                f"vLLM did not start ({str(error).splitlines()[0]})", where=model, fix="See its own log above."
            ) from error
        abilities = Abilities(
            engine="vllm",
            model=model,
            local=True,
            seeds="each",
            log_probabilities=True,
            score=True,
            score_words=True,
            structured=True,
            schema=True,
            max_audio_seconds=inputs.max_audio_seconds,
            rate=inputs.rate,
            in_flight=serve.in_flight,
            notes=notes_on(inputs.family),
        )
        return cls(engine, inputs, abilities, adapter, files)

    @property
    def abilities(self) -> Abilities:
        """The abilities: all of them."""
        return self._abilities

    async def ask(self, request: Request) -> Reply:
        """The reply to a request; vLLM batches concurrent requests."""
        from vllm.v1.engine.exceptions import EngineDeadError

        started = time.monotonic()
        lengths = tuple(len(clip.samples) for clip in request.audio)
        try:
            async with self._lengths.hold(lengths) if self._lengths else nullcontext():
                async with asyncio.timeout(request.seconds):
                    reply = await (self._scored(request) if request.elicit == "score" else self._answered(request))
        except InputError as error:
            kind: Trouble = "too_long" if self._too_long(request) else "bad_request"
            reply = Reply(request.key, failure=Failure(kind, str(error)))
        except TimeoutError:
            reply = Reply(request.key, failure=Failure("timeout", f"no answer within {request.seconds:.0f} s"))
        except EngineDeadError:
            reply = Reply(request.key, failure=Failure("engine_died", "vLLM's engine process has died"))
        except self._refusals as error:
            too_long = getattr(error, "parameter", None) == "input_tokens" or "maximum model length" in str(error)
            kind = "too_long" if too_long else "bad_request"
            reply = Reply(request.key, failure=Failure(kind, str(error).splitlines()[0][:300]))
        seconds = sum(clip.seconds for clip in request.audio)
        return replace(reply, latency=time.monotonic() - started, audio_seconds=seconds, model=self._abilities.model)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...]:
        """The number of tokens of each answer."""
        return tuple(len(self._inputs.answer(text)) for text in texts)

    async def close(self) -> None:
        """Stop vLLM's processes."""
        engine, self._engine = self._engine, None
        engine.shutdown()
        engine.shutdown = _nothing  # its destructor calls it again while the interpreter shuts down
        if self._files is not None:
            self._files.cleanup()

    def _too_long(self, request: Request) -> bool:
        longest = self._inputs.max_audio_seconds
        return longest is not None and any(clip.seconds > longest for clip in request.audio)

    def _prompt(self, conversation: Conversation, answer: Iterable[int] = ()) -> dict[str, Any]:
        """Tokens and clips of a prompt; the same tokens as for transformers."""
        clips = clips_of(conversation)
        longest = self._inputs.max_audio_seconds
        if longest is not None and any(len(clip) > longest * self._inputs.rate for clip in clips):
            raise InputError(f"a clip is longer than the {longest:g} s that this model takes")
        tokens = [*self._inputs.tokens(self._inputs.text(conversation)), *answer]
        audio = [(clip, float(self._inputs.rate)) for clip in clips]
        return (
            {"prompt_token_ids": tokens, "multi_modal_data": {"audio": audio}}
            if clips
            else {"prompt_token_ids": tokens}
        )

    async def _generate(self, prompt: dict[str, Any], parameters: Any) -> Any:
        self._number += 1
        last = None
        named = {"request_id": f"alm-{self._number}", "lora_request": self._adapter}
        async for output in self._engine.generate(prompt, parameters, **named):
            last = output
        return last

    async def _answered(self, request: Request) -> Reply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        question, sampling = request.questions[0], request.sampling
        prompt = self._prompt(conversation_of(question, self._inputs.rate))
        form: dict[str, Any] = {}
        codes: list[int] = []
        if request.schema is not None:
            form["structured_outputs"] = StructuredOutputsParams(json=dict(request.schema))
        elif request.constrained:
            answers = [self._inputs.answer(choice) for choice in question.choices]
            if all(len(answer) == 1 for answer in answers):
                codes = [answer[0] for answer in answers]
                form["allowed_token_ids"] = codes
            else:
                form["structured_outputs"] = StructuredOutputsParams(choice=list(question.choices))
        alike = sampling.temperature == 0
        runs = [(request.seeds[0], 1)] if alike else consecutive_runs(request.seeds)
        outputs = await asyncio.gather(
            *(
                self._generate(
                    prompt,
                    SamplingParams(
                        n=count,
                        seed=None if alike else seed,
                        temperature=sampling.temperature,
                        top_p=sampling.top_p,
                        top_k=sampling.top_k,
                        repetition_penalty=sampling.repetition_penalty,
                        max_tokens=1 if codes else sampling.max_tokens,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                        **form,
                    ),
                )
                for seed, count in runs
            )
        )
        drawn = [answer for output in outputs for answer in sorted(output.outputs, key=lambda answer: answer.index)]
        if alike:
            drawn = drawn * len(request.seeds)
        return Reply(
            request.key,
            texts=tuple(answer.text for answer in drawn),
            finish=tuple("stop" if codes else str(answer.finish_reason) for answer in drawn),
            reasoning=("",) * len(drawn),
            tokens_in=sum(len(output.prompt_token_ids) for output in outputs),
            tokens_out=sum(len(answer.token_ids) for output in outputs for answer in output.outputs),
            seeds_honoured=True,
        )

    async def _scored(self, request: Request) -> Reply:
        rows = await asyncio.gather(*(self._score_question(question) for question in request.questions))
        return Reply(
            request.key,
            log_probabilities=tuple(scores for scores, _ in rows),
            tokens_in=sum(tokens for _, tokens in rows),
        )

    async def _score_question(self, question: Question) -> tuple[tuple[float, ...], int]:
        """One-token choices from one prompt; otherwise every choice and the end of the turn as part of the prompt."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        conversation = conversation_of(question, self._inputs.rate)
        answers = [self._inputs.answer(choice) for choice in question.choices]
        final = {"temperature": 1.0, "max_tokens": 1, "output_kind": RequestOutputKind.FINAL_ONLY}
        if all(len(answer) == 1 for answer in answers):
            tokens = [answer[0] for answer in answers]
            output = await self._generate(
                self._prompt(conversation), SamplingParams(**final, logprob_token_ids=tokens, seed=0)
            )
            scores_of = output.outputs[0].logprobs[0]
            return tuple(scores_of[token].logprob for token in tokens), len(output.prompt_token_ids)
        ended = [(*answer, self._inputs.end_of_turn) for answer in answers]
        outputs = await asyncio.gather(
            *(
                self._generate(self._prompt(conversation, answer), SamplingParams(**final, prompt_logprobs=0, seed=0))
                for answer in ended
            )
        )
        scores = []
        for answer, output in zip(ended, outputs, strict=True):
            positions = output.prompt_logprobs[-len(answer) :]
            scores.append(sum(by_token[token].logprob for by_token, token in zip(positions, answer, strict=True)))
        return tuple(scores), sum(len(output.prompt_token_ids) for output in outputs)


class _OneLength:
    """Allows concurrent requests only with clips of equal length; the others wait.

    vLLM pads clips that are encoded together to the longest, and some models do not mask the padding.
    """

    def __init__(self) -> None:
        self._lengths: tuple[int, ...] = ()
        self._inside = 0
        self._left = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, lengths: tuple[int, ...]) -> AsyncIterator[None]:
        """A context in which only requests with clips of these lengths run."""
        async with self._left:
            await self._left.wait_for(lambda: not self._inside or self._lengths == lengths)
            self._lengths = lengths
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            async with self._left:
                self._left.notify_all()


def _request_of(adapter: Adapter | None) -> Any:
    """The request to vLLM to use an adapter."""
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(adapter.folder.resolve()))


def _rank_for(adapter: Adapter) -> int:
    """The lowest limit of ranks in vLLM that is enough for the adapter."""
    limits = [limit for limit in _RANKS if limit >= adapter.rank]
    if not limits:
        fix = "Train it with merge = true, or use the engine transformers."
        where = str(adapter.folder)
        raise EngineError(f"vLLM takes no adapter of a rank above {_RANKS[-1]}", where=where, fix=fix)
    return limits[0]


def _nothing() -> None:
    """Do nothing."""


def _refusals() -> tuple[type[Exception], ...]:
    """The exceptions of vLLM for a refused request: ValueError, and its own error in newer versions."""
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))
