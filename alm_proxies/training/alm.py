"""Training an audio-language model to answer a prompt as listeners do, as one function from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.places import recordings_digest
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of, weights_digest, write_text
from alm_proxies.models import small_qwen2_audio
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.headed_lm import width_of
from alm_proxies.models.trained import ANNOTATOR, MODEL, TrainedFile, measured_on, whole_folder
from alm_proxies.models.windows import short_windows
from alm_proxies.printable import counted
from alm_proxies.progress import Progress, say
from alm_proxies.remembered import REMEMBERED
from alm_proxies.settings import deciding
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.alm_batches import Batches, Change, Heard, hear
from alm_proxies.training.alm_clips import ClipBatches
from alm_proxies.training.alm_forward import AnyBatches, Asking, Forward, Heading, made_ahead
from alm_proxies.training.alm_head import described, headed_model, heading, sparse
from alm_proxies.training.alm_question import AskedPrompt, asked_prompt, asker_of, beginning
from alm_proxies.training.alm_saved import (
    save_headed,
    save_model,
    take_weights,
    trained_weights,
    with_adapter,
)
from alm_proxies.training.card import alm_card, model_card
from alm_proxies.training.checkpoint import (
    best_weights,
    forget_other_best,
    has_checkpoint,
    keep_best,
    load_checkpoint,
    not_written,
    save_checkpoint,
    save_only_trained,
)
from alm_proxies.training.gradients import (
    accumulate,
    in_training,
    not_finite,
    prepared,
    refuse_no_score,
    share_weights,
    trained,
)
from alm_proxies.training.muon import Muon
from alm_proxies.training.recipes import Outcome
from alm_proxies.training.run_log import Pace, RunLog, accelerator_of, most_memory
from alm_proxies.training.schedule import NewBob, rate_of
from alm_proxies.training.settings import ChangeSettings, TrainSettings
from alm_proxies.training.targets import Targets, targets_of
from alm_proxies.training.unusable import none_usable


def train_alm(
    labels: Labels,
    utterances: Utterances,
    folder: Path,
    settings: TrainSettings,
    *,
    votes: Votes | None,
    quiet: bool,
) -> Outcome:
    """The recipe alm: cross-entropy of the answer against the labels, or a loss of the distribution that a head gives;
    a LoRA adapter, or all weights by AdamW or Muon.

    The folder of the model has an annotator file; with a head, it is also one that `predict` takes.
    """
    # 1. The prompt and the model.
    asker = asker_of(settings, labels.taxonomy)
    adapts, heads, family_is_new = settings.alm.adapts, settings.alm.output == "head", settings.alm.new is not None
    accelerator = accelerator_of(folder, settings)
    main, share = accelerator.is_main_process, (accelerator.process_index, accelerator.num_processes)
    quiet = quiet or not main
    dtype = "bfloat16" if adapts and settings.precision == "bf16" else "float32"
    with accelerator.main_process_first():
        start = beginning(settings, asker, folder, write=main)
    lm = AudioLM.load(start, revision=None if family_is_new else settings.revision, device="cpu", dtype=dtype)
    asked = asked_prompt(asker, lm, answers=not heads)
    short = lm.inputs.family == "qwen2_audio"
    if not short and (settings.alm.window_epochs or settings.alm.change != ChangeSettings()):
        message = f"window_epochs and change are for Qwen2-Audio, this is a {lm.inputs.family}"
        raise SettingsError(message, where=str(start), fix="Leave them out.")
    wrapped = with_adapter(lm, settings) if adapts else lm.model
    headed = headed_model(wrapped, width_of(lm.model), len(labels.taxonomy), settings.seed) if heads else None
    if settings.gradient_checkpointing:
        lm.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    # 2. Training rows and their audio.
    targets = targets_of(labels, utterances, votes=votes, development=settings.development, seed=settings.seed)
    checkpoints = folder / "checkpoints"
    with accelerator.main_process_first():  # the others need not read the recordings again, and read what it cached
        recordings = recordings_digest(utterances, own=folder / REMEMBERED)
        heard, unheard = hear(utterances, targets.ids, lm.inputs, folder / "heard", recordings=recordings,
                              fetch_again=not has_checkpoint(checkpoints), samples=not short, threads=settings.threads,
                              quiet=quiet)  # fmt: skip
    findings = [*targets.findings, *unheard]
    rows = _Rows.of(targets, heard, settings)
    targets, lost = targets.heard(rows.usable(targets.train), rows.usable(targets.development))
    learned = _batches(rows, targets.train, heard, asked, lm, asker, settings, share, changed=True)
    scored_rows = _spread(targets.development, settings.alm.look_at)
    looked_at = _batches(rows, scored_rows, heard, asked, lm, asker, settings, share, changed=False)
    if not len(learned.rows):
        raise InputError("no utterance of split train has a label and a recording", fix="Check labels and utterances.")
    if not len(looked_at.rows):
        raise none_usable("no recording of a development utterance can be used", unheard)
    in_orders = [replace(looked_at, order=order) for order in range(len(asked.prompts))]  # as the annotator file asks

    # 3. The optimizer and the schedule.
    steps = settings.epochs * len(learned)
    warm = max(1, round(settings.warmup * steps))
    if headed is not None:
        headed.head.start_at(torch.from_numpy(targets.usual_shares).float())
    model = prepared(wrapped if headed is None else headed, accelerator)
    learner = lm.model if headed is None else headed
    own = _optimizers(lm.model, settings, None if headed is None else headed.head)
    optimizers = [accelerator.prepare_optimizer(optimizer) for optimizer in own]
    if adapts:
        save_only_trained(accelerator)
    count = sum(weight.numel() for weight in trained_weights(learner).values())
    kind = f"{'of an adapter ' if adapts else ''}{'and ' if adapts and heads else ''}{'of a head ' if heads else ''}"
    say(
        f"{settings.name}: {count:,} weights {kind}to train; {counted(len(learned.rows), 'utterance')} of "
        f"{heard.lengths.mean() / heard.rate:.1f} s, {len(looked_at.rows)} to look at; "
        f"{counted(len(asked.prompts), 'order')} of {len(asker.labels)} labels, prompt of {len(asked.prompts[0])} "
        f"tokens; at most {counted(settings.epochs, 'epoch')} x {counted(len(learned), 'step')}, "
        f"{warm} of {steps} to warm up; "
        f"{accelerator.num_processes} x {accelerator.device}",
        quiet=quiet,
    )

    # 4. The loop; it resumes after the last complete epoch.
    digest = _digest(settings, start, asked, targets, recordings)
    fresh: dict[str, Any] = {"digest": digest, "epochs": [], "best": None, "newbob": 1.0, "micro": settings.micro_batch}
    state: dict[str, Any] = load_checkpoint(accelerator, checkpoints, digest) or fresh
    share_weights(model, accelerator)
    weights = trained(model)
    bob = NewBob(settings.newbob_factor, settings.newbob_threshold)
    epochs: list[dict[str, float]] = state["epochs"]
    log = RunLog(accelerator, folder, settings, step=len(epochs) * len(learned))
    rates = " or ".join([*(["alm.lora.rate"] if adapts else []), *(["learning_rate"] if heads or not adapts else [])])
    for epoch in range(len(epochs), settings.epochs):
        if state["best"] is not None and len(epochs) - state["best"]["epoch"] >= settings.patience:
            break
        pace = Pace()
        losses: list[float] = []
        window = round(100 * settings.alm.window) if epoch < settings.alm.window_epochs else None
        with (
            _passing(model, lm, accelerator, settings, targets, short=short) as forward,
            Progress(f"epoch {epoch + 1}/{settings.epochs}", len(learned), quiet=quiet) as bar,
        ):
            in_training(model)
            ahead = made_ahead(learned, epoch, lambda: state["micro"], window)
            while (made := pace.next(ahead)) is not None:
                number = epoch * len(learned) + len(losses) + 1
                rate = rate_of(number - 1, warm, steps, settings.schedule, state["newbob"])
                for optimizer in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = group["highest"] * rate
                done = accumulate(weights, made.divided, partial(forward.part_loss, total=made.total), accelerator,
                                  settings, step=number, micro=state["micro"], quiet=quiet)  # fmt: skip
                state["micro"] = done.micro
                if done.finding is not None:
                    findings.append(done.finding)
                summed, weight = accelerator.reduce(done.sums, "sum").tolist()
                loss = summed / weight
                norm = float(accelerator.clip_grad_norm_(model.parameters(), settings.clip))
                if not np.isfinite(loss) or not np.isfinite(norm):
                    raise not_finite(loss, number, folder, rates=rates)
                for optimizer in optimizers:
                    optimizer.step()
                model.zero_grad()
                losses.append(loss)
                pace.took(len(made.step.members), *made.padding)
                log.write("step", number, epoch=epoch + 1, loss=loss, gradient=norm, rate=rate, **pace.values)
                bar.advance(note=f"loss {np.mean(losses[-50:]):.3f}, {pace.words}")
            taken = pace.seconds
            scored = rows.scores(looked_at.rows, forward.log_mean(in_orders, state["micro"]), heard)
        refuse_no_score(scored["score"], epoch + 1, folder, rates=rates)
        epochs.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), **scored})
        if settings.schedule == "newbob":
            state["newbob"] = bob.after([row["score"] for row in epochs], state["newbob"])
        log.write("epoch", number, most_memory_gib=most_memory(),
                  **{name: value for name, value in epochs[-1].items() if name != "epoch"})  # fmt: skip
        if state["best"] is None or scored["score"] < state["best"]["score"]:
            state["best"] = {"epoch": epoch + 1, "score": scored["score"]}
            keep_best(trained_weights(learner), checkpoints, epoch + 1, accelerator)
        save_checkpoint(accelerator, checkpoints, epoch + 1, state)
        forget_other_best(checkpoints, state["best"]["epoch"], accelerator)
        development_scores = ", ".join(f"{name} {value:.4f}" for name, value in scored.items())
        say(
            f"epoch {epoch + 1}/{settings.epochs}: loss {np.mean(losses):.4f}; {development_scores}; "
            f"{len(learned.rows) / taken:.0f} utterances/s, {taken:.0f} s",
            quiet=quiet,
        )
    log.close()

    # 5. The best weights, in a folder of their own with an annotator file.
    best = state["best"]["epoch"]
    take_weights(learner, best_weights(checkpoints, best))
    reached = epochs[best - 1]
    target = folder / MODEL
    file: TrainedFile | None = None
    if main:
        try:
            with whole_folder(target) as temporary:
                if headed is not None:
                    every = [
                        _batches(rows, chosen, heard, asked, lm, asker, settings, (0, 1), changed=False)
                        for chosen in (targets.development, sparse(rows.usable(targets.train)))
                    ]
                    with _passing(model, lm, accelerator, settings, targets, short=short) as forward:
                        assert isinstance(forward, Heading)
                        outputs = [forward.read(batches, state["micro"]) for batches in every]
                    judged = rows.usable(targets.development)
                    description = described(settings, lm, targets, judged, epochs[best - 1], *outputs)
                    file, findings = description.file, [*findings, *description.findings]
                    save_headed(temporary, lm, headed, settings, asker, file, description.norms)
                    write_text(temporary / "README.md", model_card(file, targets))
                else:
                    nll, shares = reached.get("nll_per_vote"), targets.class_shares_nll(scored_rows)
                    measured = measured_on(targets.trained_on, nll, shares)
                    save_model(temporary, lm, model, settings, asker, targets.trained_on, measured)
                    write_text(temporary / "README.md", alm_card(settings, asker.labels, targets, reached))
        except Exception as error:
            raise not_written(target, error) from error
    if not heads:
        say(f"{settings.name}: request its votes with annotate --annotator {target / ANNOTATOR}", quiet=quiet)
    (findings,) = broadcast_object_list([findings])  # every process may write those of the main process
    return Outcome(target, pl.DataFrame(epochs), tuple(findings), targets, file, lost)


@contextmanager
def _passing(
    model: Any, lm: AudioLM, accelerator: Any, settings: TrainSettings, targets: Targets, *, short: bool
) -> Iterator[Forward]:
    """The forward pass of answers, whose end is learned too where all weights are, or of a head, for as long as the
    context is open; with `short` the model takes windows as short as the clips.
    """
    with short_windows(lm.model) if short else nullcontext() as hearing:
        if settings.alm.output == "head":
            yield heading(model, lm, hearing, accelerator, settings, targets)
            return
        ends = not settings.alm.adapts
        with small_qwen2_audio.only_the_end(lm.model, 2 if ends else 1):
            yield Asking(model, lm, hearing, accelerator, lm.inputs.end_of_turn if ends else None)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """What is known of every row of the targets: its place among what was heard, shares, weight and human votes."""

    places: NDArray[np.int64]
    """-1 = its recording cannot be used."""
    shares: NDArray[np.float64]
    weight: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, targets: Targets, heard: Heard, settings: TrainSettings) -> _Rows:
        place_of = {name: place for place, name in enumerate(heard.ids)}
        places = np.array([place_of.get(name, -1) for name in targets.ids], dtype=np.int64)
        return cls(places, targets.shares, targets.row_weights(settings.concentration_half), targets.counts)

    def usable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows with a usable recording."""
        return rows[self.places[rows] >= 0]

    def scores(self, heard_places: NDArray[np.int64], log_p: NDArray[np.float64], heard: Heard) -> dict[str, float]:
        """Cross-entropy (nats) on the development labels: of the model, of their mean, and of the labels themselves;
        log loss of a human vote, if there are any; and the score for early stopping.
        """
        row_of = np.full(len(heard.ids), -1)
        row_of[self.places[self.places >= 0]] = np.flatnonzero(self.places >= 0)
        rows = row_of[heard_places]
        shares, weight, counts = self.shares[rows], self.weight[rows], self.counts[rows]
        prior = np.log(np.maximum(np.average(shares, axis=0, weights=weight), 1e-300))
        own = np.log(np.maximum(shares, 1e-300))
        each = {"development": log_p, "development_prior": prior[None], "development_labels": own}
        scores = {
            name: float(np.average(-(shares * guess).sum(axis=1), weights=weight)) for name, guess in each.items()
        }
        if counts.sum():
            scores["nll_per_vote"] = float(-(counts * log_p).sum() / counts.sum())
        return scores | {"score": scores.get("nll_per_vote", scores["development"])}


def _optimizers(model: Any, settings: TrainSettings, head: torch.nn.Module | None) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the hidden matrices and AdamW for the rest; only matrices decay.

    A pretrained encoder in a new model has its own rate, and so has a head beside an adapter.
    """
    new, rate = settings.alm.new, settings.alm.lora.rate if settings.alm.adapts else settings.learning_rate
    words = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    pretrained: list[torch.nn.Parameter] = []
    if new is not None and new.encoder is not None:
        pretrained = [weight for weight in model.model.audio_tower.parameters() if weight.requires_grad]
        if not settings.backbone_rate:
            model.model.audio_tower.requires_grad_(False)
    own = {id(weight) for weight in pretrained}
    hidden: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for weight in model.parameters():
        if weight.requires_grad and id(weight) not in own:
            by_muon = settings.alm.optimizer == "muon" and weight.ndim > 1 and all(weight is not word for word in words)
            (hidden if by_muon else rest).append(weight)
    groups = [*_groups(rest, rate, settings), *_groups(pretrained, settings.backbone_rate, settings)]
    groups += [] if head is None else _groups(list(head.parameters()), settings.learning_rate, settings)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]
    if hidden:
        optimizers.append(Muon([{"params": hidden, "highest": rate}], lr=rate, weight_decay=settings.weight_decay))
    return optimizers


def _groups(weights: list[torch.nn.Parameter], rate: float, settings: TrainSettings) -> list[dict[str, Any]]:
    if not weights or not rate:
        return []
    return [
        {
            "params": [weight for weight in weights if (weight.ndim > 1) == matrices],
            "weight_decay": settings.weight_decay if matrices else 0.0,
            "highest": rate,
        }
        for matrices in (True, False)
    ]


def _spread(rows: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """A number of the rows, evenly spread; all if there are fewer or the number is null."""
    return rows if count is None or count >= len(rows) else rows[np.arange(count) * len(rows) // count]


def _batches(
    rows: _Rows,
    chosen: NDArray[np.int64],
    heard: Heard,
    asked: AskedPrompt,
    lm: AudioLM,
    asker: Annotator,
    settings: TrainSettings,
    share: tuple[int, int],
    *,
    changed: bool,
) -> AnyBatches:
    """Batches of the chosen rows that have a usable recording; this process gets its share of every step."""
    chosen = rows.usable(chosen)
    places, shares, weights = rows.places[chosen], rows.shares[chosen], rows.weight[chosen]
    ends = not settings.alm.adapts and settings.alm.output == "answer"
    size, seed = settings.batch, settings.seed
    if lm.inputs.family != "qwen2_audio":
        return ClipBatches(heard, places, shares, weights, lm, asker, asked.answers, size, seed, ends, share)
    audio, pad = lm.inputs.audio_token_id, int(lm.inputs.tokenizer.pad_token_id)
    change = Change(**settings.alm.change.model_dump()) if changed else None
    longest = None if (most := lm.inputs.max_audio_seconds) is None else round(most * heard.rate)
    return Batches(heard, places, shares, weights, asked.prompts, asked.answers, audio, pad, size, seed, change, ends,
                   share, longest)  # fmt: skip


def _digest(settings: TrainSettings, start: str | Path, asked: AskedPrompt, targets: Targets, recordings: str) -> str:
    """The digest that a checkpoint and the run that resumes from it must share."""
    base = weights_digest(Path(start)) if Path(start).is_dir() else str(start)
    prompt = [asked.prompts, asked.answers]  # whatever the prompt's file says now
    return digest_of([deciding(settings), base, prompt, list(targets.ids), targets.contents, recordings])
