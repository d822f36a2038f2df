"""Training heads above a frozen encoder: every clip is encoded once, and the statistics for the heads are cached.

The heads mix normalised states of the layers, x = sum_l a_l s_l with learned shares a, and use mean and deviation of x
over time. Both follow from the means of every s_l and the covariances of every pair, for any a: mean(x) = sum_l a_l
mean(s_l), var(x) = sum_lk a_l a_k cov(s_l, s_k). So only these are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.store import Store
from alm_proxies.audio.vectors import Encoding, Floats, store_of, vectors_of
from alm_proxies.files import digest_of
from alm_proxies.models.at_once import encoding_of
from alm_proxies.models.encoder import Encoder, Inputs, encoder_digest
from alm_proxies.models.pooled import middle_layers
from alm_proxies.models.speech_model import Answer, Heads, SpeechModel, statistics_of
from alm_proxies.models.trained import TrainedModel
from alm_proxies.printable import counted
from alm_proxies.tables import Finding, Utterances
from alm_proxies.training.batches import Index, Loader, Part, Step, wrong_length
from alm_proxies.training.settings import TrainSettings

_VERSION = 1
_MOST = 32 * 2**30  # bytes of cached features; a bigger corpus is encoded in every epoch


class KeptHeads(nn.Module):
    """The heads, called with cached statistics instead of audio."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, values: Tensor, lengths: Tensor) -> Answer:
        """The output for a batch of statistics, all of the same length."""
        return self.heads.of_statistics(values)


@dataclass(frozen=True, slots=True, eq=False)
class KeptLoader:
    """Steps of cached statistics, with the interface of Loader."""

    statistics: Floats
    """(rows, statistics, width)."""
    known: NDArray[np.bool_]
    findings: tuple[tuple[Finding, ...], ...]
    """The findings of every row."""
    shortest: float
    longest: float
    most: int | None = None
    """The largest number of rows in a part."""

    def steps(
        self, plan: Sequence[Index], *, first: int = 0, share: tuple[int, int] = (0, 1), epoch: int | None = None
    ) -> Generator[Step, None, None]:
        """The steps of a plan from number `first` on; process i of n with share = (i, n) gets every n-th row."""
        rank, world = share
        for number in range(first, len(plan)):
            rows = plan[number][rank::world]
            usable = rows[self.known[rows]]
            wide = self.most or max(len(usable), 1)
            pieces = [usable[start : start + wide] for start in range(0, len(usable), wide)]
            parts = tuple(Part(_inputs(self.statistics[piece]), piece) for piece in pieces)
            yield Step(number, parts, tuple(finding for row in rows.tolist() for finding in self.findings[row]))


AnyLoader = Loader | KeptLoader


def kept_loader(
    model: SpeechModel,
    ids: Sequence[str],
    utterances: Utterances,
    folder: Path,
    settings: TrainSettings,
    *,
    limits: tuple[float, float],
    quiet: bool,
) -> KeptLoader:
    """The statistics of all utterances, each computed once; `folder` has those that may not be in the cache."""
    encoder, layers = model.encoder, model.heads.shape.layers
    size = _size(len(layers))
    vectors = vectors_of(
        ids,
        Sounds(utterances, stage="train", rate=encoder.rate),
        statistics_by(model, lambda clip, name: _refused(clip, name, limits, encoder.longest)),
        width=size * encoder.width,
        digest=_store_digest(encoder_digest(str(settings.model), settings.revision), model, limits),
        folder=folder,
        message="encoding",
        threads=settings.threads,
        quiet=quiet,
    )
    by_id: dict[str | None, list[Finding]] = {}
    for finding in vectors.findings:
        by_id.setdefault(finding.utterance_id, []).append(finding)
    findings = tuple(tuple(by_id.get(name, ())) for name in ids)
    statistics = vectors.rows.reshape(len(ids), size, encoder.width)
    return KeptLoader(statistics, vectors.known, findings, *limits, most=settings.micro_batch)


def encodes_once(settings: TrainSettings, rows: int, layers: int, width: int) -> bool:
    """Whether the encoder's states are the same in every epoch, and their statistics can be cached."""
    return _same(settings) and _fits(rows, layers, width)


def too_many(settings: TrainSettings, rows: int, encoder: Encoder, layers: tuple[int, ...]) -> Finding | None:
    """The finding for a frozen encoder whose statistics are too many to be kept, with layers that are not."""
    if not _same(settings) or _fits(rows, len(layers), encoder.width):
        return None
    some = middle_layers(encoder.layers)
    while some and not _fits(rows, len(some), encoder.width):
        some = some[1:]
    size = _bytes(rows, len(layers), encoder.width) / 2**30
    message = (
        f"the states of {counted(len(layers), 'layer')} of {counted(rows, 'clip')} take {size:,.0f} GiB and "
        f"{_MOST // 2**30} are kept, so every clip is encoded again in every epoch"
    )
    fix = f"Give fewer layers to encode it once, such as layers = {list(some)}." if some else ""
    return Finding("train", "encoded_every_epoch", message, fix)


def kept_statistics(trained: TrainedModel, rows: int, beside: Path | None) -> Store | None:
    """Where the statistics of clips by a trained model's frozen encoder are kept; None if they cannot replace clips.

    Those of corpora whose cards forbid copies are read from the folder of the model's training, `beside`, only.
    """
    model, file = trained.model, trained.file
    shape = model.heads.shape
    same = bool(file.encoder) and shape.pooling == "mean_deviation"
    if not same or not _fits(rows, len(shape.layers), shape.width):
        return None
    digest = _store_digest(file.encoder, model, file.seconds)
    return store_of(_size(len(shape.layers)) * shape.width, digest, None, beside=beside)


def statistics_by(model: SpeechModel, refused: Callable[[Clip, str], Finding | None]) -> Encoding:
    """The encoding of clips as statistics, in one row."""
    encoder, layers = model.encoder, model.heads.shape.layers

    def statistics(clips: Sequence[Clip]) -> Floats:
        with torch.inference_mode():
            hidden = encoder(encoder.prepare([clip.samples for clip in clips]))
            rows = statistics_of([hidden.states[layer] for layer in layers], hidden.mask)
        return rows.flatten(1).cpu().numpy().astype(np.float32)

    return encoding_of(statistics, refused, encoder.device.type)


def _same(settings: TrainSettings) -> bool:
    """Whether the states that the heads take are the same in every epoch."""
    return settings.freeze and not settings.augment and settings.pooling == "mean_deviation"


def _fits(rows: int, layers: int, width: int) -> bool:
    return _bytes(rows, layers, width) <= _MOST


def _bytes(rows: int, layers: int, width: int) -> int:
    return rows * _size(layers) * width * 4


def _store_digest(encoder: str, model: SpeechModel, limits: tuple[float, float]) -> str:
    layers, device = model.heads.shape.layers, model.encoder.device.type  # which rounds in its own way
    return digest_of([_VERSION, encoder, layers, limits, device])


def _size(layers: int) -> int:
    return layers + layers * (layers + 1) // 2


def _refused(clip: Clip, name: str, limits: tuple[float, float], taken: float | None) -> Finding | None:
    return None if limits[0] <= clip.duration <= limits[1] else wrong_length(name, clip.duration, *limits, taken)


def _inputs(statistics: Floats) -> Inputs:
    lengths = torch.full((len(statistics),), statistics.shape[-1])
    return Inputs(torch.from_numpy(np.ascontiguousarray(statistics)), lengths)
