"""A damaged ledger is one sentence, never a traceback, and what can be restored is."""

import os
from pathlib import Path

import pytest
from robbing import Make, changed_and_refused, refusal, sql

from alm_proxies.errors import InputError
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.stages.annotate.merging import merge

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
