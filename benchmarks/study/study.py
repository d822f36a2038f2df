"""The study on CREMA-D: docs/study_crema_d.md is its design. Cells that are done are kept and not run again.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/study.py check --keep FOLDER     # cells and minutes
    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/study.py run --model WHISPER_TINY_FOLDER --keep FOLDER
    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/study.py report --keep FOLDER    # all tables, as Markdown
    python benchmarks/study/study.py open-lockbox --reason WHY --keep FOLDER            # once, at the end
    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/study.py lockbox --model WHISPER_TINY_FOLDER --keep FOLDER

It is a script and not a pipeline file: a pipeline has one split of speakers, and its stages fuse and listen see all
human votes that are not held out. Here every fold fuses and listens inside its own training actors, proxies are
damaged, budgets differ, and stops come from other actors' votes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from study_cells import Study, run_cell
from study_design import SEEDS, Cell, blocks, cells, replicates
from study_report import report
from study_results import Results
from study_votes import Corpus, open_lockbox, opening_of, read_corpus

from alm_proxies.errors import AlmProxiesError
from alm_proxies.stages.listen.hear import hear
from alm_proxies.stages.listen.settings import ListenSettings

_SECONDS = {"listener": 40.0, "fused": 40.0, "plain": 8.0}
"""Seconds a cell on one busy core, where none of its kind has been measured."""


def base_cells() -> list[Cell]:
    """The cells of the base block: the lockbox stays shut until they are done."""
    first = next(iter(blocks().values()))
    return [Cell(arm, *pair) for pair in replicates() for arm in first]


def kind_of(cell: Cell) -> str:
    """What its time depends on."""
    if cell.arm.targets not in ("auto", "half"):
        return "plain"
    return "listener" if "listener" in cell.arm.proxy else "fused"


def check(results: Results) -> list[str]:
    """Cells done and to do by block, and the minutes that these will take."""
    lines = results.lines()
    planned = list(cells())
    seconds = {
        kind: [lines[c.key]["seconds"] for c in planned if c.key in lines and kind_of(c) == kind] for kind in _SECONDS
    }
    each = {kind: float(np.median(took)) if took else _SECONDS[kind] for kind, took in seconds.items()}
    report = []
    for block, arms in blocks().items():
        here = [cell for cell in planned if cell.arm in arms]
        left = [cell for cell in here if cell.key not in lines]
        minutes = sum(each[kind_of(cell)] for cell in left) / 60
        report.append(f"{block}: {len(here)} cells, {len(left)} to run, {minutes:.0f} minutes")
    left = [cell for cell in planned if cell.key not in lines]
    minutes = sum(each[kind_of(cell)] for cell in left) / 60
    report.append(f"all: {len(planned)} cells, {len(left)} to run, {minutes:.0f} minutes on one core")
    return report


def run(
    corpus: Corpus, features: np.ndarray, results: Results, planned: Iterable[Cell], *, most: int | None = None
) -> int:
    """Run the planned cells that are not done, in their order; how many were run."""
    study = Study(corpus, features, results.folder)
    count = 0
    with results.alone():
        done = results.lines()
        for cell in planned:
            if cell.key in done:
                continue
            if most is not None and count >= most:
                break
            line, predictions = run_cell(study, cell)
            results.add(line, predictions)
            count += 1
            print(f"{cell.key} {line['seconds']} s", file=sys.stderr, flush=True)
    return count


def chosen(names: Sequence[str] | None, first: int | None) -> list[Cell]:
    """The cells of some blocks (None = all), in the order of the blocks, and of the first replicates."""
    pairs = replicates()[:first]
    planned = [cell for cell in cells() if (cell.partition, cell.seed) in pairs]
    if names is None:
        return planned
    return list(dict.fromkeys(cell for name in names for cell in planned if cell.arm in blocks()[name]))


def lockbox_cells() -> list[Cell]:
    """The base block with every seed, trained on all actors outside the lockbox."""
    first = next(iter(blocks().values()))
    return [Cell(arm, seed, seed) for seed in SEEDS for arm in first]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("check", "run", "report", "open-lockbox", "lockbox"))
    parser.add_argument("--keep", type=Path, required=True, help="Folder of targets and results.")
    parser.add_argument("--model", help="Folder of the encoder.")
    parser.add_argument("--block", choices=tuple(blocks()), action="append", help="Run the cells of these blocks only.")
    parser.add_argument("--replicates", type=int, help="Run the first replicates only.")
    parser.add_argument("--cells", type=int, help="Stop after this many cells.")
    parser.add_argument("--reason", default="", help="Why the lockbox is opened.")
    given = parser.parse_args(arguments)
    results = Results(given.keep)
    try:
        if given.command == "check":
            print("\n".join(check(results)))
            return
        if given.command == "open-lockbox":
            missing = [cell.key for cell in base_cells() if cell.key not in results.lines()]
            print(open_lockbox(given.keep, given.reason, missing=missing))
            return
        opening = opening_of(given.keep) if given.command == "lockbox" else None
        corpus = read_corpus(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d", opening)
        if given.command == "report":
            print("\n".join(report(corpus, results)))
            return
        settings = ListenSettings(recipe="encoder", model=given.model, threads=1)
        heard, _ = hear(corpus.utterances, settings, given.keep / "features", quiet=False)
        if not heard.known.all():
            raise SystemExit(f"{int((~heard.known).sum())} recordings cannot be heard")
        if opening is None:
            run(corpus, heard.rows, results, chosen(given.block, given.replicates), most=given.cells)
            return
        results = Results(given.keep / "lockbox")
        run(corpus, heard.rows, results, lockbox_cells(), most=given.cells)
        print(f"lockbox opened {opening.when} at {opening.commit}: {opening.reason}")
        print("\n".join(report(corpus, results)))
    except AlmProxiesError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
