"""Checkpoints of a training: whole or not there at all; only the last one is kept."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from alm_proxies.errors import InputError
from alm_proxies.files import flush, read_text, write_json

_NAME = re.compile(r"^epoch-(\d+)$")
_SAID = "said.json"


def save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int, said: dict[str, Any]) -> None:
    """Keep all that the next epoch needs, under a name it only takes once it is whole, and drop older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    partial, target = folder / f".epoch-{epoch}.part", folder / f"epoch-{epoch}"
    shutil.rmtree(partial, ignore_errors=True)
    accelerator.save_state(str(partial))
    write_json(partial / _SAID, said)
    for path in partial.rglob("*"):
        if path.is_file():
            flush(path)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    flush(folder)
    for older in _kept(folder)[:-1]:
        shutil.rmtree(folder / f"epoch-{older}")


def load_checkpoint(accelerator: Accelerator, folder: Path, digest: str) -> dict[str, Any] | None:
    """Go on from the last checkpoint; None if there is none. One of another training is refused."""
    epochs = _kept(folder)
    if not epochs:
        return None
    last = folder / f"epoch-{epochs[-1]}"
    said: dict[str, Any] = json.loads(read_text(last / _SAID))
    if said["digest"] != digest:
        raise InputError(
            "holds a training with other settings, labels or utterances",
            where=str(folder.parent),
            fix="Choose another folder, or delete it.",
        )
    accelerator.load_state(str(last))
    return said


def _kept(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name)))
