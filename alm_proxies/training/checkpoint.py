"""Checkpoints of a training, written atomically; only the last one is kept."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from alm_proxies.errors import InputError, OutputError
from alm_proxies.files import flush, read_text, settle, weights_digest, write_json

_NAME = re.compile(r"^(epoch|step)-(\d+)$")
_STATE = "state.json"
_ALL_BUT_STATE = "*.[!j]*"
_WEIGHTS = "weights"
_TRAINED = "trained.safetensors"


def save_checkpoint(accelerator: Accelerator, folder: Path, number: int, state: dict[str, Any]) -> None:
    """Save all state needed to resume the training, atomically, and remove older checkpoints.

    `number` grows from checkpoint to checkpoint. On failure the partial files are removed, and the last complete
    checkpoint is kept. All processes of a training must call it together.
    """
    partial, target = folder / f".step-{number}.part", folder / f"step-{number}"
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(partial / _STATE, {**state, _WEIGHTS: weights_digest(partial, _ALL_BUT_STATE)})
            for path in partial.rglob("*"):
                if path.is_file():
                    settle(path)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            flush(folder)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise not_written(folder, error) from error
    if accelerator.is_main_process:
        for older in _kept(folder)[:-1]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path, digest: str) -> dict[str, Any] | None:
    """Resume from the last checkpoint; None if there is none. Raises for a checkpoint of another training."""
    kept = _kept(folder)
    if not kept:
        return None
    fix = "Delete it: the training goes on from the one before, or from the beginning."
    try:
        state: dict[str, Any] = json.loads(read_text(kept[-1] / _STATE))
    except ValueError as error:
        raise InputError("is a damaged checkpoint", where=str(kept[-1]), fix=fix) from error
    if state["digest"] != digest:
        raise InputError(
            "has a training with other settings, labels, utterances or recordings",
            where=str(folder.parent),
            fix="Choose another folder, or delete it.",
        )
    if state.get(_WEIGHTS) not in (None, weights_digest(kept[-1], _ALL_BUT_STATE)):
        raise InputError("is a damaged checkpoint (a file was changed since)", where=str(kept[-1]), fix=fix)
    try:
        accelerator.load_state(str(kept[-1]))
    except Exception as error:  # whatever torch, safetensors or pickle say of a file that was cut
        if "out of memory" in str(error):
            raise
        raise InputError(f"is a damaged checkpoint ({error})"[:300], where=str(kept[-1]), fix=fix) from error
    return state


def has_checkpoint(folder: Path) -> bool:
    """Whether a training can resume from the folder."""
    return bool(_kept(folder))


def save_only_trained(accelerator: Accelerator) -> None:
    """Checkpoints hold only the weights that are trained (an adapter), not those of the model around it."""

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        weights.clear()
        own = {name: weight for name, weight in models[0].named_parameters() if weight.requires_grad}
        if accelerator.is_main_process:
            save_file(_plain(own), str(Path(folder) / _TRAINED))

    def load(models: list[Any], folder: str) -> None:
        models.pop().load_state_dict(load_file(str(Path(folder) / _TRAINED)), strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def keep_best(weights: dict[str, Tensor], folder: Path, epoch: int, accelerator: Accelerator) -> None:
    """Keep the weights of the best epoch so far; an earlier best stays until `forget_other_best`."""
    if accelerator.is_main_process:
        partial = folder / ".best.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(_plain(weights), str(partial))
            settle(partial)
            partial.rename(_best(folder, epoch))
        except Exception as error:
            partial.unlink(missing_ok=True)
            raise not_written(folder, error) from error
    accelerator.wait_for_everyone()


def forget_other_best(folder: Path, epoch: int, accelerator: Accelerator) -> None:
    """Remove the weights of other epochs than the best."""
    if accelerator.is_main_process:
        for path in folder.glob("best-*.safetensors"):
            if path != _best(folder, epoch):
                path.unlink()


def best_weights(folder: Path, epoch: int) -> dict[str, Tensor]:
    """The weights of the best epoch."""
    return load_file(str(_best(folder, epoch)))


def _best(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch}.safetensors"


def _plain(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}


def not_written(folder: Path, error: Exception) -> Exception:
    """The error for a checkpoint or a model that could not be written; other errors are returned unchanged.

    safetensors and torch report a full disk as their own errors, with the system's message in the text.
    """
    if isinstance(error, OutputError):
        return error
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(
        words in text for words in ("No space left", "os error 28", "File too large", "os error 27", "unexpected pos")
    )
    if not full and not isinstance(error, OSError):
        return error
    reason = "there is no space left" if full else (getattr(error, "strerror", None) or text)
    return OutputError(
        f"the training could not be written: {reason}; the last complete checkpoint is kept",
        where=str(folder),
        fix="Free some space and run the same command again: it resumes from there.",
    )


def _kept(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    checkpoints = [(int(match[2]), path) for path in folder.iterdir() if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(checkpoints)]
