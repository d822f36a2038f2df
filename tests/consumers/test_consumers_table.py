"""The table of export formats names the program that loaded each in the last run; others are untested."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from alm_proxies.plugins import plugins

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from site_pages.consumers import made_of, page

    def rows(results: list[dict[str, Any]] | None) -> dict[str, str]:
        text = page() if results is None else made_of(results)
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        return {row[0].strip("`"): row[-1] for row in cells if len(row) == 5 and row[0].startswith("`")}

    return rows


def test_every_format_has_a_row_and_one_that_nothing_loaded_is_untested(rows_of: Any) -> None:
    own = {"environment": "x", "program": "X", "day": "2026-11-01"}
    rows = rows_of(
        [
            {**own, "format": "csv", "outcome": "loaded", "rows": 30, "step": None, "version": "polars 1"},
            {**own, "format": "nemo", "outcome": "loaded", "rows": 30, "step": 1.5, "version": "nemo 3"},
            {**own, "format": "lhotse", "outcome": "failed", "why": "KeyError: x"},
            {**own, "format": "jsonl", "outcome": "not run", "why": "its environment cannot be built: y"},
        ]
    )
    assert set(rows) == set(plugins("exports"))
    assert rows["csv"] == "polars 1: loaded 30 rows (2026-11-01)"
    assert rows["nemo"] == "nemo 3: loaded 30 rows, trained one step (2026-11-01)"
    assert rows["lhotse"] == "X: failed (KeyError: x), so untested"
    assert "not run" in rows["jsonl"]
    assert rows["parquet"] == "untested"


def test_the_last_run_is_of_formats_and_programs_that_there_are(rows_of: Any) -> None:
    programs = tomllib.loads((HERE / "environments.toml").read_text(encoding="utf-8"))
    results = json.loads((ROOT / "docs" / "consumers.json").read_text(encoding="utf-8"))["results"]
    listed = {(place, name) for place, program in programs.items() for name in program["formats"]}
    assert {(result["environment"], result["format"]) for result in results} == listed
    assert {name for _, name in listed} <= set(plugins("exports"))
    rows = rows_of(None)
    for result in results:
        assert ("untested" in rows[result["format"]]) == (result["outcome"] != "loaded")
    assert all((HERE / program["load"]).is_file() for program in programs.values())


def test_the_programs_of_this_environment_load_what_is_exported(tmp_path: Path) -> None:
    results = tmp_path / "consumers.json"
    kept = {"environment": "nemo", "format": "nemo", "outcome": "not run", "why": "kept"}
    results.write_text(json.dumps({"results": [kept]}), encoding="utf-8")
    command = [sys.executable, HERE / "run.py", "light", "--results", results]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    kept_rows = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert kept in kept_rows
    others = [result for result in kept_rows if result != kept]
    assert {result["outcome"] for result in others} == {"loaded"}
    assert {result["rows"] for result in others} == {30}
    assert all(re.fullmatch(r"\w+ [\w.]+", result["version"]) for result in others)


def test_a_program_that_complains_is_told_from_one_that_loads(tmp_path: Path) -> None:
    loaded = runpy.run_path(str(HERE / "run.py"))["loaded"]
    result = loaded(Path(sys.executable), "load_light.py", "croissant", tmp_path)
    assert result["outcome"] == "failed"
    assert result["why"]
