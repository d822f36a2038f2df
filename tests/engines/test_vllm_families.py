"""Every named family, in its published form, in a real vLLM: the same label probabilities as transformers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from real_vllm import NEEDS_VLLM, ONE_THREAD

from alm_proxies.engines.engine import Audio, Request, Sampling
from alm_proxies.engines.registry import VllmServe, open_engine
from alm_proxies.models.families import FAMILIES

pytestmark = NEEDS_VLLM
CODES = ("A", "B", "C")
WORDS = ("angry", "happy", "disgust")
ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which is it? A) sad B) angry C) happy, or none of them")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2_audio"])
def test_label_probabilities_equal_transformers_and_those_of_another_clip_do_not(
    family, tmp_path, monkeypatch, clips, ask_about, scores_by_transformers
):
    from alm_proxies.models import tiny

    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    folder = tiny.build(tmp_path / family, family)
    sizes = (12_000, 16_000, 9_000)
    clips = [Audio(clip.samples[:size], 16_000) for clip, size in zip(clips, sizes, strict=True)]
    requests = [
        Request(f"{number} {choices}", "u", "score", tuple(ask_about(clip, order, choices) for order in ORDERS))
        for choices in (CODES, WORDS)
        for number, clip in enumerate(clips)
    ]
    drawn = Request("d", "u", "sample", (ask_about(clips[0]),), (5, 6, 7, 8), Sampling(max_tokens=8))

    async def ask():
        engine = await open_engine(str(folder), VllmServe(max_length=1024, in_flight=16))
        try:
            asked = asyncio.gather(*(engine.ask(request) for request in (*requests, drawn)))
            return await asked, await engine.ask(drawn)
        finally:
            await engine.close()

    (*replies, together), again = asyncio.run(ask())
    by_transformers = scores_by_transformers(folder)
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
