"""What the recipe alm learns, asked in a real vLLM: its answers are those of transformers, and not the base model's."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest
from real_vllm import NEEDS_VLLM, ONE_THREAD

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import shares_of
from alm_proxies.engines.engine import Audio, Request
from alm_proxies.engines.registry import VllmServe, open_engine
from alm_proxies.errors import EngineError
from alm_proxies.models.families import FAMILIES, WITHOUT_VLLM_ADAPTERS

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

pytestmark = NEEDS_VLLM
SIZE = 12_000
SERVE = {"max_length": 2048, "in_flight": 16}


def trained(base, folder):
    """A model that the recipe alm trained for a few steps on tones: an adapter of rank 5, merged for Qwen2-Audio."""
    from tones_in_noise import recordings

    from alm_proxies.stages.train.stage import train
    from alm_proxies.training.settings import TrainSettings

    alm = {"lora": {"rank": 5, "alpha": 10.0, "rate": 0.01}, "label_orders": 2}
    given = {"recipe": "alm", "name": "adapted", "model": str(base), "alm": alm, "epochs": 2, "batch": 6, "seed": 1}
    utterances, labels = recordings(folder / "recordings", 16)
    return train(labels, utterances, folder, TrainSettings.model_validate(given), quiet=True).folder


def with_engine(folder, engine, **changes):
    """The annotator file that training wrote, for an engine."""
    from tones_in_noise import LABELS

    path = folder / "annotator.toml"
    file = Annotator.read(path).file
    return Annotator.of(file.model_copy(update={"engine": engine, **changes}), where=str(path), taxonomy=LABELS)


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_answers_as_transformers_does_after_training_and_unlike_the_base_model(
    family, tmp_path, monkeypatch, clips, ask_about, scores_by_transformers
):
    from alm_proxies.models import tiny

    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    base = tiny.build(tmp_path / "base", family)
    folder = trained(base, tmp_path / "trained")
    assert (folder / "adapter_config.json").is_file() == (family not in WITHOUT_VLLM_ADAPTERS)
    equally_long = [Audio(clip.samples[:SIZE], 16_000) for clip in clips]
    requests = [
        Request(f"{number} {choices}", "u", "score", (ask_about(clip, choices=choices),))
        for choices in (("A", "B", "C"), ("angry", "happy", "disgust"))
        for number, clip in enumerate(equally_long)
    ]
    by_vllm = with_engine(folder, "vllm", serve=SERVE)

    async def ask():
        engine = await by_vllm.open()
        try:
            replies = await asyncio.gather(*(engine.ask(request) for request in requests))
            return replies, await shares_of(by_vllm, engine, equally_long, 0)
        finally:
            await engine.close()

    replies, shares = asyncio.run(ask())
    after, before = scores_by_transformers(folder), scores_by_transformers(base)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, after(request), atol=2e-4)
        assert np.abs(np.array(reply.log_probabilities) - before(request)).max() > 0.05
    by_transformers = with_engine(folder, "transformers")
    np.testing.assert_allclose(shares, by_transformers.distribution(equally_long), atol=1e-4)
    untrained = with_engine(folder, "transformers", model=str(base)).distribution(equally_long)
    assert np.abs(shares - untrained).max() > 0.05


@pytest.mark.parametrize("family", WITHOUT_VLLM_ADAPTERS)
def test_a_family_for_which_vllm_has_no_adapters_is_refused_with_the_fix(family, tmp_path):
    from alm_proxies.models import tiny

    folder = trained(tiny.build(tmp_path / "base", family), tmp_path / "trained")
    with pytest.raises(EngineError, match=rf"no LoRA adapter for {family}.*merge = true"):
        asyncio.run(open_engine(str(folder / "adapter"), VllmServe()))
