from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.cli.outcome import Common, finished, tell
from alm_proxies.tables import Finding, Findings

MANY = Findings.gather(
    [
        *(Finding("annotate", f"count_{letter}", f"many {letter}", count=1000) for letter in "abcdefg"),
        Finding("annotate", "not_cast", "4 votes are missing", "Raise the budget.", count=4),
        Finding("annotate", "stopped", "the budget is spent", "Raise the budget."),
        Finding("fuse", "chosen", "gated foretells best"),
        Finding("fuse", "proxies", "the proxies count"),
    ]
)


def test_what_stopped_the_run_is_said_first_then_what_can_be_mended_then_verdicts_then_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(MANY, quiet=False, rest="in out/findings.parquet")
    told = [line.split(":")[0].strip() for line in capsys.readouterr().err.splitlines()]
    assert told[:4] == ["stopped", "not_cast", "chosen", "proxies"]
    assert told[4].startswith("count_")
    assert told[-1] == "and 5 more findings"


def test_one_finding_of_every_kind_is_said_before_the_second_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    often = [Finding("read", "odd", f"row {row} is odd", "Mend it.", count=5) for row in range(20)]
    tell(Findings.gather([*often, Finding("read", "held_out", "3 votes are held out")]), quiet=False)
    told = capsys.readouterr().err
    assert "held_out: 3 votes are held out" in told
    assert "and 15 more findings" in told


def test_where_the_rest_is_said_is_a_file_that_is_there_or_else_the_json_that_holds_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = finished("done", {}, MANY, tmp_path / "labels.parquet", Common())
    assert "more findings: with --json" in capsys.readouterr().err
    assert len(made.data["said"]) == len(MANY)
    MANY.write(tmp_path / "findings.parquet")
    made = finished("done", {}, MANY, tmp_path, Common())
    assert f"more findings: in {tmp_path / 'findings.parquet'}" in capsys.readouterr().err
    assert "said" not in made.data
