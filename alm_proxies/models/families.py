"""Families of audio-language models: which are tested here, the class that loads one, the names its weights have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig, AutoModelForMultimodalLM
from transformers.utils import logging

from alm_proxies.errors import SettingsError

FAMILIES = ("qwen2_audio", "qwen2_5_omni_thinker", "audioflamingo3", "granite_speech", "glmasr")
"""Families whose real classes are tested here, in small, through transformers and through vLLM (docs/engines.md)."""

_LLAVA_LIKE = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.": "",
}
_PUBLISHED = dict.fromkeys(("qwen2_audio", "audioflamingo3", "glmasr", "granite_speech"), _LLAVA_LIKE)
_PUBLISHED["qwen2_5_omni_thinker"] = {"": "thinker."}


def family_of(config: Any) -> str:
    """The family of a checkpoint; of a model that also speaks (Omni) that of the part that listens and writes."""
    return str(getattr(config, "thinker_config", config).model_type)


def notes_on(family: str) -> tuple[str, ...]:
    """What a user should know of a family before trusting its votes."""
    return () if family in FAMILIES else (f"models of the family {family} have not been tried here",)


def loader_of(config: Any) -> Any:
    """The class that loads a checkpoint: the automatic one, or the one it names; of a model that also speaks (Omni)
    the part that listens and writes."""
    listener = getattr(config, "thinker_config", None)
    if listener is not None and type(listener) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return MODEL_FOR_MULTIMODAL_LM_MAPPING[type(listener)]
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return AutoModelForMultimodalLM
    for name in config.architectures or []:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise SettingsError(f"this transformers has no class for {config.model_type!r}", fix="Update transformers.")


def save(model: Any, folder: str | Path) -> None:
    """Write a model's weights under the names of published checkpoints, which vLLM goes by.

    transformers 5.19 writes language_model.model.model for these families and reads it back without a word. The
    listening part of an Omni is written as a whole Omni that does not speak: vLLM knows it in no other form.
    """
    names = _PUBLISHED.get(model.config.model_type, {})
    weights = {}
    for name, weight in model.state_dict().items():
        start = next((start for start in names if name.startswith(start)), "")
        weights[names.get(start, "") + name.removeprefix(start)] = weight
    with bars_on_terminals_only():
        model.save_pretrained(folder, state_dict=weights, save_original_format=False)
    if model.config.model_type.endswith("_omni_thinker"):
        kind = model.config.model_type.removesuffix("_thinker")
        whole = AutoConfig.for_model(kind, thinker_config=model.config.to_dict(), enable_audio_output=False)
        named = {"architectures": [MODEL_FOR_MULTIMODAL_LM_MAPPING[type(whole)].__name__]}
        (Path(folder) / "config.json").write_text(json.dumps(whole.to_diff_dict() | named, indent=2), encoding="utf-8")


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """transformers draws a bar while it loads or writes weights: in a file or a pipe it is noise."""
    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
