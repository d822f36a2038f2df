"""Training of the embedded annotator: the encoder first, with a teacher's frames as targets, then the whole model.

First part: the encoder alone, on windows of two seconds, predicts the label shares from its pooled frames and the
teacher's components at every frame. Second part: the whole model answers the prompt about whole clips. Real and
synthetic clips stand in every batch. Muon moves the hidden matrices, AdamW the rest.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_effects import changed
from embedded_speech import BANDS, BINS, COMPONENTS, FLOOR, LABELS, Array, Cells, Floats
from embedded_workers import average_gradients, rank
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_proxies.models import small_qwen2_audio
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.windows import short_windows
from alm_proxies.seeds import generator
from alm_proxies.training.alm_batches import audio_tokens
from alm_proxies.training.losses import answer_loss
from alm_proxies.training.muon import Muon

ENCODER_DONE = "the encoder is trained"
_ALIKE = 8  # batches that are drawn together and sorted by length


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how it is trained."""

    encoder_steps: int = 2600
    steps: int = 500
    workers: int = 2
    """Processes of one thread each; a step is taken on the mean of their gradients."""
    real: int = 24
    """Real clips of each worker in a step."""
    synthetic: int = 8
    """Synthetic clips of each worker in a step."""
    window: int = 200
    """Mel frames of a clip in the first part."""
    rate: float = 3e-3
    second_rate: float = 1.5e-3
    decay: float = 0.05
    dropout: float = 0.1
    frames: float = 0.7
    """Weight of the error of the teacher's components."""
    teacher: float = 0.4
    """Share of the teacher's distribution in the target of a real clip; the rest is the share of human votes."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Clips to learn from: their cells, target shares, and the rows that count."""

    cells: Cells
    shares: Array
    rows: NDArray[np.int64]
    real: bool
    often: float = 1.0
    """How often this version of the clips is heard; of all versions these add up to one."""


@dataclass(slots=True, eq=False)
class Student:
    """The model that is trained, with the heads that only training needs."""

    lm: AudioLM
    prompts: tuple[tuple[int, ...], ...]
    """The prompt's tokens in every order of the labels, with one audio token."""
    answers: tuple[int, ...]
    to_components: nn.Linear = field(init=False)
    to_labels: nn.Linear = field(init=False)

    def __post_init__(self) -> None:
        tower = self.lm.model.model.audio_tower
        width = tower.config.d_model
        torch.manual_seed(0)
        self.to_components = nn.Linear(width, COMPONENTS)
        self.to_labels = nn.Linear(2 * width, len(LABELS))
        nn.init.zeros_(self.to_labels.weight)
        with torch.no_grad():
            tower.conv1.weight[:, BANDS:] = 0.0

    @property
    def tower(self) -> Any:
        """The audio encoder."""
        return self.lm.model.model.audio_tower

    def pooled(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Label logits from the mean and the deviation of the encoder's output."""
        weight = torch.ones(hidden.shape[:2]) if mask is None else mask.float()
        weight = (weight / weight.sum(1, keepdim=True))[:, :, None]
        mean = (hidden * weight).sum(1)
        spread = ((hidden - mean[:, None]).square() * weight).sum(1).clamp_min(1e-8).sqrt()
        logits: Tensor = self.to_labels(torch.cat([mean, spread], 1))
        return logits


def learn(student: Student, real: list[Part], synthetic: Part, plan: Plan, folder: Path) -> Iterator[str]:
    """Train it; yields a line from time to time, and one after each part. Killed, it goes on where it was kept last."""
    torch.manual_seed(plan.seed + rank())
    config = student.tower.config
    for module in student.tower.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = plan.dropout
    yield from _part(student, real, synthetic, plan, folder / "encoder.pt", words=False)
    yield ENCODER_DONE
    yield from _part(student, real, synthetic, plan, folder / "words.pt", words=True)
    for module in student.tower.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = config.dropout
    student.lm.model.eval()
    if float(student.tower.conv1.weight.detach()[:, BANDS:].abs().max()) > 0:
        raise AssertionError("a band above the copy's bandwidth has a weight")


def _part(student: Student, real: list[Part], synthetic: Part, plan: Plan, kept: Path, *, words: bool) -> Iterator[str]:
    model = student.lm.model
    steps = plan.steps if words else plan.encoder_steps
    optimizers = _optimizers(student, plan, words=words)
    every = [weight for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]]
    warm = max(1, steps // 20)
    streams = [_rows(real, plan.real, plan.seed, words), _rows([synthetic], plan.synthetic, plan.seed, words)]
    totals: list[list[float]] = []
    longest = 2 * len(student.tower.embed_positions.weight)
    first = _restore(student, optimizers, kept)
    for stream in streams:
        deque(islice(stream, first), maxlen=0)
    model.train()
    started = time.monotonic()
    frames: list[Tensor] = []
    hook = student.tower.layers[-1].register_forward_hook(lambda _, __, out: frames.append(_first(out)))
    try:
        with small_qwen2_audio.only_the_end(model, 2), short_windows(model) as hearing:
            for step in range(first, steps):
                for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                    group["lr"] = group["highest"] * _rate(step, warm, steps)
                rng = generator(plan.seed, "embedded step", words, step, rank())
                losses = []
                for stream in streams:
                    batch = _batch(next(stream), plan, rng, whole=words)
                    frames.clear()
                    hearing.set(batch.mel.shape[-1])
                    labels = _with_words(student, batch, rng) if words else _alone(student, batch)
                    error = _frame_loss(student.to_components(frames[-1]), batch)
                    share = len(batch.lengths) / (plan.real + plan.synthetic)
                    (share * (labels + plan.frames * error)).backward()
                    losses += [float(labels.detach()), float(error.detach())]
                average_gradients(every)
                nn.utils.clip_grad_norm_(every, 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                totals.append(losses)
                if (step + 1) % 50 == 0 or step + 1 == steps:
                    hearing.set(longest)
                    _keep(student, optimizers, step + 1, kept)
                    shown = " ".join(f"{value:.3f}" for value in np.mean(totals[-50:], axis=0))
                    yield (
                        f"{'whole model' if words else 'encoder'} {step + 1}/{steps}: real, frames, synthetic, frames "
                        f"{shown}; {time.monotonic() - started:.0f} s, {time.process_time():.0f} s of processor time"
                    )
    finally:
        hook.remove()


def _rate(step: int, warm: int, steps: int) -> float:
    """Share of the highest learning rate: a straight rise, then half a cosine."""
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _optimizers(student: Student, plan: Plan, *, words: bool) -> list[torch.optim.Optimizer]:
    model = student.lm.model
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    source = model if words else student.tower
    hidden, rest = [], [*student.to_components.parameters(), *student.to_labels.parameters()]
    for weight in filter(lambda weight: weight.requires_grad, source.parameters()):
        by_muon = weight.ndim > 1 and all(weight is not end for end in ends)
        (hidden if by_muon else rest).append(weight)
    rate = plan.second_rate if words else plan.rate
    groups = [
        {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": plan.decay},
        {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98)),
        Muon(hidden, lr=rate, weight_decay=plan.decay),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["highest"] = group["lr"]
    return optimizers


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Augmented clips, padded, with their targets."""

    mel: Tensor
    lengths: tuple[int, ...]
    shares: Tensor
    taught: Tensor
    """The teacher's components; NaN where there are none."""


Member = tuple[Part, int]


def _rows(parts: list[Part], size: int, seed: int, words: bool) -> Iterator[list[Member]]:
    """Endless batches of clips of similar length; each clip once in an epoch, in one of its versions."""
    epoch, often = 0, [part.often for part in parts]
    while True:
        rng = generator(seed, "embedded order", words, parts[0].real, epoch, rank())
        order = rng.permutation(parts[0].rows)
        lengths = np.diff(parts[0].cells.starts)
        batches = []
        for start in range(0, len(order) - size + 1, _ALIKE * size):
            pool = order[start : start + _ALIKE * size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[first : first + size] for first in range(0, len(pool) - size + 1, size)]
        for place in rng.permutation(len(batches)):
            yield [(parts[int(rng.choice(len(parts), p=often))], int(row)) for row in batches[int(place)]]
        epoch += 1


def _batch(members: list[Member], plan: Plan, rng: np.random.Generator, *, whole: bool) -> Batch:
    clips, taught = [], []
    for part, row in members:
        mel, states = changed(part.cells.clip(row), part.cells.taught(row), rng, real=part.real)
        if not whole and len(mel) > plan.window:
            start = 2 * int(rng.integers((len(mel) - plan.window) // 2 + 1))
            mel = mel[start : start + plan.window]
            states = None if states is None else states[start // 2 : (start + plan.window) // 2]
        clips.append(mel)
        taught.append(states)
    cells, lengths = padded(clips)
    size = cells.shape[-1]
    frames = np.full((len(clips), size // 2, COMPONENTS), np.nan, dtype=np.float32)
    for place, (states, length) in enumerate(zip(taught, lengths, strict=True)):
        if states is not None:
            count = min(len(states), (length + 1) // 2)
            frames[place, :count] = states[:count]
    return Batch(
        cells,
        lengths,
        torch.from_numpy(np.stack([part.shares[row] for part, row in members])).float(),
        torch.from_numpy(frames),
    )


def _alone(student: Student, batch: Batch) -> Tensor:
    """The loss of the encoder's own label head."""
    tokens = torch.tensor([audio_tokens(length) for length in batch.lengths])
    count = batch.mel.shape[-1] // 2
    within = torch.arange(count)[None] < torch.tensor([(length - 1) // 2 + 1 for length in batch.lengths])[:, None]
    bias = None
    if not bool(within.all()):
        bias = torch.zeros(within.shape).masked_fill_(~within, torch.finfo(torch.float32).min)[:, None, None, :]
        bias = bias.expand(-1, 1, count, -1)
    hidden = student.tower(batch.mel, attention_mask=bias).last_hidden_state
    logits = student.pooled(hidden, torch.arange(hidden.shape[1])[None] < tokens[:, None])
    return -(batch.shares * logits.log_softmax(-1)).sum(-1).mean()


def _with_words(student: Student, batch: Batch, rng: np.random.Generator) -> Tensor:
    """The loss of the answer to the prompt, in a random order of the labels."""
    prompt = student.prompts[int(rng.integers(len(student.prompts)))]
    inputs = student_inputs(student, batch.mel, batch.lengths, prompt, batch.shares.numpy(), rng)
    logits = student.lm.model(**inputs, use_cache=False).logits
    weights = torch.ones(len(batch.lengths))
    return answer_loss(logits, batch.shares, student.answers, student.lm.inputs.end_of_turn, weights)


@torch.inference_mode()
def asked(student: Student, cells: Cells, rows: NDArray[np.int64], size: int = 16) -> tuple[Array, Array]:
    """What the model answers about whole clips (first order of the labels), and what the encoder's own head says."""
    model = student.lm.model
    model.eval()
    answered, headed = np.zeros((len(rows), len(LABELS))), np.zeros((len(rows), len(LABELS)))
    order = np.argsort(np.diff(cells.starts)[rows], kind="stable")
    uniform = np.full((size, len(LABELS)), 1 / len(LABELS))
    hidden: list[Tensor] = []
    hook = student.tower.register_forward_hook(lambda _, __, out: hidden.append(out.last_hidden_state))
    with small_qwen2_audio.only_the_end(model, 2), short_windows(model) as hearing:
        for start in range(0, len(rows), size):
            places = order[start : start + size]
            mel, lengths = padded([cells.clip(int(row)) for row in rows[places]])
            hearing.set(mel.shape[-1])
            rng = generator(0, "embedded asked", start)
            inputs = student_inputs(student, mel, lengths, student.prompts[0], uniform[: len(places)], rng)
            hidden.clear()
            logits = model(**inputs, use_cache=False).logits[:, 0, list(student.answers)].double()
            answered[places] = logits.softmax(-1).numpy()
            tokens = torch.tensor([audio_tokens(length) for length in lengths])
            mask = torch.arange(hidden[-1].shape[1])[None] < tokens[:, None]
            headed[places] = student.pooled(hidden[-1], mask).double().softmax(-1).numpy()
    hook.remove()
    return answered, headed


def padded(clips: list[Floats]) -> tuple[Tensor, tuple[int, ...]]:
    """Cells of clips as one tensor (clips, bins, frames), padded as the extractor pads; and their lengths."""
    size = -(-max(map(len, clips)) // 4) * 4
    cells = np.zeros((len(clips), size, BINS), dtype=np.float32)
    for place, mel in enumerate(clips):
        cells[place, : len(mel), :BANDS] = mel
        cells[place, len(mel) :, :BANDS] = mel.max() - FLOOR
    return torch.from_numpy(cells).transpose(1, 2).contiguous(), tuple(map(len, clips))


def student_inputs(
    student: Student,
    mel: Tensor,
    lengths: tuple[int, ...],
    prompt: tuple[int, ...],
    shares: Array | Floats,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The model's inputs: the prompt with an audio token for every 40 ms, and an answer drawn from the shares."""
    audio, pad = student.lm.inputs.audio_token_id, student.lm.inputs.tokenizer.pad_token_id
    place = prompt.index(audio)
    texts = []
    for length, row in zip(lengths, shares, strict=True):
        drawn = int((rng.random() > np.cumsum(row)).sum().clip(0, len(row) - 1))
        heard = [audio] * audio_tokens(length)
        texts.append([*prompt[:place], *heard, *prompt[place + 1 :], student.answers[drawn]])
    width = max(map(len, texts))
    ids = torch.full((len(texts), width), pad)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    for row_number, text in enumerate(texts):
        ids[row_number, width - len(text) :] = torch.tensor(text)
        mask[row_number, width - len(text) :] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "input_features": mel,
        "feature_attention_mask": (torch.arange(mel.shape[-1])[None] < torch.tensor(lengths)[:, None]).long(),
    }


def _frame_loss(predicted: Tensor, batch: Batch) -> Tensor:
    known = ~batch.taught[..., 0].isnan()
    if not bool(known.any()):
        return predicted.new_zeros(())
    return (predicted[known] - batch.taught[known]).square().mean()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _keep(student: Student, optimizers: list[torch.optim.Optimizer], steps: int, path: Path) -> None:
    """Keep everything after that number of steps; the first of the processes does, for all are alike."""
    if rank() > 0:
        return
    states = [part.state_dict() for part in (*_parts(student), *optimizers)]
    partial = path.with_suffix(".part")
    torch.save({"steps": steps, "states": states}, partial)
    partial.rename(path)


def _restore(student: Student, optimizers: list[torch.optim.Optimizer], path: Path) -> int:
    """Load what was kept, if anything was; the number of steps that it has taken."""
    if not path.exists():
        return 0
    kept = torch.load(path, weights_only=True)
    for part, state in zip((*_parts(student), *optimizers), kept["states"], strict=True):
        part.load_state_dict(state)
    return int(kept["steps"])


def _parts(student: Student) -> tuple[nn.Module, ...]:
    return (student.lm.model, student.to_components, student.to_labels)
