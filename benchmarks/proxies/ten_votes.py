"""Ten votes on a recording from one request, from its scores, from ten requests, and from ten sequential calls.

All ask one real vLLM server on the CPU. Every way and round has recordings of its own, so that nothing is answered
from what another left in the server's caches. The last way is the reference procedure: one call at a time, the
recording sent with each (without the pauses it makes between calls). With --no-caches the server keeps neither prefixes
nor sound.

    OMP_NUM_THREADS=1 python benchmarks/proxies/ten_votes.py EMODB/wav --vllm .venv-vllm/bin/python [--no-caches]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vllm_server import MODEL, checkpoint, emodb, vllm_server

from alm_proxies.annotators.annotator import Annotator, Asking
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.audio.clip import open_clip
from alm_proxies.engines.engine import Audio, Engine
from alm_proxies.engines.registry import OpenAIServe, open_engine

VOTES = 10
IN_FLIGHT = 32
WAYS = ("one request, n = 10", "score", "ten requests at once", "ten calls one after another")
NO_CACHES = ("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0")


def annotator(elicit: str) -> Annotator:
    values = {"name": "a", "engine": "openai", "model": MODEL, "elicit": elicit, "sampling": {"max_tokens": 2}}
    votes = {"votes": VOTES, "constrain": True} if elicit == "sample" else {}
    return Annotator.of(AnnotatorFile.model_validate({**values, **votes}), taxonomy="emodb7")


def askings(way: str, name: str, audio: Audio) -> list[Asking]:
    if way == "score":
        return annotator("score").askings(name, [0], audio, PromptContext(), 0)
    proxy = annotator("sample")
    if way == WAYS[0]:
        return proxy.askings(name, range(VOTES), audio, PromptContext(), 0)
    return [asking for draw in range(VOTES) for asking in proxy.askings(name, [draw], audio, PromptContext(), 0)]


async def measured(engine: Engine, way: str, clips: Sequence[tuple[str, Audio]]) -> float:
    """Seconds for all votes about some recordings."""
    at_once = asyncio.Semaphore(1 if way == WAYS[3] else IN_FLIGHT)

    async def ask(asking: Asking) -> None:
        async with at_once:
            reply = await engine.ask(asking.request)
        if reply.failure is not None:
            raise SystemExit(f"{way}: {reply.failure}")

    asked = [asking for name, audio in clips for asking in askings(way, name, audio)]
    started = time.perf_counter()
    await asyncio.gather(*(ask(asking) for asking in asked))
    return time.perf_counter() - started


async def rounds(url: str, clips: Sequence[tuple[str, Audio]], count: int, each: int) -> dict[str, list[float]]:
    engine = await open_engine(MODEL, OpenAIServe(base_urls=(url,), in_flight=IN_FLIGHT))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    left = iter(clips)
    try:
        await measured(engine, WAYS[0], [next(left) for _ in range(4)])  # warm
        for _ in range(count):
            for way in WAYS:
                seconds[way].append(await measured(engine, way, [next(left) for _ in range(each)]))
    finally:
        await engine.close()
    return seconds


def main() -> None:
    """Serve, ask in turns, print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("wav", type=Path)
    parser.add_argument("--vllm", type=Path, required=True, help="the python of an environment with vLLM")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recordings", type=int, default=30, help="for each way and round")
    parser.add_argument("--no-caches", action="store_true")
    chosen = parser.parse_args()
    utterances = emodb(chosen.wav)
    needed = 4 + chosen.rounds * len(WAYS) * chosen.recordings
    frame = utterances.frame.sample(fraction=1.0, shuffle=True, seed=0).head(needed)
    if frame.height < needed:
        raise SystemExit(f"{needed} recordings are needed, there are {frame.height}")
    clips = []
    for name, audio in frame.select("utterance_id", "audio").iter_rows():
        clip = open_clip(chosen.wav / audio, rate=16_000)
        clips.append((name, Audio(clip.samples, clip.rate)))
    with tempfile.TemporaryDirectory() as name:
        model = checkpoint(Path(name) / "model", annotator("sample"), utterances)
        with vllm_server(chosen.vllm, model, Path(name) / "log", NO_CACHES if chosen.no_caches else ()) as url:
            seconds_by_way = asyncio.run(rounds(url, clips, chosen.rounds, chosen.recordings))
    print(f"{'without' if chosen.no_caches else 'with'} caches, {chosen.recordings} recordings a way and round:")
    first = seconds_by_way[WAYS[0]]
    for way, seconds in seconds_by_way.items():
        each = statistics.median(seconds) / chosen.recordings
        ratios = [slow / fast for slow, fast in zip(seconds, first, strict=True)]
        print(
            f"  {way}: {1000 * each:.0f} ms a recording, {1 / each:.1f} recordings/s; "
            f"{statistics.median(ratios):.1f} times the seconds of one request ({min(ratios):.1f} to {max(ratios):.1f})"
        )
    print(f"  load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
