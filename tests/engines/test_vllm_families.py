"""Every named family in a real vLLM: it answers as in transformers, before and after a training by the recipe alm.

One engine a family: with an adapter it serves the model in its published form too.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_vllm import NEEDS_VLLM, ONE_THREAD
from vllm_forks import engines_are_forks

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.answers import shares_of
from alm_proxies.engines.engine import Audio, Engine, Reply, Request, Sampling
from alm_proxies.engines.registry import VllmServe, open_engine
from alm_proxies.errors import EngineError
from alm_proxies.models.families import FAMILIES, WITHOUT_VLLM_ADAPTERS

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

pytestmark = NEEDS_VLLM
CODES = ("A", "B", "C")
WORDS = ("angry", "happy", "disgust")
ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which is it? A) sad B) angry C) happy, or none of them")
SIZES = (12_000, 16_000, 9_000)
SERVE = {"max_length": 2048, "in_flight": 16}


def trained(base: Path, folder: Path) -> Path:
    """A model that the recipe alm trained for a few steps on tones: an adapter of rank 5, merged for Qwen2-Audio."""
    from tones_in_noise import recordings

    from alm_proxies.stages.train.stage import train
    from alm_proxies.training.settings import TrainSettings

    alm = {"lora": {"rank": 5, "alpha": 10.0, "rate": 0.01}, "label_orders": 2}
    given = {"recipe": "alm", "name": "adapted", "model": str(base), "alm": alm, "epochs": 2, "batch": 6, "seed": 1}
    utterances, labels = recordings(folder / "recordings", 16)
    return train(labels, utterances, folder, TrainSettings.model_validate(given), quiet=True).folder


def published_with(adapter: Path, base: Path) -> Path:
    """The folder of an adapter as Granite-speech is published: beside the weights, with a text model as its base."""
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "some/text-model"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    for path in base.iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    config = json.loads((base / "config.json").read_text()) | {"has_lora_adapter": True}
    (adapter / "config.json").write_text(json.dumps(config))
    return adapter


def with_engine(folder: Path, engine: str, **changes: Any) -> Annotator:
    """The annotator file that training wrote, for an engine."""
    from tones_in_noise import LABELS

    path = folder / "annotator.toml"
    file = Annotator.read(path).file
    return Annotator.of(file.model_copy(update={"engine": engine, **changes}), where=str(path), taxonomy=LABELS)


@dataclass(frozen=True)
class Served:
    """A trained model of a family in a running vLLM; `published` asks the model that the adapter belongs to."""

    family: str
    base: Path
    folder: Path
    runner: asyncio.Runner
    engine: Engine
    published: Engine

    def ask(self, engine: Engine, *requests: Request) -> list[Reply]:
        async def asked() -> list[Reply]:
            return await asyncio.gather(*(engine.ask(request) for request in requests))

        return self.runner.run(asked())


@pytest.fixture(scope="module", params=FAMILIES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from alm_proxies.models import tiny

    family, folder = request.param, tmp_path_factory.mktemp(request.param)
    base = tiny.build(folder / "base", family)
    model = trained(base, folder / "trained")
    if family == "granite_speech":
        model = published_with(model, base)
    with pytest.MonkeyPatch.context() as environment, asyncio.Runner() as runner:
        for name, value in ONE_THREAD.items():
            environment.setenv(name, value)
        with engines_are_forks():
            engine: Any = runner.run(with_engine(model, "vllm", serve=SERVE).open())
        published = copy.copy(engine)
        published._adapter = None
        yield Served(family, base, model, runner, engine, published)
        runner.run(engine.close())


def test_label_probabilities_equal_transformers_and_those_of_another_clip_do_not(
    served: Served, clips: list[Audio], ask_about: Callable[..., Any], scores_by_transformers: Callable[..., Any]
) -> None:
    """Of the model in its published form; of Qwen2-Audio, whose adapter is merged, of the merged one."""
    clips = [Audio(clip.samples[:size], 16_000) for clip, size in zip(clips, SIZES, strict=True)]
    requests = [
        Request(f"{number} {choices}", "u", "score", tuple(ask_about(clip, order, choices) for order in ORDERS))
        for choices in (CODES, WORDS)
        for number, clip in enumerate(clips)
    ]
    drawn = Request("d", "u", "sample", (ask_about(clips[0]),), (5, 6, 7, 8), Sampling(max_tokens=8))
    *replies, together = served.ask(served.published, *requests, drawn)
    (again,) = served.ask(served.published, drawn)
    merged = served.family in WITHOUT_VLLM_ADAPTERS
    by_transformers = scores_by_transformers(served.folder if merged else served.base)
    exact = [by_transformers(request) for request in requests]
    for place, reply in enumerate(replies):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, exact[place], atol=1e-4)
        other = place // 3 * 3 + (place + 1) % 3
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(reply.log_probabilities, exact[other], atol=1e-2)
    assert together.failure is None
    assert together.texts == again.texts
    assert len(set(together.texts)) == 4


def test_vllm_answers_as_transformers_does_after_training_and_unlike_the_base_model(
    served: Served, clips: list[Audio], ask_about: Callable[..., Any], scores_by_transformers: Callable[..., Any]
) -> None:
    folder, base = served.folder, served.base
    assert (folder / "adapter_config.json").is_file() == (served.family not in WITHOUT_VLLM_ADAPTERS)
    equally_long = [Audio(clip.samples[: SIZES[0]], 16_000) for clip in clips]
    requests = [
        Request(f"{number} {choices}", "u", "score", (ask_about(clip, choices=choices),))
        for choices in (CODES, WORDS)
        for number, clip in enumerate(equally_long)
    ]
    replies = served.ask(served.engine, *requests)
    shares = served.runner.run(shares_of(with_engine(folder, "vllm", serve=SERVE), served.engine, equally_long, 0))
    after, before = scores_by_transformers(folder), scores_by_transformers(base)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, after(request), atol=2e-4)
        assert np.abs(np.array(reply.log_probabilities) - before(request)).max() > 0.05
    by_transformers = with_engine(folder, "transformers")
    np.testing.assert_allclose(shares, by_transformers.distribution(equally_long), atol=1e-4)
    untrained = with_engine(folder, "transformers", model=str(base)).distribution(equally_long)
    assert np.abs(shares - untrained).max() > 0.02


@pytest.mark.parametrize("served", WITHOUT_VLLM_ADAPTERS, indirect=True)
def test_a_family_for_which_vllm_has_no_adapters_is_refused_with_the_fix(served: Served) -> None:
    with pytest.raises(EngineError, match=rf"no LoRA adapter for {served.family}.*merge = true"):
        served.runner.run(open_engine(str(served.folder / "adapter"), VllmServe()))
