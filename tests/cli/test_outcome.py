from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.cli.outcome import Common, LeftOut, finished, tell
from alm_proxies.tables import Finding, Findings

MANY = Findings.gather(
    [
        *(Finding("annotate", f"count_{letter}", f"many {letter}", count=1000) for letter in "abcdefg"),
        Finding("annotate", "not_cast", "4 votes are missing", "Raise the budget.", count=4),
        Finding("annotate", "stopped", "the budget is spent", "Raise the budget."),
        Finding("fuse", "chosen", "gated predicts best"),
        Finding("fuse", "proxies", "the proxies count"),
    ]
)


def test_what_stopped_the_run_is_said_first_then_the_most_serious_and_every_kind_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(MANY, quiet=False, rest="in out/findings.parquet")
    lines = capsys.readouterr().err.splitlines()
    kinds = [line.split(":")[0].strip() for line in lines]
    assert kinds[:2] == ["stopped", "not_cast"]
    assert kinds[2:9] == [f"count_{letter}" for letter in "abcdefg"]  # kinds that nobody declared are warnings
    assert kinds[9:] == ["chosen", "proxies"]


def test_a_kind_found_often_takes_one_line_that_says_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    often = [Finding("read", "odd", f"row {row} is odd", "Correct it.", count=5) for row in range(20)]
    tell(Findings.gather([*often, Finding("read", "held_out", "3 votes are held out")]), quiet=False, rest="here")
    output = capsys.readouterr().err
    assert "held_out: 3 votes are held out" in output
    assert "And 19 more of this kind." in output
    assert output.count("odd:") == 1
    assert "all findings: here" in output


@pytest.mark.parametrize(
    ("message", "count", "says"),
    [
        ("3 votes are gone", 3, True),
        ("1,300 votes are gone", 1300, True),
        ("votes of the class '3'", 3, True),
        ("votes of the 4 (13 are kept)", 3, False),
        ("votes below 0.3", 3, False),
        ("votes above 3.5", 3, False),
        ("votes of 2,300 clips", 300, False),
    ],
)
def test_a_number_that_is_part_of_another_is_not_the_count(
    message: str, count: int, says: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(Findings.gather([Finding("read", "odd", message, count=count)]), quiet=False)
    assert (" times)" in capsys.readouterr().err) is not says


def test_a_recording_that_is_lost_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Finding("predict", "missing", "there is no such file", "Check the path.", "sim/a", "/sim/wav/a.wav")
    tell(Findings.gather([lost]), quiet=False)
    assert "missing: /sim/wav/a.wav: there is no such file. Check the path." in capsys.readouterr().err


def test_more_left_out_than_allowed_names_the_flag_that_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for share, code in ((0.1, 1), (0.5, 0)):
        allowed = Common(max_left_out=share)
        outcome = finished("done", {}, Findings.gather([]), tmp_path, allowed, LeftOut(3, 10, "recordings"))
        assert outcome.exit_code == code
        assert ("more than --max-left-out 0.1 allows" in capsys.readouterr().err) is bool(code)


def test_utterances_that_an_evaluation_leaves_out_are_counted_and_any_number_may_be(tmp_path: Path) -> None:
    left_out = LeftOut.counted({"utterances": 10, "left_out": 30})
    outcome = finished("done", {"utterances": 10}, Findings.gather([]), tmp_path, Common(max_left_out=0.0), left_out)
    assert (outcome.exit_code, outcome.data["left_out"]) == (0, 30)
    assert outcome.line == "done (30 utterances left out)"


def test_a_pipeline_states_what_is_lost_once_and_not_what_is_left_out_on_purpose() -> None:
    counts = {
        "listen": {"recordings": 100, "votes": 95, "left_out": 5},
        "train/seed=1": {"recordings": 80, "left_out": 5},
        "train/seed=2": {"recordings": 80, "left_out": 0},
        "annotate": {"votes": 40, "left_out": 10},
        "evaluate/seed=1": {"utterances": 10, "left_out": 1511},
        "evaluate/seed=2": {"utterances": 10, "left_out": 1511},
    }
    line = LeftOut.together({name: LeftOut.counted(stage) for name, stage in counts.items()})
    recordings = "(5 of 80 recordings left out in train/seed=1, the most of 2 stages)"
    assert line == f" {recordings} (10 of 40 votes left out in annotate)"


NOTES = ("consensus", "held_out", "no_label", "secondary", "mapped", "no_file", "no_gender", "distracted")


def test_what_is_only_worth_knowing_is_named_where_there_is_much_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Findings.gather([Finding("read", kind, f"about {kind}") for kind in (*NOTES, "no_audio")]), quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].strip().startswith("no_audio")
    assert len(lines) == 7
    assert lines[-1].strip().startswith("also noted: ")
    kinds = {line.split(":")[0].strip() for line in lines[1:-1]} | set(lines[-1].split(": ")[1].split(", "))
    assert kinds == set(NOTES)


def test_where_all_is_said_is_a_file_that_is_there_or_else_the_json_that_holds_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = Findings.gather([Finding("read", kind, f"about {kind}") for kind in NOTES])
    outcome = finished("done", {}, many, tmp_path / "labels.parquet", Common())
    assert "all findings: with --json" in capsys.readouterr().err
    assert len(outcome.data["said"]) == len(many)
    many.write(tmp_path / "findings.parquet")
    outcome = finished("done", {}, many, tmp_path, Common())
    assert f"all findings: in {tmp_path / 'findings.parquet'}" in capsys.readouterr().err
    assert "said" not in outcome.data
