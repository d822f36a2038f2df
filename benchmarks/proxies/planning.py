"""Planning and resuming a million draws: seconds and peak memory.

python benchmarks/proxies/planning.py [utterances] [votes] [rounds]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from alm_proxies.about import About, MadeBy
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.files import digest_file
from alm_proxies.stages.annotate.ledger import Heard, Ledger, Outcome
from alm_proxies.stages.annotate.plan import make_plans
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.votes_table import write_votes
from alm_proxies.tables import Utterances

LABELS = ("angry", "happy", "neutral", "sad")
CROSS = {"temperature": [0.6, 1.0], "label_orders": 4}
IN_A_FILE = 1000
"""Utterances of one recording, five seconds each."""


def corpus(folder: Path, count: int) -> Utterances:
    (folder / "audio").mkdir()
    for number in range(-(-count // IN_A_FILE)):
        (folder / "audio" / f"{number:05d}.wav").write_bytes(f"{number}".encode())
    frame = pl.DataFrame(
        {
            "utterance_id": [f"sim/{number:07d}" for number in range(count)],
            "corpus": "sim",
            "audio": [f"audio/{number // IN_A_FILE:05d}.wav" for number in range(count)],
            "transcript": [f"This is sentence {number:07d}." for number in range(count)],
            "start": [5.0 * (number % IN_A_FILE) for number in range(count)],
            "end": [5.0 * (number % IN_A_FILE) + 5.0 for number in range(count)],
        }
    )
    return Utterances.of(frame, about=About(taxonomy=LABELS, roots={"sim": str(folder)}))


def annotator(votes: int) -> Annotator:
    values = {"name": "a", "engine": "scripted", "model": "m", "votes": votes, "cross": CROSS, "prompt": "reference"}
    return Annotator.of(AnnotatorFile.model_validate(values)).ready(LABELS)


def fill(ledger: Ledger, proxy: Annotator, utterances: Utterances, folder: Path, share: float) -> None:
    """Fill the ledger as if a run had been stopped after a `share` of the utterances."""
    number = ledger.annotator_id(proxy.card(0), proxy.name)
    frame = utterances.frame
    ids = ledger.utterance_ids(frame["utterance_id"].to_list())
    done = int(share * len(ids))
    known: dict[str, tuple[int, int, str]] = {}
    for start in range(0, done, 10_000):
        outcomes, heard = [], []
        for place, row in enumerate(frame[start : min(start + 10_000, done)].iter_rows(named=True), start):
            path = str(folder / row["audio"])
            if path not in known:
                status = Path(path).stat()
                known[path] = status.st_size, status.st_mtime_ns, digest_file(path)
            size, changed, digest = known[path]
            material = proxy.material(
                digest, row["start"], row["end"], PromptContext(row["transcript"], row["speaker"])
            )
            heard.append(Heard(number, int(ids[place]), material, path, size, changed, digest))
            head = (number, int(ids[place]))
            outcomes += [
                Outcome(*head, n, "ok", "", LABELS[n % 4], None, None, "A", "0" * 16, n % 8, 0.2, 30, 1, 0, 1, True, 0)
                for n in range(proxy.votes)
            ]
        ledger.write(heard=heard, outcomes=outcomes)


def measured(message: str, folder: str, votes: str) -> None:
    begun = time.monotonic()
    utterances = Utterances.read(Path(folder) / "utterances.parquet")
    proxy = annotator(int(votes))
    started = time.monotonic()
    with Ledger.open(Path(folder) / f"{message}.sqlite") as ledger:
        opened = time.monotonic()
        plan = make_plans(utterances, [proxy], ledger, AnnotateSettings()).plan
        planned = time.monotonic()
        rows = sum(1 for _ in plan.rows(plan.members))
        streamed = time.monotonic()
        table = ""
        if message == "all":
            write_votes(ledger, Path(folder) / "votes.parquet", LABELS, MadeBy(stage="annotate"))
            table = f", Votes table written in {time.monotonic() - streamed:.1f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{message:5s}: {plan.planned:,} votes planned, {plan.missing:,} missing: read {started - begun:.1f} s, "
        f"ledger looked over {opened - started:.1f} s, planned {planned - opened:.1f} s, "
        f"{rows:,} utterances streamed in {streamed - planned:.1f} s{table}; peak {peak:.2f} GiB",
        flush=True,
    )


def main(count: int, votes: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        utterances = corpus(folder, count)
        utterances.write(folder / "utterances.parquet")
        proxy = annotator(votes)
        for message, share in (("none", 0.0), ("half", 0.5), ("all", 1.0)):
            with Ledger.open(folder / f"{message}.sqlite") as ledger:
                fill(ledger, proxy, utterances, folder, share)
            for _ in range(rounds):
                subprocess.run([sys.executable, __file__, "measured", message, name, str(votes)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measured"]:
        measured(*sys.argv[2:])
    else:
        main(*(int(argument) for argument in [*sys.argv[1:4], *("100000", "10", "3")[len(sys.argv[1:4]) :]]))
