"""annotate on the EMO-DB speech through a real vLLM server, ten votes each, killed twice with kill -9, resumed, whole.

Checks that every planned vote is there once, that nothing acknowledged before a kill changed or was asked again, and
that no more was asked again than was in flight; prints how long it took.

    OMP_NUM_THREADS=1 python benchmarks/proxies/emodb_vllm.py EMODB/wav --vllm .venv-vllm/bin/python [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import polars as pl
from vllm_server import FILE, MODEL, checkpoint, completions, emodb, vllm_server

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.tables import Votes

VOTES = 10
IN_FLIGHT = 32
PRICED = FILE + "price = {{ audio_minute = 0.01 }}\n"
Kept = dict[tuple[str, int], tuple[str, str, float]]


@dataclass(slots=True)
class Run:
    """The record of one process of `alm-proxies annotate`, until it ended or was killed."""

    seconds: float = 0.0
    told: str = ""
    votes: Kept = field(default_factory=dict)
    in_flight: int = 0


def votes_in(ledger: Path) -> tuple[Kept, int]:
    """All acknowledged votes, and the number of requests in flight."""
    if not ledger.is_file():
        return {}, 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as sql:
        query = "SELECT u.name, v.draw, v.status, v.raw, v.at FROM vote v JOIN utterance u ON u.id = v.utterance"
        votes = {(name, draw): (status, raw, at) for name, draw, status, raw, at in sql.execute(query)}
        return votes, sql.execute("SELECT COUNT(*) FROM in_flight").fetchone()[0]


def annotate(command: list[str], ledger: Path, until: int | None) -> Run:
    """Run one process; it is killed with kill -9 when the ledger has `until` votes."""
    run, started = Run(), time.monotonic()
    with tempfile.TemporaryFile("w+") as output, subprocess.Popen(command, stderr=output, stdout=output) as child:
        while child.poll() is None:
            if until is not None and ledger.is_file() and _count(ledger) >= until:
                child.kill()
                child.wait()
            else:
                time.sleep(0.05)
        run.seconds = time.monotonic() - started
        output.seek(0)
        run.told = output.read()
    if until is None and child.returncode != 0:
        raise SystemExit(f"annotate ended with {child.returncode}:\n{run.told}")
    run.votes, run.in_flight = votes_in(ledger)
    return run


def _count(ledger: Path) -> int:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as sql:
        try:
            return int(sql.execute("SELECT COUNT(*) FROM vote").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are not there yet
            return 0


def check(message: str, holds: bool) -> None:
    """Print a claim, and exit if it is not true."""
    print(f"  {message}: {'yes' if holds else 'NO'}")
    if not holds:
        raise SystemExit(1)


def main() -> None:
    """Serve, annotate three times, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("wav", type=Path)
    parser.add_argument("--vllm", type=Path, required=True, help="the python of an environment with vLLM")
    parser.add_argument("--folder", type=Path, help="where to keep what is made")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="emodb-vllm-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "votes").exists():
        raise SystemExit(f"{folder} holds votes already: name a new folder")
    utterances = emodb(chosen.wav)
    utterances.write(folder / "utterances.parquet")
    planned = len(utterances) * VOTES
    file = folder / "tiny-listener.toml"
    file.write_text(PRICED.format(model=MODEL, votes=VOTES, url="http://127.0.0.1:1/v1", in_flight=IN_FLIGHT))
    model = checkpoint(folder / "model", Annotator.read(file, taxonomy="emodb7"), utterances)
    out = folder / "votes"
    started = time.monotonic()
    with vllm_server(chosen.vllm, model, folder / "vllm.log") as url:
        print(f"vLLM ready after {time.monotonic() - started:.0f} s")
        file.write_text(PRICED.format(model=MODEL, votes=VOTES, url=url, in_flight=IN_FLIGHT))
        program = Path(sys.executable).with_name("alm-proxies")
        command = [str(program), "annotate", str(folder / "utterances.parquet"), "--annotator", str(file)]
        command += ["-o", str(out)]
        runs = [annotate(command, out / "ledger.sqlite", until) for until in (planned // 3, 2 * planned // 3, None)]
        answered = completions(url)
    for number, run in enumerate(runs, 1):
        ended = "killed with kill -9" if number < len(runs) else "ended by itself"
        print(f"run {number}: {run.seconds:.1f} s, {len(run.votes)} votes, {run.in_flight} requests in flight, {ended}")
    for before, after in pairwise(runs):
        match = re.search(r"(\d+) requests? for (\d+) votes? (?:was|were) in flight", after.told)
        again = int(match[1]) if match else 0
        print(f"  asked again after the kill: {again} requests for {int(match[2]) if match else 0} votes")
        check("what was acknowledged is as it was", all(after.votes[key] == kept for key, kept in before.votes.items()))
        within = again == before.in_flight <= IN_FLIGHT
        check(f"no more was asked again than was in flight (at most {IN_FLIGHT})", within)
    frame = Votes.read(out / "votes.parquet").frame
    check(f"all {planned} votes are there, none twice", frame.select("utterance_id", "draw").n_unique() == planned)
    check("a row each", frame.height == planned)
    statuses = dict(frame.group_by("status").len().iter_rows())
    probes = tried_out(out / "ledger.sqlite")
    lost = sum(run.in_flight for run in runs)
    print(f"  statuses {statuses}; chat completions by the server's own count {dict(answered)}")
    least = len(utterances) + probes
    # a vLLM whose client was killed may answer 500 once (its caches disagree): such a request is made again
    within = least <= answered["2xx"] <= least + lost
    check(f"2xx: {len(utterances)}, {probes} to try it out, and at most the {lost} that were in flight", within)
    labels = frame.filter(pl.col("label").is_not_null()).group_by("label").len().sort("label")
    print(f"  labels {dict(labels.iter_rows())}")
    seconds = sum(run.seconds for run in runs)
    print(
        f"{len(utterances)} recordings, {planned} votes in {seconds:.1f} s over {len(runs)} starts: "
        f"{len(utterances) / seconds:.1f} recordings/s, {planned / seconds:.0f} votes/s; "
        f"load average {os.getloadavg()[0]:.1f}; kept in {folder}"
    )


def tried_out(ledger: Path) -> int:
    """The probe requests of all processes, from the ledger."""
    with closing(sqlite3.connect(ledger)) as sql:
        match = sql.execute("SELECT value FROM about WHERE key = 'tried_out'").fetchone()
    return int(json.loads(match[0])[0])


if __name__ == "__main__":
    main()
