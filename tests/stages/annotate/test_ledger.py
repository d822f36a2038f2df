import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from forked import Forked
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_rows import heard, outcome

from alm_proxies.about import AnnotatorCard
from alm_proxies.errors import InputError, OutputError
from alm_proxies.stages.annotate.journal import read_journal
from alm_proxies.stages.annotate.ledger import Ledger, Sending
from alm_proxies.stages.annotate.ledger_file import reported
from alm_proxies.stages.annotate.lock import OneWriter, owner_of
from alm_proxies.stages.annotate.recording import Recorder


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_what_is_written_is_there_when_opened_again_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.write(sending=[Sending(1, 2, 0.4), Sending(2, 1, 0.2)], heard=[heard()])
        ledger.write(arrived=[1], outcomes=[outcome(0), outcome(1)])
    with Ledger.open(path) as again:
        assert again.lost[:3] == (1, 1, 0.2)
        assert again.spent() == pytest.approx(1.2)
        assert again._sql.execute("SELECT draw FROM vote ORDER BY draw").fetchall() == [(0,), (1,)]
    with Ledger.open(path) as third:
        assert third.lost.requests == 0
        assert third.spent() == pytest.approx(1.2)


def test_a_write_that_is_being_committed_is_no_loss_to_a_reader(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_journal, looked, added = threading.Event(), threading.Event(), ledger._journal.add

    def add_slowly(*write: object) -> None:  # as on a disk that takes long
        added(*write)  # type: ignore[arg-type]
        in_journal.set()
        assert looked.wait(60)

    monkeypatch.setattr(ledger._journal, "add", add_slowly)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(lambda: ledger.write(outcomes=[outcome()]))
        assert in_journal.wait(20)
        with Ledger.look(ledger.path) as reader:
            looked.set()
            assert reader.notes == []
        writing.result()


def test_a_write_is_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    ledger.write(outcomes=[outcome(0)])
    with pytest.raises(sqlite3.IntegrityError):
        ledger.write(sending=[Sending(9, 1, 0.0)], outcomes=[outcome(1), outcome(0)])
    assert ledger._sql.execute("SELECT COUNT(*) FROM vote").fetchone() == (1,)
    assert ledger._sql.execute("SELECT COUNT(*) FROM in_flight").fetchone() == (0,)


@settings(max_examples=30, deadline=None)
@given(st.text(), st.none() | st.text())
def test_any_reply_can_be_kept(raw: str, stated: str | None) -> None:
    with TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite") as ledger:
        ledger.write(outcomes=[outcome(raw=raw, stated=stated)])
        (kept,) = ledger._sql.execute("SELECT raw FROM vote").fetchone()
    assert kept == raw.encode("utf-8", "replace").decode()


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 6), st.integers(0, 9))), st.integers(1, 10))
def test_what_is_done_is_what_was_written_gaps_included(done: set[tuple[int, int]], votes: int) -> None:
    with TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite") as ledger:
        ledger.utterance_ids([str(number) for number in range(6)])
        ledger.write(outcomes=[outcome(draw, utterance) for utterance, draw in done])
        pairs = {tuple(pair) for pair in np.argwhere(ledger.done(1, votes)).tolist()}
    assert pairs == {(utterance, draw) for utterance, draw in done if draw < votes}


def test_utterances_and_annotators_keep_their_numbers(ledger: Ledger) -> None:
    first = ledger.utterance_ids(["b", "a"]).tolist()
    assert ledger.utterance_ids(["a", "c", "b"]).tolist() == [first[1], 3, first[0]]
    card = AnnotatorCard(digest="x", seed=1)
    number = ledger.annotator_id(card, "n")
    assert ledger.annotator_id(card, "n") == number
    assert ledger.annotator_id(card.model_copy(update={"seed": 2}), "n") != number
    assert ledger.annotator_id(card.model_copy(update={"digest": "y"}), "n") != number


def test_votes_set_aside_are_kept_with_the_reason_and_stay_on_the_bill(ledger: Ledger) -> None:
    ledger.utterance_ids(["one"])
    ledger.write(outcomes=[outcome(0, status="failed", label=None), outcome(1)])
    ledger.annotator_id(AnnotatorCard(digest="x", seed=1), "n")
    ledger.set_plan(np.array([1]), {1: 2})
    assert ledger.set_aside_failed([]) == 1
    assert ledger._sql.execute("SELECT draw, why FROM set_aside").fetchall() == [(0, "failed, asked again")]
    assert ledger.done(1, 2)[1].tolist() == [False, True]
    assert ledger.spent() == pytest.approx(1.0)


def test_a_second_writer_is_refused_and_a_reader_is_not(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="this process"):
        Ledger.open(ledger.path)
    with Ledger.look(ledger.path) as reader:
        ledger.write(outcomes=[outcome()])
        assert reader._sql.execute("SELECT COUNT(*) FROM vote").fetchone() == (1,)
        with pytest.raises(OutputError, match="readonly"):
            reader.write(outcomes=[outcome(1)])
    ledger.write(outcomes=[outcome(1)])


def test_what_is_no_ledger_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no ledger"):
        Ledger.look(tmp_path / "ledger.sqlite")
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all " * 100)
    with pytest.raises(InputError, match="is not a ledger, or is damaged"):
        Ledger.open(tmp_path / "ledger.sqlite")
    with pytest.raises(InputError, match="is not a ledger, or is damaged"):
        Ledger.look(tmp_path / "ledger.sqlite")
    with Ledger.open(tmp_path / "other.sqlite") as ledger:
        ledger.keep("version", "99")
    with pytest.raises(InputError, match="version 99"):
        Ledger.open(tmp_path / "other.sqlite")


def test_a_full_disk_is_said_and_what_was_acknowledged_stays(ledger: Ledger) -> None:
    ledger.write(outcomes=[outcome()])
    (pages,) = ledger._sql.execute("PRAGMA page_count").fetchone()
    ledger._sql.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutputError, match="full"):
        ledger.write(outcomes=[outcome(raw="x" * 100_000, draw=1)])
    ledger._sql.execute("PRAGMA max_page_count = 100000")
    ledger.write(outcomes=[outcome(2)])
    assert ledger._sql.execute("SELECT draw FROM vote").fetchall() == [(0,), (2,)]


FULL_WHILE_COMMITTING = """
import os, resource, sys
from pathlib import Path
from alm_proxies.errors import OutputError
from alm_proxies.stages.annotate.ledger import Ledger

def row(draw, raw):
    from alm_proxies.stages.annotate.ledger import Outcome
    return Outcome(1, 1, draw, "ok", "", "sad", None, None, raw, "", 0, 0.1, 1.0, 1.0, 0.5, 1, True, 0.0)

with Ledger.open(Path(sys.argv[1])) as ledger:
    ledger.write(outcomes=[row(0, "first")])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    size = os.path.getsize(sys.argv[1] + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    for draw in (1, 2):
        try:
            ledger.write(outcomes=[row(draw, "x" * 30_000)])
        except OutputError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ledger.write(outcomes=[row(3, "last")])
    print([draw for (draw,) in ledger._sql.execute("SELECT draw FROM vote")])
"""


def test_a_disk_that_is_full_as_a_transaction_ends_is_said_and_the_next_one_is_a_new_one(tmp_path: Path) -> None:
    lines = Forked.done("-c", FULL_WHILE_COMMITTING, tmp_path / "ledger.sqlite").stdout.splitlines()
    assert lines[2:] == ["[0, 3]"]
    assert all("the ledger cannot be written: disk I/O error" in line or "full" in line for line in lines[:2])
    assert all("Free some space" in line for line in lines[:2])


def test_a_refused_second_writer_does_not_let_a_third_one_in(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="this process"):
        Ledger.open(ledger.path)
    code = "import sys; from pathlib import Path; from alm_proxies.stages.annotate.ledger import Ledger"
    code += "; Ledger.open(Path(sys.argv[1]))"
    other = Forked.done("-c", code, ledger.path)
    assert f"process {os.getpid()} on" in other.stderr
    assert "is annotating into this folder" in other.stderr


def test_many_at_once_share_transactions_and_each_waits_for_its_own(ledger: Ledger) -> None:
    recorder = Recorder(ledger)

    async def sent(number: int) -> None:
        await recorder.sending(Sending(number, 1, 0.0), heard(number))
        query = "SELECT COUNT(*) FROM in_flight WHERE id = ?"
        with closing(sqlite3.connect(ledger.path)) as other:
            assert other.execute(query, (number,)).fetchone() == (1,)
        await recorder.arrived([outcome(utterance=number)], number)
        with closing(sqlite3.connect(ledger.path)) as other:
            assert other.execute(query, (number,)).fetchone() == (0,)

    async def everything() -> None:
        await asyncio.gather(*(sent(number) for number in range(1, 101)))

    asyncio.run(everything())
    assert ledger._sql.execute("SELECT COUNT(*) FROM vote").fetchone() == (100,)


def test_what_arrives_while_the_disk_writes_is_kept_when_everything_is_cancelled(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, writing, cancelled, write = Recorder(ledger), threading.Event(), threading.Event(), ledger.write
    tasks: list[asyncio.Task[None]] = []

    def write_slowly(*rows: Any) -> None:
        writing.set()
        assert cancelled.wait(20)
        write(*rows)

    async def everything() -> None:
        tasks.append(asyncio.create_task(recorder.arrived([outcome(0)])))
        await asyncio.to_thread(writing.wait, 20)
        tasks.extend(map(asyncio.create_task, (recorder.arrived([outcome(1)]), until_cancelled())))
        await asyncio.sleep(0)

    async def until_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(ledger, "write", write_slowly)
    asyncio.run(everything())  # cancels all that has not ended
    assert ledger._sql.execute("SELECT draw FROM vote").fetchall() == [(0,), (1,)]


def test_a_write_that_fails_is_told_to_everyone_who_waited_for_it(ledger: Ledger) -> None:
    recorder = Recorder(ledger)
    ledger.write(outcomes=[outcome(0)])

    async def everything() -> list[object]:
        both = (recorder.arrived([outcome(0)]), recorder.arrived([outcome(1)]))
        first = await asyncio.gather(*both, return_exceptions=True)
        await recorder.arrived([outcome(2)])
        return list(first)

    assert [type(error) for error in asyncio.run(everything())] == [sqlite3.IntegrityError] * 2
    assert ledger._sql.execute("SELECT draw FROM vote").fetchall() == [(0,), (2,)]


def test_writes_of_several_threads_are_all_in_the_totals_and_in_the_journal(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ledger.write(outcomes=[outcome(utterance=number)]), range(1, 201)))
    assert ledger.spent() == pytest.approx(200 * 0.5)
    recorded = read_journal(ledger.path.with_suffix(".journal"))
    assert recorded is not None
    assert recorded.totals.answered == 200
    assert len(recorded.writes) == 200


def test_a_ledger_that_another_program_holds_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other, pytest.raises(OutputError) as refused:
        other.execute("BEGIN EXCLUSIVE")
        with reported(path), closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as sql:
            sql.execute("BEGIN IMMEDIATE")
    assert "locked by another program" in str(refused.value)


def test_another_process_is_named_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "ledger.lock"
    script = f"""
import sys
from pathlib import Path
from alm_proxies.stages.annotate.lock import OneWriter, owner_of
with OneWriter(Path({str(lock)!r})):
    print("held", flush=True)
    sys.stdin.readline()
"""
    with Forked("-c", script) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on .* is annotating"), OneWriter(lock):
            pass
        holder.communicate("\n")
    with OneWriter(lock):
        pass

    def refuses(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("fcntl.lockf", refuses)  # as disks do whose locks are switched off
    with pytest.raises(OutputError, match="cannot lock files") as refused, OneWriter(lock):
        pass
    assert "is annotating" not in str(refused.value)


def test_a_lock_is_kept_while_another_thread_asks_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, queried = tmp_path / "ledger.lock", fcntl.fcntl
    lock.touch()
    with ThreadPoolExecutor() as pool:
        taken: list[Future[OneWriter]] = []

        def query(*question: Any) -> Any:
            taken.append(pool.submit(OneWriter(lock).__enter__))
            wait(taken, timeout=1.0)
            return queried(*question)

        monkeypatch.setattr(fcntl, "fcntl", query)
        assert owner_of(lock) is None
        monkeypatch.undo()
        held = taken[0].result(20)
        other = (
            f"from pathlib import Path; from {OneWriter.__module__} import OneWriter; OneWriter(Path({str(lock)!r}))"
        )
        refused = Forked.done("-c", f"{other}.__enter__()")
        held.__exit__(None, None, None)
    assert "is annotating into this folder" in refused.stderr


def test_a_ledger_on_a_full_disk_is_read(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "out/ledger.sqlite") as ledger:
        ledger.write(outcomes=[outcome()])
    (tmp_path / "disk").mkdir()
    imports = "from pathlib import Path\nfrom alm_proxies.stages.annotate.ledger import Ledger\n"
    (tmp_path / "look.py").write_text(f"{imports}print(Ledger.look(Path('disk/out/ledger.sqlite')).spent())")
    mount = "mount -t tmpfs -o size=512k none disk && cp -r out disk/out"
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-euc"]
    if shutil.which("unshare") is None or subprocess.run([*own_mounts, mount], cwd=tmp_path, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    script = f"{mount}; dd if=/dev/zero of=disk/rest bs=1k 2> /dev/null || true; {sys.executable} look.py"
    done = subprocess.run([*own_mounts, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (["0.5"], 0), done.stderr
