"""Acknowledged votes are recorded twice: every loss from the ledger is detected, and restored or refused."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from forked import Forked
from listening import draws, listening

from alm_proxies.engines.engine import Request
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import merge, status
from alm_proxies.stages.annotate.stage import Annotated, AnnotateSettings, annotate
from alm_proxies.tables import Votes

Make = Callable[..., Any]
SCRIPT = Path(__file__).with_name("annotate_until_killed.py")
PRICE = {"audio_minute": 300.0}
EACH = 0.2 / 60 * 300
VOTES, COUNT = 4, 30


@pytest.fixture
def again(corpus: Make, annotator: Make, tmp_path: Path) -> Callable[..., tuple[Annotated, list[Request]]]:
    """Runs the same command again and gives its requests."""
    utterances = corpus(COUNT)
    scripted = annotator(utterances, votes=VOTES, price=PRICE)

    def run(**settings: Any) -> tuple[Annotated, list[Request]]:
        asked: list[Request] = []
        engine_of = listening(asked)
        annotated = annotate(
            utterances, [scripted], tmp_path / "out", AnnotateSettings(**settings), engine_of=engine_of, quiet=True
        )
        return annotated, asked

    return run


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def changed_and_refused(again: Make, ledger: Path, change: str) -> str:
    """Fills a ledger, changes it, runs the command again and gives the error."""
    again()
    sql(ledger, change)
    with pytest.raises(AlmProxiesError) as refused:
        again()
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def killed(annotator_files: Make, lines: int, folder: Path) -> list[str]:
    """Runs the script in a separate process and kills it after this number of requests; gives its arguments."""
    files = annotator_files(
        COUNT,
        f"votes = {VOTES}",
        "price = { audio_minute = 300.0 }",
        'cross = { temperature = [0.6, 1.0], focus = ["voice", "words"] }',
    )
    run = [*files, str(folder), "4"]
    with Forked(SCRIPT, *run) as child:
        for _, _ in zip(range(lines), child.stdout, strict=False):
            pass
        child.kill()
    assert child.returncode == -9
    return run


def refusal(work: Callable[[], object]) -> AlmProxiesError | None:
    try:
        work()
    except AlmProxiesError as error:
        return error
    return None


def held(path: Path) -> tuple[int, float]:
    with Ledger.look(path) as ledger:
        return sum(ledger.held().values()), ledger.spent()


def test_a_wal_lost_after_a_kill_is_given_back_by_the_journal_and_nothing_is_asked_or_forgotten(
    annotator_files: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = killed(annotator_files, 60, out)
    shutil.copytree(out, tmp_path / "whole")
    before, spent = held(tmp_path / "whole/ledger.sqlite")
    assert before > 20
    (out / "ledger.sqlite-wal").unlink()
    (out / "ledger.sqlite-shm").unlink(missing_ok=True)
    assert held(out / "ledger.sqlite")[0] < before
    (now,) = status(out)
    assert "it has lost" in str(now)
    again = Forked.done(SCRIPT, *run)
    assert again.returncode == 0
    asked = sum("|" in line for line in again.stdout.splitlines())
    assert asked == COUNT * VOTES - before
    assert "restored from its journal" in again.stderr
    # What was in flight when it was killed is on the bill, once.
    in_flight = round((held(out / "ledger.sqlite")[1] - COUNT * VOTES * EACH) / EACH)
    assert 0 <= in_flight <= 4
    assert spent <= held(out / "ledger.sqlite")[1]


def test_only_the_file_itself_copied_after_a_kill_is_noticed_though_nothing_else_is_there(
    annotator_files: Make, tmp_path: Path
) -> None:
    run = killed(annotator_files, 60, tmp_path / "out")
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "out/ledger.sqlite", tmp_path / "copy/ledger.sqlite")
    run[2] = str(tmp_path / "copy")
    refused = Forked.done(SCRIPT, *run)
    assert refused.returncode != 0
    assert "|" not in refused.stdout
    assert "may have lost votes (it was not closed, and its -wal file and its journal are missing" in refused.stderr
    assert not (tmp_path / "copy/votes.parquet").exists()
    whole = tmp_path / "copied"
    shutil.copytree(tmp_path / "out", whole)
    run[2] = str(whole)
    assert Forked.done(SCRIPT, *run).returncode == 0


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_an_emptied_ledger_is_made_again_from_votes_table_and_journal_and_pays_for_nothing(
    again: Make, tmp_path: Path, how: str
) -> None:
    first, _ = again()
    table = Votes.read(tmp_path / "out/votes.parquet")
    ledger = tmp_path / "out/ledger.sqlite"
    ledger.write_bytes(b"") if how == "emptied" else ledger.unlink()
    second, asked = again()
    assert asked == []
    assert second.spent.price == pytest.approx(first.spent.price)
    assert second.complete
    assert second.findings.counts()["ledger_restored"] == 1
    restored = Votes.read(tmp_path / "out/votes.parquet")
    assert restored.frame.equals(table.frame)
    for name, card in table.about.annotators.items():  # the cost of each vote is not known any more
        assert restored.about.annotators[name] == card.model_copy(update={"cost": None})
    third, asked = again(budget=first.spent.price + 0.5)
    assert asked == []
    assert "ledger_restored" not in third.findings.counts()


def test_without_ledger_and_journal_the_spending_is_not_known_and_the_user_is_asked(
    again: Make, tmp_path: Path
) -> None:
    again()
    for name in ("ledger.sqlite", "ledger.journal"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(InputError, match="spending is unknown.*--accept-loss"):
        again()
    with pytest.raises(InputError, match="spending is unknown"):
        again()  # refusing changes nothing
    annotated, asked = again(accept_loss=True)
    assert asked == []
    assert annotated.complete
    assert annotated.findings.counts()["ledger_loss"] == 1


def test_an_older_copy_of_the_ledger_beside_its_journal_and_table_is_brought_up_to_them(
    again: Make, tmp_path: Path
) -> None:
    again(limit=10)
    shutil.copy(tmp_path / "out/ledger.sqlite", tmp_path / "older.sqlite")
    shutil.copy(tmp_path / "out/ledger.journal", tmp_path / "older.journal")
    whole, _ = again()
    shutil.copy(tmp_path / "older.sqlite", tmp_path / "out/ledger.sqlite")
    annotated, asked = again()
    assert asked == []
    assert annotated.spent.price == pytest.approx(whole.spent.price)
    # The journal is older too: the table alone knows, and what its votes cost is reckoned.
    shutil.copy(tmp_path / "older.sqlite", tmp_path / "out/ledger.sqlite")
    shutil.copy(tmp_path / "older.journal", tmp_path / "out/ledger.journal")
    annotated, asked = again()
    assert asked == []
    assert annotated.spent.price == pytest.approx(whole.spent.price)


def test_an_older_ledger_without_its_table_is_refused_until_the_user_says_so(again: Make, tmp_path: Path) -> None:
    again(limit=10)
    shutil.copy(tmp_path / "out/ledger.sqlite", tmp_path / "older.sqlite")
    whole, _ = again()
    shutil.copy(tmp_path / "older.sqlite", tmp_path / "out/ledger.sqlite")
    (tmp_path / "out/votes.parquet").unlink()
    with pytest.raises(InputError, match=rf"has lost {20 * VOTES} votes and 20.00 of spending"):
        again()
    annotated, asked = again(accept_loss=True)
    assert draws(asked) == 20 * VOTES
    assert annotated.spent.price == pytest.approx(whole.spent.price + 20 * EACH)  # the lost votes stay paid
    assert annotated.findings.counts()["ledger_loss"] == 1
    annotated, asked = again()
    assert asked == []
    assert "ledger_loss" not in annotated.findings.counts()


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.99])
def test_a_journal_that_is_cut_or_garbage_harms_nothing_while_the_ledger_is_whole(
    again: Make, tmp_path: Path, cut: float
) -> None:
    whole, _ = again()
    journal = tmp_path / "out/ledger.journal"
    content = journal.read_bytes()
    for damaged in (content[: int(cut * len(content))], b"\x00" * 100, b"{}\n" * 5, content + b"half a li"):
        journal.write_bytes(damaged)
        annotated, asked = again()
        assert asked == []
        assert annotated.spent.price == pytest.approx(whole.spent.price)


def test_rows_deleted_from_outside_are_missed_and_given_back_by_the_table(again: Make, tmp_path: Path) -> None:
    whole, _ = again()
    sql(tmp_path / "out/ledger.sqlite", "DELETE FROM vote WHERE draw = 1")
    annotated, asked = again()
    assert asked == []
    assert annotated.spent.price == pytest.approx(whole.spent.price)
    sql(tmp_path / "out/ledger.sqlite", "DELETE FROM vote WHERE draw = 1")
    (tmp_path / "out/votes.parquet").unlink()
    with pytest.raises(InputError, match=rf"has lost {COUNT} votes"):
        again()


def test_ledgers_of_two_folders_that_were_exchanged_are_refused(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(6)
    panel = [annotator(utterances, votes=2)]
    for name, limit in (("a", 3), ("b", 6)):
        annotate(utterances, panel, tmp_path / name, AnnotateSettings(limit=limit), quiet=True)
    paths = [tmp_path / name / "ledger.sqlite" for name in ("a", "b")]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[::-1], strict=True):
        path.write_bytes(content)
    for name in ("a", "b"):
        with pytest.raises(InputError, match="belong to different folders"):
            annotate(utterances, panel, tmp_path / name, AnnotateSettings(), quiet=True)
        assert "its journal belongs to another ledger" in str(status(tmp_path / name)[0])
    with pytest.raises(InputError, match="ts journal belongs to another ledger"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")


def test_a_wal_of_another_ledger_is_not_taken_in(annotator_files: Make, tmp_path: Path) -> None:
    killed(annotator_files, 60, tmp_path / "one")
    run = killed(annotator_files, 90, tmp_path / "two")
    shutil.copy(tmp_path / "two/ledger.sqlite-wal", tmp_path / "one/ledger.sqlite-wal")
    (tmp_path / "one/ledger.sqlite-shm").unlink(missing_ok=True)
    run[2] = str(tmp_path / "one")
    refused = Forked.done(SCRIPT, *run)
    assert refused.returncode != 0
    assert "|" not in refused.stdout
    assert "InputError" in refused.stderr


TABLES = ("about", "annotator", "utterance", "audio", "material", "planned_utterance", "planned_annotator", "vote",
          "set_aside", "injection", "in_flight", "lost", "trial", "total")  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_dropped_table_is_one_sentence_and_going_on_restores_what_it_can(
    again: Make, tmp_path: Path, table: str
) -> None:
    whole, _ = again()
    ledger = tmp_path / "out/ledger.sqlite"
    sql(ledger, f"DROP TABLE {table}")
    for look in (again, lambda: status(tmp_path / "out"), lambda: merge([tmp_path / "out"], tmp_path / "merged")):
        with pytest.raises(InputError) as refused:
            look()
        assert "is damaged" in str(refused.value)
        assert "\n" not in str(refused.value)
    annotated, asked = again(accept_loss=True)
    assert asked == []
    assert annotated.complete
    assert annotated.spent.price == pytest.approx(whole.spent.price)
    assert annotated.findings.counts()["ledger_loss"] == 1
    assert (tmp_path / "out/ledger.sqlite.damaged").exists()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE vote DROP COLUMN stated",
        "ALTER TABLE lost DROP COLUMN price",
        "ALTER TABLE vote RENAME COLUMN more TO less",
        "UPDATE vote SET more = '{broken' WHERE draw = 1",
        "UPDATE vote SET more = '[1, 2]' WHERE draw = 1",
        "UPDATE vote SET price = 'free' WHERE draw = 1",
        "UPDATE vote SET price = -1000 WHERE draw = 1",
        "UPDATE vote SET price = 9e999 WHERE draw = 1",
        "UPDATE vote SET status = 'fine' WHERE draw = 1",
        "UPDATE vote SET status = NULL WHERE draw = 1",
        "UPDATE vote SET raw = x'ff00' WHERE draw = 1",
        "UPDATE vote SET draw = draw + 0.5 WHERE draw = 1",
        "UPDATE vote SET draw = 99999999999 WHERE draw = 1",
        "UPDATE vote SET at = NULL",
        "UPDATE about SET value = 'x' WHERE key = 'version'",
        "DELETE FROM about WHERE key = 'version'",
        "DELETE FROM about",
        "DELETE FROM total",
        "UPDATE total SET price = 'x'",
        "UPDATE total SET ledger = 'other'",
    ],
)
def test_broken_rows_and_columns_are_one_sentence_with_code_2_and_never_a_traceback(
    again: Make, tmp_path: Path, change: str
) -> None:
    changed_and_refused(again, tmp_path / "out/ledger.sqlite", change)
    annotated, asked = again(accept_loss=True)
    assert asked == []
    assert annotated.complete


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE vote SET more = '{"shares": 5}' WHERE draw = 1""",
        """UPDATE vote SET more = '{"shares": [["sad"]]}' WHERE draw = 1""",
        """UPDATE vote SET more = '{"shares": [["sad", 0.1]]}' WHERE draw = 1""",
        """UPDATE vote SET more = '{"attributes": [0.5]}' WHERE draw = 1""",
        "UPDATE vote SET label = 'elated' WHERE draw = 1",
        "UPDATE vote SET label = NULL WHERE draw = 1",
    ],
)
def test_rows_that_hold_no_vote_are_one_sentence_when_the_table_is_written(
    again: Make, tmp_path: Path, change: str
) -> None:
    assert "ledger.sqlite" in changed_and_refused(again, tmp_path / "out/ledger.sqlite", change)


@pytest.mark.parametrize("page", [1, 2, 5, 9, 14, 19, -1])
@pytest.mark.parametrize("value", [b"\x00", b"\xff"])
def test_damaged_pages_are_never_a_traceback_and_never_lose_a_vote_in_silence(
    again: Make, tmp_path: Path, page: int, value: bytes
) -> None:
    whole, _ = again()
    ledger = tmp_path / "out/ledger.sqlite"
    content = bytearray(ledger.read_bytes())
    pages = len(content) // 4096
    place = (page % pages) * 4096
    content[place : place + 4096] = value * 4096
    ledger.write_bytes(bytes(content))
    error = refusal(again)
    assert error is None or (error.exit_code == 2 and "\n" not in str(error))
    annotated, asked = again(accept_loss=error is not None)
    assert asked == []
    assert annotated.complete
    assert annotated.spent.price == pytest.approx(whole.spent.price)
    status(tmp_path / "out")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_ledger_is_refused_and_restored(again: Make, tmp_path: Path, keep: float) -> None:
    again()
    ledger = tmp_path / "out/ledger.sqlite"
    content = ledger.read_bytes()
    ledger.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError):
        again()
    annotated, asked = again(accept_loss=True)
    assert (asked, annotated.complete) == ([], True)


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.journal", "ledger.lock", "ledger.sqlite-wal"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(again: Make, tmp_path: Path, name: str) -> None:
    again()
    path = tmp_path / "out" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a regular file"):
        again()


def test_human_votes_in_the_folder_are_not_written_over(again: Make, tmp_path: Path) -> None:
    frame = pl.DataFrame({"utterance_id": ["sim/00000"], "annotator": ["h"], "label": ["sad"]})
    Votes.of(frame, taxonomy=["angry", "happy", "neutral", "sad"]).write(tmp_path / "out/votes.parquet")
    before = (tmp_path / "out/votes.parquet").read_bytes()
    with pytest.raises(InputError, match="contains human votes, which annotate would overwrite"):
        again()
    assert (tmp_path / "out/votes.parquet").read_bytes() == before


def test_shared_weights_secondary_labels_and_attributes_come_back_from_the_table_as_they_were(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(5)
    score = annotator(utterances, "score", elicit="score", cross={"label_orders": 4})
    both = annotator(
        utterances,
        "both",
        texts={"*": ["sad; angry"]},
        prompt="primary_secondary",
        answer="words",
        votes=2,
    )
    annotate(utterances, [score, both], tmp_path / "out", AnnotateSettings(), quiet=True)
    before = Votes.read(tmp_path / "out/votes.parquet").frame
    (tmp_path / "out/ledger.sqlite").unlink()
    asked: list[Request] = []
    annotate(utterances, [score, both], tmp_path / "out", AnnotateSettings(), engine_of=listening(asked), quiet=True)
    assert asked == []
    assert Votes.read(tmp_path / "out/votes.parquet").frame.equals(before)


def test_a_ledger_in_a_folder_that_may_only_be_read_can_be_looked_at(again: Make, tmp_path: Path) -> None:
    again()
    code = (
        "import os, sys; from alm_proxies.stages.annotate.ledgers import status\n"
        "os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None\n"
        "print(status(sys.argv[1])[0].planned)"
    )
    out = tmp_path / "out"
    for folder in (out, *out.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o555)
    try:
        command = [sys.executable, "-c", code, str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for folder in (out, *out.parents):
            if folder == Path("/tmp"):
                break
            folder.chmod(0o755)
    assert done.stdout.strip() == str(COUNT * VOTES), done.stderr


VERSION_1 = Path(__file__).with_name("version_1")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A ledger of version 1: 60 answered and 4 failed votes, 12 set aside, 11 probe requests, one in flight."""
    shutil.copytree(VERSION_1, tmp_path / "earlier")
    return tmp_path / "earlier"


def test_a_ledger_of_version_1_is_upgraded_after_a_copy_with_all_it_held(earlier: Path) -> None:
    path = earlier / "ledger.sqlite"
    before = path.read_bytes()
    (now,) = status(earlier)
    assert (now.planned, sum(now.cast.values()), now.price) == (36, 36, pytest.approx(5.1))
    assert path.read_bytes() == before  # looking changes nothing
    with Ledger.open(path, table=earlier / "votes.parquet") as ledger:
        assert ledger.spent() == pytest.approx(5.1 + 0.25)
        assert ledger.tried_out() == (11, 0.5)
        assert ledger.lost[:3] == (1, 4, 0.25)
        assert [kind for kind, _ in ledger.notes] == ["ledger_upgraded"]
        assert sum(ledger.held().values()) == 48
        assert ledger.set_aside_so_far() == 12
    with closing(sqlite3.connect(earlier / "ledger.sqlite.version-1")) as copy:
        assert copy.execute("SELECT value FROM about WHERE key = 'version'").fetchone() == ("1",)
        assert copy.execute("SELECT COUNT(*) FROM vote").fetchone() == (64,)
    with Ledger.open(path, table=earlier / "votes.parquet") as ledger:
        assert ledger.notes == []
        assert ledger.spent() == pytest.approx(5.1 + 0.25)


def test_votes_of_version_1_are_not_asked_again(corpus: Make, annotator: Make, earlier: Path) -> None:
    utterances = corpus(8)
    asked: list[Request] = []
    price = {"audio_minute": 60.0}
    panel = [
        annotator(utterances, "reads", votes=4, prompt="reference", price=price),
        annotator(utterances, "scores", elicit="score", price=price, cross={"label_orders": 2}),
    ]
    settings = AnnotateSettings.model_validate({"injection": 2, "stop": {"collapse": 1.0}, "limit": 6})
    annotated = annotate(utterances, panel, earlier, settings, engine_of=listening(asked), quiet=True)
    assert asked == []
    assert annotated.complete
    assert annotated.votes.frame.equals(pl.read_parquet(VERSION_1 / "votes.parquet"))


def test_a_damaged_ledger_of_version_1_and_a_kill_in_the_middle_of_the_upgrade_leave_it_as_it_was(
    earlier: Path,
) -> None:
    path = earlier / "ledger.sqlite"
    before = path.read_bytes()
    code = (
        "import os, sys; from pathlib import Path; from alm_proxies.stages.annotate import ledger_file\n"
        "from alm_proxies.stages.annotate.ledger import Ledger\n"
        "ledger_file._sign = lambda *_: os.kill(os.getpid(), 9)\n"
        "Ledger.open(Path(sys.argv[1]))"
    )
    died = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    assert died.returncode == -9
    with Ledger.open(path) as ledger:
        assert ledger.spent() == pytest.approx(5.1 + 0.25)
    path.write_bytes(before)
    sql(path, "DROP TABLE lost")
    with pytest.raises(InputError, match="its table lost is missing"):
        Ledger.open(path)


def test_the_journal_holds_no_reply_longer_than_until_the_ledger_itself_has_it(again: Make, tmp_path: Path) -> None:
    again()
    lines = (tmp_path / "out/ledger.journal").read_text().splitlines()
    assert len(lines) == 1
    assert set(json.loads(lines[0][9:])) == {"ledger", "totals"}
