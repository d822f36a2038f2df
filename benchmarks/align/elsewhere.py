"""Proxies that learned from CREMA-D, asked about other speech: German acted speech (EMO-DB) and simulated speech.

A head on measured prosody, a head on a frozen encoder and the embedded annotator; the heads learn from the actors of
CREMA-D outside the lockbox. Every step is a command of the package, as a user would type it. Per proxy and corpus: what
it takes off the log loss of class shares there and where it was measured, the calibration error of its most likely
label, the alternative-annotator test, and its worth in human votes beside k = 3.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/align/elsewhere.py --model WHISPER_TINY_FOLDER --folder FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.ballots import ballots_of
from alm_proxies.measures.calibration import reliability
from alm_proxies.tables import Utterances, Votes

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_design import LOCKBOX

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
COMMAND = Path(sys.executable).with_name("alm-proxies")


def command(*given: object) -> dict[str, Any]:
    """Run a command; what it prints with --json."""
    line = [str(COMMAND), *map(str, given), "--json", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode > 1:  # 1 = more was left out than usual, which the corpora here do
        raise SystemExit(f"{' '.join(line)}: {done.stderr}")
    output: dict[str, Any] = json.loads(done.stdout or "{}")
    return output


def corpora(folder: Path, data: Path) -> None:
    """Read CREMA-D without the lockbox, and EMO-DB; simulate a corpus."""
    if not (folder / "crema").exists():
        command("read", "crema_d", data / "crema_d", "-o", folder / "all")
        everyone = Utterances.read(folder / "all" / "utterances.parquet")
        kept = everyone.frame.filter(~pl.col("speaker").str.slice(-4).is_in(LOCKBOX))
        votes = Votes.read(folder / "all" / "votes.parquet")
        (folder / "crema").mkdir()
        Utterances(kept, everyone.about).write(folder / "crema" / "utterances.parquet")
        some = votes.frame.filter(pl.col("utterance_id").is_in(kept["utterance_id"].to_list()))
        Votes(some, votes.about).write(folder / "crema" / "votes.parquet")
    if not (folder / "emodb").exists():
        command("read", "emodb", data / "emodb", "--taxonomy", "crema6", "--map", "bored=outside",
                "--hold-out", "keep=3", "-o", folder / "emodb")  # fmt: skip
    if not (folder / "sim").exists():
        command("simulate", "-o", folder / "sim", "--utterances", 600, "--votes", "3:3", "--dense", 8, "--seed", 3)


def proxies(folder: Path, where: str, model: str) -> dict[str, Path]:
    """The votes of the three proxies on a corpus, in files."""
    votes_files = {}
    for recipe in ("features", "encoder"):
        trained = folder / recipe
        if not trained.exists():
            more = ["--model", model, "--freeze"] if recipe == "encoder" else []
            labels = folder / "labels.parquet"
            command("fuse", folder / "crema", "--utterances", folder / "crema", "-o", labels)
            command("train", labels, "--utterances", folder / "crema", "--votes", folder / "crema", "--recipe", recipe,
                    "--targets", "votes", *more, "-o", trained)  # fmt: skip
        predicted, votes = folder / f"{where}_{recipe}.parquet", folder / f"{where}_{recipe}"
        if not votes.exists():
            command("predict", trained / "model", folder / where, "-o", predicted)
            shares = ",".join(f"{label}=p_{label}" for label in LABELS)
            command("read", "table", predicted, "--corpus", where, "--columns", "utterance_id=utterance_id",
                    "--probabilities", shares, "--taxonomy", "crema6", "--as", f"proxy:{recipe}",
                    "--trained-on-these-votes", "no", "-o", votes)  # fmt: skip
        votes_files[recipe] = votes / "votes.parquet"
    if not (folder / f"{where}_embedded").exists():
        command("annotate", folder / where, "--annotator", "embedded", "-o", folder / f"{where}_embedded")
    return votes_files | {"embedded": folder / f"{where}_embedded" / "votes.parquet"}


def calibration(folder: Path, where: str, votes: Path) -> float:
    """The calibration error of a proxy's most likely label against all human votes."""
    proxy, human = Votes.read(votes), Votes.read(folder / where / "votes.parquet")
    ids = proxy.frame["utterance_id"].unique().sort()
    shares = ballots_of(proxy, ids, "proxy").counts()
    counts = ballots_of(human, ids, "human").counts() + ballots_of(human, ids, "held_out").counts()
    both = shares.any(1) & counts.any(1)
    return reliability(shares[both] / shares[both].sum(1, keepdims=True), counts[both]).error


def shown(interval: dict[str, float] | None, digits: int = 2) -> str:
    if interval is None:
        return ""
    return f"{interval['value']:.{digits}f} ({interval['low']:.{digits}f} to {interval['high']:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Where everything is kept.")
    parser.add_argument("--model", required=True, help="Folder of the encoder.")
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    corpora(folder, Path(os.environ["ALM_PROXIES_TEST_DATA"]))
    heads = ["corpus", "proxy", "takes off class shares", "where measured", "calibration error", "alt-test", "worth",
             "abstains", "align says"]  # fmt: skip
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for where in ("emodb", "sim"):
        for name, votes in proxies(folder, where, given.model).items():
            labels, page = folder / f"{where}_{name}_labels.parquet", folder / f"{where}_{name}.html"
            command("fuse", folder / where, votes, "--utterances", folder / where, "-o", labels)
            command(
                "align", labels, "--votes", folder / where, "--votes", votes, "--utterances", folder / where, "-o", page
            )
            metrics = json.loads(page.with_suffix(".metrics.json").read_text(encoding="utf-8"))
            proxy, tests = metrics["proxies"][name], metrics["alt_tests"]
            findings = pl.read_parquet(page.with_suffix(".findings.parquet"))
            unlike = "unlike" if "proxy_unlike_measured" in findings["kind"] else ""
            alt = f"{tests[0]['win_rate']:.2f}" if tests else "raters unknown"
            worth = (metrics["worth_in_human_votes"] or {"all": {"votes": math.nan}})["all"]  # none: it is not used
            votes_worth = f"over {worth['beyond']}" if worth["votes"] is None else f"{worth['votes']:.1f}"
            there = proxy["took_off_where_measured"]
            error = calibration(folder, where, votes)
            predicted = folder / f"{where}_{name}.parquet"
            abstains = f"{pl.read_parquet(predicted)['abstain'].mean():.0%}" if predicted.exists() else ""
            cells = [where, name, shown(proxy["takes_off_class_shares"]), f"{there:.2f}", f"{error:.3f}", alt,
                     votes_worth, abstains, unlike]  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
