"""What a GPU is used for, once each, on the device of this name: results as JSON on the standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from small_corpus import small_settings
from tones_in_noise import TINY, TINY_ALM

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.recipe import Sounds
from alm_proxies.models.speech_model import statistics_of
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.stages.listen.stage import listen
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.settings import TrainSettings


def results(tables: Path, encoder: Path, out: Path, device: str) -> dict[str, Any]:
    """By recipe: the losses of its training, and what its model predicts."""
    utterances, votes = Utterances.read(tables / "utterances.parquet"), Votes.read(tables / "votes.parquet")
    labels = Labels.read(tables / "labels.parquet")
    sounds = Sounds(utterances, stage="test")
    some = Utterances.of(utterances.frame.head(4), about=utterances.about)
    clips = [sounds.open(name).clip for name in some.frame["utterance_id"].to_list()]
    head = TINY_ALM.model_copy(update={"output": "head", "answer": "codes", "label_orders": 1})
    recipes = {
        "encoder": small_settings(encoder, epochs=2, attributes={"weight": 0.3}, unfreeze=1),
        "frozen": small_settings(encoder, epochs=2, freeze=True),
        "attention": small_settings(encoder, epochs=1, loss="dirichlet_multinomial", pooling="attention"),
        "alm": TINY.model_copy(update={"epochs": 1, "alm": TINY_ALM.model_copy(update={"optimizer": "muon"})}),
        "head": TINY.model_copy(update={"epochs": 1, "alm": head}),
    }
    found: dict[str, Any] = {}
    for name, settings in recipes.items():
        done = train(labels, utterances, out / name, TrainSettings.model_validate(settings.model_dump()), votes=votes)
        found[name] = {"loss": done.epochs["loss"].to_list(), "score": done.epochs["score"].to_list()}
        if name == "alm":
            file = Annotator.read(done.folder / "annotator.toml").file
            given = {"model": str(done.folder), "serve": {**file.serve, "device": device}}
            asked = Annotator.of(file.model_copy(update=given), taxonomy=labels.taxonomy)
            found[name]["shares"] = asked.distribution(clips).tolist()
        else:
            asked_for = PredictSettings(device=device, evidence=name == "encoder")
            found[name]["shares"] = predict(done.folder, some, asked_for).labels.distributions().tolist()
    chance = torch.Generator().manual_seed(0)
    states = [torch.randn(3, 9, 8, generator=chance).to(device) for _ in range(4)]
    within = (torch.arange(9)[None] < torch.tensor([9, 4, 6])[:, None]).to(device)
    found["statistics"] = {"of frames": statistics_of(states, within).cpu().tolist()}
    hearing = ListenSettings(recipe="encoder", model=str(encoder), folds=3, device=device, head={"epochs": 2})
    heard = listen(utterances, votes, out / "listen", hearing)
    found["listen"] = {"shares": heard.votes.frame["weight"].to_list()}
    return found


if __name__ == "__main__":
    import made_device

    name = made_device.use().type
    tables, encoder, out = map(Path, sys.argv[1:])
    print(json.dumps(results(tables, encoder, out, name)))
