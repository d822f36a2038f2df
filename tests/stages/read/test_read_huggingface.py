"""Hugging Face data sets on this machine, made with `datasets` itself."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.stages.read.formats.huggingface import HuggingfaceSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, read
from tests.stages.read.corpora import sound

datasets = pytest.importorskip("datasets", reason="datasets is a development dependency")
# `datasets` leaves the metadata of an audiofolder, and files that it refuses, for the garbage collector to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LABELS = ReadSettings(taxonomy=("angry", "happy", "sad"))


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before() -> Iterator[None]:
    """It is not looked through for garbage after each of these tests, which would take most of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    gc.collect()


def noise(number: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(number).normal(0, 0.01, 1600), 16000, format="WAV")
    return stream.getvalue()


def votes(number: int) -> Any:
    """Four clips with recordings inside, class labels of three raters, and one answer that is missing."""
    rows = [
        {
            "audio": {"path": f"c{number}{clip}.wav", "bytes": noise(clip)},
            "rater": f"r{rater}",
            "emotion": -1 if clip + rater == 0 else (clip + rater) % 3,
            "speaker": clip % 2,
        }
        for clip in range(4)
        for rater in range(3)
    ]
    data = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    return data.cast_column("emotion", datasets.ClassLabel(names=["angry", "happy", "sad"]))


COLUMNS = {"audio": "audio", "annotator": "rater", "label": "emotion", "speaker": "speaker"}


def whole(source: Path, **more: object) -> Corpus:
    settings = {"source": source, "corpus": "mine", "columns": COLUMNS}
    return read(HuggingfaceSource.model_validate(settings | more), LABELS)


def expected(number: int) -> set[tuple[str, str, str | None]]:
    names = ("angry", "happy", "sad")
    return {
        (f"mine/{split}/c{number}{clip}", f"mine/r{rater}", None if clip + rater == 0 else names[(clip + rater) % 3])
        for split in ("train",)
        for clip in range(4)
        for rater in range(3)
    }


@pytest.mark.parametrize("form", ["parquet", "saved", "folder"])
def test_class_labels_are_votes_and_recordings_are_not_decoded(tmp_path: Path, form: str) -> None:
    data = votes(1)
    if form == "saved":
        data.save_to_disk(str(tmp_path / "set"))
    else:
        data.to_parquet(str(tmp_path / "set" / "data" / "train-00000-of-00001.parquet"))
    place = tmp_path / "set"
    corpus = whole(place / "data" / "train-00000-of-00001.parquet" if form == "parquet" else place)
    assert set(corpus.votes.frame.select("utterance_id", "annotator", "label").rows()) == expected(1)
    assert corpus.utterances.frame["audio"].to_list() == [None] * 4
    assert corpus.utterances.frame["speaker"].to_list() == ["mine/0", "mine/1"] * 2
    assert corpus.utterances.frame["split"].to_list() == ["train"] * 4
    counts = corpus.findings.counts()
    assert counts["no_audio"] == 4
    assert counts["empty_label"] == 1


def test_recordings_inside_the_files_are_written_out_as_they_are_where_asked_for(tmp_path: Path) -> None:
    votes(2).to_parquet(str(tmp_path / "set.parquet"))
    for _ in range(2):
        corpus = whole(tmp_path / "set.parquet", extract=tmp_path / "out")
        audio = corpus.utterances.frame["audio"].to_list()
        assert audio == [f"train/c2{clip}.wav" for clip in range(4)]
        assert corpus.utterances.about.roots == {"mine": str(tmp_path / "out")}
        for clip, name in enumerate(audio):
            assert (tmp_path / "out" / name).read_bytes() == noise(clip)
        assert "no_audio" not in corpus.findings.counts()


def test_soft_labels_and_counts_in_lists_are_read(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict(
        {"id": ["a", "b"], "shares": [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], "votes": [[2, 1, 1], [0, 0, 3]]}
    )
    data.to_parquet(str(tmp_path / "set.parquet"))
    columns = {"utterance_id": "id"}
    soft = whole(tmp_path / "set.parquet", columns=columns, probabilities="shares")
    assert soft.labels is not None
    assert soft.labels.frame.select("p_angry", "p_happy", "p_sad").rows() == [(0.5, 0.25, 0.25), (0.0, 0.0, 1.0)]
    counted = whole(tmp_path / "set.parquet", columns=columns, counts="votes").votes.frame
    assert counted.group_by("utterance_id").len().sort("utterance_id").rows() == [("mine/a", 4), ("mine/b", 3)]


def test_an_audiofolder_keeps_its_recordings_where_they_are(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        sound(tmp_path / "set" / split / "a.wav")
        (tmp_path / "set" / split / "metadata.csv").write_text("file_name,emotion,rater\na.wav,sad,r1\n")
    corpus = whole(tmp_path / "set", columns={"audio": "audio", "label": "emotion", "annotator": "rater"})
    frame = corpus.utterances.frame.sort("utterance_id")
    assert frame.select("utterance_id", "audio", "split").rows() == [
        ("mine/train/a", "train/a.wav", "train"),
        ("mine/validation/a", "validation/a.wav", "development"),
    ]
    assert corpus.votes.frame["label"].to_list() == ["sad", "sad"]


def test_what_is_no_data_set_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "notes.txt").write_text("notes")
    for name in ("empty", "broken.parquet", "notes.txt"):
        with pytest.raises((InputError, TableError)) as refused:
            whole(tmp_path / name)
        assert refused.value.fix
    with pytest.raises(SettingsError, match="corpus"):
        read(HuggingfaceSource(source=tmp_path / "empty"), LABELS)


def test_no_recording_is_decoded_even_if_it_is_not_sound(tmp_path: Path) -> None:
    rows = [{"audio": {"path": None, "bytes": b"ID3 no sound"}, "emotion": "sad"}]
    data = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    data.to_parquet(str(tmp_path / "set.parquet"))
    corpus = whole(tmp_path / "set.parquet", columns={"audio": "audio", "label": "emotion"}, extract=tmp_path / "out")
    assert corpus.utterances.frame["audio"].to_list() == ["train/0000000.mp3"]
    assert corpus.votes.frame.select(pl.col("label")).item() == "sad"


def test_csv_files_are_read_as_text(tmp_path: Path) -> None:
    """They were refused: datasets does not know the types of their columns before it has read them."""
    (tmp_path / "train.csv").write_bytes(b"\xef\xbb\xbfclip,rater,heard\r\n007,1,Angry\r\n007,2,\r\n08,1,sad\r\n")
    columns = {"utterance_id": "clip", "annotator": "rater", "label": "heard"}
    for place in (tmp_path, tmp_path / "train.csv"):
        corpus = whole(place, columns=columns)
        assert corpus.votes.frame.select("utterance_id", "annotator", "label").rows() == [
            ("mine/007", "mine/1", "angry"),
            ("mine/007", "mine/2", None),
            ("mine/08", "mine/1", "sad"),
        ]
        assert corpus.findings.counts()["empty_label"] == 1


def test_a_data_set_of_several_configurations_names_them(tmp_path: Path) -> None:
    for name in ("de", "en"):
        votes(1).to_parquet(str(tmp_path / name / "train.parquet"))
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("de", "en"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(TableError, match="several configurations: .*'de'.*folder of the files of one"):
        whole(tmp_path)
    assert len(whole(tmp_path / "en").utterances) == 4


def test_settings_of_text_files_are_refused_where_datasets_reads_them(tmp_path: Path) -> None:
    """They were taken, and did nothing."""
    for key, value in (("files", {"a.csv": "train"}), ("encoding", "latin-1")):
        with pytest.raises(ValueError, match=key):
            whole(tmp_path, **{key: value})


def test_empty_answers_in_lists_are_counted(tmp_path: Path) -> None:
    """They were left out, and nothing said so; those of an answer that is empty as a whole are its missing label."""
    answers = [["angry", None, "sad"], ["happy", ""], [], [None, None], None]
    data = datasets.Dataset.from_dict({"id": list("abcde"), "emotion": answers, "rater": ["r"] * 5})
    data.to_parquet(str(tmp_path / "set.parquet"))
    columns = {"utterance_id": "id", "label": "emotion", "annotator": "rater"}
    corpus = whole(tmp_path / "set.parquet", columns=columns, several_labels="each")
    assert corpus.votes.frame["label"].drop_nulls().to_list() == ["angry", "sad", "happy"]
    found = corpus.findings.frame.filter(kind="empty_label")
    assert sorted(found["count"]) == [2, 3]


def test_a_rating_beside_counts_is_refused(tmp_path: Path) -> None:
    """It was neither read nor looked at, and nothing said so."""
    data = datasets.Dataset.from_dict({"id": ["a"], "votes": [[2, 1, 1]], "felt": [9.0]})
    data.to_parquet(str(tmp_path / "set.parquet"))
    columns = {"utterance_id": "id", "valence": "felt"}
    with pytest.raises(SettingsError, match=r"maps both counts and valence.*Leave valence out"):
        whole(tmp_path / "set.parquet", columns=columns, counts="votes", scales={"valence": (1, 5)})


def test_the_packages_print_nothing_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    votes(1).to_parquet(str(tmp_path / "set" / "train.parquet"))
    (tmp_path / "set" / "README.md").write_text("# Without metadata")
    before = datasets.logging.get_verbosity(), datasets.utils.are_progress_bars_disabled()
    capfd.readouterr()
    whole(tmp_path / "set")
    (tmp_path / "cut.jsonl").write_text('{"audio": "a", "rater": "r1"}\n{"audio": "b", "ra')
    with pytest.raises(TableError, match="cannot be loaded by datasets") as refused:
        whole(tmp_path / "cut.jsonl")
    assert refused.value.where == str(tmp_path / "cut.jsonl")
    assert capfd.readouterr() == ("", "")
    assert (datasets.logging.get_verbosity(), datasets.utils.are_progress_bars_disabled()) == before


@pytest.mark.parametrize("columns", [COLUMNS, {**COLUMNS, "utterance_id": "id"}])
def test_recordings_of_one_name_inside_the_files_stay_apart(tmp_path: Path, columns: dict[str, str]) -> None:
    """Data sets on the hub keep the last part of a path alone, such as audio.wav for all rows."""
    named = ["s1/001.wav", "s2/001.wav", "001~2.wav", "audio.wav", "audio.wav", "audio.wav"]
    contents = [noise(clip) for clip in (0, 1, 2, 3, 4, 3)]
    rows = [
        {
            "audio": {"path": path, "bytes": content},
            "rater": f"r{row}",
            "emotion": "sad",
            "speaker": "x",
            "id": str(row),
        }
        for row, (path, content) in enumerate(zip(named, contents, strict=True))
    ]
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False)).to_parquet(str(path))
    old = tmp_path / "out" / "train" / "audio.wav"
    old.parent.mkdir(parents=True)
    old.write_bytes(bytes(len(contents[3])))  # as long as the one that takes its place
    source = {"corpus": "mine", "source": path, "columns": columns, "extract": tmp_path / "out"}
    corpus = read(HuggingfaceSource.model_validate(source), LABELS)
    joined = corpus.votes.frame.join(corpus.utterances.frame, on="utterance_id").sort("annotator")
    assert [(tmp_path / "out" / name).read_bytes() for name in joined["audio"]] == contents
    assert corpus.utterances.frame["audio"].n_unique() == 5
    assert corpus.findings.counts()["misnamed"] == 3


def test_recordings_of_two_data_sets_are_not_written_into_one_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        votes(number).to_parquet(str(tmp_path / f"{number}.parquet"))
    sources = [
        HuggingfaceSource.model_validate(
            {
                "corpus": f"c{number}",
                "source": tmp_path / f"{number}.parquet",
                "columns": COLUMNS,
                "extract": tmp_path / "out",
            }
        )
        for number in (1, 2)
    ]
    with pytest.raises(SettingsError, match="recordings of two sources") as refused:
        read(sources, LABELS)
    assert (refused.value.where, (tmp_path / "out").exists()) == (str(tmp_path / "out"), False)
