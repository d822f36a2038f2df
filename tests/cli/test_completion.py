"""Completion in a real bash: commands, flags and paths; installed once, however often it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alm_proxies.cli.app import run

ASK = """
source "$1"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}; _alm_proxies; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = [sys.executable, "-c", "from alm_proxies.cli.start import main; main()", "completion", "bash"]
    place = tmp_path_factory.mktemp("completion") / "alm-proxies"
    place.write_bytes(subprocess.run(program, capture_output=True, check=True).stdout)
    return place


def completed(script: Path, *words: str, cwd: Path | None = None) -> set[str]:
    command = ["bash", "--norc", "-c", ASK, "bash", str(script), "alm-proxies", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.splitlines()}


def test_commands_are_completed(script: Path) -> None:
    assert {"evaluate", "explain", "export"} <= completed(script, "e")
    assert completed(script, "ann") == {"annotate"}
    assert {"table", "crema_d"} <= completed(script, "read", "")


def test_flags_of_a_command_are_completed(script: Path) -> None:
    assert {"--method", "--merge"} <= completed(script, "fuse", "--m")
    assert "--log-file" in completed(script, "run", "--lo")
    assert "--several-labels" in completed(script, "read", "table", "--sev")


def test_paths_are_completed(script: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.parquet").touch()
    assert completed(script, "fuse", "vot", cwd=tmp_path) == {"votes.parquet"}


def test_it_is_installed_where_bash_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'\n")
    assert run(["completion", "bash", "--install"]) == 0
    place = tmp_path / ".local/share/bash-completion/completions/alm-proxies"
    assert str(place) in capsys.readouterr().out
    assert run(["completion", "bash", "--install"]) == 0
    startup = (tmp_path / ".bashrc").read_text()
    assert startup.startswith("alias ll='ls -l'\n")
    assert startup.count(f'. "{place}"') == 1
    asked = ["bash", "--norc", "-c", 'source "$HOME/.bashrc"; complete -p alm-proxies']
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env=os.environ | {"HOME": str(tmp_path)})
    assert "_alm_proxies" in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_with_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    from alm_proxies.cli.app import VERBS

    assert run(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert [verb for verb in VERBS if verb not in printed] == []
    assert "\\x1b" not in printed
