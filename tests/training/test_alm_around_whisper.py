"""The recipe alm on a model around a pretrained Whisper's encoder, trained or frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tones_in_noise import LABELS, TINY_ALM, recordings
from whole_whisper import whole_whisper

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.stages.train.stage import train
from alm_proxies.training.settings import TrainSettings


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    tower: Any = AudioLM.load(folder, device="cpu").model.model.audio_tower
    return dict(tower.layers.named_parameters())


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_it_is_trained_with_a_rate_of_its_own_for_the_encoder(rate: float, tmp_path: Path) -> None:
    whole_whisper(tmp_path / "whisper", layers=1)
    utterances, labels = recordings(tmp_path / "tones", 16)
    alm = TINY_ALM.model_dump() | {"new": {"encoder": str(tmp_path / "whisper"), "hidden": 64, "layers": 1}}
    settings = TrainSettings.model_validate(
        {"recipe": "alm", "name": "small", "epochs": 2, "batch": 6, "backbone_rate": rate, "alm": alm, "seed": 3}
    )
    trained = train(labels, utterances, tmp_path / "out", settings, quiet=True)
    assert trained.epochs["loss"][1] < trained.epochs["loss"][0]
    before, after = weights_of(tmp_path / "out" / "new"), weights_of(trained.folder)
    same = all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert same == (rate == 0.0)
    file = Annotator.read(trained.folder / "annotator.toml", taxonomy=LABELS).file
    assert file.trained_on == {"tones": ("", "split:development", "split:train")}
    assert file.knows == LABELS
