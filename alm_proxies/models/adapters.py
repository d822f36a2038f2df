"""LoRA adapters of audio-language models: the folder of an adapter, the modules it can change, and merging.

An adapter adds scale x B A to a weight matrix, scale = alpha / rank (Hu et al. 2021, LoRA). The names in the folder are
those of published checkpoints, which vLLM expects; it ignores other names without a warning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import find_adapter_config_file

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import could_not_read, read_text, weights_digest, write_json
from alm_proxies.models.chat_inputs import config_of
from alm_proxies.models.checkpoints import not_loaded
from alm_proxies.models.families import language_prefix, published_name
from alm_proxies.nearest import known_names

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The attention and feed-forward matrices of the language model, whose names are the same in every tested family."""
_OF_A_MODEL = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
"""The files of a model on the hub: weights, configuration, tokenizer."""
_UNUSUAL = ("use_dora", "use_rslora", "modules_to_save", "lora_bias", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
"""Keys of an adapter's configuration that change what its weights mean."""
_BEFORE = "base_model.model."
_PARTS = (".lora_A.weight", ".lora_B.weight")

Matrices = Mapping[str, tuple[Tensor, Tensor]]
"""A and B of every changed module, by its name in the loaded model."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """The folder of an adapter: its base model, rank and scale."""

    folder: Path
    base: str
    """The base model: a folder, or a name on the hub."""
    revision: str | None
    rank: int
    alpha: float
    digest: str = ""
    """The digest of the base model's weights if it was a folder."""

    @classmethod
    def read(cls, folder: str | Path, *, of: tuple[str, str | None] | None = None) -> Self | None:
        """The adapter in a folder; None if the folder has none, or if this is a name on the hub.

        Its base is the model that it names, or `of` (a model, its revision), or the folder if that has weights too.
        """
        path = Path(folder)
        if not (path / CONFIG).is_file():
            return None
        if of is None and any(path.glob("model*.safetensors")):
            of = (str(folder), None)
        fix = "Train it again, or export it from peft as plain LoRA."
        try:
            stated = json.loads(read_text(path / CONFIG))
            kind = str(stated.get("peft_type", "")).upper()
            unusual = [name for name in _UNUSUAL if stated.get(name)]
            rank, alpha = int(stated["r"]), float(stated["lora_alpha"])
            base, revision = of or (str(stated["base_model_name_or_path"]), stated.get("revision"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"the adapter cannot be understood ({type(error).__name__}: {error})"
            raise InputError(message, where=str(path / CONFIG), fix=fix) from None
        if kind != "LORA" or unusual or rank < 1:
            unsupported = (
                unusual[0] if unusual else f"rank {rank}" if kind == "LORA" else f"the type {kind or 'unknown'}"
            )
            raise InputError(f"adapters with {unsupported} are not supported", where=str(path / CONFIG), fix=fix)
        return cls(path, base, revision, rank, alpha, _metadata(path).get("base_digest", ""))

    def check_base(self) -> None:
        """Raise if the base model is a folder that is missing or has other weights than in training."""
        base = Path(self.base)
        if not base.is_dir():
            if base.is_absolute():
                fix = f"Put it there, or change base_model_name_or_path in {CONFIG}."
                raise InputError(f"the base model {self.base} is missing", where=str(self.folder), fix=fix)
            return
        if self.digest and weights_digest(base, "*.safetensors") != self.digest:
            raise InputError(
                f"the base model {self.base} has other weights than the adapter was trained on",
                where=str(self.folder),
                fix="Give it the base model of its training, or train the adapter again.",
            )

    def endings(self) -> list[str]:
        """The endings of the names of the changed modules, such as q_proj."""
        return sorted({name.rpartition(".")[2] for name in self._matrices()})

    def merge_into(self, model: Any) -> None:
        """Add the adapter to the weights of its base model: W + alpha / rank x B A."""
        modules = linear_modules(model)
        by_published = {published_name(model.config.model_type, name): name for name in modules}
        with torch.no_grad():
            for published, (a, b) in self._matrices().items():
                module = modules.get(by_published.get(published, ""))
                if module is None or module.weight.shape != (b.shape[0], a.shape[1]) or len(a) != b.shape[1]:
                    fault = "does not have" if module is None else "has another size of"
                    raise InputError(
                        f"the base model {self.base} {fault} {published}, which the adapter changes",
                        where=str(self.folder),
                        fix="Give it the base model of its training.",
                    )
                weight = module.weight
                change = b.float() @ a.float() * (self.alpha / self.rank)
                weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))

    def _matrices(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B by the module's name in published checkpoints."""
        where = str(self.folder / WEIGHTS)
        halves: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        try:
            with safe_open(where, "pt") as file:
                for key in file.keys():  # noqa: SIM118  # it is no mapping
                    part = next((part for part in _PARTS if key.endswith(part)), None)
                    if part is None or not key.startswith(_BEFORE):
                        raise InputError(f"{key!r} is no weight of a LoRA adapter", where=where)
                    halves[_PARTS.index(part)][key.removeprefix(_BEFORE).removesuffix(part)] = file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            fix = "Copy the adapter again, or train it again."
            raise InputError(f"the adapter's weights cannot be read ({error})", where=where, fix=fix) from error
        if not halves[0] or halves[0].keys() != halves[1].keys():
            raise InputError("the adapter has no weights, or half of them are missing", where=where)
        return {name: (matrix, halves[1][name]) for name, matrix in halves[0].items()}


def adapter_of(model: str | Path, revision: str | None = None) -> Adapter | None:
    """The adapter in a folder, or the one that a model needs for audio and is published with; None if there is none.

    Such a model (Granite-speech) says so in its configuration, and its adapter lies beside its weights. Any other
    adapter beside weights is refused: it may be merged into them already.
    """
    adapter = Adapter.read(model)
    if adapter is not None and adapter.base != str(model):
        return adapter
    needed = bool(getattr(config_of(model, revision), "has_lora_adapter", False))
    if not needed and (adapter is not None or find_adapter_config_file(str(model), revision=revision)):
        raise InputError(
            f"an adapter ({CONFIG}) lies beside weights whose config.json does not say has_lora_adapter = true: if it "
            "is merged into them, it would be applied twice",
            where=str(model),
            fix=f"Delete {CONFIG} and {WEIGHTS} (of a model on the hub, in a copy of it); if it is not merged, write "
            "has_lora_adapter = true in config.json.",
        )
    if adapter is not None or not needed:
        return adapter
    if Path(model).is_dir():
        raise InputError(
            f"the model's adapter ({CONFIG}) is missing, without which it does not understand audio",
            where=str(model),
            fix=f"Copy {CONFIG} and {WEIGHTS} too. Where it is merged into the weights, write has_lora_adapter = false "
            "in config.json.",
        )
    try:
        config, _ = (hf_hub_download(str(model), name, revision=revision) for name in (CONFIG, WEIGHTS))
    except (OSError, ValueError) as error:
        raise not_loaded(model, error) from error
    return Adapter.read(Path(config).parent, of=(str(model), revision))


def without_adapter(model: str | Path, revision: str | None = None) -> TemporaryDirectory[str]:
    """A folder with a model's files but not the adapter beside them: vLLM, and transformers where peft is installed,
    would read that as weights of the model.
    """
    folder = Path(model)
    if not folder.is_dir():
        try:
            folder = Path(
                snapshot_download(str(model), revision=revision, allow_patterns=_OF_A_MODEL, ignore_patterns="*/*")
            )
        except (OSError, ValueError) as error:
            raise not_loaded(model, error) from error
    place = TemporaryDirectory()
    for path in folder.iterdir():
        if path.is_file() and path.name not in (CONFIG, WEIGHTS):
            (Path(place.name) / path.name).symlink_to(path.resolve())
    return place


def write_adapter(
    folder: Path,
    matrices: Matrices,
    *,
    family: str,
    base: str,
    revision: str | None = None,
    alpha: float,
    dropout: float = 0.0,
) -> None:
    """Write an adapter that peft, vLLM and `Adapter.read` load; a base in a folder is known by its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(base)
    digest = weights_digest(path, "*.safetensors") if path.is_dir() else ""
    names = sorted({name.rpartition(".")[2] for name in matrices})
    rank = len(next(iter(matrices.values()))[0])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(path.resolve()) if path.is_dir() else base,
        "revision": revision,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "bias": "none",
        "inference_mode": True,
        "target_modules": rf"{re.escape(language_prefix(family))}.*\.({'|'.join(map(re.escape, names))})",
    }
    tensors: dict[str, Tensor] = {}
    for name, pair in matrices.items():
        for part, matrix in zip(_PARTS, pair, strict=True):
            key = f"{_BEFORE}{published_name(family, name)}{part}"
            tensors[key] = matrix.detach().to("cpu", torch.float32).contiguous()
    save_file(tensors, str(folder / WEIGHTS), metadata={"base_digest": digest})
    write_json(folder / CONFIG, config)


def linear_modules(model: Any) -> dict[str, nn.Linear]:
    """The matrices of the language model, by name: those that an adapter can change."""
    start = language_prefix(model.config.model_type)
    modules = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    return {name: part for name, part in modules.items() if name.startswith(start)}


def targets_of(model: Any, wanted: Sequence[str] = ()) -> list[str]:
    """The names of the modules that an adapter changes; `wanted` are endings of names, such as q_proj."""
    names = linear_modules(model)
    short = sorted({name.rpartition(".")[2] for name in names})
    if not names:
        raise SettingsError(f"no adapter can be trained for a {model.config.model_type}", fix='Write weights = "all".')
    chosen = wanted or [name for name in DEFAULT_TARGETS if name in short]
    for ending in chosen:
        if not any(_ends(name, ending) for name in names):
            fix = known_names(ending, short)
            raise SettingsError(f"targets: the language model has no module {ending!r}", fix=fix)
    return [name for name in names if any(_ends(name, ending) for ending in chosen)]


def matrices_of(model: Any, names: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B that peft has trained in a model, by module."""
    pairs = {}
    for name in names:
        module = model.get_submodule(name)
        pairs[name] = (module.lora_A["default"].weight, module.lora_B["default"].weight)
    return pairs


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _metadata(folder: Path) -> dict[str, str]:
    try:
        with safe_open(str(folder / WEIGHTS), "pt") as file:
            return dict(file.metadata() or {})
    except OSError as error:
        raise could_not_read(folder / WEIGHTS, error) from error
    except SafetensorError as error:
        fix = "Copy the adapter again, or train it again."
        where = str(folder / WEIGHTS)
        raise InputError(f"the adapter's weights cannot be read ({error})", where=where, fix=fix) from error
