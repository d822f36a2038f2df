"""Features are kept by content: in the cache where that is allowed and possible, else in the run's own folder."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest
from forked import Forked

from alm_proxies import cache
from alm_proxies.audio import store as stored
from alm_proxies.audio.store import Store
from alm_proxies.errors import OutputError

WRITING = """
import sys
import numpy as np
from alm_proxies.audio.store import Store
first, count, times = map(int, sys.argv[1:])
for _ in range(times):
    store = Store("abc", 2, None)
    for number in range(first, first + count):
        store.add(f"k{number}", "toy", (np.full(2, number), str(number)))
    store.flush()
"""

READING = """
import sys
from alm_proxies.audio.store import Store
for _ in range(int(sys.argv[1])):
    assert Store("abc", 2, None).get("k", "toy") is None
"""
LOOKING = """
import sys
from alm_proxies import cache
for _ in range(int(sys.argv[1])):
    cache.contents()
    cache.folder_of("features", "abc", "def")
"""


def filled(own: Path | None, corpus: str | None, numbers: range = range(3)) -> Store:
    store = Store("abc", 2, own)
    for number in numbers:
        store.add(f"k{number}", corpus, (np.array([number, np.nan]), f"[{number}]"))
    store.flush()
    return store


def numbers_of(own: Path | None, corpus: str | None, asked: range) -> list[int | None]:
    store = Store("abc", 2, own)
    rows = [store.get(f"k{number}", corpus) for number in asked]
    return [None if row is None else int(row[0][0]) for row in rows]


def kept() -> list[Path]:
    return sorted((cache.cache_folder() / "features").rglob("*.parquet"))


def test_rows_of_a_corpus_that_may_be_copied_are_in_the_cache_for_every_folder_and_only_this_user(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "own", "toy")
    store = Store("abc", 2, tmp_path / "another")
    row = store.get("k1", "toy")
    assert row is not None
    np.testing.assert_array_equal(row[0], [1, np.nan])
    assert (row[0].dtype, row[1]) == (np.float32, "[1]")
    assert store.get("k9", "toy") is None
    assert Store("abd", 2, None).get("k1", "toy") is None
    assert list(tmp_path.iterdir()) == []
    (path,) = kept()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    folders = [folder for folder in path.parents if folder.is_relative_to(cache.cache_folder())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert len(folders) == 4


def test_rows_of_a_corpus_that_may_not_be_copied_are_in_the_runs_folder_alone(tmp_path: Path) -> None:
    filled(tmp_path, None)
    assert numbers_of(tmp_path, None, range(4)) == [0, 1, 2, None]
    assert not (cache.cache_folder() / "features").exists()
    filled(None, None)
    assert numbers_of(None, None, range(2)) == [None, None]
    assert not cache.cache_folder().exists()


def test_where_the_cache_cannot_be_used_the_runs_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        filled(tmp_path / "own", "toy")
        assert numbers_of(tmp_path / "own", "toy", range(4)) == [0, 1, 2, None]
        filled(None, "toy")
        assert numbers_of(None, "toy", range(1)) == [None]
    assert numbers_of(tmp_path / "own", "toy", range(4)) == [0, 1, 2, None], "also when there is a cache again"


def test_brackets_and_equals_signs_in_the_path_of_a_folder_are_no_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache[1]" / "key=5"))
    for corpus in ("toy", None):
        filled(tmp_path / "run[ab]" / "key=5", corpus)
        assert numbers_of(tmp_path / "run[ab]" / "key=5", corpus, range(4)) == [0, 1, 2, None]


def test_a_full_disk_loses_what_is_only_in_the_cache_and_is_said_of_the_runs_folder(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(64):
        filled(None, "toy")
        with pytest.raises(OutputError, match="could not be written"):
            filled(tmp_path, "toy")
    assert kept() == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_only_files_with_rows_that_are_asked_for_are_read(tmp_path: Path) -> None:
    filled(None, "toy", range(3))
    (asked_for,) = kept()
    filled(None, "toy", range(3, 6))
    store = Store("abc", 2, tmp_path)
    assert store.get("k0", "toy") is not None
    for path in kept():
        if path != asked_for:
            path.rename(path.with_stem("whole-0123456789abcdef"))  # so it looks like one that was changed
    assert store.get("k1", "toy") is not None
    assert store.findings() == ()
    assert store.get("k4", "toy") is None
    (found,) = store.findings("listen")
    assert (found.kind, found.fix) == ("cache_unreadable", "Delete the file."), "no other has replaced it"


def test_rows_are_found_whatever_the_name_of_the_corpus_is_but_not_for_one_that_may_not_be_copied(
    tmp_path: Path,
) -> None:
    filled(None, "toy")
    assert numbers_of(None, "renamed", range(4)) == [0, 1, 2, None]
    assert numbers_of(tmp_path, None, range(1)) == [None]
    filled(tmp_path, None, range(5, 7))
    assert numbers_of(None, "toy", range(4, 7)) == [None, None, None]


def test_files_of_which_polars_would_print_a_trace_are_not_given_to_it(capfd: pytest.CaptureFixture[str]) -> None:
    filled(None, "toy", range(300))
    (path,) = kept()
    content = path.read_bytes()
    footer = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    path.unlink()
    for at in range(footer, len(content)):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        path.with_stem(f"whole-{at:016}").write_bytes(damaged)
    store = Store("abc", 2, None)
    assert store.get("k1", "toy") is None
    assert {found.kind for found in store.findings("listen")} == {"cache_unreadable"}
    assert len(store.findings("listen")) == len(content) - footer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("corpus", ["toy", None])
def test_many_small_files_become_one_and_whoever_reads_them_finds_the_rows_there(
    tmp_path: Path, corpus: str | None
) -> None:
    for number in range(63):
        filled(tmp_path, corpus, range(number, number + 1))
    reading = Store("abc", 2, tmp_path)
    assert reading.get("k1", corpus) is not None
    folder = next(tmp_path.iterdir()) if corpus is None else kept()[0].parent
    assert len(list(folder.glob("*.parquet"))) == 63
    damaged = sorted(folder.glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    filled(tmp_path, corpus, range(63, 64))
    assert len(list(folder.glob("*.parquet"))) == 2, "the damaged one is not taken in"
    lost = [number for number, row in enumerate(numbers_of(tmp_path, corpus, range(64))) if row is None]
    assert len(lost) == 1
    assert [reading.get(f"k{number}", corpus) is None for number in range(64)].count(True) <= 1
    assert reading.findings() == () or len(reading.findings()) == 1


@pytest.mark.parametrize("own", [True, False])
def test_a_cache_that_cannot_be_used_is_said_once_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, own: bool
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    store = filled(tmp_path / "own" if own else None, "toy")
    (found,) = store.findings("predict")
    assert found.kind == "cache_unusable"
    assert f"{tmp_path / 'file'}" in found.message
    assert found.message.endswith(
        f"new features are kept {'in ' + str(tmp_path / 'own' / 'abc') if own else 'nowhere'}"
    )
    filled(None, "toy")
    assert [record.levelname for record in caplog.records if "the cache cannot be used" in record.message] == [
        "WARNING"
    ]
    assert filled(tmp_path / "restricted", None).findings() == ()


def test_a_row_that_is_damaged_in_one_file_is_taken_from_another(tmp_path: Path) -> None:
    filled(None, "toy", range(3))
    (first,) = kept()
    filled(None, "toy", range(1, 4))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert numbers_of(None, "toy", range(5)) == [None, 1, 2, 3, None]


def test_a_cache_that_is_cleared_meanwhile_costs_time_only(tmp_path: Path) -> None:
    filled(None, "toy", range(3))
    store = Store("abc", 2, tmp_path)
    assert store.get("nothing", "toy") is None  # the keys are read now
    cache.clear("features")
    assert store.get("k1", "toy") is None
    assert store.findings() == ()
    store.add("k1", "toy", (np.ones(2), ""))
    store.flush()
    assert numbers_of(tmp_path, "toy", range(2)) == [None, 1]
    assert stat.S_IMODE(kept()[0].parent.stat().st_mode) == 0o700


def test_processes_that_write_side_by_side_lose_nothing() -> None:
    with Forked("-c", WRITING, "0", "1200", "1") as first, Forked("-c", WRITING, "800", "1200", "1") as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert numbers_of(None, "toy", range(2001)) == [*range(2000), None]


def test_processes_that_put_small_files_together_side_by_side_lose_nothing() -> None:
    single = (
        WRITING.replace("    store.flush()", "").replace("        store.add", "        store.flush(); store.add")
        + "    store.flush()"
    )
    with Forked("-c", single, "0", "250", "1") as first, Forked("-c", single, "200", "250", "1") as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert numbers_of(None, "toy", range(451)) == [*range(450), None]
    assert len(kept()) < 150


def test_the_cache_can_be_cleared_and_looked_at_while_others_read_and_write() -> None:
    with ExitStack() as ended:
        others = [Forked("-c", WRITING, "0", "600", "15"), Forked("-c", READING, "2000"), Forked("-c", LOOKING, "2000")]
        for process in others:
            ended.enter_context(process)
            ended.callback(process.kill)
        while any(process.poll() is None for process in others):
            cache.clear("features")
    assert [process.returncode for process in others] == [0, 0, 0]


def test_rows_that_memory_does_not_hold_are_read_again_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for first in range(0, 12, 3):
        filled(None, "toy", range(first, first + 3))
    assert len(kept()) == 4
    monkeypatch.setattr(stored, "_HELD", 1)
    store = Store("abc", 2, None)
    order = [*range(12), *range(11, -1, -1), 0, 7, 0, 7]
    rows = [store.get(f"k{number}", "toy") for number in order]
    assert [None if row is None else int(row[0][0]) for row in rows] == order
    assert [len(shelf._held) for shelf in store._shelves.values()] == [1]
    assert store.findings() == ()


def test_long_rows_are_written_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_FLUSH_BYTES", 2 * 8 * 1000)
    store = Store("abc", 1000, None)
    for number in range(5):
        store.add(f"k{number}", "toy", (np.full(1000, number), ""))
    assert len(kept()) == 2, "two rows each, one to come"
    store.flush()
    assert [int(row[0][0]) for number in range(5) if (row := Store("abc", 1000, None).get(f"k{number}", "toy"))] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip


def test_files_of_long_rows_that_compress_well_do_not_become_one_that_fills_the_memory() -> None:
    store = Store("abc", 300_000, None)
    for number in range(66):
        store.add(f"k{number}", "toy", (np.full(300_000, number), ""))
        store.flush()
    assert len(kept()) == 66
    assert max(path.stat().st_size for path in kept()) < 2**20
    row = Store("abc", 300_000, None).get("k65", "toy")
    assert row is not None
    assert (row[0] == 65).all()
