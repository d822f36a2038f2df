"""Recordings that were touched or copied run no stage again; those with other content do, whatever their size."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from wording import Wording

import alm_proxies.plugins
from alm_proxies import cache
from alm_proxies.audio.places import changed_meanwhile, recordings_digest, states_of
from alm_proxies.files import digest_of
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.run import Ran, run
from alm_proxies.plugins import plugins, register
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items
from alm_proxies.tables import Utterances, combine
from tests.stages.read.corpora import emodb

FILE = """\
folder = "out"
taxonomy = "happy,sad,angry,neutral"
[[read]]
format = "emodb"
source = "emodb"
[fuse]
method = "human"
[[export]]
name = "csv"
format = "csv"
"""
STAYS = """+++
name = "emodb"
title = "Mine"
licence = "mine"
may_leave = false
why = "it is mine"
votes = "two"
+++
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline file beside a corpus that is a folder of recordings with a table, run once."""
    emodb(tmp_path / "emodb")
    path = tmp_path / "p.toml"
    path.write_text(FILE)
    return path


def touch(folder: Path, time: int = 10**9) -> None:
    for path in folder.rglob("*"):
        os.utime(path, ns=(time, time))


def ran_again(ran: Ran) -> list[str]:
    return [record.stage for record in ran.records if not record.skipped]


def outside(file: Path) -> list[Path]:
    """The files in the cache."""
    return [path for path in cache.cache_folder().rglob("*") if path.is_file()]


def test_touched_recordings_and_tables_run_nothing_again(file: Path) -> None:
    run(file, quiet=True)
    touch(file.parent / "emodb")
    assert {fact.partition(": ")[2] for fact in check(file).facts if "unchanged" in fact} == {
        "unchanged, will be skipped"
    }
    assert ran_again(run(file, quiet=True)) == []


def test_a_corpus_that_was_copied_is_read_from_its_new_place_and_nothing_else_runs(file: Path) -> None:
    run(file, quiet=True)
    shutil.copytree(file.parent / "emodb", file.parent / "other", copy_function=shutil.copyfile)
    shutil.rmtree(file.parent / "emodb")
    (file.parent / "other").rename(file.parent / "emodb")
    assert ran_again(run(file, quiet=True)) == []


def test_a_recording_with_other_content_of_the_same_size_is_noticed(file: Path) -> None:
    run(file, quiet=True)
    sound = next((file.parent / "emodb").rglob("*.wav"))
    sound.write_bytes(sound.read_bytes()[:-2] + b"\1\2")
    os.utime(sound, ns=(1, 1))
    ran = run(file, quiet=True)
    assert ran_again(ran) == ["export"]
    assert ran.records[-1].because == "runs again because recordings has changed"


@pytest.fixture
def while_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens while the export of the pipeline file reads the recordings, each once."""
    happens: list[Callable[[], object]] = []

    def write(items: Items, folder: Path) -> None:
        (folder / "ids.txt").write_text("\n".join(items.frame["utterance_id"]))
        while happens:
            happens.pop()()

    module = ModuleType("slow_writer")
    module.write = write  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slow_writer", module)
    monkeypatch.setattr(alm_proxies.plugins, "_REGISTERED", {})
    register("exports", "slow", Format("slow", "nobody", "slow_writer:write"))
    file.write_text(FILE.replace('"csv"', '"slow"'))
    yield happens
    plugins.cache_clear()


def test_a_recording_that_changes_while_a_first_run_reads_it_is_a_finding_and_read_again(
    file: Path, while_read: list[Callable[[], object]], wording: Wording
) -> None:
    sound = next((file.parent / "emodb").rglob("*.wav"))
    while_read.append(lambda: sound.write_bytes(sound.read_bytes()[:-2] + b"\1\2"))
    first = run(file, quiet=True).findings.frame.filter(kind="changed_meanwhile")
    assert first.select("stage", "severity", "count").rows() == [("export", "problem", 1)]
    wording(first["message"][0], first["fix"][0])
    again = run(file, quiet=True)
    assert ran_again(again) == ["export"]
    assert again.records[-1].because == "runs again because recordings has changed"
    assert again.findings.frame.filter(kind="changed_meanwhile").height == 0
    assert ran_again(run(file, quiet=True)) == []


@pytest.mark.parametrize("stays", [False, True], ids=["in the cache", "in the run's folder"])
@pytest.mark.parametrize("how", ["touched", "written with the same content"])
def test_a_recording_that_gets_another_time_alone_while_a_run_reads_it_is_stated_and_runs_nothing_again(
    how: str, stays: bool, file: Path, while_read: list[Callable[[], object]], wording: Wording
) -> None:
    if stays:
        (file.parent / "emodb.md").write_text(STAYS)
    sound = next((file.parent / "emodb").rglob("*.wav"))
    whole = sound.read_bytes()
    while_read.append(sound.touch if how == "touched" else lambda: sound.write_bytes(whole))
    found = run(file, quiet=True).findings.frame
    assert found.filter(kind="changed_meanwhile").height == 0
    found = found.filter(kind="touched_meanwhile")
    assert found.select("stage", "severity", "count").rows() == [("export", "info", 1)]
    wording(found["message"][0])
    assert ran_again(run(file, quiet=True)) == []


def test_a_recording_that_is_gone_or_new_has_changed_meanwhile(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths[:2]:
        path.write_bytes(b"RIFF")
    table = Utterances.of(pl.DataFrame({"utterance_id": list("abcd"), "audio": [*map(str, paths), "s3://b/d.wav"]}))
    os.mkfifo(tmp_path / "e.wav")  # its time is that of the last write to the pipe
    table = combine(table, Utterances.of(pl.DataFrame({"utterance_id": ["e"], "audio": [str(tmp_path / "e.wav")]})))
    before = states_of(table)
    os.utime(tmp_path / "e.wav", ns=(10**9, 10**9))
    assert changed_meanwhile(before) == []
    paths[0].unlink()
    paths[2].write_bytes(b"RIFF")
    (finding,) = changed_meanwhile(before)
    assert finding.count == 2


def test_a_changed_table_of_the_same_size_is_noticed(file: Path) -> None:
    run(file, quiet=True)
    table = file.parent / "emodb" / "erkennung.txt"
    table.write_bytes(table.read_bytes().replace(b"90,00", b"80,00"))
    assert "read" in ran_again(run(file, quiet=True))


def test_of_a_corpus_that_may_not_be_copied_nothing_is_kept_outside_the_runs_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(file, quiet=True)
    assert outside(file)
    cache.clear()
    (file.parent / "emodb.md").write_text(STAYS)
    run(file, quiet=True)
    assert outside(file) == []
    assert len(list((file.parent / "out/read/remembered").iterdir())) == 2
    read: list[object] = []
    monkeypatch.setattr("alm_proxies.remembered.digest_file", read.append)
    assert ran_again(run(file, quiet=True)) == []
    assert read == []


def test_what_the_last_version_ran_runs_once_more(file: Path) -> None:
    """It stated sizes and times in place of content."""
    whole = run(file, quiet=True)
    for path in whole.folder.rglob("stage.json"):
        record = json.loads(path.read_text())
        if record["stage"] != "fuse":
            inputs = record["depends"]["inputs"]
            for name in inputs:
                inputs[name] = digest_of(name) if name in ("recordings", "emodb emodb") else inputs[name]
            record["digest"] = digest_of({**record["depends"], "inputs": list(inputs.values())})
            path.write_text(json.dumps(record))
    cache.clear()
    assert ran_again(run(file, quiet=True)) == ["read", "export"]
    assert ran_again(run(file, quiet=True)) == []


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_place_of_a_recording_with_an_absolute_path_does_not_count(tmp_path: Path, scheme: str) -> None:
    digests = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.wav").write_bytes(b"the same content")
        row = {"utterance_id": "c/a", "corpus": "c", "audio": f"{scheme}{tmp_path / place / 'a.wav'}"}
        digests.add(recordings_digest(Utterances.of(pl.DataFrame([row]))))
    assert len(digests) == 1


def test_recordings_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    rows = [
        {"utterance_id": f"c/{name}", "corpus": "c", "audio": str(tmp_path / "here" / name / "a.wav")} for name in "xy"
    ]
    digests = []
    for first, second in (("one", "two"), ("two", "one"), ("one", "two")):
        for name, content in (("x", first), ("y", second)):
            (tmp_path / "here" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "here" / name / "a.wav").write_bytes(content.encode() * (len(digests) + 1))
        digests.append(recordings_digest(Utterances.of(pl.DataFrame(rows))))
    assert len(set(digests)) == 3
    (tmp_path / "here").rename(tmp_path / "there")
    moved = [{**row, "audio": row["audio"].replace("here", "there")} for row in rows]
    assert recordings_digest(Utterances.of(pl.DataFrame(moved))) == digests[-1]
