"""A small Qwen2-Audio for training from scratch: tokenizer and initial weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alm_proxies.models import tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.families import save


def build(
    folder: str | Path,
    *,
    sizes: tiny.Sizes,
    words: Sequence[str],
    seed: int,
    hearing: tiny.Hearing | None = None,
) -> Path:
    """Write an untrained checkpoint: normal weights with deviation 0.02, sinusoidal positions of the encoder, and a
    vocabulary from `words`.
    """
    target = tiny.build(folder, "qwen2_audio", seed=seed, sizes=sizes, words=words, hearing=hearing or tiny.Hearing())
    lm = AudioLM.load(target, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "conv" in name and weight.ndim > 1:
                weight.normal_(0, 3 / math.sqrt(weight[0].numel()), generator=generator)
            elif weight.ndim > 1:
                weight.normal_(
                    0,
                    0.02 if "embed" in name or "lm_head" in name else 0.5 / math.sqrt(weight.shape[1]),
                    generator=generator,
                )
        places = lm.model.model.audio_tower.embed_positions.weight
        places.copy_(sinusoids(*places.shape))
    save(lm.model, target)
    return target


def sinusoids(places: int, width: int) -> Tensor:
    """Whisper's positions: sin and cos of position x 10000^(-k / (width / 2 - 1)), concatenated."""
    rates = torch.exp(-math.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(places)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@contextmanager
def only_the_end(model: Any, tokens: int) -> Iterator[None]:
    """A context in which the output layer runs only on that number of last tokens."""
    layer = model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -tokens:],))
    try:
        yield
    finally:
        hook.remove()
