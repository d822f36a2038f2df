"""The command findings on any folder: none is hidden, none is there twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from any_folder import printed

from alm_proxies.cli.app import run as command
from alm_proxies.finding import Finding
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.standing import standing_of
from alm_proxies.tables import Findings


def test_findings_that_are_damaged_are_not_shown_as_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("findings.parquet", "votes.1-of-2.parquet", "labels.findings.parquet"):
        Findings.gather([Finding("read", "no_audio", "m", "f")]).write(tmp_path / name)
    damaged = tmp_path / "labels.findings.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert command(["findings", str(tmp_path)]) == 2
    assert str(damaged) in capsys.readouterr().err
    assert len(standing_of(tmp_path).wrong) == 1


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
