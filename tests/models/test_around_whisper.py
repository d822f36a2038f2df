"""A Qwen2-Audio around a pretrained Whisper's encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from numpy.typing import NDArray
from whole_whisper import whole_whisper

from alm_proxies.errors import SettingsError
from alm_proxies.models import around_whisper, tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.encoder import Encoder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper with both halves, as they are published."""
    return whole_whisper(tmp_path_factory.mktemp("whisper"), layers=2)


def test_its_encoder_hears_what_the_whisper_hears(
    whisper: Path, tmp_path: Path, sounds: list[NDArray[np.float32]]
) -> None:
    sizes = tiny.Sizes(hidden=64, layers=1, vocabulary=640)
    folder = around_whisper.build(tmp_path / "new", whisper, sizes=sizes, words=["angry or sad"], seed=1)
    lm, encoder = AudioLM.load(folder, device="cpu"), Encoder.load(whisper, device="cpu")
    assert lm.model.config.audio_config.d_model == 48
    assert lm.model.config.text_config.hidden_size == 64
    mel = lm.inputs.batch([[("user", [sounds[0], "?"])]])["input_features"]
    theirs = tf.WhisperFeatureExtractor.from_pretrained(whisper)(sounds[0], sampling_rate=16_000, return_tensors="pt")
    torch.testing.assert_close(mel, theirs["input_features"])
    states: list[torch.Tensor] = []
    tower = lm.model.model.audio_tower
    tower.layers[-1].register_forward_hook(lambda _, __, out: states.append(out[0] if isinstance(out, tuple) else out))
    with torch.inference_mode():
        tower(mel)
        wanted = encoder.backbone(mel).last_hidden_state
        torch.testing.assert_close(encoder.backbone.layer_norm(states[0]), wanted, atol=1e-5, rtol=0)


def test_the_rest_depends_on_the_seed_alone(whisper: Path, tmp_path: Path) -> None:
    sizes = tiny.Sizes(hidden=64, layers=1, vocabulary=640)
    folders = [
        around_whisper.build(tmp_path / str(place), whisper, sizes=sizes, words=[], seed=seed)
        for place, seed in enumerate((1, 1, 2))
    ]
    first, same, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == same
    assert first != other


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hubert"
    tf.HubertConfig().save_pretrained(folder)
    with pytest.raises(SettingsError, match=r"encoder is a hubert, not a Whisper.*openai/whisper-small"):
        around_whisper.build(tmp_path / "new", folder, sizes=tiny.Sizes(), words=[], seed=0)
