"""Families of audio-language models: which are tested here, the class for loading, the names of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig, AutoModelForMultimodalLM
from transformers.utils import logging

from alm_proxies.errors import SettingsError
from alm_proxies.files import settle

FAMILIES = ("qwen2_audio", "qwen2_5_omni_thinker", "audioflamingo3", "granite_speech", "glmasr")
"""Families tested here with small models of the real classes, through transformers and vLLM (docs/engines.md)."""

LOADING: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip
"""What transformers raises for a checkpoint that is damaged, incomplete, or of a class that it does not know."""

WITHOUT_VLLM_ADAPTERS = ("qwen2_audio",)
"""Families for which vLLM has no LoRA: their adapters are merged into the weights."""

_LLAVA_LIKE = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.": "",
}
_PUBLISHED = dict.fromkeys(("qwen2_audio", "audioflamingo3", "glmasr", "granite_speech"), _LLAVA_LIKE)
_PUBLISHED["qwen2_5_omni_thinker"] = {"": "thinker."}


def family_of(config: Any) -> str:
    """The family of a checkpoint; of a model with speech output (Omni) that of its Thinker part."""
    return str(getattr(config, "thinker_config", config).model_type)


def notes_on(family: str) -> tuple[str, ...]:
    """A warning about an untested family; None for a tested one."""
    return () if family in FAMILIES else (f"models of the family {family} have not been tested here",)


def loader_of(config: Any) -> Any:
    """The class that loads a checkpoint: the automatic one, or the one it names; of a model with speech output (Omni)
    the Thinker part.
    """
    listener = getattr(config, "thinker_config", None)
    if listener is not None and type(listener) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return MODEL_FOR_MULTIMODAL_LM_MAPPING[type(listener)]
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return AutoModelForMultimodalLM
    for name in config.architectures or []:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise SettingsError(f"this transformers has no class for {config.model_type!r}", fix="Update transformers.")


def published_name(family: str, name: str) -> str:
    """The name that a weight or module has in a published checkpoint of the family, which vLLM expects."""
    names = _PUBLISHED.get(family, {})
    start = next((start for start in names if name.startswith(start)), "")
    return names.get(start, "") + name.removeprefix(start)


def language_prefix(family: str) -> str:
    """How the names of the language model's modules begin in a loaded model of the family."""
    return "model." if family == "qwen2_5_omni_thinker" else "model.language_model."


def save(model: Any, folder: str | Path) -> None:
    """Save a model's weights under the names of published checkpoints, which vLLM expects.

    transformers 5.19 writes language_model.model.model for these families and reads it back without a warning. The
    Thinker of an Omni is saved as a whole Omni without speech output: vLLM supports no other form.
    """
    weights = {published_name(model.config.model_type, name): weight for name, weight in model.state_dict().items()}
    with bars_on_terminals_only():
        model.save_pretrained(folder, state_dict=weights, save_original_format=False)
    for path in Path(folder).glob("*.safetensors"):
        settle(path)
    if model.config.model_type.endswith("_omni_thinker"):
        kind = model.config.model_type.removesuffix("_thinker")
        config = AutoConfig.for_model(kind, thinker_config=model.config.to_dict(), enable_audio_output=False)
        named = {"architectures": [MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)].__name__]}
        (Path(folder) / "config.json").write_text(json.dumps(config.to_diff_dict() | named, indent=2), encoding="utf-8")


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Switch off transformers' progress bar for loading and saving weights."""
    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
