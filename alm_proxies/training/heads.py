"""Heads on frozen features, in numpy: they predict label distributions, and are trained in seconds.

A head is a hidden layer and a softmax. Features are standardised, reduced to their first principal components and
scaled, with statistics of the training clips only. Several heads of different seeds are averaged, then tempered.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from alm_proxies.errors import InputError
from alm_proxies.files import could_not_read, write_bytes
from alm_proxies.seeds import generator
from alm_proxies.training.head_settings import HeadSettings

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Index = NDArray[np.int64]
F = TypeVar("F", Array, Floats)
_FURTHEST = 5.0  # limit of standardised features
_LEAST = 1e-6  # lowest probability
_VERSION = 1
_AT_ONCE = 8192  # clips that are projected at once, so that no second copy of all features is made
_IN_DOUBLE = 1024  # of these, those that are standardised at once, in double precision
_COLUMNS = 64  # features whose mean and deviation are computed at once
_FOR_DIRECTIONS = 10_000  # the largest number of clips that principal components are computed from


@dataclass(frozen=True, slots=True)
class Scale:
    """The input of a head: (clip((x - centre) / spread) @ basis) / size; unknown features get their mean."""

    centre: Array
    spread: Array
    basis: Array | None
    size: float

    @classmethod
    def of(cls, features: Floats, components: int, rows: Index | None = None) -> Self:
        """The statistics of training clips, of all or of some rows: mean and deviation of each feature, and principal
        components, of at most 10,000 clips.
        """
        rows = _every(features) if rows is None else rows
        centre, spread = _moments(features, rows)
        scale = cls(centre, spread, None, 1.0)
        kept = max(1, min(components, len(rows) // 2))
        if kept < features.shape[1]:
            some = rows[:: -(-len(rows) // _FOR_DIRECTIONS) or 1]
            scale = cls(centre, spread, _principal(scale.apply(features, some), kept), 1.0)
        projected = scale.apply(features, rows)
        return cls(
            centre, spread, scale.basis, max(float(np.sqrt(np.square(projected, dtype=np.float64).mean())), 1e-12)
        )

    def apply(self, features: Floats, rows: Index | None = None) -> Floats:
        """Clips x components, of all clips or of some rows."""
        rows = _every(features) if rows is None else rows
        basis = None if self.basis is None else self.basis.astype(np.float32)
        scaled = np.empty((len(rows), features.shape[1] if basis is None else basis.shape[1]), np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            plain = np.empty((len(some), features.shape[1]), np.float32)
            for first in range(0, len(some), _IN_DOUBLE):
                piece = slice(first, first + _IN_DOUBLE)
                away = (features[some[piece]] - self.centre) / self.spread
                plain[piece] = np.clip(np.where(np.isfinite(away), away, 0.0), -_FURTHEST, _FURTHEST)
            scaled[start : start + len(some)] = (plain if basis is None else plain @ basis) / np.float32(self.size)
        return scaled


def _every(features: Floats) -> Index:
    return np.arange(len(features))


def _moments(features: Floats, rows: Index) -> tuple[Array, Array]:
    """Mean and deviation of each feature over some rows; an infinite deviation where it is hardly any.

    Some columns at a time, since all of a big corpus in double precision take several times its memory.
    """
    centre, spread = np.empty(features.shape[1]), np.empty(features.shape[1])
    for part in np.array_split(np.arange(features.shape[1]), max(1, features.shape[1] // _COLUMNS)):
        here = slice(part[0], part[-1] + 1)
        own = features[rows, here]
        known = np.isfinite(own)
        count = np.maximum(known.sum(0), 1)
        filled = np.where(known, own, 0.0).astype(np.float64)
        centre[here] = filled.sum(0) / count
        spread[here] = np.sqrt((np.square(filled - centre[here]) * known).sum(0) / count)
    return centre, np.where(spread > 1e-8 * (1.0 + np.abs(centre)), spread, np.inf)


def _principal(features: Floats, count: int) -> Array:
    """The first principal directions, by subspace iteration: those after the gap hardly matter to a head.

    The largest part of each is positive: which of its two signs a library gives changes with the last digit of the
    features, and then heads would start as with another seed.
    """
    rng = generator(0, "principal", features.shape[1], count)
    basis = rng.standard_normal((features.shape[1], min(count + 16, *features.shape))).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(features.T @ (features @ basis))
    inner = (features @ basis).astype(np.float64)
    _, turn = np.linalg.eigh(inner.T @ inner)
    directions = basis.astype(np.float64) @ turn[:, ::-1][:, :count]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], axis=0)
    return np.asarray(directions * np.where(largest < 0, -1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Head:
    """One head's weights: softmax(relu(x @ first + bias) @ second + prior)."""

    first: Floats
    second: Floats
    bias: Floats
    prior: Floats

    def predict(self, scaled: Floats) -> Array:
        """A distribution for each row of scaled features."""
        hidden = np.maximum(scaled @ self.first + self.bias, 0.0)
        return _softmax((hidden @ self.second + self.prior).astype(np.float64))


def train(
    scaled: Floats,
    targets: Array,
    settings: HeadSettings,
    rng: np.random.Generator,
    epochs: int,
    *,
    weights_in: Callable[[int], Array] | None = None,
) -> Iterator[Head]:
    """Yields the head after each epoch; a row of targets has vote counts, or shares times a weight.

    `weights_in` returns the weights of the rows in an epoch (from 0), such as those of a curriculum.

    Loss: -sum_ij targets_ij log p_ij / sum_ij targets_ij, the multinomial likelihood of the votes. A batch divides by
    its rows times the mean votes of a row: by its own votes, rows of high weight would count for less. The output layer
    starts at the labels' shares in the targets, without effects of the features.
    """
    wanted = targets.astype(np.float32)
    shares = (targets.sum(0) + 1.0) / (targets.sum() + targets.shape[1])
    shapes = ((scaled.shape[1], settings.hidden), (settings.hidden, targets.shape[1]), settings.hidden, len(shares))
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    weights, mean, square = (np.zeros(ends[-1], np.float32) for _ in range(3))  # of all layers, end to end
    head = Head(*(part.reshape(shape) for part, shape in zip(np.split(weights, ends[:-1]), shapes, strict=True)))
    head.first[:] = rng.standard_normal(shapes[0]) * np.sqrt(2.0 / scaled.shape[1])
    head.prior[:] = np.log(shares)
    matrices = weights[: ends[1]]
    step = 0
    batch = min(settings.batch, max(16, len(scaled) // 16))
    for epoch in range(epochs):
        if weights_in is not None:
            wanted = (targets * weights_in(epoch)[:, None]).astype(np.float32)
        usual = max(float(wanted.sum(dtype=np.float64)) / len(wanted), 1e-12)
        order = rng.permutation(len(scaled))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            step += 1
            parts = _slopes(head, scaled[rows], wanted[rows], usual * len(rows), settings.dropout, rng)
            slopes = np.concatenate([part.ravel() for part in parts])
            rate = settings.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            mean += 0.1 * (slopes - mean)
            square += 0.001 * (np.square(slopes) - square)
            matrices *= 1.0 - settings.learning_rate * settings.weight_decay
            weights -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
        yield Head(head.first.copy(), head.second.copy(), head.bias.copy(), head.prior.copy())


def _slopes(
    head: Head, rows: Floats, wanted: Floats, total: float, dropout: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """The slopes of the loss by the weights, in the order of a head; the loss is a sum over rows by `total` votes."""
    before = rows @ head.first + head.bias
    kept = (before > 0).astype(np.float32)
    if dropout:
        kept *= (rng.random(before.shape, dtype=np.float32) >= dropout) / np.float32(1.0 - dropout)
    hidden = before * kept
    votes = wanted.sum(1, keepdims=True)
    by_logit = (_softmax(hidden @ head.second + head.prior) * votes - wanted) / total
    by_hidden = (by_logit @ head.second.T) * kept
    return rows.T @ by_hidden, hidden.T @ by_logit, by_hidden.sum(0), by_logit.sum(0)


@dataclass(frozen=True, slots=True)
class HeadModel:
    """A model from features to distributions: scaling, averaged heads, temperature; saved as plain arrays."""

    labels: tuple[str, ...]
    scale: Scale
    heads: tuple[Head, ...]
    temperature: float = 1.0

    def predict(self, features: Floats, rows: Index | None = None) -> Array:
        """A distribution for each clip, of all or of some rows: the heads' mean, to the power of 1 / temperature."""
        scaled = self.scale.apply(features, rows)
        return tempered(sum_of([head.predict(scaled) for head in self.heads]) / len(self.heads), self.temperature)

    def save(self, path: str | Path) -> None:
        """Write it atomically as one .npz."""
        arrays: dict[str, NDArray[np.generic]] = {
            "about": np.array(
                json.dumps({"version": _VERSION, "labels": self.labels, "heads": len(self.heads)}, ensure_ascii=False)
            ),
            "centre": self.scale.centre,
            "spread": self.scale.spread,
            "size": np.array(self.scale.size),
            "temperature": np.array(self.temperature),
        }
        if self.scale.basis is not None:
            arrays["basis"] = self.scale.basis
        for number, head in enumerate(self.heads):
            parts = {"first": head.first, "bias": head.bias, "second": head.second, "prior": head.prior}
            arrays |= {f"head{number}_{name}": array for name, array in parts.items()}
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
        write_bytes(path, stream.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a model that `save` wrote."""
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as read:
                arrays = dict(read)
            about = json.loads(str(arrays["about"]))
            if about["version"] != _VERSION:
                raise InputError("was written by another version of alm-proxies", where=str(path), fix="Train again.")
            heads = [
                Head(*(arrays[f"head{number}_{part}"] for part in ("first", "second", "bias", "prior")))
                for number in range(int(about["heads"]))
            ]
            scale = Scale(arrays["centre"], arrays["spread"], arrays.get("basis"), float(arrays["size"]))
            return cls(tuple(about["labels"]), scale, tuple(heads), float(arrays["temperature"]))
        except OSError as error:
            raise could_not_read(path, error) from error
        except (BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
            raise InputError("has no trained head", where=str(path), fix="Train it again.") from error


def tempered(shares: Array, temperature: float) -> Array:
    """Distributions to the power of 1 / temperature; above 1 makes them flatter."""
    return _softmax(np.log(np.maximum(shares, _LEAST)) / temperature)


def temperature_of(shares: Array, targets: Array) -> float:
    """The temperature at which predictions give the targets the highest likelihood; 1 if there is no target."""
    from scipy.optimize import minimize_scalar

    if not targets.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        return log_loss(tempered(shares, float(np.exp(log_temperature))), targets)

    return float(np.exp(minimize_scalar(loss, bounds=(-1.1, 1.1), method="bounded").x))


def log_loss(shares: Array, targets: Array) -> float:
    """Log loss per vote."""
    return float(-(targets * np.log(np.maximum(shares, _LEAST))).sum() / max(targets.sum(), 1e-12))


def sum_of(parts: Sequence[Array]) -> Array:
    """The sum in the given order, for reproducible rounding."""
    total = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return total


def _softmax(logits: F) -> F:
    raised: F = np.exp(logits - logits.max(1, keepdims=True))
    raised /= raised.sum(1, keepdims=True)
    return raised
