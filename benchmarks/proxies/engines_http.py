"""CPU time and votes a second of our engine for servers, over a bare httpx client that does the least possible.

The bare client has a semaphore and payloads encoded beforehand, and only checks the status; once with one pool of
connections, as anyone would write it, and once with pools of 16, which httpx handles much faster. All ask the same
server, a process of its own, for one vote a request about a clip of two seconds; rounds alternate, medians are printed.

    OMP_NUM_THREADS=1 python benchmarks/proxies/engines_http.py [--rounds 5] [--votes 4096]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np

from alm_proxies.engines import chat_api
from alm_proxies.engines.engine import Audio, OpenAIServe, Question, Request, Sampling, Turn
from alm_proxies.engines.openai import OpenAI


def requests_for(votes: int) -> list[Request]:
    """One request a vote, eight votes a clip, as annotate would make them."""
    chance = np.random.default_rng(0)
    clips = [Audio((0.1 * chance.standard_normal(32_000)).astype(np.float32), 16_000) for _ in range((votes + 7) // 8)]
    text = "Which emotion does the speaker express? A) angry B) happy C) sad D) neutral. Answer with one letter."
    return [
        Request(
            key=str(vote),
            utterance_id=str(vote // 8),
            elicit="sample",
            questions=(Question((Turn("user", (clips[vote // 8], text)),), ("A", "B", "C", "D")),),
            seeds=(vote,),
            sampling=Sampling(max_tokens=4),
        )
        for vote in range(votes)
    ]


@contextmanager
def chat_server(median: float) -> Iterator[str]:
    """The server's address while it lives."""
    program = [sys.executable, str(Path(__file__).with_name("chat_server.py")), str(median)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate()


async def bare(url: str, in_flight: int, votes: int, each: int) -> tuple[float, float]:
    """The bare client's rates, with pools of `each` connections."""
    fields = {**chat_api.sampling_fields(Sampling(max_tokens=4), Sampling.__slots__)}
    payloads = [chat_api.body("m", one.questions[0], {**fields, "seed": one.seeds[0]}) for one in requests_for(votes)]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=each)
    gate = asyncio.Semaphore(in_flight)
    async with AsyncExitStack() as stack:
        pools = [httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) for _ in range(in_flight // each)]
        clients = cycle([await stack.enter_async_context(pool) for pool in pools])

        async def one(payload: bytes) -> None:
            async with gate:
                client = next(clients)
                answer = await client.post(
                    url + "/chat/completions", content=payload, headers={"content-type": "application/json"}
                )
                answer.raise_for_status()
                answer.json()

        clock = Clock()
        await asyncio.gather(*(one(payload) for payload in payloads))
        return clock.rates(votes)


async def ours(url: str, in_flight: int, votes: int) -> tuple[float, float]:
    """Our engine's rates: encoding, traffic rules and reading of replies included."""
    engine = OpenAI.unprobed("m", OpenAIServe(base_urls=(url,), in_flight=in_flight))
    engine._abilities = replace(engine.abilities, several=True, seeds="each", sampling=tuple(Sampling.__slots__))
    requests = requests_for(votes)
    clock = Clock()
    replies = await asyncio.gather(*(engine.ask(request) for request in requests))
    rates = clock.rates(votes)
    await engine.close()
    if any(reply.failure is not None for reply in replies):
        raise SystemExit(f"failed: {next(reply.failure for reply in replies if reply.failure)}")
    return rates


class Clock:
    """Votes a second and this process's CPU milliseconds a vote since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def rates(self, votes: int) -> tuple[float, float]:
        """What it shows now."""
        return votes / (time.perf_counter() - self.wall), 1000 * (time.process_time() - self.cpu) / votes


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--votes", type=int, default=4096)
    chosen = parser.parse_args()
    for median in (0.2, 0.0):
        with chat_server(median) as url:
            for in_flight in (64, 512):
                rounds = [
                    (
                        asyncio.run(bare(url, in_flight, chosen.votes, in_flight)),
                        asyncio.run(bare(url, in_flight, chosen.votes, 16)),
                        asyncio.run(ours(url, in_flight, chosen.votes)),
                    )
                    for _ in range(chosen.rounds)
                ]
                (rate, cpu), (pool_rate, pool_cpu), (our_rate, our_cpu) = (
                    [statistics.median(one[side][what] for one in rounds) for what in (0, 1)] for side in (0, 1, 2)
                )
                share, pool_share = (statistics.median(one[2][0] / one[side][0] for one in rounds) for side in (0, 1))
                print(
                    f"latency {1000 * median:.0f} ms, {in_flight} in flight: bare {rate:.0f} votes/s at {cpu:.2f} CPU "
                    f"ms, bare with small pools {pool_rate:.0f} at {pool_cpu:.2f}, ours {our_rate:.0f} at "
                    f"{our_cpu:.2f}; share {share:.2f}, of small pools {pool_share:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
