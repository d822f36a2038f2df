"""MSP-Podcast's reader on made-up releases in each of the shapes; totals are counted here by hand."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
from alm_proxies.stages.read.settings import ReadSettings
from alm_proxies.stages.read.stage import Corpus, read
from tests.stages.read.corpora import damaged, msp_detailed, msp_podcast

SHAPES = ("1.6", "1.11", "2.0", "json", "json 1.6", "txt")
every_shape = pytest.mark.parametrize("shape", SHAPES)


def _read(root: Path, *, taxonomy: str | None = None, **given: object) -> Corpus:
    source = MspPodcastSource.model_validate({"source": root, **given})
    return read(source, ReadSettings(taxonomy=taxonomy))


def _counts(corpus: Corpus) -> dict[str, int]:
    return dict(corpus.findings.frame.group_by("kind").agg(pl.col("count").sum()).iter_rows())


@every_shape
def test_every_shape_of_the_label_files_gives_the_same_votes(tmp_path: Path, shape: str) -> None:
    votes = _read(msp_podcast(tmp_path / "a", shape)).votes.frame
    assert votes.equals(_read(msp_podcast(tmp_path / "b", "2.0")).votes.frame)
    workers = votes.filter(~pl.col("annotator").str.ends_with("consensus"))
    assert len(workers) == 5
    rows = {
        (row["utterance_id"][-4:], row["annotator"].removeprefix("msp_podcast/WORKER000000")): row
        for row in workers.iter_rows(named=True)
    }
    assert {key: row["label"] for key, row in rows.items()} == {
        ("0002", "07"): "happy",
        ("0002", "21"): "other",
        ("0002", "30"): "neutral",
        ("0003", "07"): "sad",
        ("0003", "21"): "other",
    }
    assert rows["0002", "21"]["stated"] == "Other-hopeful"
    assert rows["0003", "21"]["stated"] == "Other: a bit, of [everything] & more?"
    assert rows["0002", "07"]["secondary"] == ["happy"]  # Amused is no label of msp9
    assert rows["0002", "21"]["secondary"] == ["neutral", "other"]
    assert rows["0002", "30"]["secondary"] is None
    ratings = [rows["0002", "07"][name] for name in ("valence", "arousal", "dominance")]
    assert np.allclose(ratings, [5 / 6, 4 / 6, 3 / 6])


def test_clips_have_split_speaker_gender_transcript_and_recording_from_all_files_together(tmp_path: Path) -> None:
    corpus = _read(msp_podcast(tmp_path))
    frame = corpus.utterances.frame.sort("utterance_id")
    assert frame["utterance_id"].str.slice(-9).to_list() == ["9001_0002", "9001_0003", "9009_0001"]
    assert frame["split"].to_list() == ["train", "development", "Test3"]
    assert frame["speaker"].to_list() == ["msp_podcast/127", None, "msp_podcast/9"]
    assert frame["gender"].to_list() == ["female", None, "male"]
    assert frame["transcript"].to_list() == ["made up words", None, None]
    assert frame["audio"].to_list() == [
        "Audios/MSP-PODCAST_9001_0002.wav",
        None,
        "Audios/MSP-PODCAST_9009_0001.wav",
    ]
    counts = _counts(corpus)
    assert (counts["no_audio"], counts["unknown_speaker"], counts["no_votes"], counts["no_majority"]) == (1, 1, 1, 1)


def test_the_published_consensus_is_no_vote(tmp_path: Path) -> None:
    consensus = _read(msp_podcast(tmp_path)).votes.frame.filter(pl.col("annotator") == "msp_podcast/consensus")
    assert consensus.select("utterance_id", "label").rows() == [("msp_podcast/MSP-PODCAST_9001_0002", "happy")]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("label", "labels_concensus.csv"), ("labels", "labels_concensus.csv"), ("Labels", "labels.txt")],
)
def test_folders_and_files_are_found_however_the_release_spells_them(tmp_path: Path, folder: str, name: str) -> None:
    shape = "txt" if name == "labels.txt" else "1.6"
    msp_detailed(tmp_path / folder, shape)
    if shape != "txt":
        (tmp_path / folder / name).write_text(
            "FileName,EmoClass,EmoAct,EmoVal,EmoDom\nMSP-PODCAST_9001_0002.wav,H,4,4,4\n"
        )
    corpus = _read(tmp_path)
    assert corpus.votes.frame.filter(pl.col("annotator") == "msp_podcast/consensus")["label"].to_list() == ["happy"]
    assert (
        _read(tmp_path / folder / ("labels.txt" if shape == "txt" else "labels_detailed.csv")).votes.frame.height >= 5
    )


def test_eight_labels_leave_other_outside_and_a_map_may_name_free_words(tmp_path: Path) -> None:
    root = msp_podcast(tmp_path)
    corpus = _read(root, taxonomy="msp8")
    assert _counts(corpus)["out_of_vocabulary"] >= 2
    assert corpus.left_out == 2
    mapped = _read(root, taxonomy="msp8", map={"Other-hopeful": "happy", "Other": "outside"})
    labels = mapped.votes.frame.filter(pl.col("annotator").str.ends_with("00021"))["label"].to_list()
    assert labels == ["happy", None]


def test_a_corpus_of_the_same_shape_has_its_own_name_and_card(tmp_path: Path) -> None:
    root = tmp_path / "MSP-Face"
    msp_detailed(root, "json 1.6")
    (root / "labels_consensus.json").write_text(
        json.dumps(
            {"MSP-PODCAST_9001_0002.wav": [{"EmoClass_Major": "H", "EmoAct": "4", "EmoVal": "5", "EmoDom": "4"}]}
        )
    )
    corpus = _read(root, corpus="msp_face")
    assert set(corpus.utterances.frame["corpus"].to_list()) == {"msp_face"}
    assert corpus.votes.frame.filter(pl.col("annotator") == "msp_face/consensus")["label"].to_list() == ["happy"]


def test_answers_of_another_form_are_counted_with_their_line(tmp_path: Path) -> None:
    path = msp_detailed(tmp_path / "Labels", "txt")
    path.write_text(path.read_text().replace("WORKER00000030; Neutral", "WORKER; Neutral"))
    corpus = _read(tmp_path)
    row = corpus.findings.frame.filter(pl.col("kind") == "unread_lines").row(0, named=True)
    assert row["count"] == 1
    assert row["where"].endswith("labels.txt, line 4")


@pytest.mark.parametrize("shape", SHAPES)
def test_byte_order_marks_and_line_ends_change_nothing(tmp_path: Path, shape: str) -> None:
    plain = _read(msp_podcast(tmp_path / "a", shape))
    root = msp_podcast(tmp_path / "b", shape)
    for path in (*root.glob("Labels/*"), *root.glob("*.txt")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    again = _read(root)
    assert again.votes.frame.equals(plain.votes.frame)
    assert again.utterances.frame.equals(plain.utterances.frame)


def test_a_wrong_folder_is_told_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    with pytest.raises(InputError, match="looked for Labels/labels_detailed") as refused:
        _read(tmp_path)
    assert "'wav'" in str(refused.value)


@every_shape
def test_damaged_label_files_are_read_or_refused_in_a_sentence(tmp_path: Path, shape: str) -> None:
    path = msp_detailed(tmp_path / "Labels", shape)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        path.write_bytes(damaged(content, rng, 20))
        with suppress(InputError):  # anything else fails the test
            assert _read(tmp_path).votes.frame.height
