"""EmotionLines and Dusha, from made-up trees in their shapes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from alm_proxies.errors import InputError, TableError
from alm_proxies.stages.read.emotionlines import WORDS
from alm_proxies.stages.read.formats.dusha import DushaSource
from alm_proxies.stages.read.formats.emotionlines import EmotionlinesSource
from alm_proxies.stages.read.stage import Corpus, read
from tests.stages.read.more_corpora import dusha, dusha_file, emotionlines, emotionlines_file


def votes_of(corpus: Corpus, utterance_id: str) -> list[tuple[str, str | None]]:
    frame = corpus.votes.frame.filter(pl.col("utterance_id") == utterance_id)
    return sorted(frame.select("annotator", "label").rows(), key=str)


def test_the_counts_of_a_line_are_votes_in_the_published_order(tmp_path: Path) -> None:
    root = emotionlines(tmp_path)
    corpus = read(EmotionlinesSource(source=root))
    crowd, published = "emotionlines/crowd", "emotionlines/consensus"
    counted = corpus.votes.frame.filter(annotator=crowd).group_by("utterance_id", "label").len()
    counts = {(key, label): count for key, label, count in counted.iter_rows()}
    # counted from the files by themselves
    labels = dict(zip(WORDS, ("neutral", "happy", "sad", "fear", "angry", "surprise", "disgust"), strict=True))
    expected = {}
    for path in (root / "Friends" / "friends_train.json", root / "Friends" / "friends_dev.json"):
        for d, dialogue in enumerate(json.loads(path.read_text())):
            for t, line in enumerate(dialogue):
                for word, count in zip(WORDS, line["annotation"], strict=True):
                    if count != "0":
                        expected[f"emotionlines/{path.stem}_{d}_{t}", labels[word]] = int(count)
    assert counts == expected
    assert dict(corpus.votes.frame.filter(annotator=published).select("utterance_id", "label").iter_rows()) == {
        "emotionlines/friends_train_0_0": "neutral",
        "emotionlines/friends_train_1_0": "surprise",
        "emotionlines/friends_dev_0_0": "happy",
        "emotionlines/emotionpush_test_0_0": "neutral",
    }


def test_what_is_odd_about_a_line_is_counted(tmp_path: Path) -> None:
    corpus = read(EmotionlinesSource(source=emotionlines(tmp_path)))
    counts = corpus.findings.counts()
    assert {kind: counts[kind] for kind in ("unread_lines", "odd_count", "no_majority")} == {
        "unread_lines": 1,
        "odd_count": 1,
        "no_majority": 1,
    }
    row = corpus.utterances.frame.row(
        by_predicate=pl.col("utterance_id") == "emotionlines/friends_train_0_1", named=True
    )
    expected = {
        "dialogue": "emotionlines/friends_train_0",
        "turn": 1,
        "speaker": "emotionlines/friends/Lee",
        "transcript": "So it is.",
        "split": "train",
        "part": "friends",
        "language": "en",
    }
    assert {name: row[name] for name in expected} == expected
    assert len(corpus.utterances) == 5
    assert set(corpus.utterances.frame["split"]) == {"train", "development", "test"}


def test_one_file_of_emotionlines_is_read_alone_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    path = emotionlines_file(tmp_path / "emotionpush.json", [[("12", "ok", "neutral", "5000000")]])
    assert read(EmotionlinesSource(source=path)).utterances.frame["split"].to_list() == [None]
    path.write_text('[["no line"]]')
    with pytest.raises(TableError, match="dialogue 1"):
        read(EmotionlinesSource(source=path))
    (tmp_path / "other.json").write_text("[]")
    for wrong in (tmp_path / "other.json", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="looked for"):
            read(EmotionlinesSource(source=wrong))


def test_lines_that_both_releases_of_emotionlines_hold_are_read_once(tmp_path: Path) -> None:
    """They were read twice, under two ids and once without a split."""
    root = emotionlines(tmp_path)
    alone = read(EmotionlinesSource(source=root))
    whole = [
        [(line["speaker"], line["utterance"], line["emotion"], line["annotation"]) for line in dialogue]
        for path in (root / "Friends" / "friends_train.json", root / "Friends" / "friends_dev.json")
        for dialogue in json.loads(path.read_text())
    ]
    emotionlines_file(root / "Friends" / "friends.json", whole)
    both = read(EmotionlinesSource(source=root))
    assert both.votes.frame.equals(alone.votes.frame)
    assert both.findings.counts()["repeated"] == 4
    (root / "Friends" / "friends_train.json").unlink()
    ids = read(EmotionlinesSource(source=root)).utterances.frame["utterance_id"]
    assert ids.str.contains("friends_0_0").any()
    assert not ids.str.contains("friends_dev").any()


def test_a_published_label_of_another_word_is_counted_and_a_file_without_annotations_refused(tmp_path: Path) -> None:
    lines = [("Kim", "Ok.", "puzzled", "5000000"), ("Lee", "No.", "neutral", "٥٠٠٠٠٠٠")]
    path = emotionlines_file(tmp_path / "friends.json", [lines])
    counts = read(EmotionlinesSource(source=path)).findings.counts()
    assert (counts["out_of_vocabulary"], counts["unread_lines"]) == (1, 1)
    path.write_text(path.read_text(encoding="utf-8").replace("annotation", "anotation"), encoding="utf-8")
    with pytest.raises(TableError, match="no line with an annotation"):
        read(EmotionlinesSource(source=path))


def test_a_speaker_that_is_a_number_is_one(tmp_path: Path) -> None:
    path = tmp_path / "emotionpush.json"
    path.write_text('[[{"speaker": 1234, "utterance": "ok", "emotion": "joy", "annotation": "0500000"}]]')
    frame = read(EmotionlinesSource(source=path)).utterances.frame
    assert frame["speaker"].to_list() == ["emotionlines/emotionpush/1234"]


@pytest.mark.parametrize(
    ("encoding", "cut", "words"),
    [("cp1252", 0, "line 2: is not utf-8 text"), ("utf-8", 10, "line 4, character"), ("utf-16", 0, "")],
)
def test_where_json_is_broken_is_stated(tmp_path: Path, encoding: str, cut: int, words: str) -> None:
    path = tmp_path / "friends.json"
    line = '{"speaker": "Zoë", "utterance": "é",\n "emotion": "joy",\n "annotation": "0500000"}'
    text = f"[[\n{line}]]"
    path.write_bytes(text[: len(text) - cut].encode(encoding))
    if words:
        with pytest.raises(TableError, match=words):
            read(EmotionlinesSource(source=path))
    else:
        assert read(EmotionlinesSource(source=path)).utterances.frame["transcript"].to_list() == ["é"]


def test_every_answer_of_dusha_is_a_vote_and_control_tasks_are_apart(tmp_path: Path) -> None:
    corpus = read(DushaSource(source=dusha(tmp_path)))
    assert votes_of(corpus, "dusha/aa11") == [
        ("dusha/7", "positive"),
        ("dusha/8", "neutral"),
        ("dusha/8", "neutral"),
    ]
    assert votes_of(corpus, "dusha/bb22") == [("dusha/7", "other")]
    assert corpus.findings.counts() == {"control_tasks": 1, "no_audio": 1, "no_rater": 1, "answered_again": 1}
    frame = corpus.utterances.frame.sort("utterance_id")
    assert frame.select("utterance_id", "audio", "speaker", "split", "domain", "intended", "duration").rows() == [
        ("dusha/aa11", "crowd_train/wavs/aa11.wav", "dusha/crowd/3", "train", "crowd", "positive", 2.5),
        ("dusha/bb22", None, "dusha/podcast/11", "test", "podcast", None, None),
    ]


def test_control_tasks_are_read_on_request_with_the_golden_label_as_consensus(tmp_path: Path) -> None:
    corpus = read(DushaSource(source=dusha(tmp_path) / "crowd_train", control_tasks=True))
    assert votes_of(corpus, "dusha/cc33") == [("dusha/7", "sad"), ("dusha/9", "angry"), ("dusha/consensus", "angry")]
    assert corpus.utterances.about.roots == {"dusha": str(tmp_path)}
    assert "control_tasks" not in corpus.findings.counts()


def test_tsv_and_jsonl_of_dusha_give_the_same_votes(tmp_path: Path) -> None:
    root = dusha(tmp_path)
    frames = [
        read(DushaSource(source=root / "crowd_train" / f"raw_crowd_train.{ending}")).votes.frame
        for ending in ("tsv", "jsonl")
    ]
    assert frames[0].equals(frames[1])
    path = dusha_file(tmp_path / "raw_crowd_test.tsv", [("", "", "", "sad", "", "1", "", "", "")])
    with pytest.raises(TableError, match="hash_id"):
        read(DushaSource(source=path))


ROW = ("aa11", "wavs/aa11.wav", "2.5", "sad", "", "7", "слово", "sad", "3")


def _rows_of_dusha(*changed: dict[int, str]) -> list[tuple[str, ...]]:
    return [tuple(change.get(place, value) for place, value in enumerate(ROW)) for change in changed]


def test_quotation_marks_in_the_text_of_dusha_are_part_of_it(tmp_path: Path) -> None:
    """Its authors quote nothing: a file with such a text was refused, or the rows up to the next mark were lost."""
    said = ('"да" сказал он', '"без конца', 'он сказал "да', "слово")
    rows = _rows_of_dusha(*({0: f"h{clip}", 6: text} for clip, text in enumerate(said)))
    for ending in ("tsv", "jsonl"):
        corpus = read(DushaSource(source=dusha_file(tmp_path / f"raw_crowd_test.{ending}", rows)))
        assert corpus.utterances.frame["transcript"].to_list() == list(said)
        assert len(corpus.votes) == 4


def test_what_is_odd_about_rows_of_dusha_is_counted(tmp_path: Path) -> None:
    rows = _rows_of_dusha({}, {3: "", 5: "8"}, {0: "bb22", 2: "2,5"})
    dusha_file(tmp_path / "crowd_train" / "raw_crowd_train.tsv", rows)
    dusha_file(tmp_path / "crowd_test" / "raw_crowd_test.tsv", _rows_of_dusha({5: "9"}))
    corpus = read(DushaSource(source=tmp_path))
    counts = corpus.findings.counts()
    assert {kind: counts[kind] for kind in ("empty_label", "missing_number", "files_differ")} == {
        "empty_label": 1,
        "missing_number": 1,
        "files_differ": 1,
    }
    assert dict(corpus.utterances.frame.select("utterance_id", "split").iter_rows()) == {
        "dusha/aa11": "test",
        "dusha/bb22": "train",
    }


def test_rows_of_a_recording_that_disagree_about_it_are_counted_by_what_they_disagree_about(tmp_path: Path) -> None:
    """The first row was taken, even where it stated nothing, and nothing said so."""
    other = {0: "bb22", 1: "wavs/bb22.wav"}
    rows = _rows_of_dusha({2: "", 6: ""}, {5: "8"}, {5: "9", 6: "другое"}, {**other, 7: ""}, {**other, 5: "8", 8: "4"})
    corpus = read(DushaSource(source=dusha_file(tmp_path / "raw_crowd_train.tsv", rows)))
    found = corpus.findings.frame.filter(kind="rows_differ")
    assert found["count"].to_list() == [1, 1]
    assert sorted(message.split("about ")[1].split(",")[0] for message in found["message"]) == [
        "source_id",
        "speaker_text",
    ]
    frame = corpus.utterances.frame.sort("utterance_id")
    assert frame.select("duration", "transcript", "intended", "speaker").rows() == [
        (2.5, "слово", "sad", "dusha/crowd/3"),
        (2.5, "слово", "sad", "dusha/crowd/3"),
    ]
