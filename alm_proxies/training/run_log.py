"""The log of a training: metrics.jsonl, and optionally an experiment tracker through accelerate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator

from alm_proxies.errors import MissingExtraError, OutputError, SettingsError
from alm_proxies.files import canonical_json, read_text, write_text
from alm_proxies.training.settings import TrainSettings

METRICS = "metrics.jsonl"
TRACKING = "tracking"
T = TypeVar("T")
_WAIT = timedelta(hours=24)  # while one process encodes or calibrates; torchrun ends all if one ends


@dataclass(slots=True)
class Pace:
    """The speed of an epoch so far, and what it loses: time waited for the next batch, and room in batches."""

    _started: float = field(default_factory=lambda: time.monotonic())
    _waited: float = 0.0
    _samples: int = 0
    _sound: int = 0
    _room: int = 0

    def next(self, steps: Iterator[T]) -> T | None:
        """The next step, or None; the time that it takes counts as waiting."""
        before = time.monotonic()
        step = next(steps, None)
        self._waited += time.monotonic() - before
        return step

    def took(self, samples: int, sound: int, room: int) -> None:
        """Count the utterances of a step over all processes, and its numbers without and with padding."""
        self._samples, self._sound, self._room = self._samples + samples, self._sound + sound, self._room + room

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def values(self) -> dict[str, float]:
        """What a step's line says of it."""
        padding = 1 - self._sound / self._room if self._room else 0.0
        speed = self._samples / self.seconds
        return {"padding": padding, "samples_per_second": speed, "waiting": self._waited / self.seconds}

    @property
    def words(self) -> str:
        """The same for the progress line."""
        values = self.values
        return f"{values['samples_per_second']:.1f}/s, padding {values['padding']:.0%}"


def most_memory() -> float | None:
    """The largest memory of this process's GPU that was held at once so far, in GiB; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


class RunLog:
    """One line of JSON per step and epoch; a resumed training removes the lines after its checkpoint."""

    def __init__(self, accelerator: Accelerator, folder: Path, settings: TrainSettings, *, step: int) -> None:
        self._accelerator = accelerator
        self._path = folder / METRICS
        self._tracked = settings.tracker is not None
        if accelerator.is_main_process:
            kept = [line for line in read_lines(folder) if line["step"] <= step]
            write_text(self._path, "".join(canonical_json(line) + "\n" for line in kept))
        if self._tracked:
            accelerator.init_trackers(settings.name, config=_flat(settings.model_dump(mode="json")))

    def write(self, kind: str, step: int, **values: float | int | None) -> None:
        """Add a line; numbers go to the tracker too."""
        if not self._accelerator.is_main_process:
            return
        known = {name: value for name, value in values.items() if value is not None}
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(canonical_json({"kind": kind, "step": step, **known}) + "\n")
        except OSError as error:
            fix = "Free some space and run the same command again: it resumes from the last checkpoint."
            raise OutputError(f"could not be written: {error.strerror}", where=str(self._path), fix=fix) from error
        if self._tracked:
            self._accelerator.log({f"{kind}/{name}": value for name, value in known.items()}, step=step)

    def close(self) -> None:
        """End the tracker's run."""
        if self._tracked:
            self._accelerator.end_training()


def accelerator_of(folder: Path, settings: TrainSettings) -> Accelerator:
    """The accelerator: this process's device, the other processes if torchrun started several, precision, tracker."""
    import torch
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    try:
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            log_with=settings.tracker,
            project_dir=str(folder / TRACKING) if settings.tracker else None,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_WAIT)],
        )
    except ValueError as error:
        if settings.tracker is None:
            raise
        fix = "accelerate knows trackio, tensorboard, wandb, mlflow and others; metrics.jsonl needs none."
        raise SettingsError(f"there is no tracker {settings.tracker!r}", fix=fix) from error
    if settings.tracker is not None and not accelerator.log_with:
        raise MissingExtraError(
            f"the tracker {settings.tracker!r} is not installed", fix=f"Install it with: pip install {settings.tracker}"
        )
    return accelerator


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's metrics; an incomplete last line after a kill is skipped."""
    path = folder / METRICS
    if not path.is_file():
        return []
    lines = read_text(path).splitlines()
    records = []
    for number, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines) - 1:
                raise
    return records


def _flat(values: dict[str, Any], before: str = "") -> dict[str, str | int | float | bool]:
    flat: dict[str, str | int | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return flat
