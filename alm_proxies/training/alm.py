"""Training an audio-language model to answer a prompt as listeners do, as one function from top to bottom."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile, Cross
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of
from alm_proxies.models import small_qwen2_audio, tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.progress import Progress, say
from alm_proxies.tables import Finding, Labels, Utterances, Votes
from alm_proxies.training.alm_batches import Batches, Change, Heard, hear
from alm_proxies.training.checkpoint import load_checkpoint, save_checkpoint
from alm_proxies.training.losses import answer_loss
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import labelled_rows

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5

MODEL = "model"
"""The sub-folder of a training with the trained model."""


def train_alm(
    labels: Labels,
    utterances: Utterances,
    folder: Path,
    settings: TrainSettings,
    *,
    votes: Votes | None,
    quiet: bool,
) -> tuple[Path, pl.DataFrame, list[Finding]]:
    """The recipe alm: cross-entropy of the answer against the labels, AdamW or Muon, cosine, clipped gradients.

    Returns the trained model's folder, a row of scores per epoch, and findings.
    """
    # 1. The prompt and the model.
    asker = _asker(settings, labels.taxonomy)
    lm = AudioLM.load(_beginning(settings, asker, folder), device="cpu")
    small_qwen2_audio.refuse_others(lm.model)
    prompts, answers = _question(asker, lm)

    # 2. Training rows and their audio.
    rows, findings = labelled_rows(labels, utterances, votes)
    heard, unheard = hear(utterances, rows["utterance_id"].to_list(), lm.inputs, folder / "heard", quiet=quiet)
    findings += unheard
    rows = rows.join(_places(heard), on="utterance_id")
    learned, looked_at = (
        _batches(part, heard, labels, prompts, answers, lm, settings, change)
        for part, change in (
            (rows.filter(pl.col("split") == "train"), Change(**settings.alm.change.model_dump())),
            (_spread(rows.filter(pl.col("split") == "development"), settings.alm.look_at), None),
        )
    )
    if not len(learned.rows):
        raise InputError("no utterance of split train has a label and a recording", fix="Check labels and utterances.")

    # 3. Batches, optimizer and schedule.
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    steps = settings.epochs * len(learned)
    warm = max(1, round(settings.warmup * steps))
    optimizers = _optimizers(lm.model, settings)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, warm, steps)) for optimizer in optimizers
    ]
    model, *movers = accelerator.prepare(lm.model, *optimizers, *schedules)
    weights = sum(weight.numel() for weight in lm.model.parameters() if weight.requires_grad)
    say(
        f"{settings.name}: {weights:,} weights to train; {len(learned.rows)} utterances of "
        f"{10 * heard.lengths.mean() / 1000:.1f} s, {len(looked_at.rows)} to look at; {len(prompts)} orders of "
        f"{len(answers)} labels, prompt of {len(prompts[0])} tokens; {settings.epochs} epochs x {len(learned)} steps, "
        f"{warm} of {steps} to warm up; on {accelerator.device}",
        quiet=quiet,
    )

    # 4. The loop.
    digest = _digest(settings, labels, heard)
    checkpoint = load_checkpoint(accelerator, folder / "checkpoints", digest) or {"digest": digest, "epochs": []}
    epochs: list[dict[str, float]] = checkpoint["epochs"]
    for epoch in range(len(epochs), settings.epochs):
        started, losses = time.monotonic(), []
        bare = accelerator.unwrap_model(model)
        with small_qwen2_audio.only_the_end(bare, 2), small_qwen2_audio.short_windows(bare) as hearing:
            model.train()
            short = round(100 * settings.alm.window) if epoch < settings.alm.window_epochs else None
            with Progress(f"epoch {epoch + 1}/{settings.epochs}", len(learned), quiet=quiet) as progress:
                for batch in learned.epoch(epoch, short):
                    inputs = {name: tensor.to(accelerator.device) for name, tensor in batch.tensors.items()}
                    shares, importance = inputs.pop("shares"), inputs.pop("weights")
                    hearing.set(inputs["input_features"].shape[-1], batch.start)
                    logits = model(**inputs, use_cache=False).logits
                    loss = answer_loss(logits, shares, learned.labels, lm.inputs.end_of_turn, importance)
                    accelerator.backward(loss)
                    accelerator.clip_grad_norm_(model.parameters(), settings.clip)
                    for mover in movers:
                        mover.step()
                    model.zero_grad()
                    losses.append(float(loss.detach()))
                    progress.advance(note=f"loss {np.mean(losses[-50:]):.3f}")
            taken = time.monotonic() - started
            scored = _look(model, looked_at, hearing, accelerator)
        epochs.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), **scored})
        save_checkpoint(accelerator, folder / "checkpoints", epoch + 1, checkpoint)
        development_scores = ", ".join(f"{name} {value:.4f}" for name, value in scored.items())
        say(
            f"epoch {epoch + 1}/{settings.epochs}: loss {np.mean(losses):.4f}; {development_scores}; "
            f"{len(learned.rows) / taken:.0f} utterances/s, {taken:.0f} s",
            quiet=quiet,
        )

    # 5. The model, saved in its own folder.
    lm.model = accelerator.unwrap_model(model)
    target, partial = folder / MODEL, folder / f".{MODEL}.part"
    for old in (target, partial):
        shutil.rmtree(old, ignore_errors=True)
    lm.save(partial)
    partial.rename(target)
    return target, pl.DataFrame(epochs), findings


def _places(heard: Heard) -> pl.DataFrame:
    """Where each utterance that could be used stands; none may."""
    schema = {"utterance_id": pl.String(), "place": pl.Int64()}
    return pl.DataFrame({"utterance_id": list(heard.ids), "place": list(range(len(heard.ids)))}, schema=schema)


def _optimizers(model: Any, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the hidden matrices and AdamW for the rest; only matrices decay."""
    words = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    hidden: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for weight in filter(lambda weight: weight.requires_grad, model.parameters()):
        by_muon = settings.alm.optimizer == "muon" and weight.ndim > 1 and all(weight is not word for word in words)
        (hidden if by_muon else rest).append(weight)
    groups = [
        {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))]
    if hidden:
        optimizers.append(Muon(hidden, lr=settings.learning_rate, weight_decay=settings.weight_decay))
    return optimizers


def _rate(step: int, warm: int, steps: int) -> float:
    """Share of the highest learning rate: a straight rise, then half a cosine."""
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _asker(settings: TrainSettings, labels: tuple[str, ...]) -> Annotator:
    """The annotator for the trained model, with the same prompt as in training."""
    file = AnnotatorFile(
        name=settings.name,
        engine="transformers",
        model=settings.model or "new",
        prompt=settings.alm.prompt,
        elicit="score",
        answer=settings.alm.answer,
        cross=Cross(label_orders=settings.alm.label_orders),
    )
    return Annotator.of(file, taxonomy=labels)


def _beginning(settings: TrainSettings, asker: Annotator, folder: Path) -> str | Path:
    """The initial checkpoint; a new one has a vocabulary of the prompt's words."""
    if settings.alm.new is None:
        return str(settings.model)
    sizes = tiny.Sizes(**settings.alm.new.model_dump())
    rendered = [
        asker.prompt.render(labels=asker.labels, codes=asker.codes(asker.cells[0]), focus=None, context=PromptContext())
    ]
    words = [text for prompt in rendered for text in (prompt.system, prompt.before, prompt.after)]
    words += [*asker.labels, *(f" {label}" for label in asker.labels)] * 8
    return small_qwen2_audio.build(folder / "new", sizes=sizes, words=words, seed=settings.seed)


def _question(asker: Annotator, lm: AudioLM) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """The prompt's tokens in every order of the labels, and the token that answers each label."""
    silence = Audio(np.zeros(lm.inputs.rate, dtype=np.float32), lm.inputs.rate)
    asked = [asker.question(cell, silence, PromptContext()) for cell in asker.cells]
    prompts = [
        lm.inputs.tokens(lm.inputs.text(conversation_of(rendered_prompt, lm.inputs.rate))) for rendered_prompt in asked
    ]
    if settings_differ := {rendered_prompt.choices for rendered_prompt in asked} - {asked[0].choices}:
        raise SettingsError(
            f"in another order the answers differ ({settings_differ.pop()})",
            fix='Write answer = "words", or label_orders = 1.',
        )
    answers = [lm.inputs.answer(choice) for choice in asked[0].choices]
    for choice, tokens in zip(asked[0].choices, answers, strict=True):
        if len(tokens) != 1:
            raise SettingsError(f"the answer {choice!r} has {len(tokens)} tokens", fix='Write answer = "codes".')
    if any(prompt.count(lm.inputs.audio_token_id) != 1 for prompt in prompts):
        raise SettingsError("the prompt does not have the recording exactly once", where=asker.prompt.where)
    return tuple(map(tuple, prompts)), tuple(tokens[0] for tokens in answers)


def _spread(rows: pl.DataFrame, count: int | None) -> pl.DataFrame:
    """A number of the rows, evenly spread; all if there are fewer or the number is null."""
    if count is None or count >= len(rows):
        return rows
    return rows.gather_every(len(rows) // count).head(count)


def _batches(
    rows: pl.DataFrame,
    heard: Heard,
    labels: Labels,
    prompts: tuple[tuple[int, ...], ...],
    answers: tuple[int, ...],
    lm: AudioLM,
    settings: TrainSettings,
    change: Change | None,
) -> Batches:
    return Batches(
        heard=heard,
        rows=rows["place"].to_numpy().astype(np.int64),
        shares=rows.select(f"p_{label}" for label in labels.taxonomy).to_numpy(),
        weights=rows["weight"].to_numpy(),
        prompts=prompts,
        labels=answers,
        audio_token=lm.inputs.audio_token_id,
        pad_token=int(lm.inputs.tokenizer.pad_token_id),
        size=settings.batch,
        seed=settings.seed,
        change=change,
    )


@torch.inference_mode()
def _look(
    model: Any, batches: Batches, hearing: small_qwen2_audio.Hearing, accelerator: Accelerator
) -> dict[str, float]:
    """Cross-entropy (nats) on the development labels: of the model, of their mean, and of the labels themselves."""
    if not len(batches.rows):
        return {}
    model.eval()
    total, weight = 0.0, float(batches.weights.sum())
    for batch in batches.epoch(0):
        inputs = {name: tensor.to(accelerator.device) for name, tensor in batch.tensors.items()}
        shares, importance = inputs.pop("shares"), inputs.pop("weights")
        hearing.set(inputs["input_features"].shape[-1])
        logits = model(**inputs, use_cache=False).logits[:, 0]
        log_p = logits[:, list(batches.labels)].float().log_softmax(-1)
        total += float(-(importance[:, None] * shares * log_p).sum())
    mean = np.average(batches.shares, axis=0, weights=batches.weights)
    return {
        "development": total / weight,
        "development_prior": _cross_entropy(batches, np.broadcast_to(mean, batches.shares.shape)),
        "development_labels": _cross_entropy(batches, batches.shares),
    }


def _cross_entropy(batches: Batches, guess: NDArray[np.float64]) -> float:
    surprise = -(batches.shares * np.log(np.maximum(guess, 1e-300))).sum(axis=1)
    return float(np.average(surprise, weights=batches.weights))


def _digest(settings: TrainSettings, labels: Labels, heard: Heard) -> str:
    """The digest that a checkpoint and the run that resumes from it must share."""
    rows = labels.frame.sort("utterance_id").select("utterance_id", "weight", pl.col("^p_.*$"))
    hashed = int(rows.hash_rows(seed=0).sum())
    return digest_of([settings.model_dump(mode="json"), str(hashed), list(heard.ids)])


class Muon(torch.optim.Optimizer):
    """The Muon optimizer, with orthogonalised momentum, for training from scratch:

    M = m M + G, W = (1 - r d) W - r 0.2 sqrt(max(rows, columns)) orthogonal(G + m M).

    r is the learning rate, m the momentum, d the weight decay; the factor gives a step the size of one of AdamW's, so
    that both use the same learning rate. Kernels count as matrices with one row per output. Jordan et al. (2024), Muon;
    the factor is from Liu et al. (2025), Muon is scalable for LLM training.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one kind
        """Update every weight that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
        wanted = (weight.grad + group["momentum"] * momentum).reshape(len(weight), -1)
        step = orthogonal(wanted) * (0.2 * max(wanted.shape) ** 0.5)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step.reshape(weight.shape), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1 (0.7 to 1.2), by a quintic iteration:
    X = a X + (b XX' + c (XX')^2) X."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
