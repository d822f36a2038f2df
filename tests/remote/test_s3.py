"""Recordings, tables and whole runs from a real S3 server with signed requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import s3_server
from s3_server import Buckets
from scripted_annotators import of_a_table
from web_server import tone

from alm_proxies import cache
from alm_proxies.audio.clip import Source, open_clip, open_source
from alm_proxies.cli.app import run
from alm_proxies.remote import buckets, copies, fault
from alm_proxies.remote.copies import open_copy, state_of, states_of
from alm_proxies.remote.fault import FetchError
from alm_proxies.tables import Findings, Labels, Utterances, Votes

pytestmark = pytest.mark.server
CARD = '+++\nname = "mine"\ntitle = "M"\nlicence = "L"\nmay_leave = false\nwhy = "so"\nvotes = "three"\n+++\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    with s3_server.serving(tmp_path_factory.mktemp("s3")) as served:
        yield served


@pytest.fixture
def s3(server: Buckets, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "_systems", {})
    monkeypatch.setattr(copies, "_known", copies._Known())
    monkeypatch.setattr(copies, "SECONDS", 10.0)
    return server


def content_of(uri: str, *, keep: bool = True) -> bytes:
    copy = open_copy(uri, keep=keep)
    with os.fdopen(copy.handle, "rb") as stream:
        return stream.read()


def in_cache() -> list[str]:
    return [path.suffix for path in sorted((cache.cache_folder() / "audio").glob("*.bin"))]


def test_a_recording_in_a_bucket_is_that_of_the_file_and_is_cached(s3: Buckets, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(tone())
    uri = s3.put("corpus/wavs/a b#1.wav", tone())
    near, far = open_clip(tmp_path / "a.wav"), open_clip(uri)
    np.testing.assert_array_equal(near.samples, far.samples)
    assert in_cache() == [".bin"]
    (s3.folder / "corpus/wavs/a b#1.wav").unlink()
    assert content_of(uri) == tone()


def test_a_scheme_in_capitals_is_the_same_scheme(s3: Buckets) -> None:
    uri = s3.put("corpus/wavs/capital.wav", tone())
    assert content_of(f"S3{uri.removeprefix('s3')}") == tone()


def test_a_changed_object_is_fetched_again(s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_ASK_AGAIN", 0.0)
    uri = s3.put("corpus/changing.wav", tone())
    assert content_of(uri) == tone()
    before = state_of(uri)
    s3.put("corpus/changing.wav", tone(300))
    assert content_of(uri) == tone(300)
    after = state_of(uri)
    assert before is not None
    assert after is not None
    assert before.known != after.known
    assert len(in_cache()) == 2


def test_an_object_that_grew_after_it_was_listed_is_fetched_whole(s3: Buckets) -> None:
    uri = s3.put("corpus/listed/growing.wav", tone(seconds=0.5))
    assert buckets.listed("s3://corpus/listed", fault.Deadline(10)) == ["growing.wav"]
    s3.put("corpus/listed/growing.wav", tone(seconds=2))
    assert content_of(uri) == tone(seconds=2)


def test_large_objects_arrive_in_blocks(s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_BLOCK", 5_000)
    uri = s3.put("corpus/large.wav", tone(seconds=2))
    assert content_of(uri) == tone(seconds=2)
    monkeypatch.setattr(buckets, "MOST_BYTES", 10_000)
    with pytest.raises(FetchError, match="the limit is"):
        open_copy(s3.put("corpus/larger.wav", tone(seconds=2)), keep=True)


def test_without_keep_nothing_is_cached(s3: Buckets) -> None:
    assert content_of(s3.put("corpus/a.wav", tone()), keep=False) == tone()
    assert not (cache.cache_folder() / "audio").exists()


def test_what_is_not_there_or_not_allowed_is_a_finding(s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("corpus/a.wav", tone())
    s3.put("corpus/empty.wav", b"")
    uris = ("s3://corpus/none.wav", "s3://nobucket/a.wav", "s3://corpus", "s3://corpus/empty.wav")
    kinds = [open_source(Source("a", uri), stage="test").findings[0].kind for uri in uris]
    assert kinds == ["missing", "missing", "missing", "empty"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong.sesame")
    monkeypatch.setattr(buckets, "_systems", {})
    (finding,) = open_source(Source("a", "s3://corpus/a.wav"), stage="test").findings
    assert finding.kind == "not_fetched"
    assert "access is denied" in finding.message
    assert "AWS_ACCESS_KEY_ID" in finding.fix
    assert "sesame" not in str(finding)


def test_without_credentials_or_a_server_it_says_so(s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = s3.put("corpus/a.wav", tone())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(buckets, "_systems", {})
    with pytest.raises(FetchError, match="there are no credentials.*AWS_ACCESS_KEY_ID"):
        open_copy(uri, keep=True)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(buckets, "_systems", {})
    with pytest.raises(FetchError, match="no server answers"):
        open_copy(uri, keep=True)


def test_states_of_many_objects(s3: Buckets) -> None:
    uris = [s3.put(f"corpus/many/{n}.wav", tone(200 + n)) for n in range(20)]
    states = states_of([*uris, "s3://corpus/none.wav"])
    assert len({state.known for state in states[:-1] if not isinstance(state, FetchError) and state is not None}) == 20
    assert states[-1] is None


@pytest.fixture
def corpus(s3: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table and its recordings in a bucket, an annotator file here, and the folder of both."""
    monkeypatch.chdir(tmp_path)
    rows = ["clip,who,rater,label,audio"]
    for n in range(24):
        s3.put(f"mine/wavs/c{n}.wav", tone(150 + 20 * n))
        rows += [f"c{n},s{n % 6},r{rater},{('happy', 'sad')[(n + rater) % 2]},wavs/c{n}.wav" for rater in (0, 1, 2)]
    s3.put("mine/votes.csv", "\n".join(rows).encode())
    (tmp_path / "answers.csv").write_text("\n".join(["utterance_id,text", *(f"mine/c{n},happy" for n in range(24))]))
    of_a_table(tmp_path, "scripted")
    return tmp_path


READ = [
    "read", "table", "s3://mine/votes.csv", "--corpus", "mine", "--columns",
    "utterance_id=clip,speaker=who,annotator=rater,label=label,audio=audio", "--taxonomy", "happy,sad", "--quiet",
]  # fmt: skip


def test_a_table_and_its_recordings_are_read_and_used_where_they_are(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*READ, "-o", "read"]) == 0, capsys.readouterr()
    table = Utterances.read("read/utterances.parquet")
    assert table.frame["audio"].to_list()[:2] == ["s3://mine/wavs/c0.wav", "s3://mine/wavs/c1.wav"]
    assert table.about.roots == {}
    assert len(Votes.read("read/votes.parquet")) == 72
    assert Findings.read("read/findings.parquet").frame.filter(pl.col("kind") == "no_audio").is_empty()
    asked = ["annotate", "read/utterances.parquet", "--annotator", "scripted.toml", "-o", "asked", "--taxonomy"]
    assert run([*asked, "happy,sad", "--stop", "collapse=1", "--quiet"]) == 0, capsys.readouterr()
    proxies = Votes.read("asked/votes.parquet").frame
    assert proxies.height == 48
    assert proxies["status"].unique().to_list() == ["ok"]
    listen = ["listen", "read/utterances.parquet", "--votes", "read/votes.parquet", "--folds", "3", "-o", "heard"]
    assert run([*listen, "--quiet"]) == 0, capsys.readouterr()
    fuse = ["fuse", "read/votes.parquet", "asked/votes.parquet", "--method", "pool", "-o", "fused", "--quiet"]
    assert run(fuse) == 0, capsys.readouterr()
    train = ["train", "fused/labels.parquet", "--utterances", "read/utterances.parquet", "--recipe", "features"]
    assert run([*train, "-o", "model", "--quiet"]) == 0, capsys.readouterr()
    assert run(["predict", "model", "read/utterances.parquet", "-o", "predicted", "--quiet"]) == 0, capsys.readouterr()
    assert len(Labels.read("predicted/labels.parquet")) == 24
    assert len(in_cache()) == 24


def test_a_bad_recording_is_the_failure_of_its_utterance_and_is_asked_for_again(
    corpus: Path, s3: Buckets, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*READ, "-o", "read"]) == 0
    (s3.folder / "mine/wavs/c5.wav").unlink()
    s3.put("mine/wavs/c6.wav", b"no sound")
    asked = ["annotate", "read/utterances.parquet", "--annotator", "scripted.toml", "-o", "asked", "--taxonomy"]
    assert run([*asked, "happy,sad", "--stop", "collapse=1", "--quiet"]) == 0, capsys.readouterr()
    votes = Votes.read("asked/votes.parquet").frame
    failed = votes.filter(pl.col("status") == "failed")
    assert sorted(set(failed["utterance_id"])) == ["mine/c5", "mine/c6"]
    assert votes.height - failed.height == 44
    s3.put("mine/wavs/c5.wav", tone())
    s3.put("mine/wavs/c6.wav", tone(300))
    copies._known = copies._Known()
    assert run([*asked, "happy,sad", "--stop", "collapse=1", "--quiet"]) == 0, capsys.readouterr()
    assert Votes.read("asked/votes.parquet").frame["status"].unique().to_list() == ["ok"]


def test_tables_in_a_bucket_are_inputs_of_every_command(
    corpus: Path, s3: Buckets, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*READ, "-o", "read"]) == 0
    s3.put("mine/read/votes.parquet", Path("read/votes.parquet").read_bytes())
    for source, output in (("read/votes.parquet", "near"), ("s3://mine/read/votes.parquet", "far")):
        assert run(["fuse", source, "--method", "human", "-o", output, "--quiet"]) == 0, capsys.readouterr()
    assert Path("near/labels.parquet").read_bytes() == Path("far/labels.parquet").read_bytes()
    assert len(Votes.read("s3://mine/read/votes.parquet")) == 72
    capsys.readouterr()
    assert run(["fuse", "s3://mine/read/none.parquet", "--method", "human", "-o", "none"]) == 2
    assert "s3://mine/read/none.parquet: there is no such file" in capsys.readouterr().err
    assert not Path("none").exists()
    s3.put("mine/read/bad.parquet", b"PAR1 or not")
    assert run(["fuse", "s3://mine/read/bad.parquet", "--method", "human", "-o", "none"]) == 2
    assert "s3://mine/read/bad.parquet" in capsys.readouterr().err


def test_a_folder_in_a_bucket_stands_for_the_file_in_it_that_is_needed(
    corpus: Path, s3: Buckets, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*READ, "-o", "read"]) == 0
    for name in ("votes", "utterances"):
        s3.put(f"mine/all/{name}.parquet", Path(f"read/{name}.parquet").read_bytes())
    for source, output in (("read", "near"), ("s3://mine/all", "far"), ("s3://mine/all/", "with_a_slash")):
        assert run(["fuse", source, "--utterances", source, "-o", output, "--quiet"]) == 0, capsys.readouterr()
        assert Path("near/labels.parquet").read_bytes() == Path(output, "labels.parquet").read_bytes()
    capsys.readouterr()
    assert run(["fuse", "s3://mine/none", "--method", "human", "-o", "none"]) == 2
    assert "s3://mine/none/votes.parquet: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "s3://mine/model", "read", "-o", "p.parquet"),
        ("explain", "s3://mine/labels.parquet", "mine/c0"),
        ("explain", "near", "mine/c0", "--votes", "s3://mine/votes.parquet"),
        ("status", "s3://mine/model"),
    ],
)
def test_what_is_read_on_this_machine_alone_says_so(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(list(words)) == 2
    address = next(word for word in words if word.startswith("s3://"))
    assert f"{address}: must be on this machine" in capsys.readouterr().err


def test_recordings_are_found_below_an_address_by_name(corpus: Path, s3: Buckets) -> None:
    rows = [f"c{n},r,{('happy', 'sad')[n % 2]}" for n in range(24)]
    (corpus / "votes.csv").write_text("\n".join(["clip,rater,label", *rows]))
    columns = ["--columns", "utterance_id=clip,annotator=rater,label=label", "--taxonomy", "happy,sad", "--quiet"]
    read = ["read", "table", "votes.csv", "--corpus", "mine", *columns, "--recordings", "s3://mine/wavs", "-o", "read"]
    assert run(read) == 0
    frame = Utterances.read("read/utterances.parquet").frame.sort("utterance_id")
    assert frame.filter(pl.col("utterance_id") == "mine/c7")["audio"].to_list() == ["s3://mine/wavs/c7.wav"]


PIPELINE = """\
taxonomy = "happy,sad"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "s3://mine/votes.csv"
columns = { utterance_id = "clip", speaker = "who", annotator = "rater", label = "label", audio = "audio" }
[annotate]
panel = ["scripted.toml"]
injection = 0
stop = { collapse = 1.0 }
[fuse]
method = "pool"
"""


def test_a_run_skips_what_is_unchanged_in_the_bucket_and_notices_what_is_not(
    corpus: Path, s3: Buckets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_ASK_AGAIN", 0.0)
    (corpus / "p.toml").write_text(PIPELINE.replace('"happy,sad"', '["happy", "sad"]'))
    assert run(["check", "p.toml"]) == 0
    assert "24 recordings are remote; 24 of 24 that were looked for are there" in capsys.readouterr().err
    assert not (cache.cache_folder() / "audio").exists()
    assert run(["run", "p.toml"]) == 0, capsys.readouterr()
    capsys.readouterr()
    assert run(["run", "p.toml"]) == 0
    assert capsys.readouterr().err.count("unchanged, skipped") == 3
    s3.put("mine/wavs/c3.wav", tone(900))
    assert run(["run", "p.toml"]) == 0
    err = capsys.readouterr().err
    assert "read: unchanged" in err
    assert "annotate: runs again because recordings has changed" in err
    assert "2 votes about recordings or texts that have changed since" in err
    s3.put("mine/votes.csv", (s3.folder / "mine/votes.csv").read_bytes().replace(b"r2,sad", b"r2,happy"))
    assert run(["run", "p.toml"]) == 0
    assert "read: runs again because mine s3://mine/votes.csv has changed" in capsys.readouterr().err


def test_recordings_of_a_corpus_whose_card_forbids_copies_are_never_on_a_disk(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "cards").mkdir()
    (corpus / "cards" / "mine.md").write_text(CARD)
    assert run([*READ, "--cards", "cards", "-o", "read"]) == 0, capsys.readouterr()
    assert Utterances.read("read/utterances.parquet").about.stays == ("mine",)
    listen = ["listen", "read/utterances.parquet", "--votes", "read/votes.parquet", "--folds", "3", "-o", "heard"]
    assert run([*listen, "--quiet"]) == 0, capsys.readouterr()
    asked = ["annotate", "read/utterances.parquet", "--annotator", "scripted.toml", "-o", "asked", "--taxonomy"]
    assert run([*asked, "happy,sad", "--stop", "collapse=1", "--quiet"]) == 0, capsys.readouterr()
    assert not (cache.cache_folder() / "audio").exists()
    assert run(["listen", "read/utterances.parquet", "--votes", "read/votes.parquet", "-o", "again", "--quiet"]) == 0


def test_items_rendered_under_a_card_that_is_given_to_balance_alone_leave_no_copy_of_its_recordings(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*READ, "-o", "read"]) == 0, capsys.readouterr()
    assert run(["fuse", "read/votes.parquet", "--method", "human", "-o", "fused", "--quiet"]) == 0, capsys.readouterr()
    (corpus / "cards").mkdir()
    (corpus / "cards" / "mine.md").write_text(CARD)
    balance = ["balance", "fused/labels.parquet", "--utterances", "read/utterances.parquet", "--copies", "size=1.5"]
    assert run([*balance, "--render", "--cards", "cards", "-o", "balanced", "--quiet"]) in (0, 1), capsys.readouterr()
    assert list(Path("balanced/audio").glob("*.flac"))
    assert not (cache.cache_folder() / "audio").exists()
