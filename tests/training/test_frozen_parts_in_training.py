"""Frozen parts of a model that is trained are the same in every step: without dropout, with the norms' statistics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tones_in_noise import LABELS, recordings

from alm_proxies.models import tiny
from alm_proxies.stages.train.stage import train
from alm_proxies.training.gradients import in_training
from alm_proxies.training.settings import TrainSettings


@pytest.mark.parametrize("output", ["answer", "head"])
def test_an_audio_encoder_beside_an_adapter_hears_without_its_own_dropout(
    output: str, bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(shutil.copytree(bases["qwen2_audio"], tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    config["audio_config"] |= {"dropout": 0.5, "attention_dropout": 0.5}
    (base / "config.json").write_text(json.dumps(config))
    layer: Any = tf.models.qwen2_audio.modeling_qwen2_audio.Qwen2AudioEncoderLayer
    heard: list[tuple[bool, bool]] = []
    forward = layer.forward

    def recorded(self: Any, *inputs: Any, **named: Any) -> Any:
        heard.append((self.training, self.self_attn.training))
        return forward(self, *inputs, **named)

    monkeypatch.setattr(layer, "forward", recorded)
    text: Any = tf.models.qwen2.modeling_qwen2.Qwen2MLP
    learned: list[bool] = []
    mlp = text.forward

    def answering(self: Any, *inputs: Any) -> Any:
        learned.append(self.training)
        return mlp(self, *inputs)

    monkeypatch.setattr(text, "forward", answering)
    alm = {"lora": {"rank": 2}, "output": output}
    settings = TrainSettings.model_validate(
        {"recipe": "alm", "name": "adapted", "model": str(base), "alm": alm, "epochs": 1, "batch": 9, "seed": 1}
    )
    utterances, labels = recordings(tmp_path / "few", 16)
    assert train(labels, utterances, tmp_path / "out", settings, quiet=True).epochs["loss"][0] > 0
    assert set(heard) == {(False, False)}
    assert set(learned) == {True, False}, "the part with the adapter is in training, and judged in evaluation"
    assert labels.taxonomy == LABELS


def test_norms_of_a_frozen_encoder_keep_their_statistics() -> None:
    sizes = {"num_layers": 2, "hidden_dim": 16, "num_heads": 2, "dim_head": 8, "input_dim": 8, "output_dim": 4}
    config = tf.GraniteSpeechEncoderConfig(**sizes, feedforward_mult=2, context_size=20, max_pos_emb=32, dropout=0.5)
    encoder: Any = tf.models.granite_speech.modeling_granite_speech.GraniteSpeechCTCEncoder(config)
    model = torch.nn.ModuleDict({"encoder": encoder.requires_grad_(False), "head": torch.nn.Linear(16, 2)})
    sound = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in encoder.state_dict().items() if "running" in name}
    assert before
    in_training(model)
    first, second = (encoder(sound) for _ in range(2))
    first, second = (getattr(output, "last_hidden_state", output) for output in (first, second))
    assert torch.equal(first, second)
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())
    assert model["head"].training
    encoder.requires_grad_(True)
    in_training(model)
    assert encoder.training


def test_the_whole_of_a_model_without_frozen_parts_is_in_training(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    model = tf.Qwen2AudioForConditionalGeneration.from_pretrained(folder)
    in_training(model)
    assert all(part.training for part in model.modules())
