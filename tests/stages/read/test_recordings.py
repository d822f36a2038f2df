"""Recordings that are not where a table says are reported when it is read, not when they are first opened."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import pytest
from long_table import put, table

from alm_proxies.audio.folder import recordings_in
from alm_proxies.cli.app import run
from alm_proxies.errors import InputError
from alm_proxies.stages.read.recordings import recordings_absent
from alm_proxies.stages.read.stage import Corpus
from alm_proxies.tables import Findings, Utterances, Votes

Form = Literal["NFC", "NFD"]
COLUMNS = {"utterance_id": "id", "audio": "f"}


def missing(path: Path, **settings: Any) -> list[dict[str, Any]]:
    corpus = table(path, columns=COLUMNS, **settings)
    return corpus.findings.frame.filter(pl.col("kind") == "no_audio").rows(named=True)


def test_recordings_that_are_not_there_are_named_and_where_they_were_looked_for(tmp_path: Path) -> None:
    for name in ("x/a.wav", "b.wav"):
        put(tmp_path / name, "sound")
    text = f"id,f\na,x/a.wav\nb,{tmp_path}/b.wav\nb2,b.wav\nc,x/c.wav\nc2,x/c.wav\nd,s3://bucket/d.wav\ne,\nf,y/f.wav\n"
    findings = missing(put(tmp_path / "t.csv", text))
    assert [row["count"] for row in findings] == [2]
    message = f"2 of 4 recordings are missing: 'x/c.wav', 'y/f.wav'; looked for under {tmp_path}"
    assert findings[0]["message"] == message
    assert "--columns 'audio=" in findings[0]["fix"]


def test_recordings_that_are_all_there_are_not_spoken_of(tmp_path: Path) -> None:
    put(tmp_path / "train" / "a.wav", "sound")
    (tmp_path / "train" / "link.wav").symlink_to("a.wav")
    put(tmp_path / "train" / "metadata.csv", "file_name,label\na.wav,sad\nlink.wav,sad\n")
    assert "no_audio" not in table(tmp_path).findings.counts()


@pytest.mark.parametrize("path", ["folder.wav", "dangling.wav", "nul\0.wav", "/no/such/folder/a.wav", "file:///no/a"])
def test_what_is_no_file_is_no_recording(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nothing.wav")
    put(tmp_path / "a.wav", "sound")
    assert [finding.count for finding in recordings_absent([path, "a.wav", f"file://{tmp_path}/a.wav"], tmp_path)] == [
        1
    ]


@pytest.mark.parametrize("name", ["My Sounds", "Hörproben (2)", "sounds"])
def test_votes_are_read_for_a_folder_of_recordings_whatever_its_name(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / "day 1" / "a.wav", "sound")
    votes = put(tmp_path / "votes.csv", "clip,heard\nday 1/a,sad\n")
    flags = ["--corpus", name, "--taxonomy", "crema6", "--columns", "utterance_id=clip,label=heard", "-o"]
    assert run(["read", "table", str(votes), *flags, str(tmp_path / "read")]) == 0
    read = Votes.read(tmp_path / "read" / "votes.parquet").frame["utterance_id"].to_list()
    assert read == recordings_in(tmp_path / name).frame["utterance_id"].to_list()


def test_a_table_that_names_no_recordings_misses_none(tmp_path: Path) -> None:
    corpus = table(put(tmp_path / "t.csv", "id,f\na,x\n"), columns={"utterance_id": "id"}, groups=["f"])
    assert corpus.findings.counts() == {}


def found_in(folder: Path, ids: str, *, columns: dict[str, str] | None = None, **settings: Any) -> list[str | None]:
    corpus = table(put(folder / "t.csv", ids), columns=columns or {"utterance_id": "id"}, **settings)
    assert corpus.utterances.about.roots == {"mine": str(folder / "sounds")}
    audio: list[str | None] = corpus.utterances.frame.sort("utterance_id")["audio"].to_list()
    return audio


def test_recordings_in_a_folder_of_their_own_are_found_by_id_name_or_path(tmp_path: Path) -> None:
    for name in ("a.wav", "deep/b.flac", "deep/c.take2.ogg", "notes.txt"):
        put(tmp_path / "sounds" / name, "sound")
    sounds = tmp_path / "sounds"
    assert found_in(tmp_path, "id\na\nb\nc.take2\n", recordings=sounds) == ["a.wav", "deep/b.flac", "deep/c.take2.ogg"]
    named = "id,f\n1,old/place/a.mp3\n2,deep/b.wav\n3,c.take2.ogg\n"
    assert found_in(tmp_path, named, columns=COLUMNS, recordings=sounds) == ["a.wav", "deep/b.flac", "deep/c.take2.ogg"]


@pytest.mark.parametrize(("table_form", "file_form"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_recording_is_found_however_its_accents_are_written(
    tmp_path: Path, table_form: Form, file_form: Form
) -> None:
    file = unicodedata.normalize(file_form, "tag/Ä_größe.wav")
    put(tmp_path / "sounds" / file, "sound")
    ids = unicodedata.normalize(table_form, "id\nÄ_größe\n")
    assert found_in(tmp_path, ids, recordings=tmp_path / "sounds") == [file]


def test_of_two_recordings_that_differ_in_how_accents_are_written_the_one_so_written_is_found(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.wav") for form in get_args(Form)]
    for name in names:
        put(tmp_path / "sounds" / name, "sound")
    assert (
        found_in(
            tmp_path,
            "id,f\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)),
            columns=COLUMNS,
            recordings=tmp_path / "sounds",
        )
        == names
    )


def test_a_path_counts_before_a_name_alone_however_accents_are_written(tmp_path: Path) -> None:
    right, other = unicodedata.normalize("NFD", "x/é.wav"), unicodedata.normalize("NFC", "y/é.wav")
    for name in (right, other):
        put(tmp_path / "sounds" / name, "sound")
    text = unicodedata.normalize("NFC", "id,f\na,x/é.wav\n")
    assert found_in(tmp_path, text, columns=COLUMNS, recordings=tmp_path / "sounds") == [right]


def test_utterances_without_a_recording_in_the_folder_are_a_finding_and_none_at_all_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "sounds" / "a.wav", "sound")
    path = put(tmp_path / "t.csv", "id\na\nb\nc\n")
    corpus = table(path, columns={"utterance_id": "id"}, recordings=tmp_path / "sounds")
    (row,) = corpus.findings.frame.filter(pl.col("kind") == "no_audio").rows(named=True)
    assert row["message"] == f"2 of 3 utterances have no recording in {tmp_path}/sounds: 'mine/b', 'mine/c'"
    other = put(tmp_path / "t.csv", "id\nx\ny\n")
    with pytest.raises(
        InputError, match=r"holds no recording of any of 2 utterances, such as 'mine/x'; it holds 'a\.wav'"
    ):
        table(other, columns={"utterance_id": "id"}, recordings=tmp_path / "sounds")
    with pytest.raises(InputError, match="is no folder of recordings"):
        table(other, columns={"utterance_id": "id"}, recordings=tmp_path / "nowhere")


def test_two_recordings_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    for name in ("s1/a.wav", "s2/a.wav"):
        put(tmp_path / "sounds" / name, "sound")
    with pytest.raises(InputError, match=r"holds 's1/a\.wav' and 's2/a\.wav': which is 'a'"):
        table(put(tmp_path / "t.csv", "id\na\n"), columns={"utterance_id": "id"}, recordings=tmp_path / "sounds")
    ids = "id,f\na,s1/a.wav\nb,s2/a.wav\n"
    assert found_in(tmp_path, ids, columns=COLUMNS, recordings=tmp_path / "sounds") == ["s1/a.wav", "s2/a.wav"]


def test_a_recording_that_another_utterance_has_by_its_path_is_not_taken_by_name_alone(tmp_path: Path) -> None:
    for name in ("s1/001.wav", "s2/002.wav", "s3/001.wav"):
        put(tmp_path / "sounds" / name, "sound")
    ids = "id\ns1/001\ns2/001\ns2/002\ns3/001\n"
    assert found_in(tmp_path, ids, recordings=tmp_path / "sounds") == ["s1/001.wav", None, "s2/002.wav", "s3/001.wav"]
    named = "id,f\na,old/s1/001.wav\nb,s1/001.mp3\nc,s3/001\n"
    assert found_in(tmp_path, named, columns=COLUMNS, recordings=tmp_path / "sounds") == [
        None,
        "s1/001.wav",
        "s3/001.wav",
    ]


def test_one_recording_is_not_given_to_two_names_of_different_folders(tmp_path: Path) -> None:
    put(tmp_path / "sounds" / "001.wav", "sound")
    path = put(tmp_path / "t.csv", "id\ns1/001\ns2/001\n")
    with pytest.raises(InputError, match=r"holds '001\.wav': is it 's1/001' or 's2/001'"):
        table(path, columns={"utterance_id": "id"}, recordings=tmp_path / "sounds")
    parts = "id,f,start,end\n1,old/001.wav,0,1\n2,old/001.wav,1,2\n"
    columns = {**COLUMNS, "start": "start", "end": "end"}
    assert found_in(tmp_path, parts, columns=columns, recordings=tmp_path / "sounds") == ["001.wav"] * 2


def test_recordings_in_linked_folders_are_found_and_links_back_do_no_harm(tmp_path: Path) -> None:
    for name in ("disk/s1/a.wav", "sounds/b.wav"):
        put(tmp_path / name, "sound")
    (tmp_path / "sounds" / "s1").symlink_to(tmp_path / "disk" / "s1")
    (tmp_path / "sounds" / "s2").symlink_to(tmp_path / "disk" / "s1")
    (tmp_path / "disk" / "s1" / "back").symlink_to(tmp_path / "sounds")
    (tmp_path / "sounds" / "gone").symlink_to(tmp_path / "nowhere")
    assert found_in(tmp_path, "id\ns1/a\ns2/a\nb\n", recordings=tmp_path / "sounds") == [
        "b.wav",
        "s1/a.wav",
        "s2/a.wav",
    ]
    assert recordings_in(tmp_path / "sounds").frame["audio"].to_list() == ["b.wav", "s1/a.wav", "s2/a.wav"]


def read_by_pipeline(folder: Path, source: str) -> Corpus:
    """What a pipeline has read of a source of two lines of TOML, run once more."""
    text = f'taxonomy = "iemocap4"\nfolder = "{folder}/runs"\n[[read]]\ncorpus = "mine"\n{source}'
    assert run(["run", str(put(folder / "p.toml", text)), "--quiet"]) == 0
    place = folder / "runs" / "read"
    return Corpus(Utterances.read(place), Votes.read(place), Findings.read(place))


def test_a_changed_label_file_in_a_linked_folder_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "labels").symlink_to(tmp_path / "disk")
    source = f"""
format = "table"
source = "{tmp_path}/corpus"
files = {{ "labels/t.csv" = "train" }}
columns = {{ utterance_id = "id", label = "emotion" }}
"""
    for label in ("happy", "sad"):
        put(tmp_path / "disk" / "t.csv", f"id,emotion\na,{label}\n")
        assert read_by_pipeline(tmp_path, source).votes.frame["label"].to_list() == [label]


@pytest.mark.parametrize("source", ["Labels/labels_detailed.csv", "Labels", ""])
def test_changed_files_beside_a_label_file_or_its_folder_are_read_again(tmp_path: Path, source: str) -> None:
    head = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
    put(tmp_path / "msp" / "Labels" / "labels_detailed.csv", f"{head}MSP-PODCAST_0001_0001.wav,WORKER1,Happy,,5,5,5\n")
    for split in ("Train", "Development"):
        put(tmp_path / "msp" / "Partitions.txt", f"{split}; MSP-PODCAST_0001_0001.wav\n")
        corpus = read_by_pipeline(tmp_path, f'format = "msp_podcast"\nsource = "{tmp_path}/msp/{source}"\n')
        assert corpus.utterances.frame["split"].to_list() == [split.lower()]
    put(tmp_path / "msp" / "notes.txt", "nothing that is read")
    before = (tmp_path / "runs" / "read" / "votes.parquet").stat().st_mtime_ns
    read_by_pipeline(tmp_path, f'format = "msp_podcast"\nsource = "{tmp_path}/msp/{source}"\n')
    assert ((tmp_path / "runs" / "read" / "votes.parquet").stat().st_mtime_ns == before) == bool(source)
