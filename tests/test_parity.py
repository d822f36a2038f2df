"""A stage writes the same bytes by command, by pipeline file and by Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import polars.testing
import pytest
from scripted_annotators import IDEAL

import alm_proxies as ap
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.check import Checked, check
from alm_proxies.pipeline.result_files import files_of as files_of_result
from alm_proxies.pipeline.run import run
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.tables import Votes

SEED = 2
BLOCK = "labels"
"""The name of the training and of the export: evaluate calls a prediction by its block's name in a pipeline, and by
its file's name, labels.parquet, on the command line."""
Bytes = dict[str, bytes]


@dataclass(frozen=True)
class Call:
    """A call of a stage: its settings as a file and as flags, and its inputs on the command line."""

    settings: str = ""
    flags: str = ""
    inputs: str = ""


VOTES = "{out}/read/votes.parquet {out}/annotate/votes.parquet {out}/listen/votes.parquet"
UTTERANCES = "{out}/read/utterances.parquet"
CALLS = {
    "simulate": Call(
        "utterances = 24\nspeakers = 12\nvotes = [2, 4]\ndense = 6\n",
        "--utterances 24 --speakers 12 --votes 2:4 --dense 6",
    ),
    "read": Call('taxonomy = "crema6"\nsource = "out/simulate"\n', "--taxonomy crema6", "{out}/simulate"),
    "annotate": Call(
        'panel = ["ideal.toml"]\ninjection = 4\nstop = { collapse = 1.0 }\n',
        "--annotator {place}/ideal.toml --injection 4 --stop collapse=1.0",
        f"{UTTERANCES} --human {{out}}/read/votes.parquet",
    ),
    "listen": Call(
        "folds = 3\nhead = { hidden = 8, epochs = 3, seeds = 1, batch = 16, components = 8 }\n",
        "--folds 3 --head hidden=8,epochs=3,seeds=1,batch=16,components=8",
        f"{UTTERANCES} --votes {{out}}/read/votes.parquet",
    ),
    "fuse": Call(
        'method = "gated"\nclasses = 4\nmerge = { primary = 0.9, secondary = 0.1 }\n',
        "--method gated --classes 4 --merge primary=.9,secondary=.1",
        f"{VOTES} --utterances {UTTERANCES}",
    ),
    "align": Call(
        "examples = 2\n",
        "--examples 2",
        f"{{out}}/fuse/labels.parquet --votes {VOTES} --utterances {UTTERANCES}",
    ),
    "balance": Call(
        'classes = "square_root"\nexamples = 2\n',
        "--classes square_root --examples 2",
        f"{{out}}/fuse/labels.parquet --utterances {UTTERANCES}",
    ),
    "train": Call(
        f'name = "{BLOCK}"\nrecipe = "features"\nepochs = 3\nhidden = 8\n',
        f"--name {BLOCK} --recipe features --epochs 3 --hidden 8",
        "{out}/balance/labels.parquet --utterances {out}/balance/utterances.parquet --votes {out}/read/votes.parquet",
    ),
    "predict": Call('condition = "telephone"\n', "--condition telephone", f"{{out}}/train/{BLOCK} {UTTERANCES}"),
    "evaluate": Call(
        "",
        "",
        f"{{out}}/predict/{BLOCK}/labels.parquet --votes {{out}}/read/votes.parquet --utterances {UTTERANCES}"
        " --truth {out}/simulate/truth.parquet --fused {out}/fuse/labels.parquet",
    ),
    "export": Call(
        f'name = "{BLOCK}"\nformat = "csv"\nties = "first"\n',
        f"--name {BLOCK} --format csv --ties first",
        "{out}/balance/labels.parquet --utterances {out}/balance/utterances.parquet"
        " --votes {out}/read/votes.parquet --metrics {out}/align/metrics.json",
    ),
}
WORDS = {verb: "read tables" if verb == "read" else verb for verb in CALLS}


def folder_of(verb: str) -> str:
    """The output folder of a stage, within that of the pipeline."""
    stage = stage_of(verb)
    return f"{verb}/{BLOCK}" if stage.blocks == "named" or stage.follows else verb


def has_seed(verb: str) -> bool:
    return "seed" in stage_of(verb).settings.model_fields


def by_file(place: Path) -> None:
    sections = [
        (f"[[{verb}]]\n" if stage_of(verb).blocks == "named" else f"[{verb}]\n") + call.settings
        for verb, call in CALLS.items()
        if verb != "read"  # a simulated corpus is read without being named
    ]
    (place / "p.toml").write_text(f'taxonomy = "crema6"\nseed = {SEED}\nfolder = "out"\n{"".join(sections)}')
    run(place / "p.toml", quiet=True)


def by_command(place: Path) -> None:
    for verb, call in CALLS.items():
        words = words_of(place, verb, call.flags + (f" --seed {SEED}" if has_seed(verb) else ""))
        assert command(words) == 0, words


ALL = """
import json, sys
from alm_proxies.cli.app import run
for words in json.loads(sys.argv[1]):
    assert run(words) == 0, words
"""


def by_settings_file(place: Path) -> None:
    """The same commands with every setting in a file, in a process where polars has four threads."""
    commands = []
    for verb, call in CALLS.items():
        file = place / f"{verb}.toml"
        file.write_text(call.settings + (f"seed = {SEED}\n" if has_seed(verb) else ""))
        commands.append(words_of(place, verb, f"--settings {file}"))
    program, environment = [sys.executable, "-c", ALL, json.dumps(commands)], {**os.environ, "POLARS_MAX_THREADS": "4"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def words_of(place: Path, verb: str, flags: str) -> list[str]:
    line = f"{WORDS[verb]} {CALLS[verb].inputs} -o {{out}}/{folder_of(verb)} {flags} --quiet"
    return line.replace("{out}", str(place / "out")).replace("{place}", str(place)).split()


def by_python(place: Path) -> None:
    out = place / "out"

    def settings(verb: str, **changes: Any) -> Any:
        stage, given = stage_of(verb), tomllib.loads(CALLS[verb].settings)
        if has_seed(verb):
            given["seed"] = SEED
        return stage.settings_for(given).model_validate({**given, **changes})

    def write(verb: str, result: Any) -> Any:
        for name, file in stage_of(verb).writes.items():
            value, path = getattr(result, name), out / folder_of(verb) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(value, pl.DataFrame):
                value.write_parquet(path)
            elif isinstance(value, dict):
                path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            else:
                value.write(path)
        return result

    def noted(verb: str, result: Any) -> Any:
        result.findings.write(out / folder_of(verb) / "findings.parquet")
        return result

    simulated = ap.simulate(out / "simulate", settings("simulate"), quiet=True)
    noted("simulate", simulated)
    source = ap.TablesSource(source=out / "simulate")
    corpus = ap.read(source, ap.ReadSettings(taxonomy="crema6", seed=SEED))
    corpus.write(out / "read")
    utterances, human = corpus.utterances, corpus.votes
    panel = [Annotator.read(place / "ideal.toml")]
    annotated = ap.annotate(utterances, panel, out / "annotate", settings("annotate"), votes=human, quiet=True)
    listened = noted("listen", ap.listen(utterances, human, out / "listen", settings("listen")))
    votes = ap.combine(human, annotated.votes, listened.votes)
    fused = noted("fuse", write("fuse", ap.fuse(votes, settings("fuse"), utterances=utterances)))
    report = noted("align", write("align", ap.align(fused.labels, votes, utterances, settings("align"))))
    balanced = noted("balance", ap.balance(fused.labels, utterances, out / "balance", settings("balance")))
    learned = (balanced.labels, balanced.utterances)
    trained = ap.train(*learned, out / folder_of("train"), settings("train"), votes=human, quiet=True)
    noted("train", trained)
    predicted = noted("predict", write("predict", ap.predict(trained.folder, utterances, settings("predict"))))
    truth = ap.Labels.read(out / "simulate" / "truth.parquet")
    predictions, settings_ = {BLOCK: predicted.labels}, settings("evaluate")
    judged = ap.evaluate(predictions, human, utterances, settings_, truth=truth, fused=fused.labels)
    noted("evaluate", write("evaluate", judged))
    exported = out / folder_of("export")
    noted("export", ap.export(*learned, exported, settings("export"), votes=human, metrics=report.metrics))


def files_written(place: Path, way: Callable[[Path], None]) -> Bytes:
    """All files of one way; every way uses the same folder, because tables contain the paths of recordings."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "ideal.toml").write_text(IDEAL.format(folder=place / "out"))
    way(place)
    return {file: (place / "out" / file).read_bytes() for verb in STAGES for file in files_of(place / "out", verb)}


def files_of(out: Path, verb: str) -> Iterator[str]:
    """The declared outputs of a stage, without the markers of a pipeline."""
    stage, folder = stage_of(verb), out / folder_of(verb)
    for name in (*stage.writes.values(), "findings.parquet"):
        path = folder / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (str(file.relative_to(out)) for file in files if not file.is_dir() and file.name != "stage.json")


@dataclass(frozen=True)
class Ran:
    """A finished pipeline: its folder, outputs, the forecast of check, and its counts."""

    place: Path
    files: Bytes
    foreseen: Checked
    counts: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = tmp_path_factory.mktemp("parity") / "work"
    files = files_written(place, by_file)
    counts = {
        verb: json.loads((place / "out" / folder_of(verb) / "stage.json").read_text())["counts"] for verb in STAGES
    }
    return Ran(place, files, check(place / "p.toml"), counts)


def test_every_stage_is_called_in_each_way() -> None:
    assert set(CALLS) == set(STAGES)


def test_every_file_that_a_stage_leaves_is_noticed_when_lost_or_declared_as_no_result(wanted: Ran) -> None:
    for verb in STAGES:
        stage, folder = stage_of(verb), wanted.place / "out" / folder_of(verb)
        declared = {*stage.writes.values(), *stage.may_write.values(), "findings.parquet", "stage.json"}
        noticed = {*declared, *files_of_result(stage, folder)}
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - noticed
        assert [name for name in sorted(left) if not any(fnmatchcase(name, own) for own in stage.working)] == [], verb


@pytest.mark.parametrize("way", [by_command, by_settings_file, by_python])
def test_every_table_is_the_same_however_a_stage_is_called(wanted: Ran, way: Callable[[Path], None]) -> None:
    files = files_written(wanted.place, way)
    others = {name for name in {*wanted.files, *files} if files.get(name) != wanted.files.get(name)}
    assert {name for name in others if not name.endswith(".html")} == set()
    for name in others:  # a page names flags where a pipeline's names keys of its file
        lines, of_pipeline = (page[name].decode().splitlines() for page in (files, wanted.files))
        pairs = [pair for pair in zip(lines, of_pipeline, strict=True) if pair[0] != pair[1]]
        assert [flags for flags, keys in pairs if "--" not in flags or "--" in keys] == []


@pytest.mark.parametrize("proxies", ["annotate", "listen"])
def test_fusing_in_parts_gives_the_same_bytes(wanted: Ran, tmp_path: Path, proxies: str) -> None:
    whole, parts = fused_both_ways(wanted, tmp_path, proxies)
    assert parts.read_bytes() == whole.read_bytes()


def test_fusing_in_parts_gives_the_same_labels_up_to_rounding_with_many_proxies(wanted: Ran, tmp_path: Path) -> None:
    whole, parts = fused_both_ways(wanted, tmp_path, "annotate", "listen")
    assert whole.read_bytes() == wanted.files["fuse/labels.parquet"]
    # Matrix products of more columns add up in an order that depends on the number of rows.
    pl.testing.assert_frame_equal(pl.read_parquet(parts), pl.read_parquet(whole), rel_tol=1e-11, abs_tol=1e-15)


def fused_both_ways(wanted: Ran, place: Path, *proxies: str) -> tuple[Path, Path]:
    """Labels of the human votes and some proxies, fused at once and 50 rows at a time."""
    files = []
    for verb in ("read", *proxies):
        files.append(place / f"{verb}.parquet")
        files[-1].write_bytes(wanted.files[f"{verb}/votes.parquet"])
    utterances = place / "utterances.parquet"
    utterances.write_bytes(wanted.files["read/utterances.parquet"])
    settings = ap.FuseSettings.model_validate({**tomllib.loads(CALLS["fuse"].settings), "seed": SEED})
    fuse = partial(fuse_files, files, settings=settings, utterances=utterances)
    fuse(output=place / "whole.parquet")
    fuse(output=place / "parts.parquet", part_rows=50, whole_rows=0)
    return place / "whole.parquet", place / "parts.parquet"


def test_what_check_foresees_comes_true(wanted: Ran, tmp_path: Path) -> None:
    foreseen, counts = wanted.foreseen.foreseen, wanted.counts
    assert foreseen["simulate"].counts["utterances"] == counts["simulate"]["utterances"] == 24
    assert foreseen["simulate"].counts["votes"] == pytest.approx(counts["simulate"]["votes"], rel=0.1)
    assert foreseen["read"].counts["utterances"] == counts["read"]["utterances"]
    assert foreseen["annotate"].counts["planned"] == counts["annotate"]["planned"] == 96
    assert foreseen["fuse"].counts == counts["fuse"]
    (tmp_path / "votes.parquet").write_bytes(wanted.files["annotate/votes.parquet"])
    assert wanted.foreseen.planned_votes == len(Votes.read(tmp_path / "votes.parquet"))


def test_what_check_foresees_of_a_corpus_comes_true(tmp_path: Path) -> None:
    rows = [{"clip": f"c{n}", "rater": f"r{r}", "heard": ("happy", "odd")[n == r]} for n in range(6) for r in range(4)]
    pl.DataFrame(rows).write_csv(tmp_path / "votes.csv")
    (tmp_path / "p.toml").write_text(
        'taxonomy = "happy,sad"\nfolder = "out"\n[hold_out]\nkeep = 2\n[[read]]\ncorpus = "c"\nformat = "table"\n'
        'source = "votes.csv"\ncolumns = { utterance_id = "clip", annotator = "rater", label = "heard" }\n[fuse]\n'
        'method = "human"\n'
    )
    foreseen = check(tmp_path / "p.toml").foreseen
    run(tmp_path / "p.toml", quiet=True)
    counts = json.loads((tmp_path / "out" / "read" / "stage.json").read_text())["counts"]
    assert {name: foreseen["read"].counts[name] for name in counts} == counts
    assert counts["left_out"] == 4
    votes = Votes.read(tmp_path / "out" / "read" / "votes.parquet").frame
    assert foreseen["read"].counts["held_out"] == votes["held_out"].sum() > 0
