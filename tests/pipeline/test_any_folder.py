"""status, findings and explain on any folder: of a pipeline, finished or not, of single commands, and while it runs."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import time
from pathlib import Path

import polars as pl
import pytest
from any_folder import printed
from forked import Forked
from scripted_annotators import of_a_table

from alm_proxies import progress
from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.pipeline.explain import Explained, explain
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.standing import standing_of
from alm_proxies.tables import Finding, Findings


def test_status_of_a_file_names_it_as_a_shell_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("my labels", "other"):
        Findings.gather([Finding("fuse", "no_audio", name, "f")]).write(tmp_path / f"{name}.findings.parquet")
        pl.DataFrame({"utterance_id": ["a"], "p_happy": [1.0]}).write_parquet(tmp_path / f"{name}.parquet")
    (line,) = [
        line
        for line in printed(["status", str(tmp_path / "my labels.parquet")], capsys).splitlines()
        if line.startswith("findings: 1 ")
    ]
    words = shlex.split(line.partition("alm-proxies ")[2])
    assert printed(words, capsys).splitlines()[-1] == "1 finding"


def test_status_of_a_pipeline_says_what_is_done_what_it_cost_and_where_results_are(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["run", str(file), "--quiet"]) == 1
    out = file.parent / "out"
    lines = printed(["status", str(out)], capsys)
    for start in ("read: done in ", "annotate: done in ", "fuse: done in ", "cost: 1.40 spent"):
        assert any(line.startswith(start) for line in lines.splitlines()), start
    assert f"labels: {out}/fuse/labels.parquet" in lines
    assert f"see them with: alm-proxies findings {out}" in lines
    assert f"3 utterances have votes or recordings that could not be used: alm-proxies findings {out} --clips" in lines
    status = json.loads(printed(["status", str(out), "--json"], capsys))
    assert [stage["title"] for stage in status["stages"]] == ["read", "annotate", "fuse"]
    assert status["paid"] == pytest.approx(1.4)
    assert status["ledgers"][0]["planned"] == 16


@pytest.mark.parametrize("ended", [True, False])
def test_status_of_a_damaged_ledger_of_a_pipeline_names_the_key(
    ended: bool, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(["run", str(file), "--quiet"])
    folder = file.parent / "out" / "annotate"
    (folder / "ledger.sqlite").write_bytes(b"no ledger")
    if not ended:
        (folder / "stage.json").unlink()
    lines = printed(["status", str(file.parent / "out")], capsys)
    assert "annotate again with [annotate] accept_loss = true, which renames it" in lines
    alone = tmp_path / "annotate"
    alone.mkdir()
    (alone / "ledger.sqlite").write_bytes(b"no ledger")
    assert "annotate again with --accept-loss, which renames it" in printed(["status", str(alone)], capsys)


def test_explain_shows_what_failed_and_what_it_cost(file: Path) -> None:
    command(["run", str(file), "--quiet"])
    lines = "\n".join(explain(file.parent / "out", "mine/c3").lines())
    assert "failed: annotate dear: failed (missing) x 2: " in lines
    lines = "\n".join(explain(file.parent / "out", "mine/c0").lines())
    assert "these votes cost 0.20" in lines
    assert "prompt of dear (table), cell 0" in lines


def test_a_folder_with_a_ledger_alone_is_explained_from_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(["run", str(file), "--quiet"])
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (file.parent / "out" / "annotate").glob("ledger*"):
        (alone / path.name).write_bytes(path.read_bytes())
    lines = printed(["explain", str(alone), "mine/c0"], capsys)
    assert "  proxy  dear #1: happy x 1 (ok)  cell 0  reply 'happy'" in lines
    assert "these votes cost 0.20" in lines
    lines = printed(["explain", str(alone), "mine/c3"], capsys)
    assert "failed: annotate dear: failed (missing) x 2: " in lines
    assert command(["explain", str(alone), "mine/c9"]) == 2
    assert "there is no utterance 'mine/c9'" in capsys.readouterr().err


def test_check_of_a_folder_names_the_commands_for_it(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(["run", str(file), "--quiet"])
    out = file.parent / "out"
    assert command(["check", str(out)]) == 2
    assert f"{out}: is a folder, not a pipeline file. Name a TOML file." in capsys.readouterr().err
    # a folder of a shipped pipeline's name, such as the corpus's own, does not hide the pipeline
    monkeypatch.chdir(file.parent)
    (file.parent / "demo").mkdir()
    assert command(["check", "demo"]) == 0


def test_status_of_a_command_that_was_stopped_promises_no_end(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(["run", str(file), "--quiet"])
    read = file.parent / "out" / "read" / "utterances.parquet"
    out = file.parent / "own"
    given = ["annotate", str(read), "--annotator", str(file.parent / "dear.toml"), "--injection", "0", "--quiet"]
    command([*given, "--budget", "0.5", "-o", str(out)])
    lines = printed(["status", str(out)], capsys)
    assert "nothing is running: run the same command again to continue" in lines
    assert " min left" not in lines


def test_a_run_that_is_not_finished_is_explained_by_what_is_there(file: Path) -> None:
    command(["run", str(file), "--quiet"])
    (file.parent / "out" / "manifest.json").unlink()
    explained = explain(file.parent / "out", "mine/c0")
    assert explained.method == "pool"
    assert explained.prompts
    (file.parent / "out" / "fuse" / "stage.json").unlink()
    (file.parent / "out" / "fuse" / "labels.parquet").unlink()
    explained = explain(file.parent / "out", "mine/c0")
    assert explained.label == {}
    assert len(explained.votes) == 5
    assert explained.prompts
    assert not any("label (" in line for line in explained.lines())


def test_folders_of_single_commands_are_looked_into_alike(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mapping = "utterance_id=clip,annotator=rater,label=heard,audio=sound"
    read = ["read", "table", "votes.csv", "--corpus", "mine", "--taxonomy", "crema6", "--columns", mapping]
    assert command([*read, "-o", "work", "--quiet"]) == 0
    ask = ["annotate", "work/utterances.parquet", "--annotator", "dear.toml", "-o", "work/proxies", "--injection", "0"]
    assert command([*ask, "--settings", str(_patient(tmp_path)), "--quiet"]) == 1
    fuse = ["fuse", "work/votes.parquet", "work/proxies/votes.parquet", "--method", "pool"]
    assert command([*fuse, "-o", "work/labels.parquet", "--quiet"]) == 0
    assert command(["fuse", "work/votes.parquet", "--method", "human", "-o", "work/people.parquet", "--quiet"]) == 0
    for place in ("work", "work/labels.parquet", "work/proxies"):
        assert printed(["status", place], capsys)
        assert printed(["findings", place], capsys)
        assert printed(["explain", place, "mine/c0"], capsys)
    explained = explain("work", "mine/c0")
    assert (explained.method, len(explained.votes)) == ("pool", 5)
    assert {row["annotator"] for row in explained.influence} == {"dear", "mine/r0", "mine/r1", "mine/r2"}
    assert [other["file"] for other in explained.others] == ["people.parquet"]
    assert explained.utterance["audio"] == "c0.wav"
    only = explain("work/proxies", "mine/c5")
    assert only.utterance == {"utterance_id": "mine/c5"}
    assert [row["kind"] for row in only.failures] == [only.votes[0]["status"] + " (" + only.votes[0]["kind"] + ")"]
    assert standing_of("work").clips == 3
    with pytest.raises(InputError, match="no utterance 'mine/zz'"):
        explain("work", "mine/zz")


def _patient(folder: Path) -> Path:
    path = folder / "patient.toml"
    path.write_text("stop = { collapse = 1.0, failed = 1.0, refused = 1.0 }\n")
    return path


def test_a_folder_without_anything_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.parquet").write_bytes(b"no parquet")
    for verb in ("status", "findings"):
        assert command([verb, str(tmp_path)]) == 2
    assert command(["status", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(InputError, match="contains no results of alm-proxies"):
        explain(tmp_path, "a")


@pytest.fixture
def running(file: Path) -> Forked:
    """A run with a slow annotator."""
    of_a_table(file.parent, "dear", price=12.0, seconds=30.0)
    return Forked("-m", "alm_proxies", "run", file, "--quiet")


def wait_for(path: Path, process: Forked) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_runs_is_said_with_how_to_stop_it_and_what_was_killed_too(
    file: Path, running: Forked, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.parent / "out"
    with running:
        try:
            wait_for(out / "annotate" / "running.json", running)
            lines = printed(["status", str(out)], capsys)
            assert "read: done in " in lines
            assert "annotate: running" in lines
            assert f"stop it with: kill -TERM {running.pid}" in lines
        finally:
            running.kill()
    (stage,) = [listed for listed in standing_of(out).stages if listed.title == "annotate"]
    assert (stage.state, stage.how_to_stop, stage.host) == ("killed", None, platform.node())
    assert "its process ended before it was done" in str(stage)


def test_a_stopped_run_leaves_no_note_behind(file: Path, running: Forked) -> None:
    note = file.parent / "out" / "annotate" / "running.json"
    with running:
        wait_for(note, running)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 130
    assert not note.exists()


@pytest.mark.parametrize(
    "damage",
    [
        '"pid": 1e999',
        '"pid": 1180591620717411303424',
        '"pid": -1',
        '"pid": "x"',
        '"started": 1e999',
        '"started": 1e30',
        '"started": null',
        '"at": "now"',
        '"stage": 3',
        '"stage": ""',
        '"done": "many"',
        '"seconds_left": [1]',
        '"message": {}',
    ],
)
def test_a_damaged_note_of_progress_stops_neither_status_nor_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    note = {"stage": "fuse", "pid": 2**22 + 1, "host": platform.node(), "started": time.time(), "at": time.time()}
    path = tmp_path / "fuse" / "running.json"
    path.parent.mkdir()
    path.write_text(json.dumps(note)[:-1] + f", {damage}}}", encoding="utf-8")
    lines = printed(["status", str(tmp_path)], capsys)
    assert (str(path) in lines) == (damage != '"stage": ""')
    with progress.noted(path, stage="fuse"):
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, "\x00\x01", '{"stage": "fuse", "counts": {"labels": "all"}}']
)
@pytest.mark.parametrize("name", ["running.json", "stage.json"])
def test_a_damaged_file_of_a_stage_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert f"wrong: {tmp_path / name}: is damaged" in printed(["status", str(tmp_path)], capsys)
    with progress.noted(tmp_path / "running.json", stage="fuse"):
        pass


def test_brackets_in_the_name_of_a_result_are_no_pattern(tmp_path: Path) -> None:
    for name in ("a[1].parquet", "a[1].findings.parquet", "a1.findings.parquet"):
        Findings.gather([]).write(tmp_path / name)
    found = Outputs.of(tmp_path / "a[1].parquet").tables["findings"]
    assert [path.name for path in found] == ["a[1].parquet", "a[1].findings.parquet"]


def test_runs_of_vary_are_told_apart_and_a_method_that_is_not_known_here_is_a_note(file: Path) -> None:
    text = file.read_text().replace('method = "pool"', "") + '[vary]\n"fuse.method" = ["pool", "human"]\n'
    file.write_text(text[: text.index("[annotate]")] + text[text.index("[fuse]") :])
    command(["run", str(file), "--quiet"])
    out = file.parent / "out"
    titles = [stage.title for stage in standing_of(out).stages]
    assert titles == ["read", "fuse fuse.method=human", "fuse fuse.method=pool"]
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"method": "pool"', '"method": "of_somebody"'))
    explained = explain(out, "mine/c0")
    assert (explained.method, explained.influence) == ("of_somebody", [])
    assert "there is no estimator 'of_somebody'" in explained.notes[0]


def test_a_block_named_features_is_looked_into_and_a_folder_of_features_is_not(file: Path) -> None:
    assert command(["run", str(file), "--quiet"]) == 1
    out = file.parent / "out"
    for place in ("predict/features", "train/mine/features"):
        (out / place).mkdir(parents=True)
        (out / place / "labels.parquet").write_bytes((out / "fuse/labels.parquet").read_bytes())
    record = json.loads((out / "fuse/stage.json").read_text())
    (out / "predict/features/stage.json").write_text(json.dumps({**record, "stage": "predict", "name": "features"}))
    standing = standing_of(out)
    assert "predict features" in [stage.title for stage in standing.stages]
    assert standing.results["labels"] == (
        str(out / "fuse/labels.parquet"),
        str(out / "predict/features/labels.parquet"),
    )


def test_a_draw_that_is_shared_among_labels_is_one_line_of_explain() -> None:
    shares = {"angry": 0.2, "happy": 0.7, "sad": 0.1}
    votes = [
        {
            "source": "proxy", "annotator": "a", "draw": 0, "label": label, "weight": share, "status": "ok",
            "held_out": False, "raw": "[1, 2]", "cell": 0, "stated": None,
        }
        for label, share in shares.items()
    ]  # fmt: skip
    lines = list(Explained({"utterance_id": "c1"}, {}, votes, [], [], "", [], {}).lines())
    assert lines == ["c1", "votes:", "  proxy  a #0: happy 0.700  angry 0.200  sad 0.100 (ok)  cell 0  reply '[1, 2]'"]
