"""Databases of audformat, made with audformat itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.stages.read.formats.audformat import AudformatSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, read
from tests.stages.read.audformat_trees import audb_crema_d, labels_in_a_table, plain, rated

audformat = pytest.importorskip("audformat", reason="audformat is a development dependency")
LABELS = ReadSettings(taxonomy=("angry", "happy", "neutral"))


def votes_of(corpus: Corpus) -> list[tuple[str, str, str, str | None]]:
    return sorted(corpus.votes.frame.select("utterance_id", "annotator", "source", "label").rows(), key=_named)


def _named(row: tuple[str, str, str, str | None]) -> tuple[str, ...]:
    return tuple(each or "" for each in row)


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_people_are_votes_a_model_is_a_proxy_and_a_published_label_is_the_consensus(
    tmp_path: Path, storage: str
) -> None:
    corpus = read(AudformatSource(source=rated(audformat, tmp_path, storage), corpus="mine"), LABELS)
    assert votes_of(corpus) == [
        ("mine/audio/a", "mine/ann", "human", "angry"),
        ("mine/audio/a", "mine/ben", "human", "neutral"),
        ("mine/audio/a", "mine/consensus", "human", "angry"),
        ("mine/audio/a", "net", "proxy", "angry"),
        ("mine/audio/b", "mine/ann", "human", None),
        ("mine/audio/b", "mine/ben", "human", "neutral"),
        ("mine/audio/b", "mine/consensus", "human", "neutral"),
        ("mine/audio/b", "net", "proxy", "happy"),
        ("mine/audio/c", "mine/crowd", "human", "angry"),
        ("mine/audio/c", "mine/crowd", "human", "neutral"),
        ("mine/audio/c", "mine/crowd", "human", "neutral"),
        ("mine/audio/c#0.5-1.25", "mine/ann", "human", "happy"),
        ("mine/audio/c#1.5-", "mine/ann", "human", "angry"),
    ]
    rating = corpus.votes.frame.filter(annotator="mine/ann").drop_nulls("arousal").select("utterance_id", "arousal")
    assert dict(rating.iter_rows()) == {"mine/audio/a": 0.25, "mine/audio/b": 1.0}
    assert corpus.votes.about.scales == {"mine": {"arousal": (1.0, 5.0)}}


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_files_and_segments_are_utterances_with_their_speakers_and_splits(tmp_path: Path, storage: str) -> None:
    corpus = read(AudformatSource(source=rated(audformat, tmp_path, storage), corpus="mine"), LABELS)
    frame = corpus.utterances.frame.sort("utterance_id")
    assert frame.select("audio", "start", "end", "speaker", "gender", "split", "language").rows() == [
        ("audio/a.wav", None, None, "mine/s1", "female", "train", "en"),
        ("audio/b.wav", None, None, "mine/s2", "male", "train", "en"),
        ("audio/c.wav", None, None, "mine/s2", "male", "test", "en"),
        ("audio/c.wav", 0.5, 1.25, "mine/s2", "male", None, "en"),
        ("audio/c.wav", 1.5, None, "mine/s2", "male", None, "en"),
    ]
    assert corpus.labels is not None
    assert corpus.labels.frame.select("utterance_id", "p_angry", "p_happy").rows() == [("mine/audio/b", 0.75, 0.25)]
    assert corpus.findings.counts() == {
        "columns_not_taken": 1,
        "counted_twice": 9,
        "files_differ": 1,  # audio/b.wav is in the split of one table, and in another of a further one
        "no_audio": 1,
        "no_label": 1,
        "synonyms": corpus.findings.counts()["synonyms"],
    }


def test_only_the_tables_named_are_read_and_unknown_names_are_refused(tmp_path: Path) -> None:
    root = rated(audformat, tmp_path)
    corpus = read(AudformatSource(source=root, corpus="mine", tables=("emotion.votes",)), LABELS)
    assert corpus.votes.frame["annotator"].unique().to_list() == ["mine/crowd"]
    assert len(corpus.votes) == 9 + 3
    for wrong, words in (({"tables": ("emotion.vote",)}, "emotion.votes"), ({"scheme": "emotions"}, "emotion")):
        with pytest.raises(SettingsError, match=words):
            read(AudformatSource.model_validate({"source": root, "corpus": "mine", **wrong}), LABELS)


def test_a_broken_header_a_missing_table_and_a_pickle_are_refused(tmp_path: Path) -> None:
    root = plain(audformat, tmp_path)
    source = AudformatSource(source=root, corpus="mine")
    assert len(read(source, LABELS).votes) == 32
    (root / "db.emotion.csv").rename(root / "db.emotion.pkl")
    with pytest.raises(InputError, match="only a pickle"):
        read(source, LABELS)
    (root / "db.yaml").write_text("name: [1, 2")
    with pytest.raises(TableError, match="not YAML"):
        read(source, LABELS)
    (root / "db.yaml").write_text("name: x")
    with pytest.raises(TableError, match="no tables"):
        read(source, LABELS)
    (root / "db.yaml").unlink()
    with pytest.raises(InputError, match=r"looked for db\.yaml"):
        read(source, LABELS)


def test_what_export_writes_is_read_back(tmp_path: Path) -> None:
    corpus = read(AudformatSource(source=rated(audformat, tmp_path / "a"), corpus="mine"), LABELS)
    assert corpus.labels is not None
    from alm_proxies.stages.export.settings import ExportSettings
    from alm_proxies.stages.export.stage import export

    people = corpus.utterances
    wanted = ExportSettings.model_validate({"format": "audformat"})
    export(corpus.labels, people, tmp_path / "out", wanted)
    again = read(AudformatSource(source=tmp_path / "out", corpus="mine"), LABELS)
    assert again.labels is not None
    assert again.labels.frame.select("p_angry", "p_happy").rows() == [(0.75, 0.25)]
    assert again.votes.frame["source"].unique().to_list() == ["proxy"]
    assert again.votes.frame.select(pl.col("annotator").unique()).item() == "fused"


def test_the_votes_of_audbs_crema_d_are_its_counts_and_the_most_frequent_answers_are_published_labels(
    tmp_path: Path,
) -> None:
    """The most frequent answers were taken as the votes, and the counts left out: one vote in place of ten."""
    corpus = read(AudformatSource(source=audb_crema_d(audformat, tmp_path), corpus="mine"), LABELS)
    counted = corpus.votes.frame.group_by("utterance_id", "annotator", "label").len()
    assert set(counted.rows()) == {
        ("mine/1001/1001_IEO_ANG_HI", "mine/crowd", "angry", 4),
        ("mine/1001/1001_IEO_ANG_HI", "mine/crowd", "neutral", 4),
        ("mine/1001/1001_IEO_NEU_XX", "mine/crowd", "angry", 1),
        ("mine/1001/1001_IEO_NEU_XX", "mine/crowd", "neutral", 9),
        ("mine/1001/1001_IEO_NEU_XX", "mine/consensus", "neutral", 1),
    }
    assert dict(corpus.utterances.frame.select("utterance_id", "intended").iter_rows()) == {
        "mine/1001/1001_IEO_ANG_HI": "anger",
        "mine/1001/1001_IEO_NEU_XX": "neutral",
    }
    counts = corpus.findings.counts()
    assert counts["no_majority"] == 1
    assert not {"counted_twice", "no_vote", "out_of_vocabulary"} & set(counts)


def test_counts_of_several_tables_for_a_file_are_refused_until_the_tables_are_named(tmp_path: Path) -> None:
    """Votes on the voice and on the face were added up."""
    root = audb_crema_d(audformat, tmp_path, face=True)
    with pytest.raises(InputError, match=r"emotion\.categories\.face\.test\.votes, emotion\.categories\.test\.votes"):
        read(AudformatSource(source=root, corpus="mine"), LABELS)
    voice = AudformatSource(source=root, corpus="mine", tables=("emotion.categories.test.votes",))
    corpus = read(voice, LABELS)
    assert len(corpus.votes) == 18
    assert corpus.utterances.frame["intended"].to_list() == ["anger", "neutral"]


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_labels_that_a_misc_table_defines_are_those_of_counts(tmp_path: Path, storage: str) -> None:
    """They were not known, so that no table had counts."""
    root = labels_in_a_table(audformat, tmp_path, storage)
    corpus = read(AudformatSource(source=root, corpus="mine"), LABELS)
    counted = corpus.votes.frame.group_by("utterance_id", "annotator", "label").len()
    assert set(counted.rows()) == {
        ("mine/a", "mine/crowd", "angry", 3),
        ("mine/a", "mine/crowd", "neutral", 1),
        ("mine/b", "mine/crowd", "angry", 1),
        ("mine/b", "mine/crowd", "neutral", 2),
    }
    (root / f"db.words.{storage}").unlink()
    with pytest.raises(InputError, match="'words' is missing"):
        read(AudformatSource(source=root, corpus="mine"), LABELS)


def _with(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


DAMAGES = {
    "a header that is cut in a line": ("yaml", lambda text: text[: text.index("scheme_id: share") + 3], "is not YAML"),
    "a column of a scheme that is absent": (
        "yaml", _with("scheme_id: votes", "scheme_id: vots"), "emotion.votes/anger names the scheme 'vots'.*'votes'",
    ),
    "labels in a misc table that is absent": (
        "yaml", _with("labels: people", "labels: persons"), "misc table 'persons'.*people",
    ),
    "a misc table that was cut off": ("yaml", lambda text: text.partition("misc_tables")[0], "misc table 'people'"),
    "a column that is absent": ("votes.csv", _with("anger", "angry"), "has no column 'anger'"),
    "a file without a name": ("votes.csv", _with("audio/b.wav", ""), "line 2, column file: None is not a file"),
    "a row that is cut": ("votes.csv", lambda text: text[:-4], "line 3: has 3 values, but the header has 4"),
    "an empty table": ("votes.csv", lambda text: "", "is empty"),
    "a count of one and a half": ("votes.csv", _with("9,0,0", "1.5,0,0"), "'1.5' is out of range"),
    "a count that is a word": ("votes.csv", _with("9,0,0", "many,0,0"), "'many' is not a number"),
    "a file that is listed twice": (
        "votes.csv", _with("audio/c.wav", "audio/b.wav"), "line 3, column file: 'audio/b.wav' has the id of an earlier",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_refused_with_its_place(tmp_path: Path, damage: str) -> None:
    name, changed, message = DAMAGES[damage]
    root = rated(audformat, tmp_path)
    path = root / ("db.yaml" if name == "yaml" else f"db.emotion.{name}")
    path.write_text(changed(path.read_text()))
    with pytest.raises((TableError, InputError), match=message) as refused:
        read(AudformatSource(source=root, corpus="mine"), LABELS)
    assert str(refused.value.where).startswith(str(path))
    assert refused.value.fix


def test_a_header_that_is_cut_between_lines_does_not_name_tables_that_are_there(tmp_path: Path) -> None:
    """Less was read, and nothing said so."""
    root = rated(audformat, tmp_path)
    header = (root / "db.yaml").read_text()
    (root / "db.yaml").write_text(header.partition("  emotion.train:")[0])
    found = read(AudformatSource(source=root, corpus="mine"), LABELS).findings.frame.filter(kind="table_not_named")
    assert found.select("severity", "count").rows() == [("warning", 5)]


def test_missing_counts_and_tables_without_rows_are_counted(tmp_path: Path) -> None:
    root = rated(audformat, tmp_path)
    table = root / "db.emotion.votes.csv"
    whole = table.read_text()
    table.write_text(whole.replace("9,0,0", ",0,"))
    assert read(AudformatSource(source=root, corpus="mine"), LABELS).findings.counts()["missing_number"] == 2
    table.write_text(whole.splitlines(keepends=True)[0])
    counts = read(AudformatSource(source=root, corpus="mine"), LABELS).findings.counts()
    assert counts["no_votes"] == 1


def two_tables(root: Path, kind: str) -> AudformatSource:
    """A database with two tables of one rater's labels, or of shares, and two that name a speaker."""
    base = audformat.Database("two", "https://example.org", "research")
    base.raters["ann"] = audformat.Rater("human")
    base.schemes["emotion"] = audformat.Scheme(labels=["anger", "happiness", "neutral"])
    base.schemes["speaker"] = audformat.Scheme("str")
    base.schemes["share"] = audformat.Scheme("float", minimum=0, maximum=1)
    for name, files in (("voice", ["a.wav", "b.wav"]), ("face", ["b.wav"])):
        base.splits[name] = audformat.Split("train" if name == "voice" else "test")
        table = base[name] = audformat.Table(audformat.filewise_index(files), split_id=name)
        if kind == "votes":
            table["ann"] = audformat.Column(scheme_id="emotion", rater_id="ann")
            table["ann"].set(["anger"] * len(files))
        for label in ("anger", "happiness") if kind == "shares" else ():
            table[label] = audformat.Column(scheme_id="share")
            table[label].set([float((label == "anger") == (name == "voice"))] * len(files))
        about = base[f"{name}.people"] = audformat.Table(audformat.filewise_index(files))
        about["speaker"] = audformat.Column(scheme_id="speaker")
        about["speaker"].set([f"of {name}"] * len(files))
    base.save(str(root), storage_format="csv")
    return AudformatSource(source=root, corpus="mine")


def test_a_raters_second_answer_in_a_further_table_and_what_tables_contradict_each_other_in_is_counted(
    tmp_path: Path,
) -> None:
    corpus = read(two_tables(tmp_path, "votes"), LABELS)
    assert len(corpus.votes) == 3
    counts = corpus.findings.counts()
    assert (counts["answered_again"], counts["files_differ"]) == (1, 2)  # b.wav: its speaker, and its split
    assert corpus.utterances.frame.sort("utterance_id")["speaker"].to_list() == ["mine/of voice", "mine/of face"]
    alone = read(two_tables(tmp_path, "votes").model_copy(update={"tables": ("face",)}), LABELS)
    assert (len(alone.votes), "answered_again" in alone.findings.counts()) == (1, False)


def test_shares_of_several_tables_for_a_file_are_refused_until_the_tables_are_named(tmp_path: Path) -> None:
    source = two_tables(tmp_path, "shares")
    with pytest.raises(InputError, match=r"several tables that have shares of labels for 'mine/b': face, voice"):
        read(source, LABELS)
    labels = read(source.model_copy(update={"tables": ("face",)}), LABELS).labels
    assert labels is not None
    assert labels.frame.select("utterance_id", "p_happy").rows() == [("mine/b", 1.0)]
