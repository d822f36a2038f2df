"""Batches for training: clips stored as mel frames, of similar length, slightly augmented in every epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_proxies.audio.clip import Opened
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import InputError
from alm_proxies.files import canonical_json, digest_of, read_text, whole, write_json
from alm_proxies.models.chat_inputs import ChatInputs
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Utterances
from alm_proxies.training.batches import wrong_length

_SHORTEST = 0.1  # seconds
_EXTRA = 480  # samples of silence after a clip, so that its last frames are as with padding
_SILENCE = 2.0  # floor of the extractor below a clip's loudest cell, in its own unit
_ALIKE = 16  # batches drawn together and sorted by length
_STEP = 50  # windows are a multiple of this number of frames
_EVEN = 4  # a window begins at an audio token
_DECIBELS = 40.0  # a level change in dB to one of mel cells: log10 of power, over 4


@dataclass(frozen=True, slots=True)
class Heard:
    """The mel frames or samples of clips, concatenated, on disk; ids[i] has those from starts[i] to starts[i + 1]."""

    ids: tuple[str, ...]
    starts: NDArray[np.int64]
    cells: NDArray[np.float16] | NDArray[np.float32]
    rate: int = 100
    """Frames or samples a second."""

    def frames(self, row: int) -> NDArray[np.float32]:
        """One clip: frames x mel bins, or samples x 1."""
        return self.cells[self.starts[row] : self.starts[row + 1]].astype(np.float32)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames or samples of every clip."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class Change:
    """Augmentation of clips in each epoch, against over-fitting."""

    gain: float
    bands: int
    frames: int
    shift: int


def hear(
    utterances: Utterances,
    ids: Sequence[str],
    inputs: ChatInputs,
    folder: Path,
    *,
    recordings: str = "",
    fetch_again: bool = True,
    samples: bool = False,
    threads: int = 2,
    quiet: bool = False,
) -> tuple[Heard, list[Finding]]:
    """The mel frames of the clips by the model's extractor (or their samples), and findings for unusable ones; both
    cached in `folder` for as long as `recordings`, the digest of the recordings, is the same. `fetch_again`: unless a
    recording could not be fetched.
    """
    extractor: Any = None if samples else inputs.processor.feature_extractor
    form = _Form("float32", 1, inputs.rate) if samples else _Form("float16", int(extractor.feature_size), 100)
    columns = ["utterance_id", "audio", "start", "end", "recipe"]
    rows = utterances.frame.select(columns).rows_by_key("utterance_id", unique=True)
    roots = utterances.about.roots
    settings = canonical_json({"samples": inputs.rate} if samples else _settings_of(extractor))
    digest = digest_of([[name, *rows[name]] for name in ids] + [roots, settings, recordings])
    index, cells = folder / "heard.json", folder / ("heard.f32" if samples else "heard.f16")
    if index.is_file() and cells.is_file() and f'"{digest}"' in read_text(index):
        known, unusable = _kept(index, cells, form)
        if not (fetch_again and any(finding.kind == "not_fetched" for finding in unusable)):
            return known, unusable
    sounds = Sounds(utterances, stage="train", rate=inputs.rate)

    def heard_clip(utterance_id: str) -> tuple[Opened, NDArray[Any] | None]:
        opened = sounds.open(utterance_id)
        if opened.clip is None:
            return opened, None
        return opened, opened.clip.samples if samples else _mel(opened.clip.samples, extractor, inputs)

    findings: list[Finding] = []
    kept: list[str] = []
    lengths = [0]
    with (
        Progress("hearing", len(ids), quiet=quiet) as progress,
        whole(cells) as temporary,
        temporary.open("wb") as stream,
        ThreadPoolExecutor(threads) as pool,
    ):
        for start in range(0, len(ids), 256):
            for opened, mel in pool.map(heard_clip, ids[start : start + 256]):
                findings.extend(opened.findings)
                progress.advance()
                if mel is None:
                    continue
                if len(mel) < _SHORTEST * form.rate:
                    findings.append(wrong_length(opened.utterance_id, len(mel) / form.rate, _SHORTEST, math.inf))
                    continue
                if inputs.max_audio_seconds is not None and len(mel) > inputs.max_audio_seconds * form.rate:
                    findings.append(_too_long(opened.utterance_id, inputs.max_audio_seconds))
                    continue
                stream.write(mel.tobytes())
                kept.append(opened.utterance_id)
                lengths.append(len(mel))
    description = {
        "digest": digest,
        "ids": kept,
        "starts": np.cumsum(lengths).tolist(),
        "found": list(map(asdict, findings)),
    }
    write_json(index, description)
    return _kept(index, cells, form)


@dataclass(frozen=True, slots=True)
class _Form:
    """How what was heard is stored: number format, width, and frames a second."""

    dtype: str
    width: int
    rate: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of one pass, the answer token of every label, and the first frame of the clips' window."""

    tensors: dict[str, Tensor]
    labels: tuple[int, ...]
    members: NDArray[np.int64]
    """Their places among the rows of the batches."""
    start: int = 0

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True, slots=True, eq=False)
class MelStep:
    """The rows of one step, its number and epoch, and the number of frames of each clip that is used, if not all."""

    members: NDArray[np.int64]
    place: int
    epoch: int
    window: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Batches of clips with target shares, with the labels in several orders.

    `prompts` are token lists with one audio token each, one for every label order, `labels` the answers' tokens in
    each; an epoch always has the same batches. With `ends` a drawn answer follows the prompt, so that its end can be
    learned too.
    """

    heard: Heard
    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    weights: NDArray[np.float64]
    prompts: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[int, ...], ...]
    audio_token: int
    pad_token: int
    size: int
    seed: int
    change: Change | None = None
    ends: bool = True
    share: tuple[int, int] = (0, 1)
    """Process i of n with share (i, n) gets every n-th row of a step."""
    longest: int | None = None
    """Frames of the model's window; a clip that was moved towards its end is cut there."""
    order: int | None = None
    """The label order of all steps; None = drawn for each."""

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def epoch(self, number: int, window: int | None = None) -> Iterator[MelStep]:
        """All rows once, in steps of clips of similar length; with a window, only that number of frames of each."""
        for place, members in planned(self.heard.lengths[self.rows], self.size, self.seed, number):
            yield MelStep(members, place, number, window)

    def total(self, step: Any) -> float:
        """The sum of the weights of a step's rows."""
        return float(self.weights[step.members].sum())

    def parts(self, step: Any, most: int | None) -> list[Batch]:
        """This process's rows of a step in parts of at most that number."""
        rank, world = self.share
        batch = self._batch(step)
        own = range(rank, len(batch), world)
        size = most or len(batch)
        pieces = [own[start : start + size] for start in range(0, len(own), size)]
        cuts = [slice(piece.start, piece.stop, piece.step) for piece in pieces]
        return [
            Batch({name: tensor[cut] for name, tensor in batch.tensors.items()}, batch.labels, batch.members[cut],
                  batch.start)
            for cut in cuts
        ]  # fmt: skip

    def _batch(self, step: MelStep) -> Batch:
        members, window = step.members, step.window
        chance = generator(self.seed, "batch", step.epoch, step.place)
        clips = [self.heard.frames(int(self.rows[member])) for member in members]
        silence = [float(clip.max()) - _SILENCE for clip in clips]
        if self.change is not None:
            clips = [changed(clip, self.change, low, chance) for clip, low in zip(clips, silence, strict=True)]
        clips = [clip[: self.longest] for clip in clips]
        start = 0
        if window is not None:
            start = int(chance.integers(max(0, min(map(len, clips)) - window) // _EVEN + 1)) * _EVEN
            clips = [clip[start : start + window] for clip in clips]
        frames = -(-max(map(len, clips)) // _STEP) * _STEP
        if self.longest is not None:
            frames = min(frames, self.longest - start)
        mel = np.empty((len(clips), frames, clips[0].shape[1]), dtype=np.float32)
        for row, (clip, low) in enumerate(zip(clips, silence, strict=True)):
            mel[row, : len(clip)] = clip
            mel[row, len(clip) :] = low
        order = int(chance.integers(len(self.prompts))) if self.order is None else self.order
        prompt, labels = self.prompts[order], self.labels[order]
        answers = drawn(self.shares[members], chance)
        texts = [
            [*_spread(prompt, self.audio_token, audio_tokens(len(clip))), *([labels[answer]] if self.ends else [])]
            for clip, answer in zip(clips, answers, strict=True)
        ]
        width = max(map(len, texts))
        ids = torch.full((len(texts), width), self.pad_token)
        mask = torch.zeros((len(texts), width), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, width - len(text) :] = torch.tensor(text)
            mask[row, width - len(text) :] = 1
        heard = torch.tensor([len(clip) for clip in clips])
        tensors = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
            "input_features": torch.from_numpy(mel).transpose(1, 2).contiguous(),
            "feature_attention_mask": (torch.arange(frames)[None] < heard[:, None]).long(),
            "shares": torch.from_numpy(self.shares[members]).float(),
            "weights": torch.from_numpy(self.weights[members]).float(),
        }
        return Batch(tensors, labels, members, start)


def planned(lengths: NDArray[np.int64], size: int, seed: int, number: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The batches of an epoch: all rows once, those of similar length together, in random order, with their number."""
    chance = generator(seed, "order", number)
    order = chance.permutation(len(lengths))
    pools = [order[start : start + _ALIKE * size] for start in range(0, len(order), _ALIKE * size)]
    alike = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    batches = [pool[start : start + size] for pool in alike for start in range(0, len(pool), size)]
    for place in chance.permutation(len(batches)):
        yield int(place), batches[int(place)]


def audio_tokens(frames: int) -> int:
    """The number of Qwen2-Audio's tokens for mel frames."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def changed(
    clip: NDArray[np.float32], change: Change, silence: float, chance: np.random.Generator
) -> NDArray[np.float32]:
    """Augment a clip: a random gain, a random shift, and masked bands of time and frequency; at least half stays."""
    late = int(chance.integers(-change.shift, change.shift + 1)) if change.shift else 0
    late = max(late, -(len(clip) // 2))
    lead = np.full((max(0, late), clip.shape[1]), silence, dtype=np.float32)
    clip = np.concatenate([lead, clip[max(0, -late) :]]) + np.float32(chance.normal(0, change.gain) / _DECIBELS)
    for axis, widest in ((0, change.frames), (1, change.bands)):
        width = min(int(chance.integers(0, widest + 1)), clip.shape[axis] // 2)
        start = int(chance.integers(0, clip.shape[axis] - width + 1))
        stripe = (slice(start, start + width), slice(None))[:: 1 if axis == 0 else -1]
        if width:
            clip[stripe] = clip.mean()
    return clip


def drawn(shares: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.int64]:
    """One label per row, drawn by its shares."""
    over = chance.random((len(shares), 1)) > np.cumsum(shares, axis=1)
    return np.asarray(over.sum(axis=1).clip(0, shares.shape[1] - 1), dtype=np.int64)


def _spread(prompt: Sequence[int], audio_token: int, count: int) -> list[int]:
    place = prompt.index(audio_token)
    return [*prompt[:place], *[audio_token] * count, *prompt[place + 1 :]]


def _mel(samples: NDArray[np.float32], extractor: Any, inputs: ChatInputs) -> NDArray[np.float16]:
    hop = int(extractor.hop_length)
    count = -(-len(samples) // hop)
    features = extractor(
        samples, sampling_rate=inputs.rate, padding="max_length", max_length=count * hop + _EXTRA, return_tensors="np"
    )
    return np.ascontiguousarray(features["input_features"][0, :, :count].T.astype(np.float16))


def _settings_of(extractor: Any) -> dict[str, Any]:
    names = ("feature_size", "sampling_rate", "hop_length", "n_fft")
    return {name: getattr(extractor, name) for name in names}


def _kept(index: Path, cells: Path, form: _Form) -> tuple[Heard, list[Finding]]:
    description = json.loads(read_text(index))
    starts = np.array(description["starts"], dtype=np.int64)
    kind: Any = np.dtype(form.dtype)
    if cells.stat().st_size != kind.itemsize * form.width * int(starts[-1]):
        raise InputError("does not have its original content", where=str(cells), fix="Delete it and run again.")
    none = np.zeros((0, form.width), dtype=kind)  # an empty file cannot be mapped
    frames = np.memmap(cells, dtype=kind, mode="r").reshape(-1, form.width) if starts[-1] else none
    findings = [Finding(**fields) for fields in description["found"]]
    return Heard(tuple(description["ids"]), starts, frames, form.rate), findings


def _too_long(utterance_id: str, seconds: float) -> Finding:
    message = f"is longer than the {seconds:g} s this model accepts, and is left out"
    return Finding("train", "too_long", message, "Cut it into utterances.", utterance_id)
