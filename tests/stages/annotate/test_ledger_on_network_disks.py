from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger_rows import outcome

from alm_proxies import machine
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.stages.annotate.merging import merge
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate

Make = Callable[..., Any]


def killed_while_writing(path: Path, votes: int = 3000) -> None:
    """Leave the files of a ledger on a network disk whose process was killed while it wrote into the file itself."""
    with Ledger.open(path.parent / "running" / path.name) as ledger:
        ledger.write(outcomes=[outcome(number) for number in range(votes)])
        ledger._sql.execute("PRAGMA cache_size = 5")  # so that pages go to the file before the commit
        ledger._sql.execute("BEGIN IMMEDIATE")
        ledger._sql.execute("UPDATE vote SET raw = 'a much longer reply, so that pages are split and moved'")
        for file in ledger.path.parent.iterdir():
            shutil.copyfile(file, path.with_name(file.name))
        ledger._sql.execute("ROLLBACK")


@pytest.fixture
def network_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:50 / {tmp_path.resolve()} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(machine, "_MOUNTS", mounts)
    return tmp_path


def test_on_a_network_disk_a_ledger_has_no_wal(network_disk: Path) -> None:
    path = network_disk / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.write(outcomes=[outcome(0)])
        assert ledger._sql.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
        assert not path.with_name("ledger.sqlite-wal").exists()
    with Ledger.open(path) as again:
        assert again.spent() == pytest.approx(0.5)
    (network_disk / "mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda rw\n")
    with Ledger.open(path) as at_home:
        assert at_home._sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_on_a_network_disk_what_a_killed_process_has_not_committed_is_taken_back(network_disk: Path) -> None:
    path = network_disk / "ledger.sqlite"
    killed_while_writing(path)
    query = "SELECT COUNT(*), TOTAL(raw = 'A') FROM vote"
    with Ledger.look(path) as reader:
        assert (reader.notes, reader._sql.execute(query).fetchone()) == ([], (3000, 3000.0))
    with Ledger.open(path) as again:
        assert (again.notes, again._sql.execute(query).fetchone()) == ([], (3000, 3000.0))


def test_on_a_network_disk_nothing_is_taken_back_from_the_ledger_that_replaces_a_lost_one(network_disk: Path) -> None:
    path = network_disk / "ledger.sqlite"
    killed_while_writing(path)
    for lost in (path, path.with_suffix(".journal")):
        lost.unlink()
    with Ledger.open(path, accept_loss=True) as ledger:
        ledger.write(outcomes=[outcome(utterance=2)])
    with Ledger.open(path) as again:
        assert again._sql.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert again._sql.execute("SELECT utterance FROM vote").fetchall() == [(2,)]
    assert path.with_name("ledger.sqlite.lost-journal").stat().st_size > 0


def test_on_a_network_disk_a_write_waits_until_a_long_reading_has_ended(network_disk: Path) -> None:
    with Ledger.open(network_disk / "ledger.sqlite") as ledger, ThreadPoolExecutor() as pool:
        with closing(sqlite3.connect(ledger.path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM vote").fetchone()
            writing = pool.submit(lambda: ledger.write(outcomes=[outcome()]))
            with pytest.raises(TimeoutError):
                writing.result(6.0)  # SQLite itself waits 5 s
        writing.result(30.0)
        assert ledger._sql.execute("SELECT COUNT(*) FROM vote").fetchone() == (1,)


def test_a_merge_replaces_an_earlier_one_that_was_killed_within_a_write(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances, merged = corpus(4), tmp_path / "merged"
    annotate(utterances, [annotator(utterances, votes=1)], tmp_path / "a", AnnotateSettings())
    first, ledger, undo = merge([tmp_path / "a"], merged), merged / "ledger.sqlite", merged / "ledger.sqlite-journal"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as sql:  # as on a network disk
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA cache_size = 1", "BEGIN", "DELETE FROM vote"):
            sql.execute(statement)
        sql.execute(
            "WITH n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n LIMIT 9999) INSERT INTO lost"
            " SELECT x, x, x, 'never committed' FROM n"
        )
        halves = ledger.read_bytes(), undo.read_bytes()
        sql.execute("ROLLBACK")
    ledger.write_bytes(halves[0])
    undo.write_bytes(halves[1])
    assert merge([tmp_path / "a"], merged).votes.frame.equals(first.votes.frame)
    assert (undo.exists(), status(merged)[0].price) == (False, 0.0)
