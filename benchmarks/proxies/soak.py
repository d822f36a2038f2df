"""A soak: a server that fails at random, an annotate that is killed and resumed at random, until every vote is cast.

The server keeps its own account: tokens of everything it generated, whether or not the answer arrived whole. In the end
planned votes = answered + failed with a reason, no vote is there twice, what was booked is not below what the server
counted, and the memory of the runs did not grow.

    OMP_NUM_THREADS=1 python benchmarks/proxies/soak.py [--votes 100000] [--minutes 30] [--draws 5] [--faults 0.15]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from alm_proxies.about import About
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.tables import Utterances, Votes
from alm_proxies.taxonomy import taxonomy_of

LETTERS = "ABCDEFG"
FAULTS = (
    "429", "500", "503", "reset", "reset after generating", "cut body", "no JSON", "no completion", "deep JSON",
    "empty", "usage negative", "usage huge", "usage infinite", "usage missing",
    "content list", "fewer answers", "stalls",
)  # fmt: skip
CHARGED = frozenset(FAULTS) - {"429", "503", "reset"}
"""After these the server has generated, so that it counts."""
PRICE_IN, PRICE_OUT = 10.0, 30.0


class Server:
    """Answers chat completions, fails in all these ways, and counts what it generated."""

    def __init__(self, faults: float) -> None:
        self.share = faults
        self.asked = Counter[str]()
        self.tokens_in = self.tokens_out = self.answered = 0
        self.chance = random.Random(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                if not await self.answer(head, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """One answer; False ends the connection."""
        path = head.split(b" ", 2)[1].decode()
        if path.endswith("/models"):
            return await _send(writer, {"data": [{"id": "m", "object": "model"}]})
        if path.endswith("/count"):
            return await _send(writer, {**vars(self), "chance": None, "asked": dict(self.asked)})
        if not path.endswith("/chat/completions"):
            return await _send(writer, {"error": {"message": "no such address"}}, 404)
        asked = json.loads(body)
        fault = self.chance.choice(FAULTS) if self.chance.random() < self.share else ""
        self.asked[fault or "answered"] += 1
        await asyncio.sleep(0.05 * self.chance.lognormvariate(0, 0.3))
        count, prompt = int(asked.get("n", 1)), 150 + len(body) // 400 % 50
        draws = [LETTERS[(int(asked.get("seed", 0)) + place) % len(LETTERS)] for place in range(count)]
        if not fault or fault in CHARGED:
            self.tokens_in += prompt
            self.tokens_out += count
            self.answered += not fault
        return await self.fail(fault, draws, prompt, writer)

    async def fail(self, fault: str, draws: list[str], prompt: int, writer: asyncio.StreamWriter) -> bool:
        """Send the answer, or what the fault makes of it."""
        if fault in ("429", "500", "503"):
            return await _send(writer, {"error": {"message": "busy"}}, int(fault))
        if fault.startswith("reset"):
            writer.transport.abort()
            return False
        if fault == "stalls":
            await asyncio.sleep(6.0)
        choices = [
            {"index": place, "message": {"role": "assistant", "content": one}, "finish_reason": "stop"}
            for place, one in enumerate(draws)
        ]
        usage: object = {"prompt_tokens": prompt, "completion_tokens": len(draws)}
        if fault == "empty":
            choices = [{**one, "message": {"role": "assistant", "content": ""}} for one in choices]
        if fault == "content list":
            choices = [
                {**one, "message": {"role": "assistant", "content": [{"type": "text", "text": letter}]}}
                for one, letter in zip(choices, draws, strict=True)
            ]
        if fault == "fewer answers":
            choices = choices[:1]
        if fault == "usage negative":
            usage = {"prompt_tokens": -4000, "completion_tokens": -4000}
        if fault == "usage huge":
            usage = {"prompt_tokens": 10**12, "completion_tokens": 10**12}
        whole = json.dumps({"model": "m", "choices": choices, "usage": None if fault == "usage missing" else usage})
        if fault == "usage infinite":
            whole = whole.replace(f'"prompt_tokens": {prompt}', '"prompt_tokens": 1e999')
        if fault == "no JSON":
            whole = "<html>busy</html>"
        if fault == "no completion":
            whole = json.dumps({"choices": []})
        if fault == "deep JSON":
            whole = "[" * 10_000
        if fault == "cut body":
            content = whole.encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content[:40])
            await writer.drain()
            return False
        return await _send(writer, whole)


async def _send(writer: asyncio.StreamWriter, value: object, code: int = 200) -> bool:
    content = (value if isinstance(value, str) else json.dumps(value)).encode()
    writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % code)
    writer.write(b"content-length: %d\r\n\r\n" % len(content) + content)
    await writer.drain()
    return True


async def served(faults: float) -> None:
    """Print the port and serve until stdin ends."""
    server = Server(faults)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**22, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def corpus(folder: Path, count: int) -> Path:
    """Short recordings of noise, and the table of them."""
    (folder / "audio").mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        soundfile.write(folder / f"audio/{number:06d}.wav", 0.1 * chance.standard_normal(3_200), 16_000)
    names = [f"{number:06d}" for number in range(count)]
    frame = pl.DataFrame(
        {"utterance_id": [f"made/{n}" for n in names], "corpus": "made", "audio": [f"audio/{n}.wav" for n in names]}
    )
    about = About(taxonomy=taxonomy_of("emodb7").labels, roots={"made": str(folder)})
    Utterances.of(frame, about=about).write(folder / "utterances.parquet")
    return folder / "utterances.parquet"


RUN = """
import sys
from pathlib import Path
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import annotate
from alm_proxies.tables import Utterances
stop = {"collapse": 1.0, "failed": 1.0, "refused": 1.0}
settings = AnnotateSettings.model_validate({"stop": stop, "injection": 0})
made = annotate(Utterances.read(sys.argv[1]), [Annotator.read(sys.argv[2])], sys.argv[3], settings, quiet=True)
print(made.complete, made.by_status)
"""


def memory_of(process: int) -> float:
    """The most memory a process has had so far, in MiB."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def soak(folder: Path, port: int, votes: int, minutes: float, draws: int) -> None:
    """Run, kill and resume until every vote is answered or the time is over, then compare."""
    utterances, out = corpus(folder, votes // 10), folder / "out"
    cells = ", ".join(f"{0.5 + 0.05 * place:g}" for place in range(10 // draws))
    (folder / "a.toml").write_text(
        f"""
        name = "soaked"
        engine = "openai"
        model = "m"
        votes = 10
        cross = {{ temperature = [{cells}] }}
        price = {{ million_tokens_in = {PRICE_IN}, million_tokens_out = {PRICE_OUT} }}
        serve = {{ base_urls = ["http://127.0.0.1:{port}/v1"], in_flight = 64, try_seconds = 3.0, tries = 6 }}
        """
    )
    run = [sys.executable, "-c", RUN, str(utterances), str(folder / "a.toml"), str(out)]
    chance, started, kills, runs, peaks, last = random.Random(2), time.monotonic(), 0, 0, list[float](), ""
    while True:
        left = 60 * minutes - (time.monotonic() - started)
        runs += 1
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            until, peak = time.monotonic() + (chance.uniform(4, 25) if left > 60 else 600.0), 0.0
            while child.poll() is None and time.monotonic() < until:
                peak = max(peak, memory_of(child.pid))
                time.sleep(0.2)
            if child.poll() is None:
                child.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
                kills += 1
            stdout, wrong = child.communicate()
        peaks.append(peak)
        if "Traceback" in wrong and "KeyboardInterrupt" not in wrong:
            raise SystemExit(f"a run broke: {wrong[-2000:]}")
        last = stdout.strip().splitlines()[-1] if stdout.strip() else last
        if last.startswith("True") and "failed" not in last:
            break
        if left < 0:
            break
    report(out, port, runs, kills, peaks, time.monotonic() - started)


def report(out: Path, port: int, runs: int, kills: int, peaks: list[float], seconds: float) -> None:
    """Print what came of it, and fail where an account does not agree."""
    import httpx

    count = httpx.get(f"http://127.0.0.1:{port}/count", trust_env=False).json()
    charged = count["tokens_in"] * PRICE_IN / 1e6 + count["tokens_out"] * PRICE_OUT / 1e6
    (now,) = status(out)
    frame = Votes.read(out / "votes.parquet").frame
    with closing(sqlite3.connect(out / "ledger.sqlite")) as ledger:
        kinds = ledger.execute("SELECT status, kind, COUNT(*) FROM vote GROUP BY 1, 2").fetchall()
        (again,) = ledger.execute("SELECT COUNT(*) FROM set_aside").fetchone()
        lost = ledger.execute("SELECT COALESCE(SUM(requests), 0), TOTAL(price) FROM lost").fetchone()
    print(f"{seconds / 60:.1f} min, {runs} runs, {kills} of them killed (two thirds -9)")
    print(f"requests by what became of them: {count['asked']}")
    print(f"votes planned {now.planned:,}, rows {frame.height:,}, in the ledger {kinds}")
    print(f"set aside and asked again {again:,}; trials {now.tried_out[1]:.4f}")
    print(f"booked {now.price:.4f}, of it lost in flight {lost[1]:.4f} ({lost[0]} requests)")
    print(f"the server counted {charged:.4f}: booked / counted = {now.price / charged:.3f}")
    third = max(1, len(peaks) // 3)
    first, final = np.median(peaks[:third]), np.median(peaks[-third:])
    print(f"peak memory of a run: first third {first:.0f} MiB, last third {final:.0f} MiB, most {max(peaks):.0f} MiB")
    draws = frame.select("utterance_id", "annotator", "draw")
    problems = []
    if draws.n_unique() != frame.height or frame.height != now.planned:
        problems.append("a vote is missing or there twice")
    if sum(number for *_, number in kinds) != now.planned or any(not kind for state, kind, _ in kinds if state != "ok"):
        problems.append("votes without outcome or reason")
    if now.price < charged - 1e-9:
        problems.append("booked less than the server counted")
    if problems:
        raise SystemExit("; ".join(problems))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--draws", type=int, default=5, help="draws a request: 1, 2, 5 or 10")
    parser.add_argument("--faults", type=float, default=0.15, help="share of requests that fail")
    chosen = parser.parse_args()
    command = [sys.executable, __file__, "serve", str(chosen.faults)]
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        assert server.stdout is not None
        try:
            soak(Path(name), int(server.stdout.readline()), chosen.votes, chosen.minutes, chosen.draws)
        finally:
            server.communicate("")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(served(float(sys.argv[2])))
    else:
        main()
