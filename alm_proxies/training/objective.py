"""The training objective: the loss of the distribution, plus those of attributes, measured features and raters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.audio.features import FEATURES, measure_all, names_of
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.models.speech_model import Answer
from alm_proxies.nearest import known_names
from alm_proxies.progress import Progress
from alm_proxies.tables import ATTRIBUTES, Finding, Utterances
from alm_proxies.training import losses
from alm_proxies.training.batches import Part
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The targets as tensors, and the loss of a part of a batch."""

    settings: TrainSettings
    shares: Tensor
    counts: Tensor
    attributes: Tensor
    auxiliary: Tensor
    """Measured features in standard deviations of the training rows; NaN = not measured."""
    auxiliary_names: tuple[str, ...]
    class_weights: Tensor
    votes_from: NDArray[np.int64]
    """votes_from[row] to votes_from[row + 1] are the row's votes by known raters."""
    vote_rater: NDArray[np.int64]
    vote_shares: Array
    findings: tuple[Finding, ...]

    @classmethod
    def of(
        cls, targets: Targets, utterances: Utterances, cache: Path, settings: TrainSettings, *, quiet: bool = False
    ) -> Self:
        """The objective of these targets; auxiliary features are measured, or read from `cache`."""
        if settings.loss == "dirichlet_multinomial" and not targets.counts[targets.train].sum() > 0:
            raise InputError(
                "dirichlet_multinomial needs human votes on the training utterances",
                fix="Give votes (--votes), or choose loss = kld.",
            )
        if settings.attributes.weight and not np.isfinite(targets.attributes[targets.train]).any():
            raise InputError(
                "attributes.weight is set, and no training label has valence, arousal or dominance",
                where="labels",
                fix="Fuse votes with ratings, or leave attributes.weight out.",
            )
        auxiliary, findings = _measured(targets, utterances, cache, settings, quiet=quiet)
        if settings.loss == "dirichlet_multinomial":
            findings = (*findings, *_without_votes(targets))
        if settings.attributes.weight:
            findings = (*findings, *_without_attributes(targets))
        shares = torch.from_numpy(targets.shares).float()
        train = torch.from_numpy(targets.train)
        order = np.argsort(targets.rater_votes.row, kind="stable")
        return cls(
            settings=settings,
            shares=shares,
            counts=torch.from_numpy(targets.whole),
            attributes=torch.from_numpy(targets.attributes).float(),
            auxiliary=torch.from_numpy(auxiliary).float(),
            auxiliary_names=settings.auxiliary,
            class_weights=losses.class_weights(
                shares[train], torch.from_numpy(targets.weight).float()[train], settings.balance_beta
            ),
            votes_from=np.searchsorted(targets.rater_votes.row[order], np.arange(len(targets) + 1)).astype(np.int64),
            vote_rater=targets.rater_votes.rater[order],
            vote_shares=targets.rater_votes.shares[order],
            findings=findings,
        )

    def loss(self, answer: Answer, rows: NDArray[np.int64], weights: Array, stage: Array) -> tuple[Tensor, Tensor]:
        """The part's loss over the batch size; and, for reports, its distribution loss times weight, and that weight.

        `weights` are the rows' own, `stage` those of the curriculum, which apply to the distribution only.
        """
        device, total = answer.logits.device, float(self.settings.batch)
        own = torch.from_numpy(weights[rows]).float().to(device)
        staged = own * torch.from_numpy(stage[rows]).float().to(device)
        each = self.distribution(answer, rows)
        value = losses.weighted_sum(each.float(), staged, total)
        reported = torch.stack([(each.detach().double() * staged).sum(), staged.double().sum()])
        if answer.mean is not None and answer.log_variance is not None:
            wanted = self.attributes[rows].to(device)
            nll = losses.weighted_sum(losses.gaussian_nll(answer.mean, answer.log_variance, wanted), own, total)
            ccc = losses.concordance(answer.mean, wanted, own) * own.sum() / total
            value = value + self.settings.attributes.weight * (nll + self.settings.attributes.concordance * ccc)
        if answer.auxiliary is not None:
            wanted = self.auxiliary[rows].to(device)
            known = ~wanted.isnan()
            error = torch.where(known, answer.auxiliary - wanted.nan_to_num(), 0.0).square().sum(-1)
            mean = error / known.sum(-1).clamp(min=1)
            value = value + self.settings.auxiliary_weight * losses.weighted_sum(mean, own, total)
        if answer.raters is not None:
            value = value + self.settings.raters * self._of_raters(answer, rows, own) / total
        return value, reported

    def part_loss(
        self, part: Part, model: Any, weights: Array, stage: Array, accelerator: Accelerator
    ) -> tuple[Tensor, Tensor]:
        """`loss` of a part, computed with the model."""
        inputs = part.inputs.to(accelerator.device)
        with accelerator.autocast():
            answer = model(inputs.values, inputs.lengths)
        return self.loss(answer, part.rows, weights, stage)

    def distribution(self, answer: Answer, rows: NDArray[np.int64]) -> Tensor:
        """The distribution's loss of every row."""
        if self.settings.loss == "dirichlet_multinomial":
            return losses.dirichlet_multinomial(answer.log_alpha, self.counts[rows].to(answer.logits.device))
        return label_losses(
            self.settings, answer.logits, self.shares[rows].to(answer.logits.device), self.class_weights
        )

    def _of_raters(self, answer: Answer, rows: NDArray[np.int64], weights: Tensor) -> Tensor:
        """sum_i w_i times the mean over row i's votes of the cross-entropy of softmax(logits_i + its rater's)."""
        spans = [np.arange(self.votes_from[row], self.votes_from[row + 1]) for row in rows]
        device = answer.logits.device
        votes = torch.from_numpy(np.concatenate(spans)).long()
        place = torch.from_numpy(np.repeat(np.arange(len(rows)), list(map(len, spans)))).to(device)
        count = torch.tensor([max(1, len(span)) for span in spans], device=device)
        if answer.raters is None or not len(votes):
            return answer.logits.sum() * 0.0
        logits = answer.logits[place] + answer.raters[torch.from_numpy(self.vote_rater)[votes].to(device)]
        wanted = torch.from_numpy(self.vote_shares)[votes].float().to(device)
        return (losses.soft_cross_entropy(logits, wanted) * (weights / count)[place]).sum()


def label_losses(settings: TrainSettings, logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """The loss of every row's logits against its target shares; that is all losses but dirichlet_multinomial."""
    kind = settings.loss
    if kind in ("class_balanced", "weighted_kld"):
        balanced = losses.class_balanced if kind == "class_balanced" else losses.weighted_kld
        return balanced(logits, target, class_weights.to(target.device))
    if kind == "jsd_entropy":
        return losses.jsd_entropy(logits, target, settings.entropy_weight)
    simple = {"kld": losses.kld, "ce": losses.cross_entropy, "jsd": losses.jsd}
    return simple[kind](logits, target)


def _without_attributes(targets: Targets) -> list[Finding]:
    known = np.isfinite(targets.attributes[targets.train])
    return [
        Finding(
            "train", "not_learned_from", f"training labels without {name}, which is not learned from them", count=lost
        )
        for name, lost in zip(ATTRIBUTES, (~known).sum(0).tolist(), strict=True)
        if 0 < lost < len(known)
    ]


def _without_votes(targets: Targets) -> list[Finding]:
    """The finding for training rows that the likelihood of the votes learns nothing from."""
    without = int((~targets.counts[targets.train].any(1)).sum())
    if not without:
        return []
    message = "training utterances and items without human votes add nothing to the loss dirichlet_multinomial"
    return [Finding("train", "not_learned_from", message, "Give their votes, or choose loss = kld.", count=without)]


def _measured(
    targets: Targets, utterances: Utterances, cache: Path, settings: TrainSettings, *, quiet: bool
) -> tuple[Array, tuple[Finding, ...]]:
    names = settings.auxiliary
    if not names:
        return np.zeros((len(targets), 0)), ()
    known = names_of()
    for name in names:
        if name not in known:
            fix = known_names(name, known)
            raise SettingsError(f"auxiliary: there is no measured feature {name!r}", fix=fix)
    groups = sorted({feature.group for feature in FEATURES if feature.name in names})
    sounds = Sounds(utterances, stage="train")
    with Progress("measuring", len(targets), quiet=quiet) as progress:

        def opened(name: str) -> object:
            progress.advance()
            return sounds.open(name)

        measured = measure_all(
            targets.ids, opened, stage="train", groups=groups,  # type: ignore[arg-type]  # Opened
            kept_as=sounds.kept_as, cache=cache, threads=settings.threads,
        )  # fmt: skip
    values = measured.frame.select(names).fill_null(np.nan).to_numpy().astype(np.float64)
    learned = values[targets.train]
    with np.errstate(invalid="ignore"):
        centre, spread = np.nanmean(learned, axis=0), np.nanstd(learned, axis=0)
    return (values - centre) / np.where(spread > 0, spread, 1.0), measured.findings
