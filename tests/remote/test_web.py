"""Recordings at web addresses, from a server with the faults of real ones: fetched once, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from web_server import Web, tone

from alm_proxies import cache
from alm_proxies.audio.clip import RecordingError, Source, open_clip, open_source
from alm_proxies.errors import InputError, OutputError
from alm_proxies.remote import copies, fault
from alm_proxies.remote import web as web_files
from alm_proxies.remote.at_hand import at_hand
from alm_proxies.remote.copies import open_copy, state_of
from alm_proxies.remote.fault import Deadline, FetchError, broken, out_of_time
from alm_proxies.tables import Votes


def content_of(uri: str, *, keep: bool = True) -> bytes:
    copy = open_copy(uri, keep=keep)
    with os.fdopen(copy.handle, "rb") as stream:
        content = stream.read()
    assert copy.size == len(content)
    assert copy.digest == hashlib.sha256(content).hexdigest()
    return content


def in_cache() -> list[Path]:
    return sorted(path for path in (cache.cache_folder() / "audio").glob("*") if path.suffix != ".json")


def refused(uri: str, *, keep: bool = True) -> FetchError:
    with pytest.raises(FetchError) as raised:
        open_copy(uri, keep=keep)
    assert in_cache() == []
    assert raised.value.where is not None
    return raised.value


def test_a_clip_at_an_address_is_that_of_the_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(tone())
    uri = web.put("ok/a.wav", tone())
    near, far = open_clip(tmp_path / "a.wav", start=0.1, end=0.3), open_clip(uri, start=0.1, end=0.3)
    np.testing.assert_array_equal(near.samples, far.samples)
    assert near.pcm == far.pcm
    np.testing.assert_array_equal(open_clip(Path(uri)).samples, open_clip(tmp_path / "a.wav").samples)


def test_it_is_fetched_once_and_cached_by_content_for_nobody_else(web: Web) -> None:
    first, second = web.put("ok/a.wav", tone()), web.put("ok/b.wav", tone())
    for _ in range(3):
        assert content_of(first) == content_of(second) == tone()
    assert web.asked == {"GET /ok/a.wav": 1, "GET /ok/b.wav": 1}
    (copy,) = in_cache()
    assert copy.name == f"{hashlib.sha256(tone()).hexdigest()}.bin"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("forgetful")
def test_another_process_asks_only_whether_it_has_changed(web: Web) -> None:
    uri = web.put("ok/a.wav", tone())
    assert content_of(uri) == content_of(uri) == tone()
    assert web.asked["GET /ok/a.wav"] == 2
    assert web.sent["/ok/a.wav"] == 1
    web.put("ok/a.wav", tone(300))
    assert content_of(uri) == content_of(uri) == tone(300)
    assert web.sent["/ok/a.wav"] == 2


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("damage", [b"", b"RIFF", tone()[:-2] + b"!!", None])
def test_a_damaged_or_missing_copy_is_fetched_again(
    web: Web, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = web.put("ok/a.wav", tone())
    content_of(uri)
    monkeypatch.setattr(copies, "_known", copies._Known())
    (copy,) = in_cache()
    copy.unlink()
    if damage is not None:
        copy.write_bytes(damage)
    assert content_of(uri) == tone()
    assert web.sent["/ok/a.wav"] == 2


def test_without_keep_nothing_is_on_a_disk_and_slices_share_one_fetch(web: Web) -> None:
    uri = web.put("ok/a.wav", tone())
    assert content_of(uri, keep=False) == tone()
    slices = [open_clip(uri, start=start, end=start + 0.1, keep=False) for start in (0.0, 0.2, 0.3)]
    assert [clip.duration for clip in slices] == pytest.approx([0.1] * 3)
    assert web.sent["/ok/a.wav"] == 1
    assert not (cache.cache_folder() / "audio").exists()


def test_many_threads_want_one_file_and_many_files(web: Web) -> None:
    uri = web.put("slow/a.wav", tone())
    uris = [uri] * 8 + [web.put(f"slow/{n}.wav", tone(200 + n)) for n in range(8)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(content_of, uris)) == [tone()] * 8 + [tone(200 + n) for n in range(8)]
    assert web.asked["GET /slow/a.wav"] == 1
    assert web.most_together > 2
    assert copies._known.locks == {}


def test_two_processes_at_once_leave_one_whole_copy(web: Web) -> None:
    uri = web.put("slow/a.wav", tone())
    script = (
        "import os, sys\nfrom alm_proxies.remote.copies import open_copy\ncopy = open_copy(sys.argv[1], keep=True)\n"
        "print(copy.digest, len(os.read(copy.handle, 10**7)))"
    )
    running = [Forked("-c", script, uri) for _ in range(3)]
    answers = {process.communicate()[0] for process in running}
    assert answers == {f"{hashlib.sha256(tone()).hexdigest()} {len(tone())}\n"}
    assert [path.read_bytes() for path in in_cache()] == [tone()]


def test_a_process_that_is_killed_while_it_fetches_leaves_no_copy(web: Web) -> None:
    uri = web.url("endless/a.wav")
    script = "import sys\nfrom alm_proxies.remote.copies import open_copy\nopen_copy(sys.argv[1], keep=True)"
    with Forked("-c", script, uri) as process:
        while not (parts := in_cache()) or not parts[0].stat().st_size:
            time.sleep(0.01)
            assert process.poll() is None
        process.kill()
    assert process.returncode == -9
    assert [path.suffix for path in in_cache()] == [".part"]
    good = web.put("ok/a.wav", tone())
    assert content_of(good) == tone()
    cache.clear("audio")
    assert in_cache() == []


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("cut/a.wav", "not_fetched", "cut off"),
        ("huge/a.wav", "not_fetched", "the limit is 2,147,483,648"),
        ("denied/a.wav", "not_fetched", "access is denied"),
        ("user/a.wav", "not_fetched", "access is denied"),
        ("ok/other.wav", "missing", "no such file"),
        ("busy/a.wav", "not_fetched", "HTTP 503"),
        ("loop/a.wav", "not_fetched", "redirected more than 5 times"),
        ("redirect/?to=ftp://127.0.0.1/a.wav", "not_fetched", "not http"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(web: Web, path: str, kind: str, words: str) -> None:
    web.put("ok/a.wav", tone())
    for keep in (True, False):
        error = refused(web.url(path), keep=keep)
        assert error.kind == kind
        assert re.search(words, error.message), error.message
        assert error.fix


@pytest.mark.usefixtures("hurry")
def test_an_endless_body_and_an_endless_header_end(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    assert "did not arrive within 2 s" in refused(web.url("drip/a.wav")).message
    monkeypatch.setattr(web_files, "MOST_BYTES", 3_000_000)
    assert "the limit is" in refused(web.url("endless/a.wav")).message
    web.put("bomb/a.wav", b"a bomb")
    assert "the limit is" in refused(web.url("bomb/a.wav")).message
    assert time.monotonic() - started < 30


def test_a_dead_server_is_tried_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "TRIES", 2)
    started = time.monotonic()
    assert "no server answers" in refused(f"http://127.0.0.1:{free_port()}/a.wav").message
    assert time.monotonic() - started >= 0.25  # the pause before the second try


def test_when_the_time_is_over_it_says_why_no_try_succeeded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, tries = web.url("a.wav"), 0

    def download(uri: str, sink: object, known: object, deadline: Deadline) -> None:
        nonlocal tries
        tries += 1
        raise broken(uri, "no server answers") if tries == 1 else out_of_time(uri, deadline)

    monkeypatch.setattr(web_files, "download", download)
    monkeypatch.setattr(copies, "TRIES", 2)
    assert refused(uri).message == "did not arrive within 120 s (no server answers)"
    assert tries == 2


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_broken_connection_and_a_busy_server_are_asked_again(web: Web) -> None:
    assert content_of(web.put("reset-once/a.wav", tone())) == tone()
    started = time.monotonic()
    assert content_of(web.put("busy-once/b.wav", tone(300))) == tone(300)
    assert time.monotonic() - started >= 1.0  # as its Retry-After asks


def test_more_bytes_than_announced_are_not_taken_for_the_file(web: Web) -> None:
    uri = web.put("too-much/a.wav", tone())
    assert content_of(uri) == tone()[:-4_000]
    with pytest.raises(RecordingError) as raised:
        open_clip(uri)
    assert raised.value.kind == "truncated"


@pytest.mark.usefixtures("forgetful")
def test_a_body_that_may_have_been_cut_is_used_and_not_cached(web: Web) -> None:
    uri = web.put("no-length/a.wav", tone())
    assert content_of(uri) == content_of(uri) == tone()
    assert web.sent["/no-length/a.wav"] == 2
    assert in_cache() == []


@pytest.mark.usefixtures("forgetful")
def test_chunked_and_compressed_bodies_are_read(web: Web) -> None:
    assert content_of(web.put("chunked/a.wav", tone())) == tone()
    assert content_of(web.put("gzip/b.wav", tone(300))) == tone(300)


def test_the_state_of_a_file_is_known_without_fetching_it(web: Web) -> None:
    for path in ("ok/a.wav", "no-head/b.wav"):
        state = state_of(web.put(path, tone()))
        assert state is not None
        assert state.size == len(tone())
        assert state.known is not None
    assert state_of(web.url("ok/none.wav")) is None
    assert [key for key in web.asked if key.startswith("GET")] == ["GET /no-head/b.wav"]


def test_a_redirect_is_followed_but_not_from_outside_into_this_network(web: Web) -> None:
    web.put("ok/a.wav", tone())
    assert content_of(web.url("redirect/?to=/ok/a.wav")) == tone()
    with pytest.raises(FetchError, match="on this machine or in this network"):
        web_files._refuse_redirect("https://a.org/a", "https://a.org/a", "https://127.0.0.1/a")
    with pytest.raises(FetchError, match="on this machine or in this network"):
        web_files._refuse_redirect("http://a.org/a", "http://a.org/a", "http://169.254.169.254/latest")
    with pytest.raises(FetchError, match="without encryption"):
        web_files._refuse_redirect("https://a.org/a", "https://a.org/a", "http://b.org/a")
    web_files._refuse_redirect("http://a.org/a", "http://a.org/a", "https://b.org/a")


def test_user_and_password_come_from_netrc_and_never_from_the_address(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password open.sesame\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    uri = web.put("user/a.wav", tone())
    assert content_of(uri) == tone()
    error = refused_secret(uri.replace("://", "://ann:open.sesame@"))
    assert error.kind == "address_with_secret"
    assert "sesame" not in str(error)


def refused_secret(uri: str) -> FetchError:
    with pytest.raises(FetchError) as raised:
        open_copy(uri, keep=True)
    return raised.value


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(FetchError, match="ftp:// cannot be read") as raised:
        open_copy("ftp://host/a.wav", keep=True)
    assert raised.value.kind == "remote_audio"


@pytest.mark.usefixtures("hurry")
def test_a_bad_address_is_a_finding_of_its_utterance(web: Web) -> None:
    good, bad = web.put("ok/a.wav", tone()), web.url("ok/none.wav")
    opened = [open_source(Source(name, uri), stage="test") for name, uri in (("good", good), ("bad", bad))]
    assert opened[0].clip is not None
    assert opened[1].clip is None
    (finding,) = opened[1].findings
    assert (finding.kind, finding.where, finding.utterance_id) == ("missing", bad, "bad")


def test_a_file_named_otherwise_than_it_is_is_noted_by_its_address(web: Web) -> None:
    opened = open_source(Source("a", web.put("ok/a.flac", tone())), stage="test")
    assert opened.clip is not None
    assert [finding.kind for finding in opened.findings] == ["wrongly_named"]


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert content_of(web.put("ok/a.wav", tone())) == tone()


def test_a_full_disk_is_one_sentence(web: Web, full_disk: Callable[[int], AbstractContextManager[None]]) -> None:
    uri = web.put("ok/a.wav", tone(seconds=3))
    with full_disk(20_000):  # for memory too
        with pytest.raises(FetchError, match="does not fit into memory"):
            open_copy(uri, keep=True)
    assert in_cache() == []
    assert content_of(uri) == tone(seconds=3)


@pytest.mark.parametrize("keep", [True, False])
def test_a_copy_is_not_used_any_more_once_another_state_of_the_file_is_known(web: Web, keep: bool) -> None:
    uri = web.put("ok/a.wav", tone())
    assert content_of(uri, keep=keep) == tone()
    assert state_of(uri) is not None
    assert content_of(uri, keep=keep) == tone()
    assert web.sent["/ok/a.wav"] == 1
    web.put("ok/a.wav", tone(300))
    copies._known.states.clear()  # as after an hour
    assert state_of(uri) is not None
    assert hashlib.sha256(content_of(uri, keep=keep)).digest() == hashlib.sha256(tone(300)).digest()


def test_a_table_that_does_not_fit_onto_the_disk_is_one_sentence(
    web: Web, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    uri = web.put("ok/votes.csv", b"utterance_id,annotator,label\n" + b"a,r,happy\n" * 9000)
    with full_disk(20_000), pytest.raises(OutputError, match="cannot be copied into .*: File too large") as raised:
        Votes.read(uri, taxonomy="happy,sad")
    assert raised.value.where == uri


def test_an_error_names_the_address_of_the_tenth_table_and_not_of_the_first(web: Web) -> None:
    uris = [web.put(f"ok/t{7 * number}/votes.csv", b"utterance_id,annotator,label\n") for number in range(11)]
    with pytest.raises(InputError) as raised, at_hand(uris) as hand:
        raise InputError(f"{hand.path(uris[1])} is not {hand.path(uris[10])}", where=str(hand.path(uris[10])))
    assert raised.value.message == f"{uris[1]} is not {uris[10]}"
    assert raised.value.where == uris[10]


def test_memory_is_given_back_when_it_is_used_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_IN_MEMORY", 3 * len(tone()))
    uris = [web.put(f"ok/{n}.wav", tone(200 + n)) for n in range(6)]
    for uri in uris:
        content_of(uri, keep=False)
    assert list(copies._known.memory) == uris[-3:]
    assert content_of(uris[0], keep=False) == tone(200)


def test_waiting_for_a_server_can_be_interrupted(web: Web) -> None:
    # shells start what runs in the background with SIGINT ignored, which a child inherits
    script = (
        "import signal, sys\nfrom alm_proxies.remote.copies import open_copy\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nprint('begins', flush=True)\n"
        "try:\n    open_copy(sys.argv[1], keep=True)\nexcept KeyboardInterrupt:\n    print('interrupted')"
    )
    with Forked("-c", script, web.url("drip/a.wav")) as process:
        assert process.stdout.readline() == "begins\n"
        while not web.asked["GET /drip/a.wav"]:
            time.sleep(0.01)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    assert time.monotonic() - started < 30  # a minute and more before the file is given up
    assert in_cache() == []


def test_the_limits_are_stated_where_they_are_reached() -> None:
    assert f"{fault.MOST_BYTES:,}" in str(fault.too_large("s3://b/a.wav", 10**12))
    deadline = fault.Deadline(10.0)
    deadline.allow(5_000_000)
    assert 14.0 < deadline.left <= 15.0
