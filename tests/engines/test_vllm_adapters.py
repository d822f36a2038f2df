"""LoRA adapters in a real vLLM: they change its answers, which are then those of transformers with the adapter."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from real_vllm import NEEDS_VLLM, ONE_THREAD

from alm_proxies.engines.engine import Audio, Request
from alm_proxies.engines.registry import VllmServe, open_engine
from alm_proxies.errors import EngineError
from alm_proxies.models.families import FAMILIES, WITHOUT_VLLM_ADAPTERS

pytestmark = NEEDS_VLLM
SIZE = 12_000


def adapter_for(base, folder):
    """A random adapter of rank 5 on attention and feed-forward matrices."""
    import torch

    from alm_proxies.models.adapters import linear_modules, targets_of, write_adapter
    from alm_proxies.models.audio_lm import AudioLM

    lm = AudioLM.load(base, device="cpu")
    chance = torch.Generator().manual_seed(1)
    matrices = {}
    for name in targets_of(lm.model):
        rows, columns = linear_modules(lm.model)[name].weight.shape
        matrices[name] = (
            torch.randn(5, columns, generator=chance) / columns**0.5,
            0.2 * torch.randn(rows, 5, generator=chance),
        )
    write_adapter(folder, matrices, family=lm.inputs.family, base=str(base), alpha=10.0)
    return folder


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WITHOUT_VLLM_ADAPTERS])
def test_vllm_hears_an_adapter_as_transformers_does(
    family, tmp_path, monkeypatch, clips, ask_about, scores_by_transformers
):
    from alm_proxies.models import tiny

    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    base = tiny.build(tmp_path / "base", family)
    adapter = adapter_for(base, tmp_path / "adapter")
    equally_long = [Audio(clip.samples[:SIZE], 16_000) for clip in clips]
    requests = [
        Request(f"{number} {choices}", "u", "score", (ask_about(clip, choices=choices),))
        for choices in (("A", "B", "C"), ("angry", "happy", "disgust"))
        for number, clip in enumerate(equally_long)
    ]

    async def ask():
        engine = await open_engine(str(adapter), VllmServe(max_length=1024, in_flight=16))
        try:
            return await asyncio.gather(*(engine.ask(request) for request in requests))
        finally:
            await engine.close()

    replies = asyncio.run(ask())
    with_adapter, without = scores_by_transformers(adapter), scores_by_transformers(base)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.failure is None
        np.testing.assert_allclose(reply.log_probabilities, with_adapter(request), atol=2e-4)
        assert np.abs(np.array(reply.log_probabilities) - without(request)).max() > 0.05


@pytest.mark.parametrize("family", WITHOUT_VLLM_ADAPTERS)
def test_a_family_for_which_vllm_has_no_adapters_is_refused_with_the_fix(family, tmp_path):
    from alm_proxies.models import tiny

    adapter = adapter_for(tiny.build(tmp_path / "base", family), tmp_path / "adapter")
    with pytest.raises(EngineError, match=rf"no LoRA adapter for {family}.*merge = true"):
        asyncio.run(open_engine(str(adapter), VllmServe()))
