"""A soak: a server that fails at random in 38 ways, an annotate that is killed and resumed at random.

In the end these must agree, or the soak fails: planned votes = answered + failed with a reason, none there twice; the
letter of every vote is the one its seed gives, so that no answer is another question's; the money of every utterance is
not below what the server generated and not above what the client could not know (a try that was given up when its time
was over is booked at its maximum; each is named, and nothing else may be above); the key that the server repeats is in
no file; no run ends with a traceback; and the memory of the runs does not grow.

    OMP_NUM_THREADS=1 python benchmarks/proxies/soak.py [--votes 100000] [--minutes 30] [--draws 5] [--faults 0.15]
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import soundfile
from soak_server import LETTERS, PROBE, RATE, SECONDS, TRY_SECONDS

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.tables import Utterances, Votes
from alm_proxies.taxonomy import taxonomy_of

VOTES = 10
PRICE_IN, PRICE_OUT = 10.0, 30.0
KEY = "sk-soak-0123456789abcdef"
LABELS = taxonomy_of("emodb7").labels
SETTLED = 30.0
"""Seconds after which a run has all that it loads."""


def corpus(folder: Path, size: int) -> Path:
    """Short recordings of noise that begin with their number, and the table of them."""
    (folder / "audio").mkdir()
    chance = np.random.default_rng(0)
    for number in range(size):
        samples = chance.integers(-9000, 9000, round(SECONDS * RATE), dtype=np.int16)
        samples[:2] = number // 1000, number % 1000
        soundfile.write(folder / f"audio/{number:06d}.wav", samples, RATE, subtype="PCM_16")
    names = [f"{number:06d}" for number in range(size)]
    frame = pl.DataFrame(
        {"utterance_id": [f"made/{n}" for n in names], "corpus": "made", "audio": [f"audio/{n}.wav" for n in names]}
    )
    about = About(taxonomy=LABELS, roots={"made": str(folder)})
    Utterances.of(frame, about=about).write(folder / "utterances.parquet")
    return folder / "utterances.parquet"


def annotator_file(folder: Path, port: int, draws: int) -> Path:
    """The annotator: as many cells as requests an utterance."""
    cells = ", ".join(f"{0.5 + 0.05 * place:g}" for place in range(VOTES // draws))
    address = f'base_urls = ["http://127.0.0.1:{port}/v1"], key_from = "SOAK_KEY"'
    path = folder / "soaked.toml"
    path.write_text(
        f"""
        name = "soaked"
        engine = "openai"
        model = "m"
        votes = {VOTES}
        cross = {{ temperature = [{cells}] }}
        price = {{ million_tokens_in = {PRICE_IN}, million_tokens_out = {PRICE_OUT} }}
        serve = {{ {address}, in_flight = 64, try_seconds = {TRY_SECONDS}, tries = 6 }}
        """
    )
    return path


@dataclass(slots=True)
class Runs:
    """What became of the runs."""

    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    peaks: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    """MiB a minute, of runs that lasted long enough."""
    ended: list[str] = field(default_factory=list)
    """The sentences of runs that ended by themselves with an error."""


def memory_of(process: int, name: str) -> float:
    """The memory of a process in MiB: VmRSS, or VmHWM for the most so far."""
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(match[1]) / 1024 if match else 0.0


def run_once(command: list[str], chance: random.Random, runs: Runs, seconds: float) -> int:
    """One run, killed after `seconds` unless it has ended; its exit code."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        begun, peak, settled, last = time.monotonic(), 0.0, 0.0, (0.0, 0.0)
        while child.poll() is None and time.monotonic() - begun < seconds:
            ran, now = time.monotonic() - begun, memory_of(child.pid, "VmRSS")
            peak = max(peak, memory_of(child.pid, "VmHWM"))
            settled = settled or (now if ran > SETTLED else 0.0)
            last = (ran, now) if now else last
            time.sleep(0.2)
        if child.poll() is None:
            kind = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            child.send_signal(kind)
            runs.kills[kind.name] += 1
        _, output = child.communicate()
    if peak:
        runs.peaks.append(peak)
    if settled and last[0] > 2 * SETTLED:
        runs.growth.append(60 * (last[1] - settled) / (last[0] - SETTLED))
    runs.codes[child.returncode] += 1
    if "Traceback" in output or child.returncode not in (0, 1, 3, 130, -signal.SIGKILL):
        raise SystemExit(f"a run ended with {child.returncode}: {output[-3000:]}")
    if child.returncode == 3:
        runs.ended.append(output.strip().splitlines()[-1])
    return child.returncode


def soak(folder: Path, port: int, votes: int, minutes: float, draws: int) -> None:
    """Run, kill and resume until the time is over, let the rest be answered in calm, then compare."""
    utterances, out, file = corpus(folder, votes // VOTES), folder / "out", annotator_file(folder, port, draws)
    tries = folder / "tries.tsv"
    tries.touch()
    run = Path(__file__).with_name("soak_run.py")
    command = [sys.executable, str(run), str(tries), "annotate", str(utterances)]
    command += ["--annotator", str(file), "-o", str(out)]
    command += ["--injection", "0", "--stop", "collapse=1,failed=1,refused=1", "--quiet", "--max-left-out", "1"]
    chance, started, runs = random.Random(2), time.monotonic(), Runs()
    while True:
        left = 60 * minutes - (time.monotonic() - started)
        if left <= 0:
            httpx.get(f"http://127.0.0.1:{port}/calm", trust_env=False)
        seconds = 5.0 * (min(180.0, 15 * minutes) / 5.0) ** chance.random()  # as often 5 to 30 s as 30 to 180 s
        code = run_once(command, chance, runs, seconds if left > 0 else 3600.0)
        if code in (0, 1):
            break
        print(f"{(time.monotonic() - started) / 60:.1f} min: {status_of(out)}", flush=True)
    report(out, tries, Annotator.read(file, taxonomy="emodb7"), port, runs, time.monotonic() - started)


def status_of(out: Path) -> str:
    """How far it is."""
    if not (out / "ledger.sqlite").is_file():
        return "nothing yet"
    (now,) = status(out)
    return f"{now.planned:,} planned, {now.cast}, {now.set_aside} set aside, {now.price:.2f} spent"


def price_of(tokens: list[int]) -> float:
    """The price of tokens in and out."""
    return (tokens[0] * PRICE_IN + tokens[1] * PRICE_OUT) / 1e6


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A try whose time was over for the client although the server sent an answer with honest counts.

    The client cannot know what it was charged for, so it is booked at its maximum.
    """

    fault: str
    """What the server did; "" for an answer."""
    took: str
    price: float
    """By how much the client may book more than the server generated."""

    def __str__(self) -> str:
        return f"timeout after {self.took}, for the server {self.fault or 'answered'}"


def tries_given_up(tries: Path, exact: dict[str, tuple[int, str, list[int]]]) -> dict[int, list[GivenUp]]:
    """By utterance: the tries that were given up when their time was over, and that the server takes for answered."""
    given_up: dict[int, list[GivenUp]] = {}
    for line in tries.read_text(encoding="utf-8").splitlines():
        name, kind, took = line.split("\t")
        if name in exact and kind == "timeout":
            number, fault, tokens = exact[name]
            given_up.setdefault(number, []).append(GivenUp(fault, took, price_of(tokens)))
    return given_up


def report(out: Path, tries: Path, proxy: Annotator, port: int, runs: Runs, seconds: float) -> None:
    """Print what came of it, and fail where an account does not agree."""
    counted = httpx.get(f"http://127.0.0.1:{port}/count", trust_env=False, timeout=60.0).json()
    least = {int(number): price_of(tokens) for number, tokens in counted["least"].items()}
    most = {int(number): price_of(tokens) for number, tokens in counted["most"].items()}
    given_up = tries_given_up(tries, counted["exact"])
    (now,) = status(out)
    frame = Votes.read(out / "votes.parquet").frame
    with closing(sqlite3.connect(out / "ledger.sqlite")) as ledger:
        kinds = ledger.execute("SELECT status, kind, COUNT(*) FROM vote GROUP BY 1, 2").fetchall()
        (again,) = ledger.execute("SELECT COUNT(*) FROM set_aside").fetchone()
        lost = ledger.execute("SELECT why, SUM(requests), SUM(draws), TOTAL(price) FROM lost GROUP BY 1").fetchall()
        booked = dict(
            ledger.execute(
                "SELECT name, TOTAL(price) FROM (SELECT utterance, price FROM vote UNION ALL"
                " SELECT utterance, price FROM set_aside) JOIN utterance ON utterance = id GROUP BY 1"
            ).fetchall()
        )
        answers = ledger.execute(
            "SELECT name, draw, raw FROM vote JOIN utterance ON utterance = id WHERE status != 'failed'"
        ).fetchall()
    by_number = {int(name.rpartition("/")[2]): price for name, price in booked.items()}
    above = {number: price - most[number] for number, price in by_number.items() if price > most[number] + 1e-9}
    not_explained = {
        number: more
        for number, more in above.items()
        if more > sum(tried.price for tried in given_up.get(number, [])) + 1e-9
    }
    below = {n: price - by_number.get(n, 0.0) for n, price in least.items() if n != PROBE}
    below = {number: lacking for number, lacking in below.items() if lacking > 1e-9}
    wrong = [
        name for name, draw, raw in answers if raw and raw != LETTERS[proxy.seed_of_draw(0, name, draw) % len(LETTERS)]
    ]
    requests, total = sum(row[1] for row in lost), sum(row[3] for row in lost)
    print(f"{seconds / 60:.1f} min; runs by exit code {dict(runs.codes)}, signals sent {dict(runs.kills)}")
    print(f"runs that ended by themselves with an error: {len(runs.ended)}; {Counter(runs.ended).most_common(3)}")
    print(f"requests by what became of them: {dict(sorted(counted['asked'].items()))}")
    print(
        f"votes planned {now.planned:,}, rows {frame.height:,}, in the ledger {kinds}; set aside, asked again {again:,}"
    )
    print(f"booked {now.price:.4f}: votes {sum(by_number.values()):.4f}, tries {now.tried_out[1]:.4f}, lost {lost}")
    print(f"the server generated {sum(least.values()):.4f}, could not be charged above {sum(most.values()):.4f}")
    print(f"utterances booked below what was generated: {len(below)}, by {sum(below.values()):.4f} (killed in flight)")
    print(f"tries given up that the server takes for answered: {sum(map(len, given_up.values()))}")
    print(f"utterances booked above what the server knows of: {len(above)}, by {sum(above.values()):.4f}")
    print(f"of these without such a try for every excess: {len(not_explained)}")
    for number, more in sorted(above.items()):
        print(f"  {number}: above by {more:.6f}; {'; '.join(map(str, given_up.get(number, []))) or 'no such try'}")
    print(f"votes whose letter is not their seed's: {len(wrong)}")
    third = max(1, len(runs.peaks) // 3)
    first, final = np.median(runs.peaks[:third]), np.median(runs.peaks[-third:])
    grew = f"{np.median(runs.growth):+.2f}" if runs.growth else "not measured"
    print(f"peak memory of a run: first third {first:.0f} MiB, last third {final:.0f} MiB, most {max(runs.peaks):.0f}")
    print(f"growth within {len(runs.growth)} runs of more than {2 * SETTLED:.0f} s: median {grew} MiB a minute")
    accounts: dict[str, Any] = {
        "a vote is missing or there twice": frame.select("utterance_id", "annotator", "draw").n_unique() != now.planned
        or frame.height != now.planned,
        "votes without outcome or reason": sum(number for *_, number in kinds) != now.planned
        or any(not kind for state, kind, _ in kinds if state == "failed"),
        "an answer to another question": wrong,
        "utterances are booked above what can have been charged": not_explained,
        "an utterance is booked below what was generated, and nothing was lost in flight": len(below) > requests,
        "less is lost in flight than is missing": sum(below.values()) > total + 1e-9,
        "less is booked than was generated": now.price < sum(least.values()) - 1e-9,
        "memory grew from run to run": final > 1.25 * first,
        "memory grew within runs": runs.growth and np.median(runs.growth) > 5.0,
        "the key is in a file": [path.name for path in out.rglob("*") if path.is_file() and _holds_key(path)],
    }
    if problems := [f"{name}: {str(value)[:300]}" for name, value in accounts.items() if value]:
        raise SystemExit("FAILED: " + "; ".join(problems))
    print("every account agrees")


def _holds_key(path: Path) -> bool:
    return KEY.encode() in path.read_bytes()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="runs are killed, and the server fails, for so long"
    )
    parser.add_argument("--draws", type=int, default=5, help="draws a request: 1, 2, 5 or 10")
    parser.add_argument("--faults", type=float, default=0.15, help="share of requests that fail")
    chosen = parser.parse_args()
    command = [sys.executable, str(Path(__file__).with_name("soak_server.py")), str(chosen.faults)]
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        os.environ |= {"XDG_CACHE_HOME": f"{name}/cache", "SOAK_KEY": KEY}
        assert server.stdout is not None
        try:
            soak(Path(name), int(server.stdout.readline()), chosen.votes, chosen.minutes, chosen.draws)
        finally:
            server.communicate("")


if __name__ == "__main__":
    main()
