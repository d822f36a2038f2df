"""What MSP-Podcast's label files may contain besides plain answers: every vote is read or counted, on its own clip."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from alm_proxies.errors import TableError
from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
from alm_proxies.stages.read.settings import ReadSettings
from alm_proxies.stages.read.stage import Corpus, read

DETAILED = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
CONSENSUS = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


def _read(root: Path, **files: str) -> Corpus:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(MspPodcastSource(source=root), ReadSettings())


def _counts(corpus: Corpus) -> dict[str, int]:
    return dict(corpus.findings.frame.group_by("kind").agg(pl.col("count").sum()).iter_rows())


def _labels(corpus: Corpus) -> dict[tuple[str, str], str | None]:
    rows = corpus.votes.frame.filter(~pl.col("annotator").str.ends_with("consensus"))
    names = rows.select(pl.col("utterance_id").str.tail(1), pl.col("annotator").str.tail(1), "label")
    return {(clip, worker): label for clip, worker, label in names.iter_rows()}


def test_answers_below_a_clip_of_another_form_are_of_that_clip_and_not_of_the_one_before(tmp_path: Path) -> None:
    text = """MSP-PODCAST_0001_0001.wav; H; A:5.0; V:5.5; D:4.5;
WORKER1; Happy; Happy; A:5.0; V:6.0; D:4.0;

MSP-PODCAST_0001_0002.wav; X; A:NaN; V:NaN; D:NaN;
WORKER1; Angry; Angry; A:7.0; V:1.0; D:7.0;

MSP-PODCAST_0001_0003.wav; no agreement
WORKER1; Sad; ; A:1.0; V:1.0; D:1.0;
"""
    corpus = _read(tmp_path, Labels__labels_dot_txt=text)
    assert _labels(corpus) == {("1", "1"): "happy", ("2", "1"): "angry", ("3", "1"): "sad"}
    assert _counts(corpus)["unread_lines"] == 1
    consensus = corpus.votes.frame.filter(pl.col("annotator").str.ends_with("consensus"))
    assert consensus["utterance_id"].to_list() == ["msp_podcast/MSP-PODCAST_0001_0001"]


def test_a_clip_that_labels_txt_has_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    text = """MSP-PODCAST_0001_0001.wav; H; A:5.0; V:5.5; D:4.5;
WORKER1; Happy; Happy; A:5.0; V:6.0; D:4.0;

MSP-PODCAST_0001_0001.wav; S; A:5.0; V:5.5; D:4.5;
WORKER2; Sad; Sad; A:5.0; V:6.0; D:4.0;
"""
    with pytest.raises(TableError, match=r"labels\.txt, line 4: MSP-PODCAST_0001_0001 occurs twice, first in line 1\."):
        _read(tmp_path, Labels__labels_dot_txt=text)


@pytest.mark.parametrize(("line", "clip"), [("0002.WAV; S; A:5.0; V:5.5; D:4.5;", "2"), ("0002", ""), ("0002.w", "")])
def test_answers_below_a_clip_whose_name_is_cut_or_in_capitals_are_not_of_the_clip_before(
    line: str, clip: str, tmp_path: Path
) -> None:
    text = f"""MSP-PODCAST_0001_0001.wav; H; A:5.0; V:5.5; D:4.5;
WORKER1; Happy; Happy; A:5.0; V:6.0; D:4.0;
MSP-PODCAST_0001_{line}
WORKER2; Sad; Sad; A:7.0; V:1.0; D:7.0;
MSP-PODCAST_0001_0003.wav; H; A:5.0; V:5.5; D:4.5;
WORKER3; Angry; ; A:1.0; V:1.0; D:1.0;
"""
    corpus = _read(tmp_path, Labels__labels_dot_txt=text)
    between = {(clip, "2"): "sad"} if clip else {}
    assert _labels(corpus) == {("1", "1"): "happy", **between, ("3", "3"): "angry"}
    assert _counts(corpus).get("unread_lines", 0) == (0 if clip else 2)
    lost = corpus.findings.frame.filter(pl.col("kind") == "unread_lines")
    assert all(f"the first is 'MSP-PODCAST_0001_{line}'" in message for message in lost["message"])


def test_a_rating_that_is_no_number_costs_no_label(tmp_path: Path) -> None:
    text = """FileName,EmoDetail
a.wav,"WORKER1; Happy; ; A:; V:6.0; D:NaN;"
a.wav,"WORKER2; Sad; ; A:1.0; V:low; D:4.0;"
a.wav,"WORKER3; ; ; A:1.0; V:1.0; D:1.0;"
"""
    corpus = _read(tmp_path, Labels__labels_detailed_dot_csv=text)
    assert _labels(corpus) == {("a", "1"): "happy", ("a", "2"): "sad", ("a", "3"): None}
    counts = _counts(corpus)
    assert (counts["missing_number"], counts["empty_label"]) == (1, 1)
    assert "unread_lines" not in counts
    first = corpus.votes.frame.row(0, named=True)
    assert (first["valence"], first["arousal"], first["dominance"]) == (pytest.approx(5 / 6), None, None)


def test_second_answers_of_a_worker_are_counted(tmp_path: Path) -> None:
    rows = ["a.wav,WORKER1,Happy,,5,5,5", "a.wav,WORKER1,Happy,,5,5,5", "a.wav,WORKER2,,,5,5,5"]
    corpus = _read(tmp_path, Labels__labels_detailed_dot_csv="\n".join([DETAILED, *rows, ""]))
    assert len(corpus.votes) == 3
    counts = _counts(corpus)
    assert (counts["answered_again"], counts["empty_label"]) == (1, 1)


def test_what_one_file_does_not_know_another_may_and_contradictions_are_counted(tmp_path: Path) -> None:
    consensus = ["a.wav,H,5,5,5,Unknown,Unknown,Train", "b.wav,H,5,5,5,7,Male,Test1", "c.wav,,,,,Unknown,,Test3"]
    corpus = _read(
        tmp_path,
        Labels__labels_detailed_dot_csv="\n".join([DETAILED, "a.wav,WORKER1,Happy,,5,5,5", ""]),
        Labels__labels_consensus_dot_csv="\n".join([CONSENSUS, *consensus, ""]),
        Speaker_ids_dot_txt="Speaker_9; Female\nSpeaker_7; Male\n\na.wav; 9\nb.wav;7\n",
        Partitions_dot_txt="Train; a.wav\nTest2; b.wav\nTest3; c.wav\nTest3; c.wav\nTest1; c.wav\n",
    )
    people = corpus.utterances.frame.sort("utterance_id").select("speaker", "gender", "split")
    assert people.rows() == [
        ("msp_podcast/9", "female", "train"),
        ("msp_podcast/7", "male", "test"),
        (None, None, "Test3"),
    ]
    counts = _counts(corpus)
    assert (counts["files_differ"], counts["unknown_speaker"]) == (2, 1)
    assert counts["no_votes"] == 2, "a published consensus is no vote"


def test_answers_in_json_without_a_name_or_twice_by_one_name_are_not_lost_without_a_word(tmp_path: Path) -> None:
    answer = '{"EmoClass_Major": "Sad", "EmoAct": 1, "EmoVal": 1, "EmoDom": 1}'
    nameless = f'{{"a.wav": {{"Workers": [{answer}, {answer[:-1]}, "Name": "WORKER1"}}, null]}}}}'
    corpus = _read(tmp_path / "1", Labels__labels_detailed_dot_json=nameless)
    assert _labels(corpus) == {("a", "1"): "sad"}
    counts = _counts(corpus)
    assert (counts["no_rater"], counts["unread_lines"]) == (1, 1)
    twice = f'{{"a.wav": {{"WORKER1": {answer}, "WORKER1": {answer}}}}}'
    with pytest.raises(TableError, match="the key 'WORKER1' twice"):
        _read(tmp_path / "2", Labels__labels_detailed_dot_json=twice)
