"""What a stage gives is the same, byte for byte, by command, by pipeline file and by Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

import alm_proxies as ap
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.run import run
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.tables import Votes

ANNOTATOR = """\
name = "ideal"
engine = "scripted"
model = "truth"
prompt = "reference"
elicit = "sample"
votes = 4
answer = "words"
cross = {{ temperature = [0.7, 1.0], focus = ["tone", "wording"] }}
serve = {{ answers = "{folder}/simulate/truth.parquet" }}
price = {{ audio_minute = 1.0 }}
"""
FILE = """\
taxonomy = "crema6"
seed = 2
folder = "out"
[simulate]
utterances = 40
votes = [2, 4]
dense = 6
[annotate]
panel = ["ideal.toml"]
injection = 4
stop = { collapse = 1.0 }
[fuse]
method = "gated"
classes = 4
merge = { primary = 0.9, secondary = 0.1 }
[align]
examples = 2
"""
TABLES = {
    "simulate": ("utterances.parquet", "votes.parquet", "truth.parquet"),
    "read": ("utterances.parquet", "votes.parquet", "findings.parquet"),
    "annotate": ("votes.parquet", "findings.parquet"),
    "fuse": ("labels.parquet", "trials.parquet", "findings.parquet"),
    "align": ("metrics.json", "report.html", "findings.parquet"),
}
Bytes = dict[str, bytes]


def by_file(place: Path) -> None:
    (place / "p.toml").write_text(FILE)
    run(place / "p.toml", quiet=True)


def by_command(place: Path) -> None:
    out = place / "out"
    said = [
        f"simulate -o {out}/simulate --utterances 40 --votes 2:4 --dense 6 --seed 2",
        f"read tables {out}/simulate -o {out}/read --taxonomy crema6 --seed 2",
        f"annotate {out}/read/utterances.parquet --annotator {place}/ideal.toml --human {out}/read/votes.parquet"
        f" --injection 4 --stop collapse=1.0 --seed 2 -o {out}/annotate",
        f"fuse {out}/read/votes.parquet {out}/annotate/votes.parquet --utterances {out}/read/utterances.parquet"
        f" --method gated --classes 4 --merge primary=.9,secondary=.1 --seed 2 -o {out}/fuse",
        f"align {out}/fuse/labels.parquet --votes {out}/read/votes.parquet {out}/annotate/votes.parquet"
        f" --utterances {out}/read/utterances.parquet --examples 2 --seed 2 -o {out}/align",
    ]
    for line in said:
        assert command([*line.split(), "--quiet"]) == 0, line


def by_settings_file(place: Path) -> None:
    """The commands again, with every setting in a file."""
    out = place / "out"
    files = {
        "simulate": "utterances = 40\nvotes = [2, 4]\ndense = 6\nseed = 2\n",
        "read": 'taxonomy = "crema6"\nseed = 2\nsource = "out/simulate"\n',
        "annotate": 'panel = ["ideal.toml"]\ninjection = 4\nstop = { collapse = 1.0 }\nseed = 2\n',
        "fuse": 'method = "gated"\nclasses = 4\nmerge = { primary = 0.9, secondary = 0.1 }\nseed = 2\n',
        "align": "examples = 2\nseed = 2\n",
    }
    for name, text in files.items():
        (place / f"{name}.toml").write_text(text)
    said = [
        f"simulate -o {out}/simulate --settings {place}/simulate.toml",
        f"read tables {out}/simulate -o {out}/read --settings {place}/read.toml",
        f"annotate {out}/read/utterances.parquet --human {out}/read/votes.parquet"
        f" --settings {place}/annotate.toml -o {out}/annotate",
        f"fuse {out}/read/votes.parquet {out}/annotate/votes.parquet --utterances {out}/read/utterances.parquet"
        f" --settings {place}/fuse.toml -o {out}/fuse",
        f"align {out}/fuse/labels.parquet --votes {out}/read/votes.parquet {out}/annotate/votes.parquet"
        f" --utterances {out}/read/utterances.parquet --settings {place}/align.toml -o {out}/align",
    ]
    for line in said:
        assert command([*line.split(), "--quiet"]) == 0, line


def by_python(place: Path) -> None:
    out = place / "out"
    ap.simulate(out / "simulate", ap.SimulateSettings(utterances=40, votes=(2, 4), dense=6, seed=2), quiet=True)
    corpus = ap.read(ap.TablesSource(source=out / "simulate"), ap.ReadSettings(taxonomy="crema6", seed=2))
    corpus.write(out / "read")
    panel = [Annotator.read(place / "ideal.toml")]
    said = ap.AnnotateSettings.model_validate({"injection": 4, "stop": {"collapse": 1.0}, "seed": 2})
    made = ap.annotate(corpus.utterances, panel, out / "annotate", said, votes=corpus.votes, quiet=True)
    votes = ap.combine(corpus.votes, made.votes)
    wanted = ap.FuseSettings.model_validate(
        {"method": "gated", "classes": 4, "merge": {"primary": 0.9, "secondary": 0.1}, "seed": 2}
    )
    fused = ap.fuse(votes, wanted, utterances=corpus.utterances)
    (out / "fuse").mkdir()
    fused.labels.write(out / "fuse" / "labels.parquet")
    fused.trials.write_parquet(out / "fuse" / "trials.parquet")
    fused.findings.write(out / "fuse" / "findings.parquet")
    report = ap.align(fused.labels, votes, corpus.utterances, ap.AlignSettings(examples=2, seed=2))
    report.page.write(out / "align" / "report.html")
    (out / "align" / "metrics.json").write_text(json.dumps(report.metrics, indent=2, ensure_ascii=False) + "\n")
    report.findings.write(out / "align" / "findings.parquet")


def made(place: Path, way: Callable[[Path], None]) -> Bytes:
    """All tables of a way; each way works in the same place, as tables say where their recordings lie."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "ideal.toml").write_text(ANNOTATOR.format(folder=place / "out"))
    way(place)
    files = [f"{stage}/{name}" for stage, names in TABLES.items() for name in names]
    return {file: (place / "out" / file).read_bytes() for file in files}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bytes]:
    place = tmp_path_factory.mktemp("parity") / "work"
    return place, made(place, by_file)


@pytest.mark.parametrize("way", [by_command, by_settings_file, by_python])
def test_every_table_is_the_same_however_a_stage_is_called(
    wanted: tuple[Path, Bytes], way: Callable[[Path], None]
) -> None:
    place, expected = wanted
    found = made(place, way)
    assert {name for name, content in expected.items() if found[name] != content} == set()


def test_fusing_in_parts_gives_the_same_bytes(wanted: tuple[Path, Bytes], tmp_path: Path) -> None:
    place, expected = wanted
    made(place, by_file)
    out = place / "out"
    files = [out / "read" / "votes.parquet", out / "annotate" / "votes.parquet"]
    settings = ap.FuseSettings.model_validate(
        {"method": "gated", "classes": 4, "merge": {"primary": 0.9, "secondary": 0.1}, "seed": 2}
    )
    fuse = partial(fuse_files, files, settings=settings, utterances=out / "read" / "utterances.parquet")
    fuse(output=tmp_path / "parts.parquet", part_rows=50, whole_rows=0)
    assert (tmp_path / "parts.parquet").read_bytes() == expected["fuse/labels.parquet"]


def test_what_check_foresees_comes_true(wanted: tuple[Path, Bytes]) -> None:
    place, _ = wanted
    made(place, by_file)
    found = check(place / "p.toml")
    foreseen = found.foreseen
    records = {name: json.loads((place / "out" / name / "stage.json").read_text())["counts"] for name in foreseen}
    assert foreseen["simulate"].counts["utterances"] == records["simulate"]["utterances"] == 40
    assert foreseen["simulate"].counts["votes"] == pytest.approx(records["simulate"]["votes"], rel=0.1)
    assert foreseen["read"].counts["utterances"] == records["read"]["utterances"]
    assert foreseen["annotate"].counts["planned"] == records["annotate"]["planned"] == 160
    assert foreseen["fuse"].counts == records["fuse"]
    assert found.planned_votes == len(Votes.read(place / "out" / "annotate" / "votes.parquet"))


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
