"""Votes per second and CPU time per vote of `annotate`, with its ledger on disk, relative to a minimal httpx client.

The bare client has a semaphore and the very same request bodies, made beforehand, and only checks status and JSON: once
with one pool of connections, as anyone would write it (512 requests: it is slow), and once with pools of 16, which
httpx handles much faster and with which annotate is compared.
annotate plans, probes the server, decodes three-second recordings from disk, renders prompts, encodes, asks, reads
replies, acknowledges everything in its ledger and writes its tables; `asking` is the same without plan, probe and
tables. All ask the same server, a process of its own; rounds alternate, medians are printed.

    OMP_NUM_THREADS=1 python benchmarks/proxies/annotate_http.py [--rounds 3] [--trips 16] [--short 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import soundfile

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.audio.clip import open_clip
from alm_proxies.engines import chat_api
from alm_proxies.engines.engine import Abilities, Audio, Engine, Reply, Request
from alm_proxies.stages.annotate.askable import askable
from alm_proxies.stages.annotate.settings import Stop
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances
from alm_proxies.taxonomy import taxonomy_of

SECONDS = 3.0
VOTES = 10
FILE = """
name = "listener"
engine = "openai"
model = "m"
prompt = "listener"
votes = {votes}
{cross}
serve = {{ base_urls = ["{url}"], in_flight = {in_flight} }}
"""
CROSS = {
    1: 'cross = { temperature = [0.6, 0.7, 0.8, 0.9, 1.0], focus = ["voice", "words"] }',
    VOTES: "",
}
"""Cells by draws per request: ten cells of one draw each, or one cell of ten."""
Rates = tuple[float, float]
"""Votes per second and CPU milliseconds per vote."""


@dataclass(slots=True)
class Clock:
    """Votes per second, and CPU milliseconds of this process per vote, since its start."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """A started clock."""
        return cls(time.perf_counter(), time.process_time())

    def rates(self, votes: int, end: Clock | None = None) -> Rates:
        """The rates at `end`, or now."""
        end = end or Clock.now()
        return votes / (end.wall - self.wall), 1000 * (end.cpu - self.cpu) / votes


@dataclass(slots=True)
class Watched:
    """An engine that records when it is ready and when it is closed."""

    engine: Engine
    opened: Clock
    closed: Clock

    @property
    def abilities(self) -> Abilities:
        """The abilities of the engine."""
        return self.engine.abilities

    async def ask(self, request: Request) -> Reply:
        """Pass it on."""
        return await self.engine.ask(request)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...] | None:
        """Pass it on."""
        return await self.engine.token_counts(texts)

    async def close(self) -> None:
        """Record the time."""
        self.closed = Clock.now()
        await self.engine.close()


@contextmanager
def chat_server(median: float, *, numbered: bool = True) -> Iterator[str]:
    """The address of a running server."""
    program = [sys.executable, str(Path(__file__).with_name("chat_server.py")), str(median)]
    program += ["numbered"] if numbered else []
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate()


def corpus(folder: Path, count: int) -> Utterances:
    """Utterances with recordings of noise on disk, 16 bits at 16 kHz."""
    chance = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number}.wav"
        if not path.exists():
            soundfile.write(path, 0.1 * chance.standard_normal(int(SECONDS * 16_000)), 16_000, subtype="PCM_16")
    names = [f"made/{number}" for number in range(count)]
    frame = pl.DataFrame(
        {"utterance_id": names, "corpus": "made", "audio": [f"{number}.wav" for number in range(count)]}
    )
    return Utterances.of(frame, about=About(taxonomy=taxonomy_of("emodb7").labels, roots={"made": str(folder)}))


def annotator(folder: Path, url: str, in_flight: int, draws: int) -> Annotator:
    """The annotator, from a file."""
    path = folder / "listener.toml"
    path.write_text(FILE.format(votes=VOTES, cross=CROSS[draws], url=url, in_flight=in_flight))
    return Annotator.read(path, taxonomy="emodb7")


def payloads(proxy: Annotator, utterances: Utterances) -> list[bytes]:
    """The bodies of the requests that annotate sends."""
    can = asyncio.run(abilities(proxy))
    frame, _ = askable(utterances, None)
    bodies = []
    for name, path in frame.select("utterance_id", "path").iter_rows():
        clip = open_clip(path)
        for asking in proxy.askings(name, range(proxy.votes), Audio(clip.samples, clip.rate), PromptContext(), 0):
            request = asking.request
            fields = chat_api.sampling_fields(request.sampling, can.sampling)
            fields |= chat_api.form_fields(request, structured=can.structured, schema=can.schema)
            fields |= {"seed": request.seeds[0]} if can.seeds != "none" else {}
            fields |= {"n": len(request.seeds)} if len(request.seeds) > 1 else {}
            bodies.append(chat_api.body(proxy.model, request.questions[0], fields))
    return bodies


async def bare(url: str, in_flight: int, bodies: list[bytes], each: int, draws: int) -> Rates:
    """The rates of the minimal client, with pools of `each` connections."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=each)
    gate = asyncio.Semaphore(in_flight)
    verify = httpx.create_ssl_context()
    async with AsyncExitStack() as stack:
        pools = [
            httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, verify=verify)
            for _ in range(in_flight // each)
        ]
        clients = cycle([await stack.enter_async_context(pool) for pool in pools])

        async def post(payload: bytes) -> None:
            async with gate:
                client = next(clients)
                answer = await client.post(
                    url + "/chat/completions", content=payload, headers={"content-type": "application/json"}
                )
                answer.raise_for_status()
                answer.json()

        clock = Clock.now()
        await asyncio.gather(*(post(payload) for payload in bodies))
        return clock.rates(len(bodies) * draws)


def ours(utterances: Utterances, proxy: Annotator) -> tuple[Rates, Rates]:
    """The rates of annotate during its requests, and from beginning to end."""
    watched: list[Watched] = []

    async def opened(proxy_given: Annotator) -> Engine:
        engine = await proxy_given.open()
        watched.append(Watched(engine, Clock.now(), Clock.now()))
        return watched[0]

    votes = len(utterances) * proxy.votes
    with tempfile.TemporaryDirectory(prefix="annotate-http-") as folder:
        clock = Clock.now()
        settings = AnnotateSettings(stop=Stop(collapse=1.0))
        done = annotate(utterances, [proxy], folder, settings, engine_of=opened, quiet=True)
        total = clock.rates(votes)
    if set(done.votes.frame["status"]) != {"ok"} or not done.complete:
        raise SystemExit(f"not every vote is ok: {done.findings.frame['message'].to_list()}")
    return watched[0].opened.rates(votes, watched[0].closed), total


async def abilities(proxy: Annotator) -> Abilities:
    """The abilities found by the probe."""
    engine = await proxy.open()
    await engine.close()
    return engine.abilities


def compared(url: str, utterances: Utterances, proxy: Annotator, in_flight: int, draws: int, rounds: int) -> str:
    """The measured cells of a row."""
    bodies = payloads(proxy, utterances)
    rates_by_name: dict[str, list[Rates]] = {name: [] for name in ("bare", "pools", "asking", "annotate")}
    for _ in range(rounds):
        rates_by_name["bare"].append(asyncio.run(bare(url, in_flight, bodies[:512], in_flight, draws)))
        rates_by_name["pools"].append(asyncio.run(bare(url, in_flight, bodies, 16, draws)))
        asking, total = ours(utterances, proxy)
        rates_by_name["asking"].append(asking)
        rates_by_name["annotate"].append(total)
    cells = []
    for name in rates_by_name:
        rate, cpu = (statistics.median(rates[message] for rates in rates_by_name[name]) for message in (0, 1))
        cells.append(f"{rate:.0f} at {cpu:.2f}")
    for name in ("asking", "annotate"):
        shares = [ours[0] / theirs[0] for ours, theirs in zip(rates_by_name[name], rates_by_name["pools"], strict=True)]
        cells.append(f"{statistics.median(shares):.2f}")
    return " | ".join(cells)


def case(url: str, folder: Path, draws: int, in_flight: int, trips: int, rounds: int) -> str:
    """One row of the table."""
    utterances = corpus(folder, -(-in_flight * trips * draws // VOTES))
    proxy = annotator(folder, url, in_flight, draws)
    return f"{draws} | {in_flight} | {trips} | {compared(url, utterances, proxy, in_flight, draws, rounds)} |"


def main() -> None:
    """Print a table with a row per case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trips", type=int, default=16, help="requests of a run, in multiples of those in flight")
    parser.add_argument("--short", type=int, default=3, help="the same of a short run, with latency only")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--draws", type=int, nargs="+", default=[1, VOTES], help="draws a request")
    parser.add_argument("--latency", type=float, nargs="+", default=[0.2, 0.0], help="the median, in seconds")
    parser.add_argument("--silent", action="store_true", help="a server that does not repeat a request's number")
    chosen = parser.parse_args()
    print("| ms | draws | in flight | trips | bare | pools of 16 | asking | annotate | asking/pools | annotate/pools |")
    with tempfile.TemporaryDirectory(prefix="annotate-http-") as name:
        for median in chosen.latency:
            with chat_server(median, numbered=not chosen.silent) as url:
                case(url, Path(name), 1, 16, 1, 1)  # what is loaded at first use is not counted
                for draws in chosen.draws:
                    for in_flight in chosen.in_flight:
                        for trips in (chosen.trips, chosen.short) if median else (chosen.trips,):
                            row = case(url, Path(name), draws, in_flight, trips, chosen.rounds)
                            print(f"| {1000 * median:.0f} | {row}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
