"""Audio encoders through transformers (WavLM, wav2vec 2.0, HuBERT, Whisper): hidden states of every layer.

Clips keep their length: for Whisper they are not padded to 30 s (the positions are cut instead), and a padded clip in a
batch has the same states as alone: padding is masked in convolutions, norms over time and attention.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.masking_utils import create_bidirectional_mask

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of, weights_digest
from alm_proxies.models.checkpoints import DATA_ONLY, WEIGHTS_ONLY, device_of, refuse_code, refuse_unreachable
from alm_proxies.models.families import LOADING, bars_on_terminals_only

FAMILIES = ("whisper", "wavlm", "wav2vec2", "hubert")
"""The supported model types."""
_UNUSED = re.compile(r"decoder\.|(.*\.)?masked_spec_embed$")
"""Weights that an encoder does not need: those of Whisper's decoder, and what hides frames in training."""
_TAIL = 480  # samples of silence after a clip for Whisper, so that its last frames are as with padding to 30 s
_SHORTEST = 0.1  # seconds; below it the convolutions have no frame


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of an encoder for a batch of clips: waves (batch, samples) or mels (batch, bins, frames); lengths."""

    values: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Inputs:
        """The same on a device, optionally in another precision."""
        return Inputs(self.values.to(device, dtype), self.lengths.to(device))


@dataclass(frozen=True, slots=True)
class Hidden:
    """The hidden states of every layer, preceded by the input of the first; and the mask of the clip's frames."""

    states: tuple[Tensor, ...]
    """One per layer and one before: (batch, frames, width)."""
    mask: Tensor
    """(batch, frames), true for frames of the clip, false for padding."""

    def pooled(self, layers: Sequence[int] | None = None) -> Tensor:
        """Mean and standard deviation over the clip's frames: (batch, layers, 2 x width), float32."""
        chosen = self.states if layers is None else [self.states[layer] for layer in layers]
        weight = (self.mask / self.mask.sum(1, keepdim=True)).float()[:, :, None]
        parts = []
        for state in chosen:
            mean = (state.float() * weight).sum(1)
            spread = (torch.square(state.float() - mean[:, None]) * weight).sum(1).clamp_min(1e-12).sqrt()
            parts.append(torch.cat([mean, spread], dim=1))
        return torch.stack(parts, dim=1)


_PASS = threading.local()
"""The states of the present forward pass, per thread: several threads may use one encoder."""


def _keep_first(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    if (states := getattr(_PASS, "states", None)) is not None:
        states.append(arguments[0] if arguments else named["hidden_states"])


def _keep(_: Any, __: Any, output: Any) -> None:
    if (states := getattr(_PASS, "states", None)) is not None:
        states.append(output[0] if isinstance(output, tuple) else output)


_FILTERS = threading.Lock()  # warning filters are global to the process: one thread at a time may change them


@contextmanager
def _no_warning_of_masks() -> Iterator[None]:
    """Silence a warning: transformers passes WavLM's mask and position bias to torch in different types."""
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
        yield


class Encoder(nn.Module):
    """A pretrained audio encoder: `prepare` makes a batch of clips, calling it returns the states of every layer."""

    def __init__(self, backbone: Any, extractor: Any) -> None:
        super().__init__()
        self.family = str(backbone.config.model_type)
        self.config = backbone.config
        self.config.layerdrop = 0.0  # a mix of layers needs all of them
        self.backbone = backbone.get_encoder() if self.family == "whisper" else backbone
        self.extractor = extractor
        if self.family != "whisper":
            blocks: Any = self.backbone.encoder.layers
            blocks[0].register_forward_pre_hook(_keep_first, with_kwargs=True)
            for block in blocks:
                block.register_forward_hook(_keep)

    @classmethod
    def load(
        cls, model: str | Path, *, revision: str | None = None, device: str | None = None, dtype: str = "float32"
    ) -> Self:
        """Load a checkpoint, a folder or a name on the hub, for evaluation; `train()` makes it trainable."""
        config = encoder_config(model, revision)
        where = device_of(device)
        kind: Any = dtype
        try:
            extractor = AutoFeatureExtractor.from_pretrained(str(model), revision=revision, **DATA_ONLY)
            with bars_on_terminals_only():
                asked = {"revision": revision, "config": config, "dtype": kind, **WEIGHTS_ONLY}
                loaded, report = AutoModel.from_pretrained(str(model), output_loading_info=True, **asked)
        except LOADING as error:
            raise _not_loaded(model, error) from error
        lacking = sorted(name for name in report["missing_keys"] if not _UNUSED.match(name))
        if lacking:  # they would be random
            raise _not_loaded(model, ValueError(f"weights are missing ({len(lacking)}), such as {lacking[0]}"))
        bins, wanted = getattr(extractor, "feature_size", None), getattr(config, "num_mel_bins", None)
        if config.model_type == "whisper" and bins != wanted:
            raise _not_loaded(model, ValueError(f"its preprocessor gives {bins} mel bands, the model takes {wanted}"))
        return cls(loaded, extractor).to(where).eval()

    def save(self, folder: str | Path) -> None:
        """Save the encoder as a checkpoint for `load` and transformers' AutoModel."""
        saved: Any = self.backbone
        if self.family == "whisper":
            ends = dict.fromkeys(("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"), 0)
            config = type(self.config)(**(self.config.to_dict() | ends | {"decoder_layers": 0, "vocab_size": 8}))
            config.max_target_positions = 8
            saved = AutoModel.from_config(config)
            saved.encoder = self.backbone
        with bars_on_terminals_only():
            saved.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    @property
    def rate(self) -> int:
        """The sample rate of the encoder's input, in Hz."""
        return int(self.extractor.sampling_rate)

    @property
    def width(self) -> int:
        """Width of a hidden state."""
        return int(self.config.d_model if self.family == "whisper" else self.config.hidden_size)

    @property
    def layers(self) -> int:
        """Number of layers; the number of states is one higher."""
        return int(self.config.encoder_layers if self.family == "whisper" else self.config.num_hidden_layers)

    @property
    def longest(self) -> float | None:
        """The longest clip, in seconds, for which the encoder has positions; None = no limit."""
        return 2 * self.config.max_source_positions / 100 if self.family == "whisper" else None

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.parameters()).device

    def prepare(self, clips: Sequence[NDArray[np.float32]]) -> Inputs:
        """A batch of mono clips at `rate`, each prepared on its own and padded at the end."""
        for number, samples in enumerate(clips):
            seconds = len(samples) / self.rate
            if seconds < _SHORTEST or (self.longest is not None and seconds > self.longest):
                limits = f"from {_SHORTEST} s" + ("" if self.longest is None else f" to {self.longest:g} s")
                fix = "Cut it into utterances, or leave it out."
                raise InputError(f"clip {number} lasts {seconds:.2f} s, this encoder takes {limits}", fix=fix)
        single = [torch.from_numpy(self._mel(clip) if self.family == "whisper" else self._wave(clip)) for clip in clips]
        lengths = torch.tensor([clip_input.shape[-1] for clip_input in single])
        longest = int(lengths.max())
        return Inputs(
            torch.stack([nn.functional.pad(clip_input, (0, longest - clip_input.shape[-1])) for clip_input in single]),
            lengths,
        )

    def forward(self, inputs: Inputs) -> Hidden:
        """The hidden states of every layer; with gradients if the module is trained."""
        inputs = inputs.to(self.device, next(self.parameters()).dtype)
        return self._whisper(inputs) if self.family == "whisper" else self._waves(inputs)

    def _mel(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        hop = int(self.extractor.hop_length)
        count = 2 * -(-len(samples) // (2 * hop))  # the second convolution halves them
        size = count * hop + _TAIL
        mel = self.extractor(
            samples, sampling_rate=self.rate, padding="max_length", max_length=size, return_tensors="np"
        )
        return np.ascontiguousarray(mel["input_features"][0, :, :count], dtype=np.float32)

    def _wave(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        wave = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        return np.asarray(wave["input_values"][0], dtype=np.float32)

    def _whisper(self, inputs: Inputs) -> Hidden:
        encoder: Any = self.backbone
        within = _within(inputs.lengths, inputs.values.shape[-1])
        first = gelu(encoder.conv1(inputs.values)) * within[:, None]
        sound = gelu(encoder.conv2(first)).permute(0, 2, 1)
        mask = within[:, ::2]
        state = sound + encoder.embed_positions.weight[: sound.shape[1]]
        state = nn.functional.dropout(state, p=encoder.dropout, training=self.training)
        attention = create_bidirectional_mask(config=self.config, inputs_embeds=state, attention_mask=mask)
        states = [state]
        for layer in encoder.layers:
            state = layer(state, attention)
            states.append(state)
        states[-1] = encoder.layer_norm(state)
        return Hidden(tuple(states), mask)

    def _waves(self, inputs: Inputs) -> Hidden:
        model: Any = self.backbone
        sound, lengths = inputs.values[:, None], inputs.lengths
        for number, layer in enumerate(model.feature_extractor.conv_layers):
            kernel, stride = int(self.config.conv_kernel[number]), int(self.config.conv_stride[number])
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                hidden = layer.conv(sound)
                sound = layer.activation(_normed(hidden, norm, _within(lengths, hidden.shape[-1])))
            else:
                sound = layer(sound)
        mask = _within(lengths, sound.shape[-1])
        projected = model.feature_projection(sound.transpose(1, 2))
        state = projected[0] if isinstance(projected, tuple) else projected
        state = model._mask_hidden_states(state, attention_mask=mask) if self.family != "hubert" else (
            model._mask_hidden_states(state)
        )  # fmt: skip
        states: list[Tensor] = []
        _PASS.states = states
        try:
            with _no_warning_of_masks() if self.family == "wavlm" else nullcontext():
                last = model.encoder(state, attention_mask=mask).last_hidden_state
        finally:
            _PASS.states = None
        return Hidden((*states[:-1], last), mask)


def encoder_config(model: str | Path, revision: str | None = None) -> Any:
    """The configuration of an encoder's checkpoint; raises if it is missing or of an unknown type."""
    refuse_code(model)
    refuse_unreachable(model, revision)
    try:
        config = AutoConfig.from_pretrained(str(model), revision=revision, **DATA_ONLY)
    except LOADING as error:
        raise _not_loaded(model, error) from error
    if config.model_type not in FAMILIES:
        fix = f"Name a model of one of these types: {', '.join(FAMILIES)}."
        raise SettingsError(f"a model of type {config.model_type!r} is no known encoder", where=str(model), fix=fix)
    return config


def encoder_digest(model: str | Path, revision: str | None = None) -> str:
    """A digest of the encoder: of a folder's content, or of the commit of a name on the hub."""
    if Path(model).is_dir():
        return weights_digest(Path(model))
    commit = getattr(encoder_config(model, revision), "_commit_hash", None)
    return digest_of([str(model), str(commit or revision)])


def _not_loaded(model: str | Path, error: Exception) -> SettingsError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
    message = f"no encoder could be loaded ({reason})"
    fix = "Check the name, the revision and the connection, or give a folder with config, weights and preprocessor."
    return SettingsError(message, where=str(model), fix=fix)


def _within(lengths: Tensor, size: int) -> Tensor:
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def _normed(sound: Tensor, norm: nn.GroupNorm, within: Tensor) -> Tensor:
    """The norm of each channel over time, over the clip's own frames only."""
    weight = within[:, None] / within.sum(1)[:, None, None]
    mean = (sound * weight).sum(-1, keepdim=True)
    variance = (torch.square(sound - mean) * weight).sum(-1, keepdim=True)
    return (sound - mean) / torch.sqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
