"""The machine drift check: whether a listener predicts another emotion for a generated item than for its parents.

The listener is a head on measured features, trained on the targets in folds of speakers; an item is predicted by the
model that was trained without the fold of its parents. Of an item x with parents i and their shares s_i

    d(x) = JSD(p(x), sum_i s_i p(i))

and x is rejected where d is above the 95th percentile of JSD(p(i), q(i)) over untouched clips i, where p and q are that
listener with two seeds. This is no evidence about people: it shows only what a model of this kind detects, and which
changes it detects is measured by audible changes (the positive controls).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.measured import NAMES, measuring
from alm_proxies.audio.recipe import Sounds, with_effect
from alm_proxies.measures.divergence import jsd_nats
from alm_proxies.seeds import generator, seed_of
from alm_proxies.training.folds import Fitted, Material, assign_folds, cross_fit
from alm_proxies.training.head_settings import HeadSettings

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Index = NDArray[np.int64]

STAGE = "balance"
QUANTILE = 0.95
"""The quantile of the differences between two seeds; a larger difference is drift."""
DETECTED = 0.8
"""The check is blind for a positive control of which it rejects a smaller share."""
FOLDS = 5
LISTENER = HeadSettings(seeds=1)
"""The number of heads; averages of several differ so little that nearly every item would be above the threshold."""
OTHER_EMOTION = "another emotion"
CONTROLS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "pitch +4 semitones": ("pitch", {"semitones": 4.0}),
    "pitch -4 semitones": ("pitch", {"semitones": -4.0}),
    "rate 1.5": ("speed", {"factor": 1.5}),
    "noise at 0 dB": ("noise", {"snr": 0.0}),
}
"""Effects that a check should detect."""


@dataclass(frozen=True, slots=True)
class Control:
    """The share of a positive control that the check rejects; NaN if it could not be tried."""

    name: str
    tried: int
    rate: float

    @property
    def blind(self) -> bool:
        """Whether the check is blind for it."""
        return not self.rate >= DETECTED


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """A listener in folds of speakers, and the distance above which an item has drifted."""

    fold: Index
    """The fold of every training utterance; -1 = without features."""
    shares: Array
    """The out-of-fold prediction of the listener for every utterance."""
    fitted: Fitted
    threshold: float

    def distances(self, features: Floats, parents: Sequence[Sequence[tuple[int, float]]]) -> Array:
        """d of every item, given its features and the rows and shares of its parents, which are all of one fold."""
        wanted = np.stack([np.sum([share * self.shares[row] for row, share in of], axis=0) for of in parents])
        heard = np.zeros_like(wanted)
        folds = np.array([self.fold[of[0][0]] for of in parents])
        for fold, model in enumerate(self.fitted.models):
            here = folds == fold
            if here.any():
                heard[here] = model.predict(features[here])
        return jsd_nats(heard, wanted)


def drift_check(
    features: Floats,
    known: NDArray[np.bool_],
    targets: Array,
    speakers: Sequence[str],
    *,
    seed: int,
    threads: int = 2,
) -> Drift:
    """Train a drift check on these targets (rows x labels) and features, in folds of speakers."""
    labels = tuple(str(number) for number in range(targets.shape[1]))
    rows = np.flatnonzero(known)
    names = [speakers[row] for row in rows.tolist()]
    folds = assign_folds(names, FOLDS, seed)
    fold = np.array([folds[name] for name in names], dtype=np.int64)
    material = Material(labels, features[rows], targets[rows], fold)

    def relabel(rows: Index, shares: Array) -> Array:
        raise AssertionError("one round has no fusion")

    fits = [
        cross_fit(
            material, LISTENER, rounds=1, seed=seed_of(seed, "drift", number), relabel=relabel,
            threads=threads,
        )
        for number in range(2)
    ]  # fmt: skip
    shares, of_all = np.full(targets.shape, np.nan), np.full(len(targets), -1, dtype=np.int64)
    shares[rows], of_all[rows] = fits[0].shares, fold
    between = jsd_nats(fits[0].shares, fits[1].shares)
    return Drift(of_all, shares, fits[0], float(np.quantile(between, QUANTILE)))


def heard_after(
    ids: Sequence[str], sounds: Sounds, effects: Sequence[tuple[str, dict[str, Any]]], *, seed: int
) -> Iterator[Floats | None]:
    """The features of each clip after its effect; None if it cannot be opened or measured."""
    measured = measuring(STAGE)
    for opened, effect in zip(sounds.ahead(ids), effects, strict=True):
        if opened.clip is None:
            yield None
            continue
        name = opened.utterance_id
        yield measured(with_effect(opened.clip, name, effect, seed_of(seed, "drift", name)), name)[0]


def rejected(drift: Drift, rows: Sequence[int], features: Sequence[Floats | None]) -> Array:
    """d of changed clips, each from one row; those that could not be measured are left out."""
    pairs = [(row, row_features) for row, row_features in zip(rows, features, strict=True) if row_features is not None]
    if not pairs:
        return np.zeros(0)
    return drift.distances(np.stack([row_features for _, row_features in pairs]), [[(row, 1.0)] for row, _ in pairs])


def controls_of(
    drift: Drift,
    ids: Sequence[str],
    sounds: Sounds,
    targets: Array,
    sentences: Sequence[tuple[str, str] | None],
    *,
    seed: int,
    count: int,
) -> tuple[Control, ...]:
    """The detection rate of every positive control, on at most `count` utterances drawn by the seed.

    `sentences` has the speaker and the words of every utterance, if both are known: another utterance with the same two
    and another most likely label is the control "another emotion".
    """
    able = np.flatnonzero(drift.fold >= 0)
    rng = generator(seed, "drift controls")
    drawn = np.sort(rng.permutation(able)[:count])
    controls = []
    for name, effect in CONTROLS.items():
        chosen = [ids[row] for row in drawn]
        features = list(heard_after(chosen, sounds, [effect] * len(chosen), seed=seed))
        d = rejected(drift, drawn.tolist(), features)
        controls.append(Control(name, len(d), float((d > drift.threshold).mean()) if len(d) else float("nan")))
    pairs = _other_emotions(able, targets, sentences)
    pairs = pairs[np.sort(rng.permutation(len(pairs))[:count])]
    d = jsd_nats(drift.shares[pairs[:, 0]], drift.shares[pairs[:, 1]]) if len(pairs) else np.zeros(0)
    rate = float((d > drift.threshold).mean()) if len(d) else float("nan")
    return (*controls, Control(OTHER_EMOTION, len(d), rate))


def _other_emotions(able: Index, targets: Array, sentences: Sequence[tuple[str, str] | None]) -> Index:
    """Rows of the same speaker and words with other most likely labels, each row once as the first."""
    top = targets.argmax(1)
    groups: dict[tuple[str, str], list[int]] = {}
    for row in able.tolist():
        sentence = sentences[row]
        if sentence is not None:
            groups.setdefault(sentence, []).append(row)
    pairs = []
    for rows in groups.values():
        for place, row in enumerate(rows):
            others = [other for other in (*rows[place + 1 :], *rows[:place]) if top[other] != top[row]]
            if others:
                pairs.append((row, others[0]))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


WIDTH = len(NAMES)
"""The number of features of a row."""
