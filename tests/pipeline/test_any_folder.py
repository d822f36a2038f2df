"""status, findings and explain on any folder: of a pipeline, finished or not, of single commands, and while it runs."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forked import Forked
from scripted_annotators import of_a_table

from alm_proxies import progress
from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.finding import Finding
from alm_proxies.pipeline.explain import Explained, explain
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.standing import standing_of
from alm_proxies.tables import Findings

FILE = """\
taxonomy = "crema6"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "heard", audio = "sound" }
[hold_out]
keep = 2
[annotate]
panel = ["dear.toml"]
injection = 0
stop = { collapse = 1.0, failed = 1.0, refused = 1.0 }
[fuse]
method = "pool"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Eight clips: one without a recording, one with an unparsable answer, one with a word outside the taxonomy."""
    for number in range(8):
        soundfile.write(tmp_path / f"c{number}.wav", 0.3 * np.sin(np.arange(16_000) * 0.05), 16_000)
    (tmp_path / "c3.wav").unlink()
    heard = [(clip, rater, ("happy", "sad")[(clip + rater) % 2]) for clip in range(8) for rater in range(3)]
    rows = [f"c{clip},r{rater},{label},c{clip}.wav" for clip, rater, label in heard]
    (tmp_path / "votes.csv").write_text("\n".join(["clip,rater,heard,sound", *rows, "c1,r3,Puzzled,c1.wav"]))
    answers = [f"mine/c{clip},{'well' if clip == 5 else 'happy'}" for clip in range(8)]
    (tmp_path / "answers.csv").write_text("\n".join(["utterance_id,text", *answers]))
    of_a_table(tmp_path, "dear", price=12.0)
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return path


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert command(arguments) == 0
    return capsys.readouterr().out


def test_findings_that_are_damaged_are_not_shown_as_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("findings.parquet", "votes.1-of-2.parquet", "labels.findings.parquet"):
        Findings.gather([Finding("read", "no_audio", "m", "f")]).write(tmp_path / name)
    damaged = tmp_path / "labels.findings.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert command(["findings", str(tmp_path)]) == 2
    assert str(damaged) in capsys.readouterr().err
    assert len(standing_of(tmp_path).wrong) == 1


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


def test_findings_are_ranked_and_none_is_hidden(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(["run", str(file), "--quiet"])
    out = str(file.parent / "out")
    lines = printed(["findings", out], capsys).splitlines()
    severities = [line.split()[0] for line in lines[:-1]]
    order = ["problem", "warning", "info"]
    assert severities == sorted(severities, key=order.index)
    assert set(severities) == set(order)
    table = Outputs.of(out).findings()
    assert len(lines) - 1 == table.height
    assert all(any(message.rstrip(".") in line for line in lines) for message in table["message"])
    serious = printed(["findings", out, "--least", "problem"], capsys).splitlines()
    assert {line.split()[0] for line in serious[:-1]} == {"problem"}
    assert f"{table.height - len(serious) + 1} less serious ones not listed" in serious[-1]


def test_what_happened_to_clips_is_one_view_with_names_and_errors(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(["run", str(file), "--quiet"])
    out = str(file.parent / "out")
    lines = printed(["findings", out, "--clips"], capsys).splitlines()
    assert lines[0] == "mine/c1: read mine/r3 out_of_vocabulary x 1: stated: Puzzled"
    assert lines[1].startswith("mine/c3: annotate dear failed (missing) x 2: ")
    assert "c3.wav: there is no such file" in lines[1]
    assert lines[2].startswith("mine/c5: annotate dear unparsable (")
    assert lines[2].endswith(" x 2: well")
    assert lines[3] == "3 utterances with failed votes or recordings"
    of_clips = printed(["findings", out, "c5", "mine/c7"], capsys).splitlines()
    assert (len(of_clips), of_clips[0][:8]) == (2, "mine/c5:")
    assert command(["findings", out, "c5", "--least", "problem"]) == 2
    assert "--least" in capsys.readouterr().err


def test_clips_of_runs_of_vary_are_said_with_their_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "votes.csv").write_text("utterance_id,annotator,label\na,r1,Puzzled\na,r2,sad\n")
    read = '[[read]]\ncorpus = "mine"\nformat = "table"\nsource = "votes.csv"\n[fuse]\nmethod = "human"\n'
    (tmp_path / "mine.toml").write_text(f'taxonomy = "crema6"\nfolder = "out"\n{read}[vary]\nseed = [1, 2]\n')
    command(["run", str(tmp_path / "mine.toml"), "--quiet"])
    lines = printed(["findings", str(tmp_path / "out"), "--clips"], capsys).splitlines()
    assert lines[0] == "mine/a: read mine/r1 out_of_vocabulary x 2: stated: Puzzled"


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


def test_how_often_a_finding_occurred_is_said_where_its_sentence_does_not_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Finding("read", "odd", "1,200 votes are odd", count=1200), Finding("read", "odd", "0.3 is odd", count=3)]
    Findings.gather(rows).write(tmp_path / "findings.parquet")
    lines = printed(["findings", str(tmp_path)], capsys).splitlines()
    assert [line.partition(": ")[2] for line in lines[:2]] == ["1,200 votes are odd.", "0.3 is odd (3 times)."]


def test_a_finding_of_several_utterances_is_no_error_of_the_one_that_it_names(tmp_path: Path) -> None:
    several = Finding("export", "no_audio", "80 rows have none, such as a", utterance_id="a", count=80)
    alone = Finding("predict", "missing", "there is no such file", utterance_id="b")
    Findings.gather([several, alone]).write(tmp_path / "findings.parquet")
    standing = standing_of(tmp_path)
    assert (standing.clips, standing.findings["warning"] + standing.findings["problem"]) == (1, 2)


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


def test_findings_name_the_proxy_or_file_that_they_are_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [
        Finding.of("exchange", "predicts votes of the fit no better than others", where="face"),
        Finding.of("unknown_speaker", "mine has speakers of no split", where="mine"),
    ]
    Findings.gather(findings, "align").write(tmp_path / "findings.parquet")
    lines = printed(["findings", str(tmp_path)], capsys).splitlines()
    assert any("align exchange: face: predicts votes" in line for line in lines)
    assert any("align unknown_speaker: mine has speakers" in line for line in lines)


def test_what_several_runs_found_alike_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alike = Finding.of("secondary", "secondary labels are not used", "Set merge.", count=63)
    for name in ("one", "two"):
        own = Finding.of("no_human_votes", f"utterances of {name} have no votes", count=4)
        (tmp_path / name).mkdir()
        Findings.gather([alike, own], "fuse").write(tmp_path / name / "findings.parquet")
    lines = printed(["findings", str(tmp_path)], capsys).splitlines()
    assert len(lines) == 4
    assert sum("secondary labels" in line for line in lines) == 1
    assert "(63 times). Set merge. (in 2 files)" in lines[-2]
    assert lines[-1] == "3 findings"
    assert sum(standing_of(tmp_path).findings.values()) == 3
    rows = json.loads(printed(["findings", str(tmp_path), "--json"], capsys))["findings"]
    assert [row["files"] for row in rows if row["kind"] == "secondary"] == [
        ["one/findings.parquet", "two/findings.parquet"]
    ]


def test_a_recording_that_several_stages_miss_is_one_line_with_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Finding.of("missing", "there is no such file", "Check the path.", utterance_id="c/1", where="/sounds/1.wav")
    export = Finding.of("missing", "/sounds/1.wav: there is no such file", "Check the path.", utterance_id="c/1")
    for stage, finding in (("listen", gone), ("train", gone), ("export", export)):
        (tmp_path / stage).mkdir()
        Findings.gather([finding], stage).write(tmp_path / stage / "findings.parquet")
    (line, total) = printed(["findings", str(tmp_path)], capsys).splitlines()
    assert "export, listen, train missing [c/1]: /sounds/1.wav: there is no such file" in line
    assert total == "1 finding"
    (row,) = json.loads(printed(["findings", str(tmp_path), "--json"], capsys))["findings"]
    assert row["stages"] == ["export", "listen", "train"]
    assert len(row["files"]) == 3


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
