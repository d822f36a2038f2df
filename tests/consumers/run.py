"""Exports a small corpus and has every program load it, each in its own environment: `make consumers`.

    python tests/consumers/run.py [NAME ...] [--environments DIR] [--torch torch==2.13.0]

What each reported goes to docs/consumers.json, from which the documentation makes its table; results of programs that
are not named stay as they were. Nothing is installed into the environment that this runs in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import ATTRIBUTES, About, Labels, Utterances

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "docs" / "consumers.json"
LABELS = ("angry", "happy", "neutral", "sad")
COUNT = 30
NEEDS_OF_TORCH = (
    "filelock",
    "fsspec",
    "networkx",
    "sympy",
    "typing-extensions",
    "jinja2",
    "numpy",
    "setuptools>=77.0.3",
)
PATIENCE = 900.0
"""Seconds a program has to load one format."""


def corpus(folder: Path) -> tuple[Labels, Utterances]:
    """Thirty short recordings of ten speakers in three splits, in a folder with a space and an umlaut."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    ids, audio = [], []
    for number in range(COUNT):
        name = f"{1001 + number // 3}_süß {number:02d}.wav"
        soundfile.write(folder / name, 0.1 * rng.standard_normal(4_000 + 200 * number), 16_000)
        ids.append(f"sim/{name}")
        audio.append(name)
    shares = rng.dirichlet(np.ones(len(LABELS)), COUNT)
    ratings = {name: rng.uniform(0, 1, COUNT) for name in ATTRIBUTES}
    speakers = np.arange(COUNT) // 3
    labels = pl.DataFrame(
        {"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}, **ratings}
    )
    about = pl.DataFrame(
        {
            "utterance_id": ids, "corpus": "sim", "audio": audio,
            "speaker": [f"sim/{1001 + speaker}" for speaker in speakers],
            "gender": np.where(speakers % 2, "female", "male"), "language": "en",
            "transcript": [f'she said "{number}", twice' for number in range(COUNT)],
            "split": np.where(speakers < 6, "train", np.where(speakers < 8, "development", "test")),
        }
    )  # fmt: skip
    return Labels.of(labels, taxonomy=LABELS), Utterances.of(about, about=About(roots={"sim": str(folder)}))


def environment(name: str, wanted: dict[str, Any], folder: Path, torch: str) -> Path:
    """The Python of a program's environment, built where it is not there or another one was wanted."""
    if wanted.get("here"):
        return Path(sys.executable)
    place = folder / name
    mark = hashlib.sha256(
        json.dumps([wanted["packages"], wanted["alone"], wanted.get("remove"), torch]).encode()
    ).hexdigest()
    stamp, python = place / "built", place / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == mark:
        return python
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    for packages in (["--no-deps", torch], [*NEEDS_OF_TORCH, *wanted["packages"]], ["--no-deps", *wanted["alone"]]):
        subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
    for part in wanted.get("remove", []):
        for installed in place.glob(f"lib/python*/site-packages/{part}"):
            shutil.rmtree(installed)
    stamp.write_text(mark)
    return python


def code_of(wanted: dict[str, Any], folder: Path) -> Path | None:
    """The checkout of a program's repository at its commit, the files that are needed; None if it needs none."""
    if "repository" not in wanted:
        return None
    place = folder / "code" / wanted["commit"]
    if not all((place / name).exists() for name in wanted["files"]):
        shutil.rmtree(place, ignore_errors=True)
        fetch = ["fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", wanted["commit"]]
        subprocess.run(["git", "init", "--quiet", place], check=True, capture_output=True, text=True)
        for command in (
            ["remote", "add", "origin", wanted["repository"]],
            fetch,
            ["checkout", "--quiet", "FETCH_HEAD", "--", *wanted["files"]],
        ):
            subprocess.run(["git", "-C", place, *command], check=True, capture_output=True, text=True)
    return place


def loaded(python: Path, script: str, name: str, folder: Path, code: Path | None = None) -> dict[str, Any]:
    """What the program reported on an export: rows and version, or why it did not load it."""
    command = [python, HERE / script, name, folder, *([code] if code else [])]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"outcome": "failed", "why": f"no answer in {PATIENCE:g} seconds"}
    if ran.returncode:
        return {"outcome": "failed", "why": last_line(ran.stderr)}
    reported: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return {"outcome": "loaded", **reported}


def last_line(text: str) -> str:
    """The last line of what a program complained of."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-consumers")
    parser.add_argument("--torch", default="torch==2.13.0")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    programs: dict[str, dict[str, Any]] = tomllib.loads((HERE / "environments.toml").read_text(encoding="utf-8"))
    chosen = options.names or list(programs)
    if unknown := set(chosen) - set(programs):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(programs)}")
    kept = json.loads(options.results.read_text(encoding="utf-8"))["results"] if options.results.is_file() else []
    results = [row for row in kept if row["environment"] not in chosen]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        labels, utterances = corpus(Path(name) / "Aufnahmen für Tests")
        for place in chosen:
            wanted = programs[place]
            own = {"environment": place, "program": wanted["program"], "day": f"{datetime.now(UTC):%Y-%m-%d}"}
            try:
                shared = wanted.get("environment", place)
                python = environment(shared, programs[shared], options.environments, options.torch)
                code = code_of(wanted, options.environments)
            except subprocess.CalledProcessError as error:
                why = f"its environment cannot be built: {last_line(error.stderr or '')}"
                results += [{**own, "format": kind, "outcome": "not run", "why": why} for kind in wanted["formats"]]
                print(f"{place}: not run, {why}", flush=True)
                failed += 1
                continue
            for kind in wanted["formats"]:
                target = Path(name) / "Ausgabe für alle" / place / kind
                settings = ExportSettings.model_validate({"format": kind, "name": "mine", "ties": "first"})
                export(labels, utterances, target, settings)
                result = {**own, "format": kind, **loaded(python, wanted["load"], kind, target, code)}
                failed += result["outcome"] != "loaded"
                results.append(result)
                summary = result.get("why") or f"{result['rows']} rows by {result['version']}"
                print(f"{place} {kind}: {result['outcome']}, {summary}", flush=True)
    results.sort(key=lambda row: (row["format"], row["environment"]))
    options.results.write_text(json.dumps({"results": results}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
