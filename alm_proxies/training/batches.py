"""Batches of recordings: of similar length, decoded and prepared ahead by threads, deterministic.

An epoch's plan depends only on the seed, the epoch and the rows, so a training resumes at step k by starting with
plan[k], without replay or saved state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip, Opened, decode_ahead
from alm_proxies.audio.effects import apply
from alm_proxies.audio.vectors import bounded_parts
from alm_proxies.models.encoder import Inputs
from alm_proxies.seeds import generator
from alm_proxies.tables import Finding, Utterances
from alm_proxies.training.settings import AugmentSettings

Index = NDArray[np.int64]
Array = NDArray[np.float64]
_ALIKE = 32  # steps drawn together and sorted by length
_AHEAD = 2  # steps prepared ahead, in addition to one per thread


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Clips of one forward pass: the encoder's inputs, and their rows."""

    inputs: Inputs
    rows: Index

    def __len__(self) -> int:
        return len(self.rows)

    def halves(self) -> tuple[Part, Part]:
        """The same clips in two parts, each no longer than its longest clip."""
        middle = (len(self.rows) + 1) // 2
        return self._cut(slice(0, middle)), self._cut(slice(middle, None))

    def _cut(self, which: slice) -> Part:
        lengths = self.inputs.lengths[which]
        return Part(Inputs(self.inputs.values[which][..., : int(lengths.max())], lengths), self.rows[which])


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of the optimizer: its parts, and the findings on its recordings."""

    number: int
    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]


def plan_epoch(rows: Index, seconds: Array, *, batch: int, seed: int, epoch: int) -> list[Index]:
    """All rows once in random order, `batch` a step, clips of a step of similar length and sorted by it.

    seconds[row] may be NaN: such rows count as having the mean length.
    """
    chance = generator(seed, "order", epoch)
    order = chance.permutation(rows)
    lengths = np.nan_to_num(seconds, nan=float(np.nanmean(seconds)) if np.isfinite(seconds).any() else 0.0)
    size = _ALIKE * batch
    pools = [order[start : start + size] for start in range(0, len(order), size)]
    alike = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    steps = [pool[start : start + batch] for pool in alike for start in range(0, len(pool), batch)]
    return [steps[int(place)] for place in chance.permutation(len(steps))]


def seconds_of(utterances: Utterances, ids: Sequence[str], seconds: Array) -> Array:
    """The durations, with unknown ones read from the recordings' headers; NaN if this fails too."""
    missing = {ids[row]: row for row in np.flatnonzero(np.isnan(seconds)).tolist()}
    if not missing:
        return seconds
    import soundfile

    filled = seconds.copy()
    columns = utterances.frame.select("utterance_id", "corpus", "audio", "start")
    for name, corpus, audio, start in columns.filter(pl.col("utterance_id").is_in(list(missing))).iter_rows():
        if audio is None:
            continue
        path = Path(utterances.about.roots.get(corpus, "")) / audio.removeprefix("file://")
        with suppress(OSError, soundfile.LibsndfileError):
            filled[missing[name]] = soundfile.info(str(path)).duration - (start or 0.0)
    return filled


def steps_of(count: int, batch: int) -> int:
    """The number of steps in which `count` rows are seen once."""
    return -(-count // batch)


def padding_of(parts: Sequence[Part]) -> tuple[int, int]:
    """The numbers of frames or samples in the parts, without and with padding."""
    return (
        sum(int(part.inputs.lengths.sum()) for part in parts),
        sum(len(part.rows) * int(part.inputs.values.shape[-1]) for part in parts),
    )


class KeptClips:
    """Decoded clips in memory, up to a number of bytes, so that later epochs need not decode them again."""

    def __init__(self, most: float) -> None:
        self._left = most
        self._clips: dict[str, Opened] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Opened | None:
        """The cached clip of an utterance."""
        return self._clips.get(name)

    def add(self, name: str, opened: Opened) -> None:
        """Cache an utterance's clip if there is one, and room for it; what could not be opened is tried again."""
        if opened.clip is None:
            return
        size = opened.clip.samples.nbytes
        opened = replace(opened, clip=replace(opened.clip, pcm=None))  # which is the same samples once more
        with self._lock:
            if name not in self._clips and size <= self._left:
                self._left -= size
                self._clips[name] = opened


@dataclass(frozen=True, slots=True, eq=False)
class Loader:
    """Opens, augments and prepares the clips of planned steps, some steps ahead."""

    open_one: Callable[[str], Opened]
    """An utterance's clip or its findings, by id (audio.recipe.Sounds.open: recipes are rendered on the fly)."""
    prepare: Callable[[Sequence[NDArray[np.float32]]], Inputs]
    """The encoder's inputs for clips."""
    ids: Sequence[str]
    shortest: float
    """The shortest usable clip, in seconds."""
    longest: float
    """The longest clip that is used, in seconds."""
    padding: float
    taken: float | None = None
    """The longest clip that the encoder takes, in seconds; None = any."""
    most: int | None = None
    """The largest number of clips in a part."""
    threads: int = 2
    seed: int = 0
    augment: tuple[AugmentSettings, ...] = ()
    kept: KeptClips = field(default_factory=lambda: KeptClips(0))

    def steps(
        self, plan: Sequence[Index], *, first: int = 0, share: tuple[int, int] = (0, 1), epoch: int | None = None
    ) -> Generator[Step, None, None]:
        """The steps of a plan from number `first` on; process i of n with share = (i, n) gets every n-th row.

        If an epoch is given, clips get its augmentation.
        """
        rank, world = share

        def step(number: int) -> Step:
            return self._step(number, plan[number][rank::world], epoch)

        return decode_ahead(range(first, len(plan)), step, threads=self.threads, ahead=self.threads + _AHEAD)

    def _step(self, number: int, rows: Index, epoch: int | None) -> Step:
        kept: list[tuple[int, Clip]] = []
        findings: list[Finding] = []
        for row in rows:
            name = self.ids[row]
            opened = self.kept.get(name)
            if opened is None:
                opened = self.open_one(name)
                self.kept.add(name, opened)
            step_findings = list(opened.findings)
            clip = opened.clip
            if clip is not None and not self.shortest <= clip.duration <= self.longest:
                step_findings.append(wrong_length(name, clip.duration, self.shortest, self.longest, self.taken))
                clip = None
            findings += step_findings
            if clip is not None:
                kept.append((int(row), clip if epoch is None else self._augmented(clip, name, epoch)))
        kept.sort(key=lambda pair: len(pair[1].samples))
        bounds = bounded_parts([len(clip.samples) for _, clip in kept], self.padding, self.most)
        parts = tuple(
            Part(
                self.prepare([clip.samples for _, clip in kept[bound]]),
                np.array([row for row, _ in kept[bound]], dtype=np.int64),
            )
            for bound in bounds
        )
        return Step(number, parts, tuple(findings))

    def _augmented(self, clip: Clip, name: str, epoch: int) -> Clip:
        if not self.augment:
            return clip
        chance = generator(self.seed, "augment", epoch, name)
        samples = clip.samples.astype(np.float64)
        for number, change in enumerate(self.augment):
            if chance.random() < change.chance:
                drawn = {key: float(chance.uniform(low, high)) for key, (low, high) in sorted(change.between.items())}
                own = generator(self.seed, "augment", epoch, name, number)
                samples = apply(change.effect, samples, clip.rate, drawn, own)
        peak = float(np.max(np.abs(samples), initial=0.0))
        changed = Clip(samples=(samples / max(peak, 1.0)).astype(np.float32), rate=clip.rate)
        return changed if self.shortest <= changed.duration <= self.longest else clip


def wrong_length(name: str, seconds: float, shortest: float, longest: float, taken: float | None = None) -> Finding:
    """The finding for a clip that is too short or too long; `taken` is what the encoder takes at most."""
    if seconds < shortest:
        return Finding("train", "too_short", f"lasts {seconds:.2f} s, less than {shortest:g} s", "", name)
    if taken is not None and longest >= taken:
        message = f"lasts {seconds:.1f} s, longer than the {taken:g} s that the encoder takes"
        return Finding("train", "too_long", message, "Cut it into utterances.", name)
    message = f"lasts {seconds:.1f} s, longer than the {longest:g} s set by `longest`"
    return Finding("train", "too_long", message, "Cut it into utterances, or raise longest (--longest).", name)
