import os
import signal
import sys
from pathlib import Path

import pytest
from forked import Forked
from wording import Wording

from alm_proxies.errors import InputError, MissingExtraError, OutputError, OutputPathError, SettingsError, need
from alm_proxies.files import (
    canonical_json,
    digest_file,
    digest_of,
    make_folder,
    read_text,
    remove,
    shipped,
    weights_digest,
    whole,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with whole(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    script = (
        "import os, signal, sys\nfrom alm_proxies.files import whole\n"
        "with whole(sys.argv[1]) as t:\n t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert Forked.done("-c", script, target).returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\nimport polars as pl\nfrom alm_proxies.tables import Utterances\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from alm_proxies.errors import OutputError\n"
        "table = Utterances.of(pl.DataFrame({'utterance_id': [str(i) for i in range(200_000)]}))\n"
        "try:\n table.write(sys.argv[1])\nexcept OutputError as error:\n print(error)\n"
    )
    done = Forked.done("-c", script, tmp_path / "u.parquet")
    assert "could not be written: File too large" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_space_left_is_named_with_its_mend(wording: Wording) -> None:
    with wording.refused(OutputError):
        with whole("/dev/shm/alm-proxies-test-full"):
            with Path("/dev/full").open("w") as stream:
                stream.write("x")
                stream.flush()
    assert not Path("/dev/shm/alm-proxies-test-full").exists()


def test_writing_where_a_folder_or_a_file_is_in_the_way_is_refused(tmp_path: Path, wording: Wording) -> None:
    with wording.refused(OutputError):
        write_text(tmp_path, "x")
    write_text(tmp_path / "file", "x")
    for change in (make_folder, remove):
        with wording.refused(OutputError):
            change(tmp_path / "file" / "below")
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path / "file" / "below" / "x", tmp_path / "link" / "x"):
        with wording.refused(OutputPathError):
            write_text(path, "x")
    for path in (tmp_path / "file", tmp_path / "link"):
        with wording.refused(OutputPathError):
            make_folder(path)


def test_files_keep_the_usual_permissions(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1})
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert (tmp_path / "a.json").stat().st_mode == plain.stat().st_mode


@pytest.mark.skipif(sys.platform != "linux", reason="asked for without a change only on Linux")
def test_the_mode_of_new_files_is_asked_for_without_a_change_that_other_threads_would_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"set to {mask:o} for all threads"))
        write_text(tmp_path / "a.txt", "x")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_a_name_of_the_largest_length_is_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "x")]


def test_digests_change_with_content_and_not_with_order(tmp_path: Path, wording: Wording) -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert canonical_json({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'
    (tmp_path / "x").write_bytes(b"1")
    digest = digest_file(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"2")
    assert digest_file(tmp_path / "x") != digest
    with wording.refused(InputError):
        digest_file(tmp_path / "none")


def test_text_in_another_encoding_is_named(tmp_path: Path, wording: Wording) -> None:
    (tmp_path / "x").write_bytes("ü".encode("latin-1"))
    with wording.refused(InputError):
        read_text(tmp_path / "x")
    assert read_text(tmp_path / "x", "latin-1") == "ü"


def test_an_unknown_shipped_file_lists_what_there_is(wording: Wording) -> None:
    with wording.refused(SettingsError):
        shipped("data_cards", "nothing.md")


def test_a_missing_extra_is_one_sentence_with_its_install_line(wording: Wording) -> None:
    with wording.refused(MissingExtraError):
        need("a_package_that_is_not_there", "vllm")
    assert need("json", "vllm") is sys.modules["json"]


def test_an_optional_package_that_is_broken_is_named_with_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    (tmp_path / "a_broken_package.py").write_text("import what_it_needs.part\n")
    (tmp_path / "an_old_package.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with wording.refused(MissingExtraError):
        need("a_broken_package", "gs")
    with pytest.raises(MissingExtraError, match=r"'an_old_package'.*no_such_name.*alm-proxies\[gs\]"):
        need("an_old_package", "gs")


def test_a_model_folder_has_another_digest_when_its_weights_change(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(40 * 2**20))
    digest = weights_digest(tmp_path)
    with weights.open("rb+") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    assert weights_digest(tmp_path) != digest


@pytest.mark.parametrize("place", [17, 26, 38])
def test_a_layer_anywhere_in_large_weights_counts(tmp_path: Path, place: int) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(60 * 2**20))
    digest = weights_digest(tmp_path)
    with weights.open("rb+") as stream:
        stream.seek(place * 2**20)
        stream.write(b"x" * 2**19)
    assert weights_digest(tmp_path) != digest
    assert weights_digest(tmp_path) == weights_digest(tmp_path)
