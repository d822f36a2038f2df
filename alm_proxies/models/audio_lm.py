"""Audio-language models through transformers: load a model, prepare its inputs, score every label, sample answers.

A clip is encoded once. All continuations (label orders, labels, draws) use the same cache: they are concatenated in one
row, and a mask lets each attend only to the shared prefix and itself. So nothing is copied, whatever the number of
labels or draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from alm_proxies.errors import InputError
from alm_proxies.models.adapters import adapter_of, without_adapter
from alm_proxies.models.chat_inputs import ChatInputs, Conversation, config_of
from alm_proxies.models.checkpoints import WEIGHTS_ONLY, device_of, not_loaded
from alm_proxies.models.families import LOADING, bars_on_terminals_only, loader_of, save
from alm_proxies.models.windows import at_its_length


@dataclass(frozen=True, slots=True)
class Asked:
    """One label order: a conversation and the answer of each label."""

    conversation: Conversation
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sampled answer."""

    text: str
    finish: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Draws:
    """A conversation and the seeds of the answers to sample."""

    conversation: Conversation
    seeds: tuple[int, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_tokens: int = 16
    only: tuple[str, ...] = ()
    """The allowed answers, of one token each; empty = any answer."""


class AudioLM:
    """A loaded audio-language model."""

    def __init__(self, model: Any, inputs: ChatInputs, name: str) -> None:
        self.model = model
        self.inputs = inputs
        self.name = name
        self.device = torch.device(model.device)
        self.dtype: torch.dtype = model.dtype
        self._axes = 3 if hasattr(model, "rope_deltas") else None
        self._stops = self._stop_tokens()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
    ) -> Self:
        """Load a checkpoint: a folder or a name on the hub; float32 on a CPU by default.

        A folder with a LoRA adapter is loaded as its base model with the adapter merged into the weights; so is a model
        that has an adapter of its own.
        """
        where = device_of(device)
        kind: Any = dtype if dtype != "auto" or where != "cpu" else "float32"
        adapter = adapter_of(model, revision)
        if adapter is not None and adapter.base != str(model):
            adapter.check_base()
            merged = cls.load(adapter.base, revision=adapter.revision, device=where, dtype=dtype)
            adapter.merge_into(merged.model)
            return cls(merged.model, merged.inputs, str(model))
        inputs = ChatInputs.load(model, revision=revision)
        loader = loader_of(config_of(model, revision))
        asked = {"revision": revision, "dtype": kind, "attn_implementation": "sdpa", **WEIGHTS_ONLY}
        try:
            with (
                bars_on_terminals_only(),
                without_adapter(model, revision) if adapter else nullcontext(model) as source,
            ):
                loaded, report = loader.from_pretrained(str(source), output_loading_info=True, **asked)
        except LOADING as error:
            raise not_loaded(model, error) from error
        if lacking := sorted(report["missing_keys"]):
            raise not_loaded(model, ValueError(f"weights are missing ({len(lacking)}), such as {lacking[0]}"))
        if adapter is not None:
            adapter.merge_into(loaded)
            loaded.config.has_lora_adapter = False
        return cls(loaded.to(where).eval(), inputs, str(model))

    @property
    def weights(self) -> int:
        """The number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())

    def save(self, folder: str | Path) -> None:
        """Save the checkpoint and its processor under the weight names of published checkpoints."""
        save(self.model, folder)
        self.inputs.processor.save_pretrained(folder)

    @torch.inference_mode()
    def score(self, requests: Sequence[Sequence[Asked]]) -> list[NDArray[np.float64]]:
        """Exact log P(choice | conversation) for every request as (orders, choices), in nats.

        The orders of one request must be equal up to and including the audio. One-token choices are scored alone; if
        any choice of a request has several tokens, all are scored including the end of the turn.
        """
        shared = [self._shared(asked) for asked in requests]
        heads = [beginning for beginning, _ in shared]
        cache, mask = self._begin([asked[0].conversation for asked in requests], heads)
        packs = [self._pack(asked, tails) for asked, (_, tails) in zip(requests, shared, strict=True)]
        width = max(len(pack.tokens) for pack in packs)
        ids = torch.full((len(packs), width), self.inputs.end_of_turn)
        places = torch.zeros((len(packs), width), dtype=torch.long)
        sees = torch.eye(width, dtype=torch.bool).expand(len(packs), -1, -1).clone()
        reads = [sorted({read for choice in pack.reads for read, _ in choice}) for pack in packs]
        at = torch.zeros((len(packs), max(map(len, reads))), dtype=torch.long)
        lengths = mask.sum(1).cpu()
        for row, pack in enumerate(packs):
            count = len(pack.tokens)
            ids[row, :count] = torch.tensor(pack.tokens)
            places[row, :count] = torch.tensor(pack.places) + lengths[row]
            sees[row, :count, :count] = torch.from_numpy(pack.sees)
            at[row, : len(reads[row])] = torch.tensor(reads[row])
        before = mask.bool()[:, None, :].expand(-1, width, -1)
        seen = torch.cat([before, sees.to(self.device)], -1)
        logits = self._continue(ids, places, seen, cache, at)
        wanted = [
            (row, reads[row].index(place), token)
            for row, pack in enumerate(packs)
            for choice in pack.reads
            for place, token in choice
        ]
        where = torch.tensor(wanted, device=self.device).T
        log_probabilities = iter(logits.float().log_softmax(-1)[where[0], where[1], where[2]].double().tolist())
        return [
            np.array([sum(next(log_probabilities) for _ in choice) for choice in pack.reads]).reshape(len(asked), -1)
            for pack, asked in zip(packs, requests, strict=True)
        ]

    @torch.inference_mode()
    def draw(self, requests: Sequence[Draws]) -> list[list[Drawn]]:
        """Independent answers; each depends only on its own seed (up to rounding, not on the rest of the batch)."""
        inputs = self.tensors([request.conversation for request in requests])
        cache, mask = DynamicCache(config=self.model.config.get_text_config()), inputs["attention_mask"]
        rows, count = len(requests), max(len(request.seeds) for request in requests)
        last = torch.full((rows, 1), mask.shape[1] - 1)
        logits = self._forward(inputs, cache, last).expand(-1, count, -1)
        lengths = mask.sum(1)
        answers: list[list[list[int]]] = [[[] for _ in request.seeds] for request in requests]
        finish = [["length"] * len(request.seeds) for request in requests]
        open_ = [[request.max_tokens > 0] * len(request.seeds) for request in requests]
        generators = [[np.random.Generator(np.random.PCG64(seed)) for seed in request.seeds] for request in requests]
        only = [[self._one_token(choice) for choice in request.only] for request in requests]
        sees = mask.bool()[:, None, :].expand(-1, count, -1)
        itself = torch.eye(count, dtype=torch.bool, device=self.device).expand(rows, -1, -1)
        for step in range(max(request.max_tokens for request in requests)):
            taken = torch.full((rows, count), self.inputs.end_of_turn)
            for row, request in enumerate(requests):
                live = [draw for draw in range(len(request.seeds)) if open_[row][draw]]
                if not live:
                    continue
                uniform = [generators[row][draw].random() for draw in live]
                prompt = inputs["input_ids"][row][mask[row].bool()]
                context = [torch.cat([prompt, prompt.new_tensor(answers[row][draw])]) for draw in live]
                tokens = _pick(logits[row, live].float(), uniform, request, context, only[row])
                for draw, token in zip(live, tokens, strict=True):
                    answers[row][draw].append(token)
                    taken[row, draw] = token
                    stopped = token in self._stops or bool(only[row])
                    open_[row][draw] = not stopped and step + 1 < request.max_tokens
                    finish[row][draw] = "stop" if stopped else "length"
            if not any(any(row) for row in open_):
                break
            places = (lengths + step)[:, None].expand(-1, count)
            sees = torch.cat([sees, itself], -1)
            at = torch.arange(count).expand(rows, -1)
            logits = self._continue(taken, places, sees, cache, at)
        return [
            [
                Drawn(self.inputs.tokenizer.decode(tokens, skip_special_tokens=True), end, len(tokens))
                for tokens, end in zip(answers[row], finish[row], strict=True)
            ]
            for row in range(rows)
        ]

    def _begin(self, conversations: list[Conversation], tails: list[list[int]]) -> tuple[Any, Tensor]:
        """Run the prefix shared by the orders of each request and keep the cache."""
        inputs = self.tensors(conversations)
        rows = [ids[keep.bool()] for ids, keep in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
        for row, tail in zip(rows, tails, strict=True):
            if row[len(row) - len(tail) :].tolist() != tail:
                raise InputError(f"{self.name}: the prompt has different tokens with and without its audio")
        rows = [row[: len(row) - len(tail)] for row, tail in zip(rows, tails, strict=True)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.inputs.tokenizer.pad_token_id, device=self.device)
        mask = torch.zeros((len(rows), width), dtype=torch.long, device=self.device)
        for number, row in enumerate(rows):
            ids[number, width - len(row) :] = row
            mask[number, width - len(row) :] = 1
        cache = DynamicCache(config=self.model.config.get_text_config())
        last = torch.full((len(rows), 1), width - 1)
        self._forward({**inputs, "input_ids": ids, "attention_mask": mask}, cache, last)
        return cache, mask

    def _shared(self, asked: Sequence[Asked]) -> tuple[list[int], list[list[int]]]:
        """The first order's tail, and every order's tail: tokens after the longest common prefix."""
        tokens = [self.inputs.tokens(self.inputs.text(order.conversation)) for order in asked]
        shortest = min(map(len, tokens)) - 1
        shared = next(
            (place for place in range(shortest) if len({order[place] for order in tokens}) > 1),
            shortest,
        )
        tails = [order[shared:] for order in tokens]
        if any(self.inputs.audio_token_id in tail for tail in tails):
            raise InputError("the audio must come before everything that varies between label orders")
        return tails[0], tails

    def _pack(self, asked: Sequence[Asked], tails: list[list[int]]) -> _Pack:
        answers = [[self.inputs.answer(choice) for choice in order.choices] for order in asked]
        if any(not answer for order in answers for answer in order):
            raise InputError("an empty answer cannot be scored")
        if any(len(answer) > 1 for order in answers for answer in order):
            answers = [[(*answer, self.inputs.end_of_turn) for answer in order] for order in answers]
        return _Pack.of(tails, answers)

    def _one_token(self, choice: str) -> int:
        tokens = self.inputs.answer(choice)
        if len(tokens) != 1:
            raise InputError(f"{choice!r} has {len(tokens)} tokens: only answers of one token can be enforced")
        return tokens[0]

    def _continue(self, ids: Tensor, places: Tensor, sees: Tensor, cache: Any, at: Tensor) -> Tensor:
        """Run tokens under the attention mask `sees` (rows, tokens, past + tokens); returns the logits at `at`."""
        bias = torch.zeros(sees.shape, dtype=self.dtype, device=self.device)
        bias.masked_fill_(~sees.to(self.device), torch.finfo(self.dtype).min)
        inputs = {"input_ids": ids.to(self.device), "attention_mask": bias[:, None]}
        return self._forward(inputs, cache, at, places.to(self.device))

    def _forward(self, inputs: dict[str, Tensor], cache: Any, at: Tensor, places: Tensor | None = None) -> Tensor:
        if places is None:
            places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        places = self.on_axes(places)
        with _only_at(self.model, at.to(self.device)), at_its_length(self.model, inputs):
            out = self.model(**inputs, position_ids=places, past_key_values=cache, use_cache=True)
        logits: Tensor = out.logits
        return logits

    def on_axes(self, places: Tensor) -> Tensor:
        """Positions of tokens in the form that the model takes; some have one for each of three axes."""
        return places if self._axes is None else places.expand(self._axes, -1, -1)

    def tensors(self, conversations: list[Conversation]) -> dict[str, Tensor]:
        """The model's inputs for conversations, on its device."""
        inputs = self.inputs.batch(conversations, device=str(self.device), padded=False)
        return {
            name: value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }

    def _stop_tokens(self) -> frozenset[int]:
        stops = {self.inputs.end_of_turn, self.inputs.tokenizer.eos_token_id}
        for config in (self.model.generation_config, self.model.config.get_text_config()):
            stop = getattr(config, "eos_token_id", None)
            stops.update(stop if isinstance(stop, list) else [stop])
        return frozenset(int(stop) for stop in stops if stop is not None)


@dataclass(frozen=True, slots=True)
class _Pack:
    """Concatenated continuations of one cache: tokens, their positions, the attention mask, and the outputs to read."""

    tokens: list[int]
    places: list[int]
    sees: NDArray[np.bool_]
    reads: list[list[tuple[int, int]]]
    """For each order and choice: (index of the output, id of the next token) for each of its tokens."""

    @classmethod
    def of(cls, tails: list[list[int]], answers: list[list[tuple[int, ...]]]) -> _Pack:
        tokens: list[int] = []
        places: list[int] = []
        parents: list[int] = []
        reads: list[list[tuple[int, int]]] = []

        def add(token: int, parent: int) -> int:
            tokens.append(token)
            places.append(places[parent] + 1 if parent >= 0 else 0)
            parents.append(parent)
            return len(tokens) - 1

        for tail, choices in zip(tails, answers, strict=True):
            end = -1
            for token in tail:
                end = add(token, end)
            for choice in choices:
                parent, read = end, []
                for position, token in enumerate(choice):
                    read.append((parent, token))
                    if position + 1 < len(choice):
                        parent = add(token, parent)
                reads.append(read)
        sees = np.eye(len(tokens), dtype=bool)
        for token, parent in enumerate(parents):
            if parent >= 0:
                sees[token] |= sees[parent]
        return cls(tokens, places, sees, reads)


@contextmanager
def _only_at(model: Any, at: Tensor) -> Iterator[None]:
    """A context in which the output layer runs only at the positions `at` (rows, wanted), to save memory."""
    rows = torch.arange(len(at), device=at.device)[:, None]

    def choose(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][rows, at], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()


def _pick(logits: Tensor, uniform: list[float], request: Draws, context: list[Tensor], only: list[int]) -> list[int]:
    """Sample one token per row by inverting the distribution function at `uniform`."""
    if request.repetition_penalty != 1.0:
        logits = logits.clone()
        for row, seen in zip(logits, context, strict=True):
            values = row[seen]
            row[seen] = torch.where(
                values < 0, values * request.repetition_penalty, values / request.repetition_penalty
            )
    if only:
        allowed = torch.full_like(logits, float("-inf"))
        allowed[:, only] = logits[:, only]
        logits = allowed
    if request.temperature == 0:
        return [int(token) for token in logits.argmax(-1)]
    logits = _narrow(logits / request.temperature, request.top_k, request.top_p)
    total = logits.double().softmax(-1).cumsum(-1)
    aim = torch.tensor(uniform, dtype=torch.float64, device=total.device)[:, None] * total[:, -1:]
    return [int(token) for token in torch.searchsorted(total, aim, right=True).clamp(max=total.shape[1] - 1)[:, 0]]


def _narrow(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Keep the top_k likeliest tokens, then the fewest of them with top_p of the probability."""
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(drop, float("-inf"))
    return logits
