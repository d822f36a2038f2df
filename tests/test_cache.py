import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alm_proxies import cache
from alm_proxies.cli.app import run as command
from alm_proxies.errors import OutputError


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "alm-proxies"


def test_an_entry_comes_back_until_it_is_too_old(room: Path) -> None:
    assert cache.read_json("abilities", "abc", seconds=60) is None
    cache.write_json("abilities", "abc", {"n": [1, None]})
    assert cache.read_json("abilities", "abc", seconds=60) == {"n": [1, None]}
    path = room / "abilities/abc.json"
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    assert cache.read_json("abilities", "abc", seconds=3599) is None
    assert cache.read_json("abilities", "abc", seconds=3700) == {"n": [1, None]}
    os.utime(path, (path.stat().st_mtime + 9e6,) * 2)
    assert cache.read_json("abilities", "abc", seconds=3700) is None  # made in the future: the clock was wrong
    cache.forget("abilities", "abc")
    assert not path.exists()


def test_nobody_else_can_read_it_even_where_the_folder_was_made_open(room: Path) -> None:
    (room / "abilities").mkdir(parents=True, mode=0o777)
    room.chmod(0o777)
    cache.write_json("abilities", "abc", 1)
    for path, mode in ((room, 0o700), (room / "abilities", 0o700), (room / "abilities/abc.json", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"0" * 2_000_000])
def test_a_damaged_entry_is_no_entry_and_is_written_over(room: Path, content: bytes) -> None:
    cache.write_json("abilities", "abc", 1)
    (room / "abilities/abc.json").write_bytes(content)
    assert cache.read_json("abilities", "abc", seconds=60) is None
    cache.write_json("abilities", "abc", 2)
    assert cache.read_json("abilities", "abc", seconds=60) == 2


def test_links_pipes_and_folders_in_its_place_are_never_followed_or_waited_for(room: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/abc.json").write_text("1")
    room.mkdir(parents=True)
    (room / "abilities").symlink_to(tmp_path / "elsewhere")
    assert cache.folder_of("abilities") is None
    assert cache.read_json("abilities", "abc", seconds=60) is None
    cache.write_json("abilities", "abc", 2)
    assert (tmp_path / "elsewhere/abc.json").read_text() == "1"
    cache.clear()
    assert (tmp_path / "elsewhere/abc.json").exists()
    (room / "abilities").mkdir()
    os.mkfifo(room / "abilities/abc.json")
    assert cache.read_json("abilities", "abc", seconds=60) is None
    (room / "abilities/link.json").symlink_to(tmp_path / "elsewhere/abc.json")
    assert cache.read_json("abilities", "link", seconds=60) is None


def test_where_the_cache_cannot_be_made_there_is_none_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.write_json("abilities", "abc", 1)
    assert cache.read_json("abilities", "abc", seconds=60) is None
    assert cache.file_of("features", "abc", ".npy") is None
    assert [kept.files for kept in cache.contents()] == [0] * len(cache.KINDS)


def test_a_relative_place_is_ignored_as_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("cache", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache.cache_folder() == tmp_path / ".cache/alm-proxies"


def test_what_is_held_is_counted_and_cleared_by_kind(room: Path) -> None:
    cache.write_json("abilities", "abc", 1)
    path = cache.file_of("features", "def", ".npy")
    assert path is not None
    path.write_bytes(b"12345")
    assert [(kept.kind, kept.files, kept.bytes) for kept in cache.contents()] == [
        ("abilities", 1, 1),
        ("features", 1, 5),
        ("audio", 0, 0),
        ("digests", 0, 0),
    ]
    assert [kept.kind for kept in cache.clear("features")] == ["features"]
    assert cache.read_json("abilities", "abc", seconds=60) == 1
    cache.clear()
    assert sum(kept.files for kept in cache.contents()) == 0


def test_what_was_not_used_for_the_longest_time_is_removed_first(room: Path) -> None:
    paths = [cache.file_of(kind, f"k{number}", ".bin") for number, kind in enumerate(("features", "audio", "features"))]
    for number, path in enumerate(paths):
        assert path is not None
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 + number, 1e9))
    newest = paths[0]
    assert newest is not None
    os.utime(newest, (1e9 + 9, 1e9))  # was read since
    part = newest.with_name(".k9.part")
    part.write_bytes(bytes(5000))
    left = newest.with_name(".k8.part")  # by a process that was killed
    left.write_bytes(bytes(7000))
    os.utime(left, (time.time() - 3 * 86_400,) * 2)
    assert [(kept.kind, kept.files, kept.bytes) for kept in cache.trim(9000) if kept.files] == [("features", 1, 7000)]
    assert not left.exists()
    assert sum(kept.files for kept in cache.trim(3000)) == 0
    assert [(kept.kind, kept.files, kept.bytes) for kept in cache.trim(1500) if kept.files] == [
        ("features", 1, 1000),
        ("audio", 1, 1000),
    ]
    assert newest.exists()
    cache.trim(0)
    assert not newest.exists()
    assert part.exists(), "another process is writing it"


def test_what_a_stopped_removal_put_aside_is_trimmed_first(room: Path) -> None:
    kept = cache.file_of("features", "k1", ".bin")
    assert kept is not None
    kept.write_bytes(bytes(1000))
    aside = cache.cache_folder() / ".features-stopped" / "below"
    aside.mkdir(parents=True)
    (aside / "k0.bin").write_bytes(bytes(3000))
    assert [(each.files, each.bytes) for each in cache.trim(1000) if each.kind == "features"] == [(1, 3000)]
    assert not aside.parent.exists()
    assert kept.exists()


def test_nothing_behind_a_link_is_removed(room: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "mine.txt").write_text("mine")
    cache.write_json("abilities", "abc", 1)
    (cache.cache_folder() / "features").symlink_to(tmp_path / "others")
    assert sum(kept.files for kept in cache.trim(0)) == 1
    assert (tmp_path / "others" / "mine.txt").exists()


@pytest.mark.parametrize(("size", "left"), [("0", 0), ("1kB", 0), ("2 KB", 1), ("0.002MB", 1), ("1T", 1)])
def test_the_command_takes_sizes_with_units(
    room: Path, capsys: pytest.CaptureFixture[str], size: str, left: int
) -> None:
    path = cache.file_of("features", "abc", ".bin")
    assert path is not None
    path.write_bytes(bytes(1500))
    assert command(["cache", "--at-most", size]) == 0
    assert path.exists() == bool(left)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{'0 files' if left else '1 file'} removed from")


def _old(monkeypatch: pytest.MonkeyPatch, *days: float) -> list[Path]:
    """Files of 1000 bytes, each last used this number of days ago, as a new process finds them."""
    paths = []
    for number, ago in enumerate(days):
        path = cache.file_of("features", f"k{number}", ".bin")
        assert path is not None
        path.write_bytes(bytes(1000))
        os.utime(path, (path.stat().st_mtime - 86_400 * ago,) * 2)
        paths.append(path)
    monkeypatch.setattr(cache, "_looked", set())
    return paths


@pytest.mark.parametrize(("most", "removed"), [("4kB", 0), ("3kB", 1), ("1kB", 2), ("unlimited", 0)])
def test_the_first_that_writes_in_a_day_trims_to_the_limit_and_leaves_what_was_used_lately(
    room: Path, monkeypatch: pytest.MonkeyPatch, most: str, removed: int
) -> None:
    """Nothing trimmed the cache by itself."""
    monkeypatch.setenv(cache.AT_MOST, most)
    ages = (9, 3, 0.5, 0.4)
    paths = _old(monkeypatch, *ages)
    cache.write_json("abilities", "abc", 1)
    assert [path.exists() for path in paths] == [place >= removed for place in range(4)]
    _old(monkeypatch, *ages)
    cache.write_json("abilities", "abd", 1)
    assert all(path.exists() for path in paths), "it was trimmed today"
    mark = cache.cache_folder() / ".trimmed"
    os.utime(mark, (mark.stat().st_mtime - 90_000,) * 2)
    cache.write_json("abilities", "abe", 1)
    assert all(path.exists() for path in paths), "this process has looked"
    cache._looked.clear()
    cache.forget("abilities", "abc")
    cache.forget("abilities", "abd")
    cache.forget("abilities", "abe")
    cache.write_json("abilities", "abc", 1)
    assert [path.exists() for path in paths] == [place >= removed for place in range(4)]


def test_the_command_shows_the_limit_and_refuses_one_that_is_none(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stated, expected in ((None, 50 * 10**9), ("2 MB", 2 * 10**6), ("unlimited", None)):
        if stated is not None:
            monkeypatch.setenv(cache.AT_MOST, stated)
        assert command(["cache", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["limit"] == expected
    monkeypatch.setenv(cache.AT_MOST, "much")
    assert command(["cache"]) == 2
    assert cache.AT_MOST in capsys.readouterr().err
    cache.write_json("abilities", "kept", 1)
    assert command(["cache", "--clear", "all"]) == 2
    assert cache.read_json("abilities", "kept", seconds=60) == 1, "nothing is removed by a command that is refused"
    paths = _old(monkeypatch, 9)
    cache.write_json("abilities", "abc", 1)
    assert cache.read_json("abilities", "abc", seconds=60) == 1
    assert paths[0].exists()


def test_a_size_that_is_none_is_refused() -> None:
    for arguments in (
        ["--at-most", "much"],
        ["--at-most", "-3GB"],
        ["--at-most", "9" * 400],
        ["--at-most", "20"],
        ["--at-most", "1GB", "--clear", "all"],
    ):
        assert command(["cache", *arguments]) == 2


@pytest.mark.parametrize(
    ("size", "number"),
    [("0", 0), ("0GB", 0), ("1.5 kB", 1500), ("2M", 2 * 10**6), ("700B", 700), ("3 gb", 3 * 10**9), ("1T", 10**12)],
)
def test_a_size_has_a_unit_unless_it_is_0(size: str, number: int) -> None:
    assert cache.bytes_of(size, "here") == number


def test_a_key_that_could_be_a_path_is_refused(room: Path) -> None:
    with pytest.raises(ValueError, match="digest"):
        cache.file_of("features", "../x", ".npy")


WRITING = """
import sys
from alm_proxies import cache
for number in range(1, 10**9):
    cache.write_json("abilities", f"{sys.argv[1]}x{number}", number)
    if number == 20:
        print("writing", flush=True)
"""


def test_what_others_write_without_a_pause_is_cleared_at_the_first_try(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_TRIES", 1)
    line = [sys.executable, "-c", WRITING]
    others = [subprocess.Popen([*line, name], stdout=subprocess.PIPE) for name in ("a", "b")]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline()
        for _ in range(60):
            cache.clear("abilities")
        assert [other.poll() for other in others] == [None, None]
    finally:
        for other in others:
            other.kill()
            other.communicate()
    cache.clear()
    assert list(cache.cache_folder().iterdir()) == []


def test_a_file_that_is_added_to_what_was_put_aside_is_removed_at_the_first_try(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_TRIES", 1)
    cache.write_json("abilities", "abc", 1)
    remove, late = os.rmdir, []

    def removed(*given: Any, **named: Any) -> None:
        for aside in [] if late else cache.cache_folder().glob(".abilities-*"):
            late.append(aside / "late.json")
            late[0].write_text("1")
        remove(*given, **named)

    monkeypatch.setattr(os, "rmdir", removed)
    cache.clear("abilities")
    assert late
    assert list(cache.cache_folder().iterdir()) == []


def test_a_file_that_is_renamed_in_what_was_put_aside_is_removed_at_the_first_try(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_TRIES", 1)
    cache.write_json("abilities", "abc", 1)
    remove, late = os.unlink, []

    def removed(*given: Any, **named: Any) -> None:
        if not late:
            (aside,) = cache.cache_folder().glob(".abilities-*/*.json")
            late.append(aside.rename(aside.with_name("late.json")))
        remove(*given, **named)

    monkeypatch.setattr(os, "unlink", removed)
    cache.clear("abilities")
    assert late
    assert list(cache.cache_folder().iterdir()) == []


def test_what_was_put_aside_may_be_removed_by_others_meanwhile(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_TRIES", 1)
    cache.write_json("abilities", "abc", 1)
    remove, gone = os.unlink, []

    def removed(*given: Any, **named: Any) -> None:
        if not gone:
            (aside,) = cache.cache_folder().glob(".abilities-*")
            gone.append(aside)
            shutil.rmtree(aside)
        remove(*given, **named)

    monkeypatch.setattr(os, "unlink", removed)
    cache.clear("abilities")
    assert gone
    assert list(cache.cache_folder().iterdir()) == []


def test_what_a_stopped_clearing_left_is_counted_and_removed(room: Path) -> None:
    cache.write_json("abilities", "abc", 1)
    left = cache.cache_folder() / ".abilities-x1y2"
    left.mkdir()
    (left / "old.json").write_text("123")
    (kept,) = cache.clear("abilities")
    assert (kept.files, kept.bytes) == (2, 4)
    assert list(cache.cache_folder().iterdir()) == []


def test_what_cannot_be_removed_is_said(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_json("abilities", "abc", 1)

    def refused(*_: object, **__: object) -> None:  # as a folder without the right to write does, but for root
        raise PermissionError(13, "Permission denied")

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(Path, name, refused)
        monkeypatch.setattr(os, name, refused)
    with pytest.raises(OutputError, match="cannot be removed"):
        cache.clear()
    monkeypatch.undo()
