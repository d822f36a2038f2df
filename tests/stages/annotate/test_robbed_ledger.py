"""Acknowledged votes are recorded twice: every loss from the ledger is detected, and restored or refused."""

import json
import shutil
from pathlib import Path
from typing import Self

import polars as pl
import pytest
from forked import Forked
from listening import draws, listening
from robbing import COUNT, VOTES, Make, sql

from alm_proxies.engines.engine import Request
from alm_proxies.errors import InputError
from alm_proxies.stages.annotate import merging
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.stages.annotate.lock import OneWriter
from alm_proxies.stages.annotate.merging import merge
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Votes

SCRIPT = Path(__file__).with_name("annotate_until_killed.py")
EACH = 0.2 / 60 * 300


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
        done = Forked.done("-c", code, out)
    finally:
        for folder in (out, *out.parents):
            if folder == Path("/tmp"):
                break
            folder.chmod(0o755)
    assert done.stdout.strip() == str(COUNT * VOTES), done.stderr


@pytest.mark.parametrize("kept", ["out/ledger.sqlite", "out"])
def test_what_may_not_even_be_read_is_named_and_is_not_taken_for_absent(again: Make, tmp_path: Path, kept: str) -> None:
    again()
    code = (
        "import os, sys; from alm_proxies.errors import InputError\n"
        "from alm_proxies.pipeline.outputs import Outputs\n"
        "from alm_proxies.stages.annotate.ledgers import status\n"
        "os.setresuid(65534, 65534, 65534) if os.geteuid() == 0 else None\n"
        "for look in (lambda: status(sys.argv[1]), lambda: Outputs.of(sys.argv[1]).clips()):\n"
        "    try: look()\n"
        "    except InputError as error: print(error.where, 'Permission denied' in error.message)\n"
    )
    place, open_to_all = tmp_path / kept, [tmp_path, *tmp_path.parents[:-2]]
    for folder in open_to_all:
        folder.chmod(0o755)
    place.chmod(0o000)
    try:
        done = Forked.done("-c", code, tmp_path / "out")
    finally:
        place.chmod(0o755)
    assert done.stdout.splitlines() == [f"{place} True"] * 2, done.stderr


def test_the_journal_holds_no_reply_longer_than_until_the_ledger_itself_has_it(again: Make, tmp_path: Path) -> None:
    again()
    lines = (tmp_path / "out/ledger.journal").read_text().splitlines()
    assert len(lines) == 1
    assert set(json.loads(lines[0][9:])) == {"ledger", "totals"}


def test_a_merge_does_not_replace_what_annotate_has_written_just_before_its_turn(
    corpus: Make, annotator: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances, merged = corpus(2), tmp_path / "merged"
    annotate(utterances, [annotator(utterances, votes=1)], tmp_path / "a", AnnotateSettings())

    class Later(OneWriter):
        def __enter__(self) -> Self:
            with Ledger.open(merged / "ledger.sqlite") as ledger:
                ledger.keep("merged", "no")
                ledger.write(lost=[Lost(1, 1, 5.0, "called off")])
            return super().__enter__()

    monkeypatch.setattr(merging, "OneWriter", Later)
    with pytest.raises(InputError, match="contains votes that were cast here"):
        merge([tmp_path / "a"], merged)
    with Ledger.look(merged / "ledger.sqlite") as ledger:
        assert ledger.spent() == 5.0
