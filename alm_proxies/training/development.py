"""Evaluation on the development speakers: scores after every epoch, and predictions for calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from alm_proxies.models.at_once import unless_memory_runs_out
from alm_proxies.models.speech_model import Answer, SpeechModel
from alm_proxies.tables import Finding
from alm_proxies.training import losses
from alm_proxies.training.batches import Part
from alm_proxies.training.frozen import AnyLoader, KeptHeads
from alm_proxies.training.settings import AttributeSettings
from alm_proxies.training.targets import Targets

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of the development utterances; early stopping uses `value`, lower is better."""

    nll_per_vote: float | None
    """Mean - ln p of the human votes that are not held out; None if there are none."""
    cross_entropy: float
    """Weighted cross-entropy of their labels."""
    utterances: int
    attribute_loss: float | None = None
    """The loss of their labels' valence, arousal and dominance, with its weight; None without a head for these."""

    @property
    def value(self) -> float:
        """The log loss of human votes if there are any, else the cross-entropy of the labels; plus that of attributes,
        as in training.
        """
        labels = self.cross_entropy if self.nll_per_vote is None else self.nll_per_vote
        return labels + (self.attribute_loss or 0.0)

    def row(self) -> dict[str, float | None]:
        """The values for metrics.jsonl."""
        row = {"score": self.value, "nll_per_vote": self.nll_per_vote, "cross_entropy": self.cross_entropy}
        return row if self.attribute_loss is None else {**row, "attribute_loss": self.attribute_loss}


def score_development(
    model: SpeechModel | KeptHeads,
    loader: AnyLoader,
    targets: Targets,
    accelerator: Accelerator,
    *,
    batch: int,
    attributes: AttributeSettings,
) -> Scores:
    """The scores of the development rows, computed in parallel by all processes."""
    sums = torch.zeros(5, dtype=torch.float64, device=accelerator.device)
    answers, _ = _answers(model, loader, targets, targets.development, accelerator, batch=batch)
    for rows, answer in answers:
        log_p = answer.logits.double().log_softmax(-1)
        counts, shares, weight = (
            torch.from_numpy(array[rows]).to(log_p.device) for array in (targets.counts, targets.shares, targets.weight)
        )
        sums += torch.stack(
            [
                -(counts * log_p).sum(),
                counts.sum(),
                -(weight[:, None] * shares * log_p).sum(),
                weight.sum(),
                weight.new_tensor(len(rows)),
            ]
        )
    nll, votes, cross, weights, count = accelerator.reduce(sums, "sum").tolist()
    of_attributes = _attribute_loss(answers, targets, attributes) if attributes.weight else None
    nll_per_vote = nll / votes if votes else None
    return Scores(nll_per_vote, cross / weights if weights else float("inf"), int(count), of_attributes)


def _attribute_loss(
    answers: Sequence[tuple[Index, Answer]], targets: Targets, attributes: AttributeSettings
) -> float | None:
    """The attributes' part of the training loss, over all rows of all processes together; None if there is none."""
    own = [
        (rows, answer.mean.double().cpu(), answer.log_variance.double().cpu())
        for rows, answer in answers
        if answer.mean is not None and answer.log_variance is not None
    ]
    read = gather_object(own)
    if not read:
        return None
    rows = np.concatenate([part for part, _, _ in read])
    order = np.argsort(rows, kind="stable")
    mean, log_variance = (torch.cat([part[place] for part in read])[order] for place in (1, 2))
    wanted, weights = (torch.from_numpy(array[rows[order]]).double() for array in (targets.attributes, targets.weight))
    each = losses.gaussian_nll(mean, log_variance, wanted)
    nll = losses.weighted_sum(each, weights, float(weights.sum()))
    return attributes.weight * float(nll + attributes.concordance * losses.concordance(mean, wanted, weights))


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's outputs for rows with a usable recording."""

    rows: Index
    logits: Array
    log_strength: Array | None
    vectors: Array
    """The input of the heads."""
    pooled: Array
    """The same before it is standardised and normalised."""
    findings: tuple[Finding, ...] = ()
    """Why the other rows have none."""


def read_rows(
    model: SpeechModel | KeptHeads,
    loader: AnyLoader,
    targets: Targets,
    rows: Index,
    accelerator: Accelerator,
    *,
    batch: int,
) -> Reading:
    """The model's outputs for these rows, in their order, all on this process."""
    answers, findings = _answers(model, loader, targets, rows, accelerator, batch=batch, alone=True)
    if not answers:
        nothing = np.zeros((0, model.heads.pooling.size))
        return Reading(rows[:0], np.zeros((0, len(targets.labels))), None, nothing, nothing, findings)
    read = np.concatenate([part for part, _ in answers])
    order = np.argsort(read, kind="stable")

    def joined(name: str) -> Array:
        return np.concatenate([getattr(answer, name).double().cpu().numpy() for _, answer in answers])[order]

    strength = joined("log_strength") if answers[0][1].log_strength is not None else None
    return Reading(read[order], joined("logits"), strength, joined("vector"), joined("pooled"), findings)


def _answers(
    model: SpeechModel | KeptHeads,
    loader: AnyLoader,
    targets: Targets,
    rows: Index,
    accelerator: Accelerator,
    *,
    batch: int,
    alone: bool = False,
) -> tuple[list[tuple[Index, Answer]], tuple[Finding, ...]]:
    order = rows[np.argsort(np.nan_to_num(targets.seconds[rows]), kind="stable")]
    plan = [order[start : start + batch] for start in range(0, len(order), batch)]
    share = (0, 1) if alone else (accelerator.process_index, accelerator.num_processes)
    was_training = model.training
    model.eval()
    answers = []
    findings: list[Finding] = []
    with torch.inference_mode(), accelerator.autocast():
        for step in loader.steps(plan, share=share):
            findings += step.findings
            waiting = list(step.parts)
            while waiting:
                part = waiting.pop(0)
                answer = _answer(model, part, accelerator)
                if answer is None:
                    waiting = [*part.halves(), *waiting]
                else:
                    answers.append((part.rows, answer))
    model.train(was_training)
    return answers, tuple(findings)


def _answer(model: SpeechModel | KeptHeads, part: Part, accelerator: Accelerator) -> Answer | None:
    """The output, or None if memory ran out and the part can be halved."""

    def output() -> Answer:
        inputs = part.inputs.to(accelerator.device)
        answer: Answer = model(inputs.values, inputs.lengths)
        return answer

    return output() if len(part.rows) == 1 else unless_memory_runs_out(output)
