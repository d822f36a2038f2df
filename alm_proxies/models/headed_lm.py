"""An audio-language model with a head of its own: it gives a distribution over its labels, and answers nothing.

The head is that of arXiv 2601.14620. It reads the hidden states of all tokens of a prompt, so no engine that only
generates text can run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import weights_digest
from alm_proxies.models.audio_lm import Asked, AudioLM, Drawn, Draws
from alm_proxies.models.chat_inputs import ChatInputs, Conversation, clips_of
from alm_proxies.models.checkpoints import HEAD
from alm_proxies.models.trained import (
    Predictions,
    TrainedFile,
    calibrated,
    distances,
    read_norms,
    read_whole,
    write_norms,
    write_trained_file,
)
from alm_proxies.models.windows import at_its_length

Array = NDArray[np.float64]
LANGUAGE_MODEL = "lm"
"""The sub-folder with the language model: an adapter, or a whole checkpoint."""
_ATTENTION_HEADS = 8
_DROPOUTS = (0.15, 0.1)


class HeadOutput(NamedTuple):
    """The head's output for a batch."""

    logits: Tensor
    """(rows, labels); the distribution is their softmax."""
    vector: Tensor
    """(rows, half the width): the input of the last layer."""


class AttentionHead(nn.Module):
    """Attention from the first token to all tokens, then an MLP (arXiv 2601.14620 and its released code).

    z = multi-head attention (8 heads) with the first token's state as query, and the states of all tokens as keys and
    values; x = z + GELU(dropout(W1 LN(z))); y = GELU(dropout(W2 LN(x))), half as wide; logits = W3 LN(y).
    The first token does not hear the clip, so its state is the same for every clip: this is a pooling over tokens by a
    query that is learned. Unlike the released code, padding gets no attention, and the last layer begins at 0.
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        if width % _ATTENTION_HEADS:
            message = f"the head needs a model whose width is a multiple of {_ATTENTION_HEADS}, not {width}"
            raise SettingsError(message, fix='Write alm.output = "answer".')
        self.attention = nn.MultiheadAttention(width, _ATTENTION_HEADS, batch_first=True)
        self.residual = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Dropout(_DROPOUTS[0]), nn.GELU())
        self.narrow = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width // 2), nn.Dropout(_DROPOUTS[1]), nn.GELU(),
            nn.LayerNorm(width // 2),
        )  # fmt: skip
        self.output = nn.Linear(width // 2, labels)

    def start_at(self, shares: Tensor) -> None:
        """Let every clip begin with these shares of the labels."""
        with torch.no_grad():
            self.output.weight.zero_()
            self.output.bias.copy_(shares.log())

    def forward(self, states: Tensor, mask: Tensor) -> HeadOutput:
        """The output for the states (rows, tokens, width) of the tokens that are not padding."""
        first = mask.long().argmax(1)
        query = states[torch.arange(len(states), device=states.device), first][:, None]
        pooled: Tensor = self.attention(query, states, states, key_padding_mask=~mask, need_weights=False)[0][:, 0]
        vector: Tensor = self.narrow(pooled + self.residual(pooled))
        return HeadOutput(self.output(vector), vector)


class HeadedModel(nn.Module):
    """A language model and its head as one module; the head computes in float32."""

    def __init__(self, lm: Any, head: AttentionHead) -> None:
        super().__init__()
        self.lm = lm
        self.head = head

    def forward(self, **inputs: Any) -> HeadOutput:
        """The head's output for a prepared batch; no logits of tokens but the last one's are computed."""
        states: list[Tensor] = []

        def keep(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            states.append(given[0])
            return (given[0][:, -1:], *given[1:])

        hook = self.lm.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            self.lm(**inputs)
        finally:
            hook.remove()
        with torch.autocast(states[0].device.type, enabled=False):
            output: HeadOutput = self.head(states[0].float(), inputs["attention_mask"].bool())
        return output


def width_of(model: Any) -> int:
    """The width of a language model's states."""
    return int(model.config.get_text_config().hidden_size)


class HeadedLM:
    """A trained audio-language model with a head, loaded; its conversations are prepared as those of an AudioLM."""

    def __init__(
        self, lm: AudioLM, head: AttentionHead, file: TrainedFile, norms: tuple[Array, Array], name: str
    ) -> None:
        self.file = file
        self.name = name
        self.inputs: ChatInputs = lm.inputs
        self.device = lm.device
        self._lm = lm
        self._norms = norms
        self._model = HeadedModel(lm.model, head).eval()

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None, dtype: str = "auto") -> Self:
        """Load a folder that `train` wrote with alm.output = head, on a GPU if there is one."""
        path, file = read_whole(folder)
        lm = AudioLM.load(path / LANGUAGE_MODEL, device=device, dtype=dtype)
        head = AttentionHead(width_of(lm.model), len(file.labels))
        head.load_state_dict(load_file(str(path / HEAD)))
        return cls(lm, head.to(lm.device), file, read_norms(path), str(folder))

    @property
    def weights(self) -> int:
        """The number of weights below the head."""
        return self._lm.weights

    @torch.inference_mode()
    def predict(self, conversations: Sequence[Conversation]) -> Predictions:
        """The calibrated predictions for conversations about one clip each; independent of the batching."""
        places = [list(range(len(conversations)))]
        if self.inputs.equal_lengths_only:
            lengths = [tuple(len(clip) for clip in clips_of(conversation)) for conversation in conversations]
            places = [[place for place, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]
        logits = np.zeros((len(conversations), len(self.file.labels)))
        distance = np.zeros(len(conversations))
        for group in places:
            tensors = self._lm.tensors([conversations[place] for place in group])
            positions = (tensors["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            with at_its_length(self._lm.model, tensors):
                output = self._model(**tensors, position_ids=self._lm.on_axes(positions), use_cache=False)
            logits[group] = output.logits.double().cpu().numpy()
            distance[group] = distances(output.vector.double().cpu().numpy(), *self._norms)
        return calibrated(self.file.calibration, logits, distance)

    def score(self, requests: Sequence[Sequence[Asked]]) -> list[Array]:
        """ln of the calibrated share of each choice, which must be a label; for every request as (orders, choices)."""
        for choice in {choice for asked in requests for order in asked for choice in order.choices}:
            if choice not in self.file.labels:
                fix = f"Its labels are {', '.join(self.file.labels)}."
                raise InputError(f"the model's head has no label {choice!r}", where=self.name, fix=fix)
        orders = [order for asked in requests for order in asked]
        log_p = np.log(np.maximum(self.predict([order.conversation for order in orders]).shares, 1e-300))
        place = {label: number for number, label in enumerate(self.file.labels)}
        rows = iter(
            [row[[place[choice] for choice in order.choices]] for order, row in zip(orders, log_p, strict=True)]
        )
        return [np.stack([next(rows) for _ in asked]) for asked in requests]

    def draw(self, requests: Sequence[Draws]) -> list[list[Drawn]]:
        """Raise: such a model answers nothing."""
        raise InputError("the model predicts by a head of its own and answers nothing", where=self.name)


def save_head(folder: Path, model: HeadedModel, norms: tuple[Array, Array], file: TrainedFile) -> None:
    """Write the head, the norms of training clips and the metadata beside the language model in its sub-folder."""
    weights = model.head.state_dict()
    plain = {name: weight.detach().to("cpu", torch.float32).contiguous() for name, weight in weights.items()}
    save_file(plain, str(folder / HEAD))
    write_norms(folder, norms)
    known = file.model_copy(update={"shape": {LANGUAGE_MODEL: weights_digest(folder / LANGUAGE_MODEL)}})
    write_trained_file(folder, known)
