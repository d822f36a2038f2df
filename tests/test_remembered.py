"""Digests of files are by content, and a file of a remembered size and time is not read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alm_proxies import cache, remembered
from alm_proxies.errors import InputError
from alm_proxies.files import digest_file
from alm_proxies.remembered import UNREADABLE, Memory, digests_of


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three files, and the name of one that is not there."""
    paths = {name: tmp_path / f"{name}.wav" for name in ("a", "b", "c", "gone")}
    for name in ("a", "b", "c"):
        paths[name].write_text(name * 9)
    return paths


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []

    def noted(path: str | Path) -> str:
        names.append(Path(path).stem)
        return digest_file(path)

    monkeypatch.setattr(remembered, "digest_file", noted)
    return names


def in_cache(own: Path | None = None) -> Memory:
    return Memory.of(["toy"], own, cached=True)


def test_only_files_of_another_size_or_time_are_read_again(files: dict[str, Path], read: list[str]) -> None:
    first = digests_of(files, in_cache())
    assert first == {name: digest_file(files[name]) for name in ("a", "b", "c")}
    assert (sorted(read), digests_of(files, in_cache())) == (["a", "b", "c"], first)
    read.clear()
    assert digests_of(files, in_cache()) == first
    assert read == []
    os.utime(files["b"], ns=(1, 1))
    assert digests_of(files, in_cache()) == first
    assert read == ["b"]
    files["b"].write_text("other")
    files["c"].unlink()
    assert digests_of(files, in_cache()) == {"a": first["a"], "b": digest_file(files["b"])}
    assert read == ["b", "b"]
    assert digests_of({"a": files["a"]}, in_cache()) == {"a": first["a"]}, "of a part of the files"


def test_content_that_changed_without_size_and_time_is_not_noticed(files: dict[str, Path]) -> None:
    first = digests_of(files, in_cache())
    time = files["a"].stat().st_mtime_ns
    files["a"].write_text("z" * 9)
    os.utime(files["a"], ns=(time, time))
    assert digests_of(files, in_cache()) == first


def test_of_corpora_that_may_not_be_copied_nothing_is_outside_the_runs_folder(
    files: dict[str, Path], tmp_path: Path, read: list[str]
) -> None:
    memory = Memory.of(["toy"], tmp_path / "run", cached=False)
    first = digests_of(files, memory)
    read.clear()
    assert digests_of(files, memory) == first
    assert read == []
    assert not cache.cache_folder().exists()
    nowhere = Memory.of(["toy"], None, cached=False)
    assert digests_of(files, nowhere) == digests_of(files, nowhere) == first
    assert len(read) == 6
    assert not cache.cache_folder().exists()


def test_where_the_cache_cannot_be_used_the_runs_folder_is(
    files: dict[str, Path], tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["a"]))
    for _ in range(2):
        digests_of(files, in_cache(tmp_path / "run"))
    assert len(read) == 3
    assert len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"a": 3, "b": [9, 1], "c": [null, "x", {}]}', "\0"])
def test_a_damaged_memory_costs_time_only(files: dict[str, Path], content: str) -> None:
    first = digests_of(files, in_cache())
    (kept,) = (cache.cache_folder() / "digests").iterdir()
    kept.write_text(content)
    assert digests_of(files, in_cache()) == first
    assert digests_of(files, in_cache()) == first


def test_a_folder_that_cannot_be_written_costs_time_only(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory.of(["toy"], tmp_path / "file", cached=False)
    assert digests_of(files, memory) == digests_of(files, in_cache())


def test_what_cannot_be_read_is_stated_so_and_tried_again(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> str:
        raise InputError("cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(remembered, "digest_file", refused)
        assert set(digests_of(files, in_cache()).values()) == {UNREADABLE}
    assert digests_of(files, in_cache())["a"] == digest_file(files["a"])


def test_what_was_read_before_an_interruption_is_not_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_AT_ONCE", 1)
    paths = {str(number): tmp_path / f"{number}.wav" for number in range(3 * 64)}
    for path in paths.values():
        path.write_text(path.stem)
    whole = digest_file

    def stopped(path: str | Path) -> str:
        if Path(path).stem == "100":
            raise KeyboardInterrupt
        return whole(path)

    with monkeypatch.context() as patch:
        patch.setattr(remembered, "digest_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            digests_of(paths, in_cache())
    read.clear()
    assert len(digests_of(paths, in_cache())) == len(paths)
    assert len(read) == 2 * 64


def test_where_only_these_are_wanted_others_are_forgotten(files: dict[str, Path]) -> None:
    digests_of(files, in_cache())
    files["a"].write_text("other content")
    digests_of({"a": files["a"]}, in_cache())
    assert set(in_cache().read()) == {"a", "b", "c"}
    files["a"].write_text("and once more, longer")
    digests_of({"a": files["a"]}, in_cache(), only=True)
    assert set(in_cache().read()) == {"a"}
