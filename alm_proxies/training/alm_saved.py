"""The folder of a trained audio-language model: weights or adapter, annotator file and prompt."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alm_proxies.about import Measured
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.written import annotator_text
from alm_proxies.errors import need
from alm_proxies.files import write_text
from alm_proxies.models.adapters import adapter_of, matrices_of, targets_of, write_adapter
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.families import WITHOUT_VLLM_ADAPTERS
from alm_proxies.models.headed_lm import LANGUAGE_MODEL, Array, HeadedModel, save_head
from alm_proxies.models.trained import ANNOTATOR, TrainedFile
from alm_proxies.seeds import seed_of
from alm_proxies.settings import is_name
from alm_proxies.training.settings import TrainSettings

ADAPTER = "adapter"
"""The sub-folder of a merged model with its adapter."""
_PROMPT = "prompt.toml"


def with_adapter(lm: AudioLM, settings: TrainSettings) -> Any:
    """The model with an untrained adapter, whose weights alone are trained: `lm.model`, changed in place."""
    need("peft", "train")
    from peft import LoraConfig, get_peft_model

    lora = settings.alm.lora
    targets = targets_of(lm.model, lora.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(settings.seed, "adapter"))
        return get_peft_model(
            lm.model,
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets),
        )


def trained_weights(model: Any) -> dict[str, Tensor]:
    """The weights that are trained, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def take_weights(model: Any, weights: dict[str, Tensor]) -> None:
    """Give a model trained weights that were kept."""
    own = trained_weights(model)
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(weights[name])


def save_model(
    folder: Path,
    lm: AudioLM,
    wrapped: Any,
    settings: TrainSettings,
    asker: Annotator,
    trained_on: dict[str, list[str]],
    measured: Measured | None,
) -> None:
    """Write the folder: an adapter, a merged model with its adapter beside, or all weights; and an annotator file."""
    merge = settings.alm.merge
    if merge is None:
        merge = lm.inputs.family in WITHOUT_VLLM_ADAPTERS or _has_adapter(settings)
    _save_language_model(folder, lm, wrapped, settings, merge=merge)
    _save_annotator(folder, settings, asker, trained_on, measured)


def save_headed(
    folder: Path,
    lm: AudioLM,
    headed: HeadedModel,
    settings: TrainSettings,
    asker: Annotator,
    file: TrainedFile,
    norms: tuple[Array, Array],
) -> None:
    """Write the folder of a model with a head: the language model in a sub-folder, the head, metadata, annotator file.

    Only transformers runs such a model, so its adapter is merged on request only.
    """
    _save_language_model(folder / LANGUAGE_MODEL, lm, headed.lm, settings, merge=bool(settings.alm.merge))
    save_head(folder, headed, norms, file)
    _save_annotator(folder, settings, asker, file.trained_on, file.measured)


def _has_adapter(settings: TrainSettings) -> bool:
    """Whether the initial model has an adapter of its own: vLLM takes no second one."""
    return settings.model is not None and adapter_of(settings.model, settings.revision) is not None


def _save_language_model(folder: Path, lm: AudioLM, wrapped: Any, settings: TrainSettings, *, merge: bool) -> None:
    if not settings.alm.adapts:
        lm.save(folder)
        return
    lora = settings.alm.lora
    write_adapter(
        folder / ADAPTER if merge else folder,
        matrices_of(lm.model, targets_of_adapter(lm.model)),
        family=lm.inputs.family,
        base=str(settings.model),
        revision=settings.revision,
        alpha=lora.alpha,
        dropout=lora.dropout,
    )
    if merge:
        lm.model = wrapped.merge_and_unload()
        lm.save(folder)


def _save_annotator(
    folder: Path,
    settings: TrainSettings,
    asker: Annotator,
    trained_on: Mapping[str, Sequence[str]],
    measured: Measured | None,
) -> None:
    prompt = settings.alm.prompt
    if not is_name(prompt):
        shutil.copyfile(Path(prompt).expanduser(), folder / _PROMPT)
        prompt = f"./{_PROMPT}"
    file = asker.file.model_copy(
        update={
            "model": ".",
            "revision": None,
            "prompt": prompt,
            "knows": asker.labels,
            "trained_on": {corpus: tuple(speakers) for corpus, speakers in trained_on.items()},
            "measured": measured,
        }
    )
    write_text(folder / ANNOTATOR, annotator_text(file, f"Trained by alm-proxies from {settings.model or 'new'}."))


def targets_of_adapter(model: Any) -> list[str]:
    """The names of the modules that have an adapter."""
    return [name for name, part in model.named_modules() if hasattr(part, "lora_A")]
