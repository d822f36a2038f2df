"""Every kind of finding that the code uses is declared, every declared one is used, and each has a severity."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import alm_proxies
from alm_proxies import finding_kinds
from alm_proxies.finding_kinds import KINDS, SEVERITIES
from alm_proxies.tables import STATUSES, Finding, Findings

PACKAGE = Path(alm_proxies.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "finding_kinds.py"]
NAMED_BY_FIRST = ("of", "finding", "RecordingError", "NotMeasurable", "Failure", "_count", "listing")
"""Calls whose first argument is the kind of a finding."""


def kind_of(call: ast.Call) -> ast.expr | None:
    """The expression for the kind of a finding, if a call makes one."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name == "of" and not (isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "Finding"):
        return None
    place = 1 if name == "Finding" else 0 if name in NAMED_BY_FIRST else None
    if place is None:
        return None
    if len(call.args) > place:
        return call.args[place]
    return next((word.value for word in call.keywords if word.arg == "kind"), None)


def kinds_in(path: Path) -> Iterator[str]:
    if "engines" in path.parts:  # their failures have kinds of their own, which findings name under `where`
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        kind = kind_of(node) if isinstance(node, ast.Call) else None
        if isinstance(kind, ast.Constant):
            yield str(kind.value)
        if isinstance(kind, ast.IfExp):
            yield from (str(branch.value) for branch in (kind.body, kind.orelse) if isinstance(branch, ast.Constant))


def test_every_kind_in_the_code_is_declared() -> None:
    used = {(kind, path.relative_to(PACKAGE).as_posix()) for path in FILES for kind in kinds_in(path)}
    assert len(used) > 70
    assert [kind_at for kind_at in sorted(used) if kind_at[0] not in KINDS] == [], (
        "declare it in alm_proxies/finding_kinds.py"
    )
    assert {name for name in STATUSES if name != "ok"} <= set(KINDS)


def test_every_declared_kind_is_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    derived = {"unknown_gender"}
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in derived] == []


def test_every_kind_says_what_it_means_and_a_problem_what_to_do() -> None:
    for name, kind in KINDS.items():
        assert name.replace("_", "").isalpha(), name
        assert name.islower(), name
        assert kind.severity in SEVERITIES
        assert kind.meaning.endswith("."), name
        assert kind.fix.endswith(".") or not kind.fix, name
        assert kind.fix or kind.severity != "problem", name


def test_estimators_and_measures_know_no_stage() -> None:
    stages = [path.name for path in (PACKAGE / "stages").iterdir() if (path / "stage.py").is_file()]
    assert len(stages) >= 6
    rooms = ("estimators", "measures", "compare")
    for path in [PACKAGE / "ballots.py", *(path for room in rooms for path in (PACKAGE / room).glob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        assert [stage for stage in stages if f'"{stage}"' in text] == [], path


def test_findings_carry_the_severity_of_their_kind_and_the_stage_that_gathers_them() -> None:
    findings = [Finding.of("held_out", "x"), Finding("read", "no_audio", "y"), Finding.of("stopped", "z")]
    table = Findings.gather(findings, "align")
    assert (
        table.frame["severity"].to_list()
        == [finding.severity for finding in findings]
        == ["info", "warning", "problem"]
    )
    assert table.frame["stage"].to_list() == ["align", "read", "align"]
    assert Findings.gather(findings).frame["stage"].to_list() == ["", "read", ""]


def test_a_table_without_severities_is_given_them(tmp_path: Path) -> None:
    bare = pl.DataFrame({"stage": ["fuse", "read"], "kind": ["stopped", "mapped"], "message": ["a", "b"]})
    Findings.of(bare).write(tmp_path / "f.parquet")
    assert Findings.read(tmp_path / "f.parquet").frame["severity"].to_list() == ["problem", "info"]
    assert Findings.of(bare.head(0)).frame.schema["severity"] == pl.String()


def test_a_kind_of_a_plug_in_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding_kinds, "not_declared", lambda _: finding_kinds.NOT_DECLARED)
    assert Finding.of("of_a_plug_in", "x").severity == "warning"
