"""Planning and resuming a million draws: seconds and peak memory.

python benchmarks/proxies/planning.py [utterances] [votes]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import Lent
from alm_proxies.files import digest_file
from alm_proxies.stages.annotate.ledger import Heard, Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import votes_of
from alm_proxies.stages.annotate.plan import make_plan
from alm_proxies.tables import Utterances

LABELS = ("angry", "happy", "neutral", "sad")
CROSS = {"temperature": [0.6, 1.0], "label_orders": 4}


def corpus(folder: Path, count: int) -> Utterances:
    (folder / "audio").mkdir()
    names = [f"{number:07d}" for number in range(count)]
    for name in names:
        (folder / "audio" / f"{name}.wav").write_bytes(name.encode())
    frame = pl.DataFrame(
        {
            "utterance_id": [f"sim/{name}" for name in names],
            "corpus": "sim",
            "audio": [f"audio/{name}.wav" for name in names],
            "transcript": [f"This is sentence {name}." for name in names],
            "duration": 5.0,
        }
    )
    return Utterances.of(frame, about=About(taxonomy=LABELS, roots={"sim": str(folder)}))


def annotator(votes: int) -> Annotator:
    values = {"name": "a", "engine": "scripted", "model": "m", "votes": votes, "cross": CROSS, "prompt": "reference"}
    return Annotator.of(AnnotatorFile.model_validate(values)).ready(LABELS)


def fill(ledger: Ledger, one: Annotator, utterances: Utterances, folder: Path, share: float) -> None:
    """As if a run had been stopped after a `share` of the utterances."""
    number = ledger.annotator_id(one.card(0), one.name)
    frame = utterances.frame
    ids = ledger.utterance_ids(frame["utterance_id"].to_list())
    done = int(share * len(ids))
    for start in range(0, done, 10_000):
        outcomes, heard = [], []
        for place in range(start, min(start + 10_000, done)):
            row = frame.row(place, named=True)
            path = folder / row["audio"]
            status = path.stat()
            digest = digest_file(path)
            material = one.material(digest, None, None, Lent(row["transcript"], row["speaker"]))
            heard.append(
                Heard(number, int(ids[place]), material, str(path), status.st_size, status.st_mtime_ns, digest)
            )
            head = (number, int(ids[place]))
            outcomes += [
                Outcome(*head, n, "ok", "", LABELS[n % 4], None, None, "A", "0" * 16, n % 8, 0.2, 30, 1, 0, 1, True, 0)
                for n in range(one.votes)
            ]
        ledger.write(heard=heard, outcomes=outcomes)


def measured(message: str, folder: str, votes: str) -> None:
    utterances = Utterances.read(Path(folder) / "utterances.parquet")
    one = annotator(int(votes))
    started = time.monotonic()
    with Ledger.open(Path(folder) / f"{message}.sqlite") as ledger:
        plan = make_plan(utterances, [one], ledger, 0)
        planned = time.monotonic() - started
        rows = sum(1 for _ in plan.rows(plan.seats))
        streamed = time.monotonic() - started - planned
        table = ""
        if message == "all":
            begun = time.monotonic()
            table = f"; Votes table of {len(votes_of(ledger, LABELS)):,} rows in {time.monotonic() - begun:.1f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{message:5s}: {plan.planned:,} votes planned, {plan.missing:,} missing: {planned:.1f} s, "
        f"{rows:,} utterances streamed in {streamed:.1f} s{table}; peak {peak:.2f} GiB"
    )


def main(count: int, votes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        utterances = corpus(folder, count)
        utterances.write(folder / "utterances.parquet")
        one = annotator(votes)
        for message, share in (("none", 0.0), ("half", 0.5), ("all", 1.0)):
            with Ledger.open(folder / f"{message}.sqlite") as ledger:
                fill(ledger, one, utterances, folder, share)
            for _ in range(3):
                subprocess.run([sys.executable, __file__, "measured", message, name, str(votes)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measured"]:
        measured(*sys.argv[2:])
    else:
        main(*(int(argument) for argument in [*sys.argv[1:3], *("100000", "10")[len(sys.argv[1:3]) :]]))
