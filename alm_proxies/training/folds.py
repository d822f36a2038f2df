"""Cross-fitting in folds of speakers: predictions for a fold do not depend on any vote of that fold, in any round.

Round 1, fold f: heads trained without each pair {f, g} are scored on the votes of g, for early stopping and
temperature; then heads are trained on all folds but f and predict f. Round 2, fold f: the predictions for g of the
heads without {f, g} are fused with the votes of g, for every g but f; the fusion is fitted to all folds but f; then
heads are trained on these fused labels and predict f. So no step of f's predictions uses a vote of f.

The folds must not depend on votes either: they include all rows, with or without votes. Then every row is predicted by
its own fold's models, and deleting all votes of a speaker or of a fold changes no byte of its predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alm_proxies.estimators.estimator import one_thread
from alm_proxies.printable import counted
from alm_proxies.progress import Progress, say
from alm_proxies.seeds import generator
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import (
    Array,
    Floats,
    HeadModel,
    Index,
    Scale,
    log_loss,
    sum_of,
    temperature_of,
    tempered,
    train,
)
from alm_proxies.training.kept_fits import KeptFits

Relabel = Callable[[Index, Array], Array]
"""A function that fuses the votes of rows with out-of-fold predictions; it is fitted to these rows only."""
_PATIENCE = 6
"""The number of epochs without a lower loss after which a fold stops training."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Material:
    """Clips that can be learned from or predicted, one row each."""

    labels: tuple[str, ...]
    features: Floats
    """Frozen features; NaN = not known."""
    votes: Array
    """Human votes for each label; a row of zeros is predicted, but not used for training."""
    fold: Index
    """Fold of each row, 0 .. K - 1; it must not depend on votes."""
    draws: tuple[Index, Array] | None = None
    """Row and vector of every vote, where votes are shared among labels."""

    @property
    def folds(self) -> int:
        """The number of folds."""
        return int(self.fold.max()) + 1

    def teaching(self, *without: int) -> Index:
        """The rows with votes outside some folds."""
        return np.flatnonzero(self.votes.any(1) & ~np.isin(self.fold, without))

    def votes_by_fold(self) -> Array:
        """The number of votes in each fold."""
        return np.bincount(self.fold, weights=self.votes.sum(1), minlength=self.folds).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Predictions of every row, the model of every fold, and how they were trained."""

    shares: Array
    models: tuple[HeadModel, ...]
    epochs: tuple[int, ...]
    """The number of epochs of each fold's heads."""
    curves: Array
    """Log loss per vote on other speakers by epoch, one row per fold, used for early stopping."""
    rounds: tuple[Array, ...]
    """Predictions after each round; the last is `shares`."""


def assign_folds(speakers: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Assign each speaker to a fold, with similar numbers of clips; `speakers` has the speaker of every clip."""
    names, sizes = np.unique(np.asarray(speakers, dtype=np.str_), return_counts=True)
    order = generator(seed, "listen folds").permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load = np.zeros(min(folds, len(names)))
    assigned: dict[str, int] = {}
    for place in order:
        fold = int(np.argmin(load))
        assigned[str(names[place])] = fold
        load[fold] += sizes[place]
    return dict(sorted(assigned.items()))


def cross_fit(
    material: Material,
    settings: HeadSettings,
    *,
    rounds: int,
    seed: int,
    relabel: Relabel,
    threads: int = 2,
    quiet: bool = True,
    keep: Path | None = None,
) -> Fitted:
    """Out-of-fold predictions of every row, in nested rounds; two folds or more must have votes.

    The folder `keep` gets every training that is done, under a digest of the arguments: an interrupted call takes them
    again. `relabel` is not in the digest, so it must depend on the others alone.
    """
    count = material.folds
    arrays: dict[str, NDArray[Any]] = {"features": material.features, "votes": material.votes, "fold": material.fold}
    if material.draws is not None:
        arrays |= dict(zip(("rows of draws", "draws"), material.draws, strict=True))
    kept = KeptFits.of(keep, arrays, [material.labels, settings.model_dump(mode="json"), seed])
    total = count * (count + 1) // 2 + (rounds - 1) * count
    if done := kept.count():
        say(f"listening: {counted(done, 'training')} of {total} taken from the interrupted run", quiet=quiet)
    with one_thread(), Progress("listening", total, quiet=quiet) as progress:

        def every(items: Iterable[T], function: Callable[[T], R]) -> list[R]:
            results = []
            with ThreadPoolExecutor(threads) as pool:
                for result in pool.map(function, items):
                    results.append(result)
                    progress.advance()
            return results

        def watch(pair: tuple[int, int]) -> dict[int, Array]:
            return kept.curves("pair-{}-{}".format(*pair), lambda: _watched(material, settings, pair, seed))

        pairs = list(combinations(range(count), 2))
        watched = dict(zip(pairs, every(pairs, watch), strict=True))
        stops = [_stop(material, watched, fold, settings.epochs) for fold in range(count)]
        targets = dict.fromkeys(range(count), material.votes)
        shares: list[Array] = []
        models: list[HeadModel] = []
        for number in range(rounds):
            if number:
                targets = {fold: _relabelled(material, watched, stops[fold], fold, relabel) for fold in range(count)}

            def fit(fold: int, number: int = number, targets: dict[int, Array] = targets) -> HeadModel:
                return kept.model(
                    f"fold-{fold}-{number}",
                    lambda: _model(material, targets[fold], settings, stops[fold], fold, seed, number),
                )

            models = every(range(count), fit)
            shares.append(_predicted(material, models))
    curves = np.stack([stop.curve for stop in stops])
    return Fitted(shares[-1], tuple(models), tuple(stop.epochs for stop in stops), curves, tuple(shares))


@dataclass(frozen=True, slots=True)
class _Stop:
    epochs: int
    temperature: float
    curve: Array


def _watched(material: Material, settings: HeadSettings, pair: tuple[int, int], seed: int) -> dict[int, Array]:
    """Predictions of heads trained without a pair of folds for each of the two: fold -> epochs x rows x labels.

    Once the loss on a fold's own votes has not fallen for some epochs, there are no later ones. This uses the votes of
    this fold only: its predictions must not depend on those of the other fold. If no votes are left without the pair,
    every label is equally likely.
    """
    rows = material.teaching(*pair)
    if not len(rows):
        labels = len(material.labels)
        return {fold: np.full((1, int((material.fold == fold).sum()), labels), 1 / labels) for fold in pair}
    scale = Scale.of(material.features, settings.components, rows)
    scaled = scale.apply(material.features, rows)
    rngs = [generator(seed, "listen pair", *pair, number) for number in range(settings.seeds)]
    runs = [train(scaled, material.votes[rows], settings, rng, settings.epochs) for rng in rngs]
    here = {fold: np.flatnonzero(material.fold == fold) for fold in pair}
    seen = {fold: scale.apply(material.features, own) for fold, own in here.items()}
    curves: dict[int, list[Array]] = {fold: [] for fold in pair}
    losses: dict[int, list[float]] = {fold: [] for fold in pair}
    for heads in zip(*runs, strict=True):
        going = [fold for fold in pair if not _is_over(losses[fold])]
        if not going:
            break
        for fold in going:
            shares = sum_of([head.predict(seen[fold]) for head in heads]) / settings.seeds
            curves[fold].append(shares)
            losses[fold].append(log_loss(shares, material.votes[here[fold]]))
    return {fold: np.stack(curve) for fold, curve in curves.items()}


def _to_epoch(curve: Array, epochs: int) -> Array:
    """Values by epoch, the last of them repeated for the epochs that were not run."""
    return np.concatenate([curve, np.repeat(curve[-1:], epochs - len(curve), axis=0)])


def _is_over(losses: list[float]) -> bool:
    """Whether the loss has not fallen for some epochs."""
    return len(losses) > _PATIENCE and min(losses[-_PATIENCE:]) >= min(losses[:-_PATIENCE])


def _inner(watched: dict[tuple[int, int], dict[int, Array]], fold: int, other: int) -> Array:
    """Predictions of heads without both folds for the other one, by epoch, up to the last that was run."""
    return watched[(min(fold, other), max(fold, other))][other]


def _stop(material: Material, watched: dict[tuple[int, int], dict[int, Array]], fold: int, epochs: int) -> _Stop:
    """The number of epochs and the temperature for a fold, from the votes of the other folds.

    If only one other fold has votes, all epochs are run, with temperature 1.
    """
    others = [other for other in range(material.folds) if other != fold]
    if np.count_nonzero(material.votes_by_fold()[others]) < 2:
        return _Stop(epochs, 1.0, np.full(epochs, np.nan))
    votes = np.concatenate([material.votes[material.fold == other] for other in others])
    inner = [_inner(watched, fold, other) for other in others]
    longest = max(len(curve) for curve in inner)
    by_epoch = np.concatenate([_to_epoch(curve, longest) for curve in inner], axis=1)
    curve = _to_epoch(np.array([log_loss(predictions, votes) for predictions in by_epoch]), epochs)
    best = int(np.argmin(curve))
    return _Stop(best + 1, temperature_of(by_epoch[best], votes), curve)


def _relabelled(
    material: Material,
    watched: dict[tuple[int, int], dict[int, Array]],
    stop: _Stop,
    fold: int,
    relabel: Relabel,
) -> Array:
    """Targets of the next round for a fold: the other folds' votes fused with predictions made without both."""
    shares = np.zeros_like(material.votes)
    for other in range(material.folds):
        if other != fold:
            inner = _inner(watched, fold, other)
            shares[material.fold == other] = inner[min(stop.epochs, len(inner)) - 1]
    rows = material.teaching(fold)
    targets = np.zeros_like(material.votes)
    targets[rows] = relabel(rows, tempered(shares[rows], stop.temperature))
    return targets


def _model(
    material: Material, targets: Array, settings: HeadSettings, stop: _Stop, fold: int, seed: int, number: int
) -> HeadModel:
    rows = material.teaching(fold)
    scale = Scale.of(material.features, settings.components, rows)
    scaled = scale.apply(material.features, rows)
    heads = []
    for member in range(settings.seeds):
        rng = generator(seed, "listen fold", number, fold, member)
        *_, last = train(scaled, targets[rows], settings, rng, stop.epochs)
        heads.append(last)
    # fused labels are soft and need no temperature: one learned on raw votes would sharpen or flatten them
    return HeadModel(material.labels, scale, tuple(heads), 1.0 if number else stop.temperature)


def _predicted(material: Material, models: Sequence[HeadModel]) -> Array:
    shares = np.zeros_like(material.votes)
    for fold, model in enumerate(models):
        rows = np.flatnonzero(material.fold == fold)
        shares[rows] = model.predict(material.features, rows)
    return shares
