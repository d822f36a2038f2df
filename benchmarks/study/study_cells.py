"""Running one cell: five folds, each with targets of training actors, heads stopped by development actors, scores."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from study_design import FOLDS, LOCKBOX, Arm, Cell
from study_targets import filled_up, human_votes, targets_of, uniform_weights
from study_votes import Array, Corpus, Index, refuse_lockbox

from alm_proxies.estimators.estimator import one_thread
from alm_proxies.measures.divergence import entropy_normalised
from alm_proxies.measures.recovered import dirichlet_multinomial
from alm_proxies.seeds import generator
from alm_proxies.training.curriculum import curriculum_weights
from alm_proxies.training.folds import assign_folds
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Floats, Head, Scale, log_loss, sum_of, temperature_of, tempered, train
from alm_proxies.training.settings import CurriculumSettings

HEAD = HeadSettings(seeds=2, epochs=200)
PATIENCE = 8
"""Epochs without a better score of the development actors after which training ends."""
SCHEDULE = 30
"""Epochs of a curriculum's schedule: training never ends before it does."""
DEVELOPMENT = 5
"""One in this many of the actors that are not scored is a development actor."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Rows of one fold: of training, development and scored actors; no actor is on two sides."""

    train: Index
    development: Index
    scored: Index


@dataclass(slots=True)
class Study:
    """The corpus, its frozen features, and where targets that were made are kept."""

    corpus: Corpus
    features: Floats
    folder: Path
    _scaled: dict[tuple[int, int], Floats] = field(default_factory=dict)

    @property
    def folds(self) -> int:
        """Folds of a cell; with the lockbox one, which scores its actors."""
        return FOLDS if self.corpus.opening is None else 1

    def sides(self, partition: int, fold: int) -> Sides:
        """Who trains, who stops and who is scored: a fold of the actors, or those of the opened lockbox."""
        actors = self.corpus.actors
        if self.corpus.opening is None:
            folds = assign_folds(actors.tolist(), FOLDS, partition)
        else:
            folds = {actor: 0 if actor in LOCKBOX else 1 for actor in set(actors.tolist())}
        others = sorted(actor for actor, place in folds.items() if place != fold)
        order = generator(partition, "study development", fold).permutation(len(others))
        judges = {others[place] for place in order[: max(1, len(others) // DEVELOPMENT)]}
        side = np.array([2 if folds[actor] == fold else int(actor in judges) for actor in actors.tolist()])
        sides = Sides(*(np.flatnonzero(side == number) for number in range(3)))
        refuse_lockbox(actors[np.concatenate([sides.train, sides.development])].tolist())
        return sides

    def scaled(self, partition: int, fold: int) -> Floats:
        """Features of all clips as heads take them, by what the training clips show."""
        key = (partition, fold)
        if key not in self._scaled:
            rows = self.sides(partition, fold).train
            self._scaled[key] = Scale.of(self.features[rows], HEAD.components).apply(self.features)
        return self._scaled[key]

    def targets(self, arm: Arm, partition: int, seed: int, fold: int) -> Array:
        """Targets of the fold's training clips; fused ones are kept from run to run."""
        rows = self.sides(partition, fold).train
        if arm.targets == "half":
            parts = [self.targets(replace(arm, targets="auto"), partition, seed, fold)]
            parts.append(targets_of(self.corpus, self.features, Arm("human", k=arm.k), rows, seed))
            return np.asarray(sum(parts) / 2)
        if arm.targets != "auto":
            return targets_of(self.corpus, self.features, arm, rows, seed)
        path = self.folder / "targets" / f"{arm.name}__p{partition}_s{seed}_f{fold}.npy"
        if path.exists():
            kept: Array = np.load(path)
            return kept
        targets = targets_of(self.corpus, self.features, arm, rows, seed)
        write_array(path, targets)
        return targets


def write_array(path: Path, array: Array) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.npy")
    np.save(partial, array)
    partial.rename(path)


def run_cell(study: Study, cell: Cell) -> tuple[dict[str, Any], Array]:
    """What is known of a cell (stops, temperatures, concentrations, seconds), and its predictions for every clip."""
    started = time.perf_counter()
    predictions = np.zeros_like(study.corpus.voice)
    stops, temperatures, strengths = [], [], []
    with one_thread():
        for fold in range(study.folds):
            sides = study.sides(cell.partition, fold)
            judged = human_votes(study.corpus, cell.arm, sides.development, cell.seed)
            heads, stop, temperature = _fitted(study, cell, fold, judged)
            scaled = study.scaled(cell.partition, fold)
            predictions[sides.scored] = tempered(_mean(heads, scaled[sides.scored]), temperature)
            stops.append(stop)
            temperatures.append(temperature)
            strengths.append(concentration_of(tempered(_mean(heads, scaled[sides.development]), temperature), judged))
    line = {
        "key": cell.key, "arm": cell.arm.name, "partition": cell.partition, "seed": cell.seed, "epochs": stops,
        "temperatures": temperatures, "concentrations": strengths,
        "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip
    return line, predictions


def _fitted(study: Study, cell: Cell, fold: int, judged: Array) -> tuple[tuple[Head, ...], int, float]:
    """Heads at the epoch that development actors' human votes choose, that epoch, and the temperature."""
    arm, seed = cell.arm, cell.seed
    sides, scaled = study.sides(cell.partition, fold), study.scaled(cell.partition, fold)
    targets = study.targets(arm.source, cell.partition, seed, fold)
    known = targets.any(1)
    rows, wanted = sides.train[known], targets[known]
    given = scaled[rows]
    if arm.balance == "dime":
        wanted = wanted * uniform_weights(study.corpus, rows, wanted)[:, None]
    elif arm.balance == "reference":
        given, wanted = filled_up(given, wanted, seed)
    weights_in = None
    if arm.curriculum != "none":
        settings = CurriculumSettings(kind=arm.curriculum)
        ambiguity = entropy_normalised(wanted / wanted.sum(1, keepdims=True))

        def weights_in(epoch: int) -> Array:
            return curriculum_weights(ambiguity, settings, epoch, SCHEDULE)

    runs = [
        train(given, wanted, HEAD, generator(seed, "study heads", cell.partition, fold, number), HEAD.epochs,
              weights_in=weights_in)
        for number in range(HEAD.seeds)
    ]  # fmt: skip
    votes = judged.any(1)
    scores: list[float] = []
    best: tuple[Head, ...] = ()
    for heads in zip(*runs, strict=True):
        shares = _mean(heads, scaled[sides.development[votes]])
        scores.append(log_loss(shares, judged[votes]))
        if scores[-1] == min(scores):
            best, chosen = heads, shares
        over = arm.curriculum == "none" or len(scores) >= SCHEDULE
        if over and len(scores) - 1 - int(np.argmin(scores)) >= PATIENCE:
            break
    return best, int(np.argmin(scores)) + 1, temperature_of(chosen, judged[votes])


def _mean(heads: tuple[Head, ...], rows: Floats) -> Array:
    return sum_of([head.predict(rows) for head in heads]) / len(heads)


def concentration_of(shares: Array, votes: Array) -> float | None:
    """The one Dirichlet strength that gives votes the highest likelihood; None where no clip has two votes."""
    from scipy.optimize import minimize_scalar

    rows = votes.sum(1) >= 2
    if not rows.any():
        return None
    weight = votes[rows].sum(1)

    def loss(log_strength: float) -> float:
        strength = np.full(int(rows.sum()), np.exp(log_strength))
        return float((dirichlet_multinomial(votes[rows], shares[rows], strength) * weight).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-1.0, 7.0), method="bounded").x))
