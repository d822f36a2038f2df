"""predict: predict label distributions with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from alm_proxies.about import About, MadeBy
from alm_proxies.arguments import checked
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.printable import counted
from alm_proxies.shown import Shown
from alm_proxies.stages.predict.settings import PredictSettings
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.tables import ATTRIBUTES, Finding, Findings, Labels, Utterances
from alm_proxies.trained_on import KEY, MEASURED

if TYPE_CHECKING:
    from alm_proxies.audio.clip import Clip
    from alm_proxies.audio.recipe import Sounds
    from alm_proxies.audio.store import Store
    from alm_proxies.audio.vectors import ClipVector, Floats
    from alm_proxies.models.trained import Predictions, TrainedModel
    from alm_proxies.training.features import FeaturesModel
    from alm_proxies.training.loading import AnyTrained

__all__ = ["PredictSettings", "Predicted", "predict"]

_AT_ONCE = 8  # batches sorted by length together
_ROWS_AT_ONCE = 256  # of measured features, whatever the batch: how many are multiplied at once rounds the sums
_STATISTICS_AT_ONCE = 32  # of a frozen encoder, which are larger
_SHOWN = 3  # strongest of each kind of evidence


@dataclass(frozen=True, slots=True, repr=False)
class Predicted(Shown):
    """The result of predict: predictions, and findings for recordings that could not be used.

    labels has, in addition to the contract's columns, `abstain`: whether the model is less certain of the clip than of
    nearly all development clips, or the clip is less like the training clips than these; and, on request, `evidence`:
    JSON {seconds, prosody} of the largest effects on the prediction.
    """

    labels: Labels
    findings: Findings
    recordings: int
    """The number of recordings, with those that could not be used."""

    @property
    def counts(self) -> dict[str, float]:
        """The number of recordings, and of those left out."""
        return {"recordings": self.recordings, "left_out": self.recordings - len(self.labels)}

    @property
    def line(self) -> str:
        """The numbers of predictions and of abstentions."""
        unsure = int(self.labels.frame["abstain"].sum())
        return f"{counted(len(self.labels), 'recording')} predicted, the model abstains on {unsure:,} of them"


@checked
def predict(
    model: str | Path | AnyTrained,
    utterances: Utterances | str | Path,
    settings: PredictSettings | None = None,
    *,
    quiet: bool = False,
) -> Predicted:
    """The distribution that a trained model predicts for every utterance, or for every recording in a folder.

    `model` is a folder that train wrote, or a loaded model. The metadata of predictions has the corpora and speakers of
    the model's training (trained_on.without_trained_on leaves these out).
    """
    from alm_proxies.audio.clip import LONGEST
    from alm_proxies.audio.folder import recordings_in
    from alm_proxies.audio.recipe import Sounds
    from alm_proxies.models.trained import TrainedModel
    from alm_proxies.progress import Progress
    from alm_proxies.training.features import FeaturesModel
    from alm_proxies.training.loading import load_trained
    from alm_proxies.training.unusable import none_usable

    settings = settings or PredictSettings()
    trained = load_trained(model, device=settings.device) if isinstance(model, str | Path) else model
    table = utterances if isinstance(utterances, Utterances) else recordings_in(utterances)
    refuse_no_rows(table.frame, "utterances")
    ids = table.frame["utterance_id"].to_list()
    sounds = Sounds(table, stage="predict", rate=trained.rate, longest=trained.file.seconds[1])
    findings: list[Finding] = []
    rows: list[dict[str, object]] = []
    plain = settings.condition is None and not settings.evidence
    # features of clips that are too long for the model may be kept
    if isinstance(trained, FeaturesModel) and plain and trained.file.seconds[1] >= LONGEST:
        parts = _of_features(trained, ids, sounds, settings)
    elif plain and isinstance(trained, TrainedModel) and (store := _kept(trained, len(ids), model)) is not None:
        parts = _of_statistics(trained, ids, sounds, settings, store)
    else:
        parts = _of_clips(trained, ids, sounds, settings)
    with Progress("predicting", len(ids), quiet=quiet) as progress:
        for part in parts:
            rows += part.rows
            findings += part.findings
            progress.advance(part.count)
    if not rows:
        raise none_usable(f"no recording could be used, of {len(ids):,}", findings, where="predict")
    return Predicted(_labels(trained, rows, settings, table), Findings.gather(findings), len(ids))


@dataclass(frozen=True, slots=True)
class _Part:
    """The predictions of some recordings, and findings."""

    count: int
    rows: list[dict[str, object]]
    findings: list[Finding]


def _of_clips(trained: AnyTrained, ids: list[str], sounds: Sounds, settings: PredictSettings) -> Iterator[_Part]:
    from alm_proxies.audio.recipe import in_condition

    ahead = sounds.ahead(ids, threads=settings.threads, ahead=2 * settings.batch)
    while group := list(islice(ahead, _AT_ONCE * settings.batch)):
        clips: list[tuple[str, Clip]] = []
        findings: list[Finding] = []
        for opened in group:
            findings += [_with_own_limit(finding, trained) for finding in opened.findings]
            if opened.clip is None:
                continue
            if opened.clip.duration < trained.file.seconds[0]:
                findings.append(_too_short(opened.utterance_id, opened.clip.duration))
            else:
                clip, name, condition = opened.clip, opened.utterance_id, settings.condition
                clips.append((name, clip if condition is None else in_condition(clip, condition, name)))
        yield _Part(len(group), _predictions(trained, clips, settings), findings)


def _of_features(trained: FeaturesModel, ids: list[str], sounds: Sounds, settings: PredictSettings) -> Iterator[_Part]:
    """The same from measured features, which the cache may have."""
    from alm_proxies.audio.measured import DIGEST, NAMES, measuring
    from alm_proxies.audio.vectors import store_of, vectors_ahead

    store = store_of(len(NAMES), DIGEST, None)
    ahead = vectors_ahead(ids, sounds, measuring("predict"), store, threads=sounds.threads(settings.threads))
    yield from _of_vectors(trained, ahead, trained.of_rows, at_once=_ROWS_AT_ONCE)
    yield _Part(0, [], list(store.findings("predict")))


def _kept(trained: TrainedModel, count: int, model: str | Path | AnyTrained) -> Store | None:
    """Where statistics of clips by its frozen encoder are kept; what its training kept in its folder is read."""
    from alm_proxies.models.trained import FILE
    from alm_proxies.training.frozen import kept_statistics

    beside = None
    if isinstance(model, str | Path):
        folder = Path(model)
        beside = (folder.parent if (folder / FILE).is_file() else folder) / "features"
    return kept_statistics(trained, count, beside)


def _of_statistics(
    trained: TrainedModel, ids: list[str], sounds: Sounds, settings: PredictSettings, store: Store
) -> Iterator[_Part]:
    """The same from the statistics of a frozen encoder's states, which the cache may have, as training keeps them."""
    from alm_proxies.audio.vectors import vectors_ahead
    from alm_proxies.training.frozen import statistics_by

    width = trained.model.encoder.width

    def refused(clip: Clip, name: str) -> Finding | None:
        return _too_short(name, clip.duration) if clip.duration < trained.file.seconds[0] else None

    encoding = statistics_by(trained.model, refused)
    ahead = vectors_ahead(ids, sounds, encoding, store, threads=sounds.threads(settings.threads))
    predicted = partial(_of_rows, trained, width)
    for part in _of_vectors(trained, ahead, predicted, at_once=_STATISTICS_AT_ONCE):
        yield replace(part, findings=[_with_own_limit(finding, trained) for finding in part.findings])
    yield _Part(0, [], list(store.findings("predict")))


def _of_rows(trained: TrainedModel, width: int, rows: Floats) -> Predictions:
    return trained.of_statistics(rows.reshape(len(rows), -1, width))


def _of_vectors(
    trained: AnyTrained, ahead: Iterator[ClipVector], predicted: Callable[[Floats], Predictions], *, at_once: int
) -> Iterator[_Part]:
    while group := list(islice(ahead, at_once)):
        known = [(clip.utterance_id, clip.vector) for clip in group if clip.vector is not None]
        rows: list[dict[str, object]] = []
        if known:
            predictions = predicted(np.stack([vector for _, vector in known]))
            rows = [_row(trained, name, predictions, place) for place, (name, _) in enumerate(known)]
        yield _Part(len(group), rows, [finding for clip in group for finding in clip.findings])


def _predictions(
    trained: AnyTrained, clips: list[tuple[str, Clip]], settings: PredictSettings
) -> list[dict[str, object]]:
    order = sorted(clips, key=lambda pair: len(pair[1].samples))
    rows: list[dict[str, object]] = []
    for start in range(0, len(order), settings.batch):
        part = order[start : start + settings.batch]
        predictions = trained.predict([clip for _, clip in part])
        for place, (name, clip) in enumerate(part):
            row = _row(trained, name, predictions, place)
            if settings.evidence:
                row["evidence"] = _evidence(trained, clip)
            rows.append(row)
    return rows


def _row(trained: AnyTrained, name: str, predictions: Predictions, place: int) -> dict[str, object]:
    row: dict[str, object] = {"utterance_id": name}
    row |= {f"p_{label}": float(share) for label, share in zip(trained.labels, predictions.shares[place], strict=True)}
    strength = float(predictions.concentration[place])
    row["concentration"] = strength if np.isfinite(strength) else None
    if predictions.attributes is not None and predictions.deviation is not None:
        for number, attribute in enumerate(ATTRIBUTES):
            if trained.file.attributes[number]:
                row[attribute] = float(predictions.attributes[place, number])
                row[f"{attribute}_sd"] = float(predictions.deviation[place, number])
    row["abstain"] = bool(predictions.abstain[place])
    return row


def _evidence(trained: AnyTrained, clip: Clip) -> str:
    evidence = trained.evidence(clip)
    return canonical_json(
        {
            kind: [
                {"what": item.what, "moves": round(item.distance, 4), "gains": item.gains, "loses": item.loses}
                for item in moved[:_SHOWN]
            ]
            for kind, moved in (("seconds", evidence.seconds), ("prosody", evidence.prosody))
        }
    )


def _labels(
    trained: AnyTrained,
    rows: list[dict[str, object]],
    settings: PredictSettings,
    utterances: Utterances,
) -> Labels:
    file = trained.file
    measured = None if file.measured is None else file.measured.model_dump()
    kept = {"model": file.name, "recipe": file.recipe, KEY: file.trained_on, MEASURED: measured}
    made_by = MadeBy(
        stage="predict",
        settings_digest=digest_of([kept, settings.model_dump(mode="json", include={"evidence", "condition"})]),
        inputs={"utterances": utterances.content_digest()},
        settings=kept | {"condition": settings.condition},
    )
    frame = pl.DataFrame(rows, infer_schema_length=None).sort("utterance_id")
    return Labels.of(frame, about=About(taxonomy=file.labels, made_by=made_by))


def _with_own_limit(finding: Finding, trained: AnyTrained) -> Finding:
    """A finding with the fix for a clip that is too long for the model, where its training set the limit."""
    from alm_proxies.models.trained import TrainedModel

    if finding.kind != "too_long" or not isinstance(trained, TrainedModel):
        return finding
    taken = trained.model.encoder.longest
    if taken is not None and trained.file.seconds[1] >= taken:
        return finding
    return replace(finding, fix="Give start and end of the utterance, or train with a larger longest (--longest).")


def _too_short(name: str, seconds: float) -> Finding:
    return Finding("predict", "too_short", f"lasts {seconds:.2f} s, too short for the model", "Leave it out.", name)
