"""The file of --log-file: all messages and the result, without keys and control characters."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from alm_proxies import log
from alm_proxies.cli.app import run
from alm_proxies.errors import OutputError, SettingsError
from alm_proxies.log import LOG, keep_secret, logging_to

KEY = "sk-very-secret-0123"


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_secrets", set())


def test_a_command_writes_what_it_said_and_how_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "run é.log"
    command = ["simulate", "-o", str(tmp_path / "sim"), "--utterances", "20", "--quiet"]
    assert run([*command, "--log-file", str(file)]) == 0
    assert run([*command, f"--log-file={file}"]) == 0  # it goes on at its end
    written = lines(file)
    assert sum("simulate -o" in line for line in written) == 2
    assert sum("info: exit code 0: " in line for line in written) == 2
    assert any("20/20" in line for line in written)
    assert all(line[:4].isdigit() for line in written)
    assert not LOG.handlers[1:]


def test_a_mistake_is_logged_as_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.log"
    assert run(["fuse", str(tmp_path / "none.parquet"), "-o", "x.parquet", "--log-file", str(file)]) == 2
    sentence = capsys.readouterr().err.strip().removeprefix("alm-proxies: ")
    assert lines(file)[-1].endswith(f"error: exit code 2: {sentence}")


def test_keys_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", KEY)
    keep_secret("named-otherwise", "short")
    with logging_to(tmp_path / "a.log"):
        LOG.info("key %s and named-otherwise, a short one", KEY)
        LOG.warning("Authorization: Bearer abcdefgh, https://me:hidden@host/v1")
        try:
            raise ValueError(f"with {KEY}")
        except ValueError:
            LOG.exception("failed")
    text = (tmp_path / "a.log").read_text()
    for secret in (KEY, "named-otherwise", "abcdefgh", "hidden"):
        assert secret not in text
    assert "a short one" in text
    assert "ValueError: with ***" in text


def test_nothing_in_it_steers_a_terminal_or_feigns_a_line(tmp_path: Path) -> None:
    with logging_to(tmp_path / "a.log"):
        LOG.info("one\x1b[2J\u202e\n2026-01-01T00:00:00Z info: exit code 0: feigned")
    first, second = lines(tmp_path / "a.log")
    assert first.endswith("one\\x1b[2J\\u202e")
    assert second.startswith("    2026-")


def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "votes.csv"
    table.write_text("utterance_id,label\n")
    with pytest.raises(SettingsError, match="is not a log"), logging_to(table):
        pass
    assert run(["plugins", "--log-file", str(table)]) == 2
    assert table.read_text() == "utterance_id,label\n"
    assert "is not a log" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), logging_to(tmp_path):
        pass
    with pytest.raises(OutputError, match="cannot be written"), logging_to(Path("/proc/none/run.log")):
        pass


def test_without_a_file_nothing_changes() -> None:
    before = (LOG.level, list(LOG.handlers))
    with logging_to(None):
        assert (LOG.level, list(LOG.handlers)) == before
    assert LOG.level == logging.NOTSET
