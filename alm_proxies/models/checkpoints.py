"""Safe loading of checkpoints: none of their code is run, and no pickle is opened."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from alm_proxies.errors import SettingsError
from alm_proxies.files import read_text

DATA_ONLY: dict[str, Any] = {"trust_remote_code": False}
"""Arguments of every load by transformers; without them it asks on the terminal."""
WEIGHTS_ONLY: dict[str, Any] = {**DATA_ONLY, "use_safetensors": True}
"""The same for loading weights."""
HEAD = "head.safetensors"
"""The file of the head of an audio-language model that has one."""
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5", ".joblib")
_ON_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SECONDS = 5.0
"""How long the hub may take to say whether it has a model."""


def device_of(device: str | None) -> str:
    """The device of this name, by default a GPU if there is one; raises for one that this machine does not have."""
    import torch

    count = torch.cuda.device_count()
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    fix = f"Use cpu{' or cuda:0' if count else ''}{f' to cuda:{count - 1}' if count > 1 else ''}."
    try:
        named = torch.device(device)
    except RuntimeError:
        raise SettingsError(f"there is no device {device!r}", where="device", fix=fix) from None
    if named.type == "cuda" and (not torch.cuda.is_available() or (named.index or 0) >= count):
        raise SettingsError(f"there is no {device} here, torch sees {count} GPUs", where="device", fix=fix)
    return device


def has_head(model: str | Path) -> bool:
    """Whether this is the folder of an audio-language model that predicts by a head of its own."""
    return (Path(model) / HEAD).is_file()


def refuse_code(model: str | Path) -> None:
    """Raise for a folder that there is not, or with pickled weights; names on the hub are not checked."""
    folder = Path(model)
    if not folder.is_dir():
        if not _ON_THE_HUB.fullmatch(str(model)):
            fix = "Check the path, or give the name of a model on the hub, with its owner: openai/whisper-tiny.en."
            raise SettingsError("there is no such folder, and no model on the hub can have this name", where=str(model),
                                fix=fix)  # fmt: skip
        return
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    weights = [name for name in names if name.lower().endswith(_PICKLES) and not name.startswith("training_args")]
    if weights and not any(name.endswith(".safetensors") for name in names):
        raise SettingsError(
            f"its weights are a pickle ({weights[0]}), which can run code when it is opened",
            where=str(model),
            fix="Convert them to safetensors, or name a checkpoint that has them.",
        )


def refuse_unreachable(model: str | Path, revision: str | None = None) -> None:
    """Raise for a name on the hub if the hub cannot be reached and this machine has no copy: asked once, shortly.

    transformers would ask six times. What the hub answers is left to it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    name, file = str(model), "config.json"
    if Path(model).is_dir() or isinstance(try_to_load_from_cache(name, file, revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=_SECONDS)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "requests", "urllib3"):
            raise
        message = f"there is no such folder, and the hub cannot be reached ({str(error) or type(error).__name__})"
        fix = "Check the name and the connection, or give a folder."
        raise SettingsError(message, where=name, fix=fix) from error


def not_loaded(model: str | Path, error: Exception) -> SettingsError:
    """The error for a checkpoint that could not be loaded."""
    text = str(error)
    if "trust_remote_code" in text or _has_code(model):
        return SettingsError(
            "this model needs its own code (auto_map), which is never run",
            where=str(model),
            fix="Name a model that transformers knows, or serve it yourself and use the engine openai.",
        )
    if "safetensors" in text and ("does not appear to have a file" in text or "no file named" in text):
        return SettingsError(
            "it has no weights as safetensors; other formats can run code when they are opened",
            where=str(model),
            fix="Convert them to safetensors, or name a checkpoint that has them.",
        )
    reason = text.splitlines()[0][:300] if text else type(error).__name__
    return SettingsError(
        f"no model could be loaded ({reason})",
        where=str(model),
        fix="Check the name, the revision and the connection, or give a folder.",
    )


def _has_code(model: str | Path) -> bool:
    config = Path(model) / "config.json"
    if not config.is_file():
        return False
    try:
        return bool(json.loads(read_text(config)).get("auto_map"))
    except (ValueError, AttributeError, RecursionError, SettingsError):
        return False
