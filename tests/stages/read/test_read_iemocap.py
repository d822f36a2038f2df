"""IEMOCAP's reader on made-up trees in its shape; totals are counted here by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.stages.read.formats.iemocap import IemocapSource
from alm_proxies.stages.read.settings import HoldOut, ReadSettings
from alm_proxies.stages.read.stage import Corpus, read
from tests.stages.read.corpora import Turn, damaged, iemocap, plain_iemocap

ODD: dict[str, list[Turn]] = {
    "Ses01F_impro01": [
        (
            "Ses01F_impro01_F000",
            "neu",
            [
                "C-E2:\tNeutral;\t()",
                "C-E3:\tNeutral; Frustration;\t()",
                "C-E4:\tFrustration;\t(at first calm; then (rather) not, surprised)",
                "C-F1:\tNeutral; Anger;\t()",
                "A-E3:\tval 3; act 2; dom  2;\t()",
                "A-E4:\tval 2; act 3; dom  ;\t(tense, but polite)",
                "A-F1:\tval 3; act 2; dom  1;\t()",
            ],
        ),
        ("Ses01F_impro01_M000", "xxx", ["C-E2:\tOther;\t()", "C-E3:\tExcited;\t()", "C-M1:\tHappiness;\t()"]),
        ("Ses01F_impro01_MXX0", "hap", ["C-E2:\tHappiness;\t()", "this is no line of theirs"]),
    ],
    "Ses03M_script02_1b": [
        ("Ses03M_script02_1b_F004", "sad", ["C-E1:\tSadness;\t(caf\xe9)", "A-E1:\tval 9; act 1; dom  1;\t()"])
    ],
}


def _read(root: Path, *, taxonomy: str | None = None, **given: object) -> Corpus:
    source = IemocapSource.model_validate({"source": root, **given})
    return read(source, ReadSettings(taxonomy=taxonomy))


def _kinds(corpus: Corpus) -> dict[str, int]:
    rows = corpus.findings.frame.group_by("kind").agg(pl.col("count").sum())
    return dict(rows.iter_rows())


def test_every_turn_has_its_own_speaker_transcript_recording_and_place(tmp_path: Path) -> None:
    people = _read(iemocap(tmp_path, ODD)).utterances.frame.sort("utterance_id")
    assert people["utterance_id"].to_list() == [
        "iemocap/Ses01F_impro01_F000",
        "iemocap/Ses01F_impro01_M000",
        "iemocap/Ses01F_impro01_MXX0",
        "iemocap/Ses03M_script02_1b_F004",
    ]
    assert people["speaker"].to_list() == ["iemocap/Ses01F", "iemocap/Ses01M", "iemocap/Ses01M", "iemocap/Ses03F"]
    assert people["gender"].to_list() == ["female", "male", "male", "female"]
    assert people["turn"].to_list() == [0, 1, 2, 0]
    assert people["scenario"].to_list() == ["improvised"] * 3 + ["scripted"]
    assert people["transcript"].to_list() == [f"Words of turn {turn}." for turn in (0, 1, 2, 0)]
    assert people["audio"][3] == "Session3/sentences/wav/Ses03M_script02_1b/Ses03M_script02_1b_F004.wav"
    assert people["start"].null_count() == people["end"].null_count() == 4, "a turn has a file of its own"
    assert people["duration"].to_list() == [1.5] * 4


def test_only_outside_evaluators_vote_and_two_emotions_share_one_vote(tmp_path: Path) -> None:
    corpus = _read(iemocap(tmp_path, ODD))
    votes = corpus.votes.frame.filter(pl.col("utterance_id").str.ends_with("_F000"))
    shares = {(row["annotator"], row["label"]): row["weight"] for row in votes.iter_rows(named=True) if row["label"]}
    assert shares == {
        ("iemocap/C-E2", "neutral"): 1.0,
        ("iemocap/C-E3", "neutral"): 0.5,
        ("iemocap/C-E3", "frustrated"): 0.5,
        ("iemocap/C-E4", "frustrated"): 1.0,
        ("iemocap/consensus", "neutral"): 1.0,
    }
    rated = votes.filter(pl.col("annotator") == "iemocap/A-E4").row(0, named=True)
    assert (rated["valence"], rated["arousal"], rated["dominance"]) == (0.25, 0.5, None)
    assert _kinds(corpus)["self_reports"] == 3
    assert _kinds(corpus)["no_majority"] == 1


@pytest.mark.parametrize(("several", "labels"), [("each", 5), ("first", 4)])
def test_several_emotions_of_one_evaluator_count_as_asked_for(tmp_path: Path, several: str, labels: int) -> None:
    corpus = _read(iemocap(tmp_path, ODD), several_labels=several)
    votes = corpus.votes.frame.filter(pl.col("utterance_id").str.ends_with("_F000") & pl.col("label").is_not_null())
    assert len(votes) == labels
    assert set(votes["weight"].to_list()) == {1.0}


def test_the_same_evaluators_are_held_out_however_their_emotions_count(tmp_path: Path) -> None:
    lines = ["C-E1:\tAnger; Sadness;\t()", "C-E2:\tNeutral; Anger;\t()", "C-E3:\tFear; Surprise;\t()"]
    lines += [f"A-E{n}:\tval 1; act 1; dom  1;\t()" for n in (1, 2, 3)]
    turns = [(f"Ses01F_impro01_F{n:03}", "xxx", lines) for n in range(20)]
    root = iemocap(tmp_path, {"Ses01F_impro01": turns})
    held = []
    for several in ("share", "each", "first"):
        source = IemocapSource.model_validate({"source": root, "several_labels": several})
        votes = read(source, ReadSettings(hold_out=HoldOut(keep=2))).votes.frame
        sides = votes.group_by("utterance_id", "annotator").agg(pl.col("held_out").n_unique())
        assert sides["held_out"].max() == 1
        held.append(set(votes.filter("held_out").select("utterance_id", "annotator").iter_rows()))
    assert held[0] == held[1] == held[2]
    assert len(held[0]) == 40, "one that names emotions, and one that rates, of each turn"


def test_self_reports_are_annotators_of_their_own_when_asked_for(tmp_path: Path) -> None:
    corpus = _read(iemocap(tmp_path, ODD), self_reports=True)
    assert {"iemocap/C-F1", "iemocap/C-M1", "iemocap/A-F1"} <= set(corpus.votes.frame["annotator"].to_list())
    assert "self_reports" not in _kinds(corpus)


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    corpus = _read(iemocap(tmp_path, ODD))
    kinds = _kinds(corpus)
    assert kinds["unread_lines"] == 1
    assert kinds["out_of_vocabulary"] == 1  # Other
    assert kinds["missing_number"] == 1  # a valence of 9
    where = corpus.findings.frame.filter(pl.col("kind") == "unread_lines")["where"][0]
    assert where.endswith("Ses01F_impro01.txt, line 19")


def test_dot_files_single_rater_folders_and_missing_recordings_do_no_harm(tmp_path: Path) -> None:
    root = iemocap(tmp_path, ODD)
    folder = root / "Session1" / "dialog" / "EmoEvaluation"
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    (folder / "Categorical").mkdir()
    (folder / "Categorical" / "Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_F000 :Neutral; ()\n")
    (root / "Session3" / "sentences" / "wav" / "Ses03M_script02_1b" / "Ses03M_script02_1b_F004.wav").unlink()
    corpus = _read(root)
    assert len(corpus.utterances) == 4
    assert _kinds(corpus)["no_audio"] == 1
    assert corpus.utterances.frame.filter(pl.col("speaker") == "iemocap/Ses03F")["audio"].to_list() == [None]


@pytest.mark.parametrize(("ending", "start"), [("\r\n", ""), ("\n", "\ufeff"), ("\r\n", "\ufeff")])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path: Path, ending: str, start: str) -> None:
    plain = _read(iemocap(tmp_path / "a", ODD))
    other = _read(iemocap(tmp_path / "b", ODD, ending=ending, start=start))
    assert plain.votes.frame.equals(other.votes.frame)
    assert plain.utterances.frame.equals(other.utterances.frame)


def test_sessions_are_splits_and_folds(tmp_path: Path) -> None:
    root = iemocap(tmp_path, ODD)
    sessions = {}
    for split in ("sessions", "sessions:3", "sessions:1,3"):
        frame = _read(root, split=split).utterances.frame
        sessions[split] = dict(frame.select("session", "split").unique().iter_rows())
    assert sessions == {
        "sessions": {"1": "fold1", "3": "fold3"},
        "sessions:3": {"1": "train", "3": "test"},
        "sessions:1,3": {"1": "development", "3": "test"},
    }
    with pytest.raises(ValueError, match="sessions"):
        IemocapSource.model_validate({"source": root, "split": "sessions:7"})


@pytest.mark.parametrize("split", ["sessions:5,5", "sessions:6", "sessions:4,"])
def test_a_session_cannot_be_development_and_test(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match="is not a valid split"):
        IemocapSource(source=tmp_path, split=split)


def test_four_classes_with_excited_merged_into_happy(tmp_path: Path) -> None:
    corpus = _read(iemocap(tmp_path, ODD), taxonomy="iemocap4", map={"Excited": "happy", "Other": "outside"})
    labels = corpus.votes.frame.filter(~pl.col("annotator").str.ends_with("consensus"))["label"].drop_nulls()
    assert sorted(labels.to_list()) == ["happy", "happy", "neutral", "neutral", "sad"]


def test_one_session_the_outer_folder_and_the_corpus_itself_are_read_alike(tmp_path: Path) -> None:
    root = plain_iemocap(tmp_path / "IEMOCAP_full_release")
    whole = _read(root)
    assert _read(tmp_path).votes.frame.equals(whole.votes.frame)
    session = _read(root / "Session2")
    assert session.votes.frame.equals(whole.votes.frame.filter(pl.col("utterance_id").str.contains("Ses02")))


def test_a_wrong_folder_is_told_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="looked for Session1/dialog/EmoEvaluation") as refused:
        _read(tmp_path)
    assert "'notes.txt', 'something'" in str(refused.value)


def test_damaged_files_never_end_in_a_traceback(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = plain_iemocap(tmp_path / "whole")
    path = whole / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    content = path.read_bytes()
    for _ in range(60):
        path.write_bytes(damaged(content, rng, 40))
        corpus = _read(whole)
        assert len(corpus.utterances) >= 4  # those of the other session


def test_answers_below_a_turn_that_cannot_be_read_are_of_no_other_turn(tmp_path: Path) -> None:
    """They were votes on the turn before, without a word."""
    answers = ["C-E2:\tAnger;\t()", "A-E2:\tval 1; act 5; dom  5;\t()"]
    root = iemocap(tmp_path, {"Ses01F_impro01": [("Ses01F_impro01_F000", "neu", ["C-E2:\tNeutral;\t()"])]})
    path = root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    header = "[9.5 to 10.5]\tSes01F_impro01_M000\tang\t[1.0, 5.0, 5.0]"
    before = path.read_text()
    path.write_text(before + "\n".join([header, *answers, ""]))
    corpus = _read(root)
    votes = corpus.votes.frame.filter(~pl.col("annotator").str.ends_with("consensus"))
    assert votes["annotator"].to_list() == ["iemocap/C-E2"]
    assert votes["label"].to_list() == ["neutral"]
    assert _kinds(corpus)["unread_lines"] == 3
    path.write_text("\n".join([*answers, before]))
    assert _kinds(_read(root))["unread_lines"] == 2, "answers of no turn at all"
    path.write_text(before + "\n".join([header.replace("9.5 to 10.5", "9 - 10"), *answers, ""]))
    whole = _read(root)
    of_second = whole.votes.frame.filter(pl.col("utterance_id").str.ends_with("_M000"))
    assert of_second.sort("annotator")["label"].to_list() == [None, "angry", "angry"]
    assert "unread_lines" not in _kinds(whole)


def test_second_and_blank_answers_of_an_evaluator_are_counted(tmp_path: Path) -> None:
    lines = ["C-E2:\tSadness;\t()", "C-E2:\tSadness;\t()", "C-E3:\t;\t()", "A-E3:\tval ; act ; dom  ;\t()"]
    corpus = _read(iemocap(tmp_path, {"Ses01F_impro01": [("Ses01F_impro01_F000", "sad", lines)]}))
    assert sorted(corpus.votes.frame["annotator"]) == ["iemocap/C-E2", "iemocap/C-E2", "iemocap/consensus"]
    kinds = _kinds(corpus)
    assert (kinds["answered_again"], kinds["no_vote"]) == (1, 2)
