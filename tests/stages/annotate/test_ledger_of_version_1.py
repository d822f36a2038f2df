"""A ledger of the first version is upgraded after a copy, and keeps all it held."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from forked import Forked
from listening import listening
from robbing import Make, sql

from alm_proxies.engines.engine import Request
from alm_proxies.errors import InputError
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate

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
    for scripted in panel:  # whose digest was without the content of its table then
        Path(scripted.serve.answers).unlink()
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
    assert Forked.done("-c", code, path).returncode == -9
    with Ledger.open(path) as ledger:
        assert ledger.spent() == pytest.approx(5.1 + 0.25)
    path.write_bytes(before)
    sql(path, "DROP TABLE lost")
    with pytest.raises(InputError, match="its table lost is missing"):
        Ledger.open(path)


@pytest.mark.parametrize("upgraded", [(), (0,), (1,), (0, 1)])
def test_copies_of_a_ledger_of_version_1_are_billed_once(
    earlier: Path, tmp_path: Path, upgraded: tuple[int, ...]
) -> None:
    copies = [earlier / "ledger.sqlite", tmp_path / "copy/ledger.sqlite"]
    shutil.copytree(earlier, tmp_path / "copy")
    for number in upgraded:
        Ledger.open(copies[number]).close()
    with Ledger.open(tmp_path / "merged/ledger.sqlite") as merged:
        for path in copies:
            merged.take(path)
        assert merged.tried_out() == (11, 0.5)
        assert merged.spent() == pytest.approx(5.1 + 0.25)
