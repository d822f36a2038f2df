"""The head of an audio-language model in training: its initial weights, its forward pass, and what is saved with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from alm_proxies.audio.clip import LONGEST
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.calibration import Calibration
from alm_proxies.models.headed_lm import AttentionHead, HeadedModel
from alm_proxies.models.trained import CLASS_SHARES, TrainedFile, distances, norms_of
from alm_proxies.models.windows import Hearing
from alm_proxies.seeds import seed_of
from alm_proxies.tables import Finding
from alm_proxies.training import losses
from alm_proxies.training.alm_forward import Heading
from alm_proxies.training.calibrate import fit_calibration
from alm_proxies.training.recipes import no_calibration, speaker_codes
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_SHORTEST = 0.1  # seconds
_FOR_NORMS = 2000  # training clips used for the distance of a clip from training


def headed_model(lm: Any, width: int, labels: int, seed: int) -> HeadedModel:
    """A language model of that width, with its adapter, and a head whose initial weights depend on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "head"))
        return HeadedModel(lm, AttentionHead(width, labels))


def heading(
    model: Any,
    lm: AudioLM,
    hearing: Hearing | None,
    accelerator: Accelerator,
    settings: TrainSettings,
    targets: Targets,
) -> Heading:
    """The forward pass of a model with a head."""
    shares, weight = targets.shares[targets.train], targets.weight[targets.train]
    balanced = losses.class_weights(
        torch.from_numpy(shares).float(), torch.from_numpy(weight).float(), settings.balance_beta
    )
    return Heading(model, lm, hearing, accelerator, settings, balanced)


def sparse(rows: Index) -> Index:
    """At most about 2,000 of the rows, evenly spread."""
    return rows[:: max(1, len(rows) // _FOR_NORMS)]


@dataclass(frozen=True, slots=True)
class Described:
    """The metadata of a trained model, centre and spread of its training clips' vectors, and findings."""

    file: TrainedFile
    norms: tuple[Array, Array]
    findings: tuple[Finding, ...]


def described(
    settings: TrainSettings,
    lm: AudioLM,
    targets: Targets,
    judged: Index,
    scores: dict[str, float],
    development: tuple[Array, Array],
    learned: tuple[Array, Array],
) -> Described:
    """What is saved with a head; calibrated on the `judged` rows of the development speakers.

    `development` and `learned` are the logits and vectors of these rows and of training rows; `scores` are those of the
    epoch that is kept.
    """
    logits, vectors = development
    norms = norms_of(learned[1])
    counts, findings = targets.counts[judged], []
    calibration = Calibration()
    if counts.sum():
        calibration = fit_calibration(
            logits,
            counts,
            speaker_codes(targets, judged),
            distance=distances(vectors, *norms),
            whole=targets.whole[judged],
            abstain=settings.abstain,
            seed=settings.seed,
        )
    else:
        findings.append(no_calibration())
    known = {"nll_per_vote": scores.get("nll_per_vote"), "cross_entropy": scores["development"]}
    reached = {name: value for name, value in known.items() if value is not None}
    if calibration.loss:
        reached["nll_per_vote_calibrated"] = calibration.loss[calibration.method]
    shares = targets.class_shares_nll(judged)
    if shares is not None:
        reached[CLASS_SHARES] = shares
    new = settings.alm.new
    file = TrainedFile(
        recipe="alm_head",
        name=settings.name,
        labels=targets.labels,
        base=settings.model if new is None else new.encoder,
        calibration=calibration,
        trained_on=targets.trained_on,
        development=reached,
        seconds=(_SHORTEST, lm.inputs.max_audio_seconds or LONGEST),
        settings=settings.model_dump(mode="json"),
    )
    return Described(file, norms, tuple(findings))
