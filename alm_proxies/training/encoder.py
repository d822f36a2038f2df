"""Fine-tuning a pretrained audio encoder to predict the distribution of listeners' votes, as one function from top to
bottom.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from alm_proxies.audio.places import recordings_digest
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of
from alm_proxies.measures.divergence import entropy_normalised
from alm_proxies.models.encoder import Encoder, encoder_digest
from alm_proxies.models.speech_model import Shape, SpeechModel
from alm_proxies.printable import counted
from alm_proxies.progress import Progress, say
from alm_proxies.remembered import REMEMBERED
from alm_proxies.seeds import seed_of
from alm_proxies.settings import deciding
from alm_proxies.tables import Finding, Utterances
from alm_proxies.training.batches import Index, KeptClips, Loader, padding_of, plan_epoch, seconds_of, steps_of
from alm_proxies.training.checkpoint import (
    best_weights,
    forget_other_best,
    keep_best,
    load_checkpoint,
    save_checkpoint,
)
from alm_proxies.training.curriculum import curriculum_weights
from alm_proxies.training.development import read_rows, score_development
from alm_proxies.training.frozen import AnyLoader, KeptHeads, encodes_once, kept_loader, too_many
from alm_proxies.training.gradients import (
    accumulate,
    at_most,
    not_finite,
    prepared,
    refuse_no_score,
    share_weights,
    trained,
)
from alm_proxies.training.objective import Objective
from alm_proxies.training.run_log import Pace, RunLog, accelerator_of, most_memory
from alm_proxies.training.schedule import NewBob, rate_of
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets

_SHORTEST = 0.1  # seconds
_FOR_SCALE = 512  # the largest number of training clips that standardise the inputs of the heads
_AT_ONCE = 8  # of these, before it is known how many fit into memory


@dataclass(frozen=True, slots=True)
class FineTuned:
    """The model with its best weights on this process's device, one row of scores per epoch, and findings."""

    model: SpeechModel
    reader: SpeechModel | KeptHeads
    """The trained module: the model, or only its heads if the encoder's statistics are cached."""
    loader: AnyLoader
    epochs: pl.DataFrame
    findings: tuple[Finding, ...]
    accelerator: Accelerator
    unheard: Index
    """Training rows without a usable recording."""


def fine_tune(
    targets: Targets, utterances: Utterances, folder: Path, settings: TrainSettings, *, quiet: bool = False
) -> FineTuned:
    """Train until the development score no longer improves; run again in the same folder to resume."""
    with deterministic_kernels(settings.deterministic):
        return _fine_tune(targets, utterances, folder, settings, quiet=quiet)


def _fine_tune(
    targets: Targets, utterances: Utterances, folder: Path, settings: TrainSettings, *, quiet: bool
) -> FineTuned:
    # 1. The model and the optimizer.
    accelerator = accelerator_of(folder, settings)
    rank, world = accelerator.process_index, accelerator.num_processes
    quiet = quiet or not accelerator.is_main_process
    objective = Objective.of(targets, utterances, folder / "features", settings, quiet=quiet)
    speech = build_model(targets, settings, auxiliary=len(objective.auxiliary_names))
    encoder = speech.encoder
    once = encodes_once(settings, len(targets), len(speech.heads.shape.layers), encoder.width)
    again = too_many(settings, len(targets), encoder, speech.heads.shape.layers)
    optimizer = torch.optim.AdamW(_groups(speech, settings), betas=(0.9, 0.98))
    model: SpeechModel | KeptHeads = prepared(KeptHeads(speech.heads) if once else speech, accelerator)
    optimizer = accelerator.prepare_optimizer(optimizer)

    # 2. The data and its order: every epoch's plan depends only on the seed and the epoch.
    longest = min(settings.longest, encoder.longest or settings.longest)
    loader: AnyLoader = Loader(
        open_one=Sounds(utterances, stage="train", rate=encoder.rate).open,
        prepare=encoder.prepare,
        ids=targets.ids,
        shortest=_SHORTEST,
        longest=longest,
        padding=settings.padding,
        taken=encoder.longest,
        most=settings.micro_batch,
        threads=settings.threads,
        seed=settings.seed,
        augment=settings.augment,
        kept=KeptClips(settings.keep_decoded * 2**30),
    )
    if once:
        with accelerator.main_process_first():
            encoder.to(accelerator.device)
            loader = kept_loader(
                speech, targets.ids, utterances, folder / "features", settings, limits=(_SHORTEST, longest), quiet=quiet
            )
    seconds = seconds_of(utterances, targets.ids, targets.seconds)
    entropies = entropy_normalised(targets.shares[targets.train])
    weights = _weights(targets, settings)
    curricula = [
        curriculum_weights(entropies, settings.curriculum, epoch, settings.epochs) for epoch in range(settings.epochs)
    ]
    # Utterances that the curriculum leaves out are still used for the attributes, which it does not affect.
    listed = [targets.train if settings.attributes.weight else targets.train[part > 0] for part in curricula]
    steps_before = np.cumsum([0, *(steps_of(len(rows), settings.batch) for rows in listed)])
    total_steps, warm = int(steps_before[-1]), round(settings.warmup * int(steps_before[-1]))
    say(_summary(speech, targets, settings, accelerator, total_steps, warm), quiet=quiet)
    if again is not None:
        say(f"{settings.name}: {again.message}. {again.fix}", quiet=quiet)

    # 3. Resume from the last complete checkpoint, if any.
    checkpoints = folder / "checkpoints"
    with accelerator.main_process_first():  # the others need not read the recordings again
        digest = _digest(targets, utterances, folder, settings, once=once)
    state = load_checkpoint(accelerator, checkpoints, digest) or {
        "digest": digest,
        "step": 0,
        "epoch_sums": [0.0, 0.0],
        "epochs": [],
        "best": None,
        "newbob": 1.0,
        "micro": None,
        "findings": [],
        "unheard": targets.train.tolist(),
    }
    if state["step"]:
        say(f"{settings.name}: resuming after step {state['step']}", quiet=quiet)
    elif settings.pooling != "temporal":  # whose pooling is not trained yet
        known = targets.train[:: max(1, -(-len(targets.train) // _FOR_SCALE))]
        reading = read_rows(model, loader, targets, known, accelerator, batch=min(settings.batch, _AT_ONCE))
        if len(reading.rows):
            speech.heads.standardise(torch.from_numpy(reading.pooled))
    share_weights(model, accelerator)
    learned = trained(model)
    log = RunLog(accelerator, folder, settings, step=state["step"])
    findings = {(fields["kind"], fields["utterance_id"]): Finding(**fields) for fields in state["findings"]}
    unheard = set(state.get("unheard", []))  # an older checkpoint has none

    # 4. The loop.
    last_checkpoint = time.monotonic()
    for epoch in range(len(state["epochs"]), settings.epochs):
        if _patience_is_over(state, settings):
            break
        plan = plan_epoch(listed[epoch], seconds, batch=settings.batch, seed=settings.seed, epoch=epoch)
        first = state["step"] - int(steps_before[epoch])
        stage_weights = np.zeros(len(targets))
        stage_weights[targets.train] = curricula[epoch]
        stage_weights /= stage_weights[listed[epoch]].mean()
        pace = Pace()
        model.train()
        if settings.freeze:
            speech.encoder.eval()
        with Progress(f"epoch {epoch + 1}/{settings.epochs}", len(plan), quiet=quiet) as progress:
            progress.advance(first)
            steps = loader.steps(plan, first=first, share=(rank, world), epoch=epoch)
            while (step := pace.next(steps)) is not None:
                findings |= {(finding.kind, finding.utterance_id): finding for finding in step.findings}
                unheard.difference_update(*(part.rows.tolist() for part in step.parts))

                # One step: accumulate the gradients of all parts, then the optimizer, unless a number is not finite.
                number = state["step"] + 1
                rate = rate_of(number - 1, warm, total_steps, settings.schedule, state["newbob"])
                for group in optimizer.param_groups:
                    group["lr"] = group["highest"] * rate
                part_loss = partial(
                    objective.part_loss, model=model, weights=weights, stage=stage_weights, accelerator=accelerator
                )
                done = accumulate(learned, partial(at_most, step.parts), part_loss, accelerator, settings, step=number,
                                  micro=state["micro"], quiet=quiet)  # fmt: skip
                state["micro"] = done.micro
                if done.finding is not None:
                    findings["out_of_memory", None] = done.finding
                _freeze_lower(speech, settings.unfreeze, epoch)
                norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip)
                minutes = (time.monotonic() - last_checkpoint) / 60
                shared = accelerator.reduce(done.sums.new_tensor([*done.sums.tolist(), minutes]), "sum").tolist()
                loss = shared[0] / shared[1] if shared[1] else None
                if not np.isfinite(float(norm)) or (loss is not None and not np.isfinite(loss)):
                    raise not_finite(loss, number, folder, rates="learning_rate or backbone_rate")
                if loss is not None:
                    optimizer.step()
                model.zero_grad(set_to_none=True)
                state["step"] = number
                state["epoch_sums"] = [state["epoch_sums"][0] + shared[0], state["epoch_sums"][1] + shared[1]]

                # Log and checkpoint.
                pace.took(len(plan[step.number]), *padding_of(step.parts))
                log.write("step", number, epoch=epoch + 1, loss=loss, gradient=float(norm), rate=rate, **pace.values)
                progress.advance(note="" if loss is None else f"loss {loss:.3f}, {pace.words}")
                due = number % settings.checkpoint_steps == 0 if settings.checkpoint_steps else (
                    shared[2] / world >= settings.checkpoint_minutes
                )  # fmt: skip
                if due and number < int(steps_before[epoch + 1]):
                    state |= _of_all_processes(findings, unheard)
                    save_checkpoint(accelerator, checkpoints, number, state)
                    last_checkpoint = time.monotonic()

        # The end of the epoch: the development speakers, the best weights, the schedule, a checkpoint.
        scores = score_development(
            model, loader, targets, accelerator, batch=settings.batch, attributes=settings.attributes
        )
        if not scores.utterances:
            raise InputError("no recording of a development utterance can be used", fix="Check their paths.")
        refuse_no_score(scores.value, epoch + 1, folder, rates="learning_rate or backbone_rate")
        loss = state["epoch_sums"][0] / state["epoch_sums"][1] if state["epoch_sums"][1] else None
        row = {"epoch": epoch + 1, "step": state["step"], "loss": loss, "rate": rate_of(
            state["step"], warm, total_steps, settings.schedule, state["newbob"]), **scores.row()}  # fmt: skip
        state["epochs"].append(row)
        state["epoch_sums"] = [0.0, 0.0]
        log.write("epoch", state["step"], most_memory_gib=most_memory(),
                  **{name: value for name, value in row.items() if name != "step"})  # fmt: skip
        if state["best"] is None or scores.value < state["best"]["score"]:
            state["best"] = {"epoch": epoch + 1, "score": scores.value}
            keep_best(model.state_dict(), checkpoints, epoch + 1, accelerator)
        if settings.schedule == "newbob":
            before = [entry["score"] for entry in state["epochs"]]
            bob = NewBob(settings.newbob_factor, settings.newbob_threshold)
            state["newbob"] = bob.after(before, state["newbob"])
        state |= _of_all_processes(findings, unheard)
        save_checkpoint(accelerator, checkpoints, state["step"], state)
        last_checkpoint = time.monotonic()
        forget_other_best(checkpoints, state["best"]["epoch"], accelerator)
        say(_epoch_line(row, state, settings, pace.seconds), quiet=quiet)

    # 5. The best weights.
    model.load_state_dict(best_weights(checkpoints, state["best"]["epoch"]))
    log.close()
    speech.eval()
    gathered = (*objective.findings, *([again] if again is not None else []),
                *(Finding(**fields) for fields in state["findings"]))  # fmt: skip
    lost = np.intersect1d(np.concatenate(listed[: len(state["epochs"])]), np.array(state.get("unheard", []), np.int64))
    return FineTuned(speech, model, loader, pl.DataFrame(state["epochs"]), gathered, accelerator, lost)


def build_model(targets: Targets, settings: TrainSettings, *, auxiliary: int) -> SpeechModel:
    """The encoder with heads; their initial weights depend on the seed."""
    encoder = Encoder.load(str(settings.model), revision=settings.revision, device="cpu")
    encoder.config.apply_spec_augment = (
        False  # it draws from numpy's global generator, which a resumed run could not repeat
    )
    layers = tuple(range(encoder.layers + 1)) if settings.layers is None else settings.layers
    if not layers or min(layers) < 0 or max(layers) > encoder.layers:
        fix = f"Give some of 0 to {encoder.layers}, or leave it out."
        raise SettingsError(f"layers = {list(layers)}: the encoder has {encoder.layers} layers", fix=fix)
    if settings.gradient_checkpointing:
        backbone: Any = encoder.backbone
        backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    shape = Shape(
        width=encoder.width,
        layers=layers,
        labels=len(targets.labels),
        pooling=settings.pooling,
        hidden=settings.hidden,
        dropout=settings.dropout,
        attributes=settings.attributes.weight > 0,
        dirichlet=settings.loss == "dirichlet_multinomial",
        auxiliary=auxiliary,
        raters=len(targets.rater_votes.raters) if settings.raters else 0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(settings.seed, "heads"))
        model = SpeechModel(encoder, shape)
    model.heads.start_at(torch.from_numpy(targets.usual_shares).float())
    for block in model.blocks()[max(layers) :]:
        block.requires_grad_(False)  # layers above the mix are not used
    if settings.freeze:
        encoder.requires_grad_(False)
    return model


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """A context with only deterministic kernels, if requested."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _groups(model: SpeechModel, settings: TrainSettings) -> list[dict[str, Any]]:
    """AdamW with learning rates for backbone and heads; only matrices have weight decay."""
    groups = []
    for module, rate in ((model.encoder, settings.backbone_rate), (model.heads, settings.learning_rate)):
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        for matrices in (True, False):
            chosen = [weight for weight in weights if (weight.ndim > 1) == matrices]
            decay = settings.weight_decay if matrices else 0.0
            if not chosen:
                continue
            groups.append({"params": chosen, "lr": rate, "highest": rate, "weight_decay": decay})
    return groups


def _freeze_lower(model: SpeechModel, a_epoch: float, epoch: int) -> None:
    """Drop the gradients of layers that are still frozen."""
    if not a_epoch:
        return
    blocks = model.blocks()[: max(model.heads.shape.layers)]  # those above the mix are not used
    learning = round(a_epoch * (epoch + 1))
    if learning > len(blocks):
        return
    upper = {id(weight) for block in blocks[len(blocks) - learning :] for weight in block.parameters()}
    for weight in model.encoder.parameters():
        if id(weight) not in upper:
            weight.grad = None


def _weights(targets: Targets, settings: TrainSettings) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The rows' weights by label and concentration; their mean over training rows is 1."""
    raw = targets.row_weights(settings.concentration_half)
    return np.asarray(raw / raw[targets.train].mean(), dtype=np.float64)


def _patience_is_over(state: dict[str, Any], settings: TrainSettings) -> bool:
    best: dict[str, Any] | None = state["best"]
    return best is not None and len(state["epochs"]) - int(best["epoch"]) >= settings.patience


def _of_all_processes(findings: dict[tuple[str, str | None], Finding], unheard: set[int]) -> dict[str, Any]:
    """The findings of all processes, each once, and the training rows that none of them has heard yet."""
    gathered = gather_object([(kind, name, asdict(finding)) for (kind, name), finding in findings.items()])
    every = {(kind, name): fields for kind, name, fields in gathered}
    return {"findings": list(every.values()), "unheard": sorted(set.intersection(*gather_object([unheard])))}


def _digest(targets: Targets, utterances: Utterances, folder: Path, settings: TrainSettings, *, once: bool) -> str:
    """The digest that a checkpoint and the run that resumes from it must share."""
    model = encoder_digest(str(settings.model), settings.revision)
    recordings = recordings_digest(utterances, own=folder / REMEMBERED)
    more = [*(["heads alone"] if once else []), *(["attributes judge"] if settings.attributes.weight else [])]
    return digest_of([deciding(settings), model, list(targets.ids), targets.contents, recordings, *more])


def _summary(
    model: SpeechModel, targets: Targets, settings: TrainSettings, accelerator: Accelerator, steps: int, warm: int
) -> str:
    encoder, heads = (
        sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
        for module in (model.encoder, model.heads)
    )
    votes = targets.counts[targets.development].sum()
    judged = counted(votes, "human vote") if votes else "their labels (no votes were given)"
    judged += " and their attributes" if settings.attributes.weight else ""
    return (
        f"{settings.name}: {settings.model}, {model.encoder.layers} layers; {encoder:,} weights of the encoder and "
        f"{heads:,} of the heads to train; {counted(len(targets.train), 'utterance')} to learn from, "
        f"{len(targets.development)} for development, judged by {judged}; at most "
        f"{counted(settings.epochs, 'epoch')}, {counted(steps, 'step')} of {settings.batch}, "
        f"{warm} to warm up; {accelerator.num_processes} x {accelerator.device}, {settings.precision}"
    )


def _epoch_line(row: dict[str, Any], state: dict[str, Any], settings: TrainSettings, seconds: float) -> str:
    loss = "no loss" if row["loss"] is None else f"loss {row['loss']:.4f}"
    best = state["best"]
    return (
        f"epoch {row['epoch']}/{settings.epochs}: {loss}, development {row['score']:.4f} "
        f"(best {best['score']:.4f} in epoch {best['epoch']}), {seconds:.0f} s"
    )
