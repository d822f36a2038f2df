"""A Qwen2-Audio around the encoder of a pretrained Whisper, with a small untrained language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alm_proxies.errors import SettingsError
from alm_proxies.models import small_qwen2_audio, tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.encoder import Encoder, encoder_config
from alm_proxies.models.families import save


def build(
    folder: str | Path,
    encoder: str | Path,
    *,
    sizes: tiny.Sizes,
    words: Sequence[str],
    seed: int,
    revision: str | None = None,
) -> Path:
    """Write a checkpoint with the encoder's weights and spectra; the rest is untrained, with a vocabulary from `words`.

    The sizes of the audio encoder in `sizes` are those of the Whisper.
    """
    config = encoder_config(encoder, revision)
    if config.model_type != "whisper":
        fix = "Name a Whisper, such as openai/whisper-small."
        raise SettingsError(f"alm.new.encoder is a {config.model_type}, not a Whisper", where=str(encoder), fix=fix)
    whisper = Encoder.load(encoder, revision=revision, device="cpu")
    hearing = tiny.Hearing.of(config)
    sizes = replace(sizes, audio_hidden=config.d_model, audio_layers=config.encoder_layers)
    target = small_qwen2_audio.build(folder, sizes=sizes, words=words, seed=seed, hearing=hearing)
    lm = AudioLM.load(target, device="cpu")
    tower: Any = lm.model.model.audio_tower
    missing, unexpected = tower.load_state_dict(whisper.backbone.state_dict(), strict=False)
    if missing or unexpected:
        tensor = (*missing, *unexpected)[0]
        raise SettingsError(f"its encoder does not fit into a Qwen2-Audio ({tensor})", where=str(encoder))
    with torch.no_grad():
        lm.model.model.multi_modal_projector.linear.bias.zero_()
    save(lm.model, target)
    return target
