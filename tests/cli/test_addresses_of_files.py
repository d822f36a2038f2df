"""Addresses on the command line: tables by http, no output to an address, and the command cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alm_proxies import cache
from alm_proxies.cli.app import run
from alm_proxies.tables import Findings, Utterances

sys.path.insert(0, str(Path(__file__).parents[1] / "remote"))
from web_server import Web, serving

OUTPUTS = [
    ["simulate", "--utterances", "4", "-o"],
    ["read", "table", "votes.csv", "-o"],
    ["fuse", "votes.parquet", "-o"],
    ["annotate", "utterances.parquet", "--annotator", "embedded", "-o"],
    ["predict", "model", "utterances.parquet", "-o"],
    ["export", "labels.parquet", "--utterances", "u.parquet", "--format", "csv", "-o"],
    ["merge", "a", "b", "-o"],
    ["schema", "pipeline", "-o"],
    ["demo"],
    ["run", "demo", "--folder"],
]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as served:
        yield served


@pytest.mark.parametrize("words", OUTPUTS, ids=lambda words: words[0])
@pytest.mark.parametrize("output", ["s3://bucket/out", "https://ann:sesame@host/out"])
def test_no_result_is_written_to_an_address(
    words: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*words, output]) == 2
    error = capsys.readouterr().err
    assert "not written to addresses" in error
    assert "sesame" not in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_log_and_a_folder_in_a_file_are_refused_likewise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plugins", "--log-file", "s3://bucket/log"]) == 2
    assert "s3://bucket/log" in capsys.readouterr().err
    (tmp_path / "p.toml").write_text('taxonomy = ["a", "b"]\nfolder = "s3://bucket/out"\n[simulate]\nutterances = 4\n')
    assert run(["run", "p.toml"]) == 2
    assert "not written to addresses" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.toml"]


def test_a_table_by_https_is_read_and_its_secrets_are_in_nothing(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["audio,annotator,label", "a.wav,r1,happy", "https://ann:sesame@host/b.wav?sig=sesame&id=2,r1,sad"]
    uri = web.put("ok/votes.csv", "\n".join(rows).encode())
    read = ["read", "table", uri, "--corpus", "mine", "--taxonomy", "happy,sad", "-o", "out", "--log-file", "log.txt"]
    assert run(read) == 0
    shown = "".join(capsys.readouterr())
    table = Utterances.read("out/utterances.parquet")
    assert set(table.frame["audio"]) == {web.url("ok/a.wav"), "https://host/b.wav?id=2"}
    findings = Findings.read("out/findings.parquet").frame
    assert "address_with_secret" in findings["kind"].to_list()
    written = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file())
    assert b"sesame" not in written
    assert "sesame" not in shown


def test_an_address_with_a_secret_is_refused_as_a_source_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    read = ["read", "table", "https://ann:sesame@host/votes.csv", "--corpus", "mine", "--taxonomy", "happy,sad"]
    assert run([*read, "-o", "out", "--log-file", "log.txt"]) == 2
    error = capsys.readouterr().err
    assert "has a password, a key or a signature in it" in error
    assert "sesame" not in error + (tmp_path / "log.txt").read_text()
    assert run(["fuse", "https://host/votes.parquet?X-Amz-Signature=sesame", "-o", "out"]) == 2
    assert "sesame" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_a_folder_at_an_address_is_refused_for_formats_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["read", "iemocap", "https://host/IEMOCAP", "-o", "out"]) == 2
    assert "cannot read a folder at an address" in capsys.readouterr().err


def test_the_cache_is_shown_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_json("abilities", "abc", 1)
    place = cache.file_of("audio", "ab12", ".bin")
    assert place is not None
    place.write_bytes(bytes(1_500_000))
    assert run(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "audio: remote recordings, 1 file, 1.5 MB" in shown
    assert str(cache.cache_folder()) in shown
    assert run(["cache", "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["kinds"]["audio"]["bytes"] == 1_500_000
    assert run(["cache", "--clear", "audio"]) == 0
    assert [kept.kind for kept in cache.contents() if kept.files] == ["abilities"]
    assert run(["cache", "--clear", "all"]) == 0
    assert not any(kept.files for kept in cache.contents())
    assert run(["cache", "--clear", "everything"]) == 2
