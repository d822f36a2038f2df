import json
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from forked import Forked

from alm_proxies.cli.app import run as command
from alm_proxies.errors import OutputError, SettingsError
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.run import run
from alm_proxies.tables import Labels, Utterances, Votes

FILE = """\
taxonomy = "crema6"
seed = 3
folder = "{folder}"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = {{ utterance_id = "clip", speaker = "who", annotator = "rater", label = "heard" }}
[hold_out]
keep = 2
[fuse]
method = "dirichlet"
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline file beside a small corpus: 60 clips of 6 speakers, 4 raters each."""
    rng = np.random.default_rng(0)
    labels = ["Anger", "Happiness", "Neutral", "Sadness"]
    rows = [
        f"c{clip:02d},s{clip % 6},r{rater},{labels[int(rng.integers(4)) if rng.random() < 0.4 else clip % 4]}"
        for clip in range(60)
        for rater in rng.choice(9, 4, replace=False)
    ]
    (tmp_path / "votes.csv").write_text("clip,who,rater,heard\n" + "\n".join(rows) + "\n")
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(folder=tmp_path / "out"))
    return path


def test_a_pipeline_reads_holds_out_and_fuses_and_is_skipped_the_second_time(pipeline: Path) -> None:
    first = run(pipeline, quiet=True)
    assert [record.stage for record in first.records] == ["read", "fuse"]
    assert first.skipped == 0
    votes = Votes.read(first.folder / "read" / "votes.parquet")
    assert votes.frame["held_out"].sum() == 120
    labels = Labels.read(first.folder / "fuse" / "labels.parquet")
    assert len(labels) == 60
    assert labels.frame["human_votes"].to_list() == [2.0] * 60
    second = run(pipeline, quiet=True)
    assert second.skipped == 2
    assert second.findings.frame.equals(first.findings.frame)


def test_only_what_a_change_reaches_runs_again(pipeline: Path) -> None:
    run(pipeline, quiet=True)
    pipeline.write_text(pipeline.read_text().replace('"dirichlet"', '"human"'))
    again = run(pipeline, quiet=True)
    assert [(record.stage, record.skipped) for record in again.records] == [("read", True), ("fuse", False)]
    assert "fuse" in again.records[1].stage
    assert "method" in again.records[1].because
    votes = pipeline.parent / "votes.csv"
    votes.write_text(votes.read_text() + "c60,s1,r1,Fear\n")
    assert run(pipeline, quiet=True).skipped == 0


def test_where_a_stage_that_runs_again_gives_the_same_tables_the_later_ones_are_skipped(pipeline: Path) -> None:
    run(pipeline, quiet=True)
    votes = pipeline.parent / "votes.csv"
    first, *lines = votes.read_text().splitlines()
    votes.write_text("\n".join([f"{first},note", *(f"{line},{number}" for number, line in enumerate(lines))]) + "\n")
    again = run(pipeline, quiet=True)
    assert [(record.stage, record.skipped) for record in again.records] == [("read", False), ("fuse", True)]
    votes.write_text("\n".join([first, *lines[1:]]) + "\n")
    assert run(pipeline, quiet=True).skipped == 0


@contextmanager
def nothing_can_be_written() -> Iterator[None]:
    """A context in which the system lets this process write into no file, as on a disk that is only read."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("vary", ["", '[vary]\n"fuse.method" = ["human", "dirichlet"]\n'])
def test_a_finished_pipeline_on_a_disk_that_is_only_read_is_unchanged(pipeline: Path, vary: str) -> None:
    pipeline.write_text(pipeline.read_text() + vary)
    first = run(pipeline, quiet=True)
    with nothing_can_be_written():
        second = run(pipeline, quiet=True)
    assert second.skipped == len(first.records)
    assert second.pages == first.pages
    pipeline.write_text(pipeline.read_text().replace("keep = 2", "keep = 1"))
    with nothing_can_be_written(), pytest.raises(OutputError):
        run(pipeline, quiet=True)


def test_a_further_file_of_each_block_of_one_corpus_is_an_input(tmp_path: Path) -> None:
    """They had one name, so that only the last of them was looked at."""
    blocks = []
    for part in "ab":
        rows = "".join(f"{part}{n},{part}s{n % 3},sad\n" for n in range(6))
        (tmp_path / f"{part}.csv").write_text(f"clip,who,heard\n{rows}")
        (tmp_path / f"splits_{part}.csv").write_text(f"speaker,split\n{part}s0,train\n")
        columns = 'columns = { utterance_id = "clip", speaker = "who", label = "heard" }'
        kept = f'split = "speakers:.5,.5"\nkeep_splits = "splits_{part}.csv"\n'
        blocks.append(f'[[read]]\ncorpus = "mine"\nformat = "table"\nsource = "{part}.csv"\n{columns}\n{kept}')
    path = tmp_path / "two.toml"
    path.write_text('taxonomy = "crema6"\nfolder = "out"\n' + "".join(blocks) + '[fuse]\nmethod = "human"\n')
    run(path, quiet=True)
    assert run(path, quiet=True).skipped == 2
    (tmp_path / "splits_a.csv").write_text("speaker,split\nas0,test\n")
    again = run(path, quiet=True)
    assert again.records[0].because == "runs again because kept splits of mine has changed"
    (tmp_path / "splits_b.csv").write_text("speaker,split\nbs0,test\n")
    assert run(path, quiet=True).records[0].because == "runs again because kept splits of mine (2) has changed"


def test_the_same_file_gives_the_same_bytes_anywhere(pipeline: Path, tmp_path: Path) -> None:
    run(pipeline, folder=tmp_path / "one", quiet=True)
    run(pipeline, folder=tmp_path / "two", quiet=True)
    for name in ("read/votes.parquet", "read/utterances.parquet", "fuse/labels.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_vary_makes_a_run_for_each_combination_and_shares_equal_stages(pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text() + '[vary]\n"fuse.method" = ["human", "pool"]\n"fuse.seed" = [1, 2]\n')
    assert sum(fact.startswith("read: runs for the first time") for fact in check(pipeline).facts) == 1
    pipeline.write_text(pipeline.read_text().replace('"fuse.seed"', '"hold_out.keep"'))
    held_out = [fact for fact in check(pipeline).facts if "are held out" in fact]
    assert held_out == [
        "read (hold_out.keep=1): 180 human votes of 60 utterances are held out",
        "read (hold_out.keep=2): 120 human votes of 60 utterances are held out",
    ]
    pipeline.write_text(pipeline.read_text().replace('"hold_out.keep"', '"fuse.seed"'))
    ran = run(pipeline, quiet=True)
    assert [record.stage for record in ran.records].count("read") == 1
    assert [record.stage for record in ran.records].count("fuse") == 4
    assert (ran.folder / "fuse" / "fuse.method=pool,fuse.seed=2" / "labels.parquet").exists()
    manifest = json.loads((ran.folder / "manifest.json").read_text())
    assert len(manifest["runs"]) == 4
    assert {name for varied in manifest["runs"] for name in varied["stages"]} == set(manifest["stages"])
    assert manifest["runs"][0]["chosen"] == {"fuse.method": "human", "fuse.seed": 1}
    assert run(pipeline, quiet=True).skipped == 5


def test_the_manifest_says_versions_inputs_settings_counts_and_findings(pipeline: Path) -> None:
    ran = run(pipeline, quiet=True)
    manifest = json.loads((ran.folder / "manifest.json").read_text())
    assert manifest["versions"]["polars"] == pl.__version__
    read = manifest["stages"]["read"]
    assert read["counts"] == {"utterances": 60, "votes": 240, "left_out": 0}
    assert read["findings"]["held_out"] == 120
    assert list(read["depends"]["inputs"]) == ["mine votes.csv"]
    assert manifest["stages"]["fuse"]["depends"]["settings"]["method"] == "dirichlet"
    assert set(read["outputs"]) == {"utterances.parquet", "votes.parquet", "findings.parquet"}


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('method = "dirichlet"', 'methd = "dirichlet"', ["line 12", "Did you mean 'method'"]),
        ("[fuse]", "[fuze]", ["'fuze'", "Did you mean 'fuse'"]),
        ('taxonomy = "crema6"', 'taxonomy = "crema"', ["crema6"]),
        ('source = "votes.csv"', 'source = "vote.csv"', ["vote.csv", "no such file"]),
        ('format = "table"', 'format = "tabel"', ["Did you mean 'table'"]),
        ("keep = 2", "keep = -2", ["keep", "greater than or equal to 0"]),
        ("[fuse]", "[align]\n[fuse]", None),
        ("[[read]]", "[rea]", ["'rea'", "Did you mean 'read'"]),
    ],
)
def test_a_wrong_file_is_said_with_line_and_mend(
    pipeline: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, parts: list[str] | None
) -> None:
    pipeline.write_text(pipeline.read_text().replace(old, new))
    code = command(["run", str(pipeline), "--quiet"])
    err = capsys.readouterr().err
    if parts is None:
        assert code == 0, err
        return
    assert code == 2
    assert "Traceback" not in err
    assert all(part in err for part in parts), err


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ('"fuse.method" = "pool"', "not a list"),
        ('folder = ["a", "b"]', "folder cannot be varied"),
        ("seed = [1, 1]", "twice"),
        ('"fuse.method.deep" = [1]', "does not lead to a setting"),
        ('"fuse.methd" = ["pool"]', "Did you mean 'method'"),
        (f"seed = {list(range(1001))}", "1001 runs"),
    ],
)
def test_a_wrong_vary_is_refused(pipeline: Path, vary: str, message: str) -> None:
    pipeline.write_text(pipeline.read_text() + f"[vary]\n{vary}\n")
    with pytest.raises(SettingsError, match=message):
        read_pipeline(pipeline)


def test_an_unknown_name_lists_the_shipped_pipelines() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'demo'"):
        read_pipeline("demoo")


def test_killed_at_any_moment_the_same_command_ends_with_the_same_tables(pipeline: Path, tmp_path: Path) -> None:
    whole = run(pipeline, folder=tmp_path / "whole", quiet=True)
    call = ["-m", "alm_proxies", "run", str(pipeline), "--folder", str(tmp_path / "killed"), "--quiet"]
    for number in range(3):
        process = Forked(*call)
        watched = tmp_path / "killed" / ("read", "read/stage.json", "fuse")[number]
        while process.poll() is None and not watched.exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it had ended before it could be killed at {watched.name}"
    done = Forked.done(*call)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "killed").rglob("*.part"))
    for name in ("read/votes.parquet", "fuse/labels.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_synthetic_corpus_goes_all_the_way_to_a_report(tmp_path: Path) -> None:
    path = tmp_path / "sim.toml"
    path.write_text(
        f'taxonomy = "crema6"\nfolder = "{tmp_path / "out"}"\n[simulate]\nutterances = 60\ndense = 8\n'
        '[fuse]\nmethod = "dirichlet"\n[align]\nexamples = 2\n'
    )
    ran = run(path, quiet=True)
    assert [record.stage for record in ran.records] == ["simulate", "read", "fuse", "align"]
    assert len(Utterances.read(ran.folder / "read" / "utterances.parquet")) == 60
    assert [page.name for page in ran.pages] == ["report.html"]
    report = ran.pages[0].read_text()
    assert "<html" in report[:400]
    assert "This corpus is simulated" in report
