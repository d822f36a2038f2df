"""The recipe features: a head on measured prosody, in numpy, without torch; and its trained folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.clip import LONGEST, RATE, Clip
from alm_proxies.audio.features import FEATURES, SHORTEST, measure
from alm_proxies.audio.measured import DIGEST, NAMES, measuring, row_of
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.vectors import vectors_of
from alm_proxies.errors import EngineError, InputError
from alm_proxies.estimators.estimator import one_thread
from alm_proxies.files import write_text
from alm_proxies.models.calibration import Calibration
from alm_proxies.models.evidence import Evidence, Moved, without_parts
from alm_proxies.models.sealed import damaged
from alm_proxies.models.trained import (
    CLASS_SHARES,
    FILE,
    MODEL,
    Predictions,
    TrainedFile,
    calibrated,
    read_whole,
    refuse_unusable,
    whole_folder,
    write_trained_file,
)
from alm_proxies.progress import say
from alm_proxies.seeds import generator
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.calibrate import fit_calibration
from alm_proxies.training.card import model_card
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Head, HeadModel, Scale, log_loss, sum_of, train
from alm_proxies.training.recipes import Outcome, no_calibration, speaker_codes
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import targets_of
from alm_proxies.training.unusable import none_usable

Floats = NDArray[np.float32]
PASSES = 3
"""Passes over the training clips for each of the setting `epochs`: they take a moment."""
_WEIGHTS = "heads.npz"
_PARTS = {
    "pitch": "pitch", "energy": "loudness", "rhythm": "rhythm and pauses", "balance": "spectral balance",
    "voice": "harmonicity", "cycles": "jitter and shimmer", "spectral": "spectrum",
}  # fmt: skip
"""Groups of measured features, and their names in evidence."""


@dataclass(frozen=True, slots=True, repr=False)
class FeaturesModel:
    """A trained model on measured prosody, with the interface of TrainedModel."""

    file: TrainedFile
    head: HeadModel

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.file.line})"

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load a folder that `train --recipe features` wrote."""
        path, file = read_whole(folder)
        if file.features != DIGEST:
            raise InputError(
                "the model was trained on measured features that were defined otherwise in an earlier version",
                where=str(path), fix="Train it again, or predict with the version of alm-proxies that trained it.",
            )  # fmt: skip
        head = HeadModel.load(path / _WEIGHTS)
        if head.labels != file.labels:  # of a folder without digests
            raise damaged(
                f"{FILE} names the labels {', '.join(file.labels)}, {_WEIGHTS} {', '.join(head.labels)}", path
            )
        return cls(file, head)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return self.file.labels

    @property
    def rate(self) -> int:
        """The sample rate that clips must have."""
        return RATE

    def distributions(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        """The calibrated distribution of every clip."""
        return self.predict(clips).shares

    def predict(self, clips: Sequence[Clip]) -> Predictions:
        """Distributions, concentrations and abstentions of clips."""
        refuse_unusable(clips, self.rate, self.file.seconds)
        return self.of_rows(np.stack([_row(clip) for clip in clips]))

    def evidence(self, clip: Clip) -> Evidence:
        """Evidence for the prediction of one clip: effects of removed segments and changed features, the strongest
        first.

        Seconds: the distribution of the clip with half a second cut out, measured again, against that of the whole.
        Prosody: the distribution with one group of features set to the training average, all others unchanged.
        """
        refuse_unusable([clip], self.rate, self.file.seconds)
        row = _row(clip)
        usual = np.repeat(row[None], len(_PARTS), axis=0)
        for place, part in enumerate(_PARTS):
            usual[place, [feature.part == part for feature in FEATURES]] = np.nan  # the head uses the mean instead
        cut = without_parts(clip, max(self.file.seconds[0], SHORTEST))
        whole, *others = self.of_rows(np.stack([row, *usual, *(_row(rest) for _, rest in cut)])).shares
        named = [f"{words} as in the average clip" for words in _PARTS.values()]
        moved = [
            Moved.of(name, self.labels, whole, other)
            for name, other in zip([*named, *(name for name, _ in cut)], others, strict=True)
        ]
        return Evidence.of(moved[len(named) :], moved[: len(named)])

    def of_rows(self, rows: Floats) -> Predictions:
        """The same of measured features."""
        with one_thread():
            logits = np.log(self.head.predict(rows))
        return calibrated(self.file.calibration, logits, _distance(self.head.scale, rows))


def train_features(
    labels: Labels,
    utterances: Utterances,
    folder: Path,
    settings: TrainSettings,
    *,
    votes: Votes | None,
    quiet: bool,
) -> Outcome:
    """The recipe features: the average of heads with several seeds, with early stopping and calibration on the
    development speakers.

    Heads learn the labels' distributions, rows weigh as the labels say; human votes judge and calibrate. Features are
    not relative to the speaker: a speaker predicted later may have only one utterance.
    """
    with one_thread():
        return _trained(labels, utterances, folder, settings, votes, quiet)


def _trained(
    labels: Labels, utterances: Utterances, folder: Path, settings: TrainSettings, votes: Votes | None, quiet: bool
) -> Outcome:
    targets = targets_of(labels, utterances, votes=votes, development=settings.development, seed=settings.seed)
    sounds = Sounds(utterances, stage="train")
    heard = vectors_of(
        targets.ids, sounds, measuring("train"), width=len(NAMES), digest=DIGEST, folder=folder / "features",
        message="measuring", threads=settings.threads, remarks=False, quiet=quiet,
    )  # fmt: skip
    learn, judge = (rows[heard.known[rows]] for rows in (targets.train, targets.development))
    if not len(learn) or not len(judge):
        whose = "training" if not len(learn) else "development"
        raise none_usable(f"no recording of {whose} can be used", heard.findings)
    targets, lost = targets.heard(learn, judge)
    weights = targets.row_weights(settings.concentration_half)
    wanted = targets.shares * (weights / weights[learn].mean())[:, None]
    head_settings = HeadSettings(hidden=settings.hidden, dropout=settings.dropout, learning_rate=settings.learning_rate,
                                 epochs=settings.epochs * PASSES, batch=settings.batch)  # fmt: skip
    scale = Scale.of(heard.rows, head_settings.components, learn)
    inside, outside = scale.apply(heard.rows, learn), scale.apply(heard.rows, judge)
    with np.errstate(over="ignore", invalid="ignore"):  # said below, of the losses
        runs = [
            list(train(inside, wanted[learn], head_settings, chance, head_settings.epochs))
            for chance in (generator(settings.seed, "features", number) for number in range(head_settings.seeds))
        ]

    def averaged(heads: Sequence[Head], rows: Floats) -> NDArray[np.float64]:
        return sum_of([head.predict(rows) for head in heads]) / len(heads)

    epochs = list(zip(*runs, strict=True))
    judged = targets.counts[judge] if targets.counts[judge].sum() > 0 else wanted[judge]
    with np.errstate(all="ignore"):
        scores = [log_loss(averaged(heads, outside), judged) for heads in epochs]
    if not np.isfinite(scores).all():
        raise EngineError(
            f"the loss of the development speakers is {scores[-1]} in pass {len(scores)}; no model was written",
            where=str(folder), fix="Lower learning_rate, and see that no label has an extreme weight.",
        )  # fmt: skip
    best = int(np.argmin(scores))
    model = HeadModel(targets.labels, scale, tuple(epochs[best]))
    findings = [*targets.findings, *heard.findings]
    calibration, counts = Calibration(), targets.counts[judge]
    if counts.sum():
        calibration = fit_calibration(
            np.log(model.predict(heard.rows[judge])), counts, speaker_codes(targets, judge),
            distance=_distance(scale, heard.rows[judge]), whole=targets.whole[judge], abstain=settings.abstain,
            seed=settings.seed,
        )  # fmt: skip
    else:
        findings.append(no_calibration())
    kind = "nll_per_vote" if counts.sum() else "cross_entropy"
    development = {kind: scores[best]}
    if calibration.loss:
        development["nll_per_vote_calibrated"] = calibration.loss[calibration.method]
    class_shares = targets.class_shares_nll(judge)
    if class_shares is not None:
        development[CLASS_SHARES] = class_shares
    file = TrainedFile(
        recipe="features", name=settings.name, labels=targets.labels, calibration=calibration,
        trained_on=targets.trained_on, development=development, features=DIGEST, seconds=(0.1, LONGEST),
        settings=settings.model_dump(mode="json"),
    )  # fmt: skip
    with whole_folder(folder / MODEL) as partial:
        model.save(partial / _WEIGHTS)
        write_trained_file(partial, file)
        write_text(partial / "README.md", model_card(file, targets))
    say(f"{settings.name}: {scores[best]:.4f} nats on the development speakers, pass {best + 1}", quiet=quiet)
    nll = scores if kind == "nll_per_vote" else [None] * len(scores)
    frame = pl.DataFrame(
        {"epoch": range(1, len(scores) + 1), "loss": None, "score": scores, "nll_per_vote": nll},
        schema_overrides={"loss": pl.Float64, "nll_per_vote": pl.Float64},
    )
    return Outcome(folder / MODEL, frame, tuple(findings), targets, file, lost)


def _row(clip: Clip) -> Floats:
    return row_of(measure(clip))


def _distance(scale: Scale, rows: Floats) -> NDArray[np.float64]:
    """The mean squared z-score of the features that are known."""
    with np.errstate(invalid="ignore"):
        away = np.square((rows.astype(np.float64) - scale.centre) / scale.spread)
    known = np.isfinite(away)
    distance: NDArray[np.float64] = np.where(known, away, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    return distance
