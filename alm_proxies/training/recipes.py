"""The training recipes, from labels and utterances to a trained folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.models.calibration import Calibration
from alm_proxies.models.trained import CLASS_SHARES, MODEL, TrainedFile, distances, norms_of, save_trained
from alm_proxies.tables import Finding, Labels, Utterances, Votes
from alm_proxies.training.calibrate import fit_calibration
from alm_proxies.training.card import model_card
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets, targets_of
from alm_proxies.training.unusable import none_usable

_FOR_NORMS = 2000  # training clips used for the distance of a clip from training


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained model's folder, a row of scores per epoch, findings, and the training rows."""

    folder: Path
    epochs: pl.DataFrame
    findings: tuple[Finding, ...]
    targets: Targets
    file: TrainedFile | None
    """The trained folder's metadata; None on every process but the main one."""
    lost: int
    """The number of training and development utterances whose recordings could not be used; `targets` is without."""


def train_encoder(
    labels: Labels,
    utterances: Utterances,
    folder: Path,
    settings: TrainSettings,
    *,
    votes: Votes | None,
    quiet: bool,
) -> Outcome:
    """The recipe encoder, fine-tuned: trained, calibrated on the development speakers, and saved."""
    from accelerate.utils import broadcast_object_list

    from alm_proxies.models.encoder import encoder_digest
    from alm_proxies.training.checkpoint import not_written
    from alm_proxies.training.development import read_rows
    from alm_proxies.training.encoder import fine_tune

    targets = targets_of(
        labels,
        utterances,
        votes=votes,
        development=settings.development,
        seed=settings.seed,
        raters=settings.raters > 0,
    )
    # before the training, while the folder is as it is loaded
    encoder = encoder_digest(str(settings.model), settings.revision) if settings.freeze else ""
    tuned = fine_tune(targets, utterances, folder, settings, quiet=quiet)
    accelerator = tuned.accelerator
    target = folder / MODEL
    findings = [*targets.findings, *tuned.findings]
    file: TrainedFile | None = None
    every = targets
    if accelerator.is_main_process:
        reading = read_rows(tuned.reader, tuned.loader, targets, targets.development, accelerator, batch=settings.batch)
        findings += reading.findings
        targets, _ = every.heard(np.setdiff1d(every.train, tuned.unheard), reading.rows)
        step = max(1, len(targets.train) // _FOR_NORMS)
        known = read_rows(tuned.reader, tuned.loader, targets, targets.train[::step], accelerator, batch=settings.batch)
        if not len(known.rows):
            raise none_usable("no recording of a training utterance can be used", [*findings, *known.findings])
        centre, spread = norms_of(known.vectors)
        calibration = Calibration()
        if targets.counts[reading.rows].sum():
            calibration = fit_calibration(
                reading.logits,
                targets.counts[reading.rows],
                speaker_codes(targets, reading.rows),
                distance=distances(reading.vectors, centre, spread),
                whole=targets.whole[reading.rows],
                log_strength=reading.log_strength,
                abstain=settings.abstain,
                seed=settings.seed,
            )
        else:
            findings.append(no_calibration())
        best = tuned.epochs.row(int(tuned.epochs["score"].arg_min() or 0), named=True)
        scores = {name: best[name] for name in ("nll_per_vote", "cross_entropy") if best[name] is not None}
        if calibration.loss:
            scores["nll_per_vote_calibrated"] = calibration.loss[calibration.method]
        class_shares = targets.class_shares_nll(reading.rows)
        if class_shares is not None:
            scores[CLASS_SHARES] = class_shares
        file = TrainedFile(
            recipe="encoder",
            name=settings.name,
            labels=targets.labels,
            base=settings.model,
            shape=tuned.model.heads.shape.model_dump(),
            attributes=known_attributes(targets, settings),
            auxiliary=settings.auxiliary,
            calibration=calibration,
            trained_on=targets.trained_on,
            development=scores,
            encoder=encoder,
            seconds=(tuned.loader.shortest, tuned.loader.longest),
            settings=settings.model_dump(mode="json"),
        )
        try:
            save_trained(target, file, tuned.model, (centre, spread), card=model_card(file, targets))
        except Exception as error:
            raise not_written(target, error) from error
    # every process returns, and may write, what the main process found
    findings = list(dict.fromkeys(findings))  # a recording is opened for the auxiliary features too
    findings, heard = broadcast_object_list([findings, (targets.train, targets.development)])
    targets, lost = every.heard(*heard)
    return Outcome(target, tuned.epochs, tuple(findings), targets, file, lost)


def speaker_codes(
    targets: Targets, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A code for the speaker of every row; a row with an unknown speaker is its own."""
    names = [targets.speakers[row] or targets.ids[row] for row in rows]
    codes = {name: place for place, name in enumerate(sorted(set(names)))}
    return np.array([codes[name] for name in names], dtype=np.int64)


def known_attributes(targets: Targets, settings: TrainSettings) -> tuple[bool, bool, bool]:
    """Which of valence, arousal and dominance were learned."""
    if not settings.attributes.weight:
        return False, False, False
    valence, arousal, dominance = (bool(known.any()) for known in np.isfinite(targets.attributes[targets.train]).T)
    return valence, arousal, dominance


def no_calibration() -> Finding:
    """The finding for a model that could not be calibrated."""
    message = "no development utterance has a human vote: predictions are not calibrated and have no concentration"
    return Finding("train", "not_calibrated", message, "Give votes (--votes).")
