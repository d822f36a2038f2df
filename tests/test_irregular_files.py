"""Only regular files are opened and replaced, so that nothing waits for a pipe or a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from alm_proxies.about import about_of
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.clip import RecordingError, open_clip
from alm_proxies.errors import InputError, OutputError, SettingsError
from alm_proxies.files import digest_file, is_there, read_text, write_text
from alm_proxies.settings import read_toml
from alm_proxies.tables import Utterances, Votes

READERS: dict[str, Callable[[Path], object]] = {
    "text": read_text,
    "digest": digest_file,
    "recording": open_clip,
    "votes": Votes.read,
    "utterances": Utterances.read,
    "about": about_of,
    "annotator": Annotator.read,
}


@pytest.fixture(params=["pipe", "pipe.csv", "pipe.parquet", "socket", "null", "zero", "full", "kmsg", "version", "sys"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind = str(request.param)
    path = tmp_path / f"to_{kind}"
    if kind.startswith("pipe"):
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        real = {"kmsg": "/proc/kmsg", "version": "/proc/version", "sys": "/sys/kernel/notes"}.get(kind, f"/dev/{kind}")
        if not Path(real).exists():
            pytest.skip(f"no {real}")
        path.symlink_to(real)
    return path


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_reader_waits_for_what_is_no_regular_file(reader: Callable[[Path], object], irregular: Path) -> None:
    with pytest.raises((InputError, OSError)) as caught:
        reader(irregular)
    assert "not a regular file" in str(caught.value)


def test_nothing_but_a_regular_file_is_replaced(irregular: Path) -> None:
    before = irregular.lstat()
    if "version" in irregular.name or "notes" in irregular.name:
        assert irregular.is_file()  # such files of the kernel say that they are regular
        return
    with pytest.raises(OutputError, match="not a regular file"):
        write_text(irregular, "x")
    assert irregular.lstat().st_ino == before.st_ino
    assert sorted(irregular.parent.iterdir()) == [irregular]


def test_a_symlink_that_leads_nowhere_may_be_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    write_text(link, "x")
    assert link.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "no/such/folder"])
def test_a_name_that_cannot_be_is_not_there_and_is_one_bad_recording(tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}"
    assert not is_there(path)
    with pytest.raises(RecordingError):
        open_clip(path)


def test_a_number_of_5000_digits_in_a_settings_file_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"a\.toml"):
        read_toml(f"seed = {'9' * 5000}", "a.toml")
