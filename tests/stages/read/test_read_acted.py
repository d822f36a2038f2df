"""EMO-DB, RAVDESS and MSP-IMPROV on made-up trees in their shapes; EMO-DB on its own data too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import InputError
from alm_proxies.plugins import plugin
from alm_proxies.stages.read.emodb import listeners
from alm_proxies.stages.read.settings import ReadSettings
from alm_proxies.stages.read.stage import Corpus, read
from tests.stages.read.corpora import damaged, emodb, msp_improv, ravdess, sound


def _read(name: str, root: Path, **given: object) -> Corpus:
    settings = plugin("readers", name).load().settings
    return read(settings.model_validate({"source": root, **given}), ReadSettings())


def _counts(corpus: Corpus) -> dict[str, int]:
    return dict(corpus.findings.frame.group_by("kind").agg(pl.col("count").sum()).iter_rows())


def test_emodb_has_a_vote_for_every_listener_who_recognised_what_was_acted(tmp_path: Path) -> None:
    corpus = _read("emodb", emodb(tmp_path))
    people = corpus.utterances.frame.sort("utterance_id")
    assert people["utterance_id"].to_list() == [
        f"emodb/{clip}" for clip in ("03a01Fa", "08b02Wb", "09b10Ta", "16a05Nc")
    ]
    assert people["intended"].to_list() == ["happy", "angry", "sad", "neutral"]
    assert people["gender"].to_list() == ["male", "female", "female", "female"]
    votes = dict(corpus.votes.frame.group_by("utterance_id", "label").len().select("utterance_id", "len").iter_rows())
    assert votes == {"emodb/03a01Fa": 18, "emodb/08b02Wb": 20}  # 90 % of 20, 95.24 % of 21; 33 % is of neither
    counts = _counts(corpus)
    assert counts["no_label"] == 3
    assert counts["no_votes"] == 2  # one with an odd share, one that is not in the table
    assert counts["no_audio"] == 1  # the take that was not released


@pytest.mark.parametrize(
    ("share", "expected"), [(100.0, (20, 20)), (65.0, (13, 20)), (95.24, (20, 21)), (80.95, (17, 21)), (33.0, None)]
)
def test_the_number_of_listeners_follows_from_the_share(share: float, expected: tuple[int, int] | None) -> None:
    assert listeners(share) == expected


def test_emodb_itself(test_data: Path) -> None:
    corpus = _read("emodb", test_data / "emodb")
    table = pl.read_csv(test_data / "emodb" / "listener_recognition.csv", schema_overrides={"speaker": pl.String})
    released = table.filter(pl.col("duration_s_if_audio").is_not_null())
    expected = {f"emodb/{row['clip']}": row["n_recognised_inferred"] for row in released.iter_rows(named=True)}
    votes = dict(corpus.votes.frame.group_by("utterance_id").len().iter_rows())
    assert votes == {clip: count for clip, count in expected.items() if count}
    assert len(corpus.utterances) == 535
    assert corpus.utterances.frame["audio"].null_count() == 0


def test_ravdess_has_what_was_acted_and_no_votes(tmp_path: Path) -> None:
    corpus = _read("ravdess", ravdess(tmp_path))
    people = corpus.utterances.frame.sort("utterance_id")
    assert people["intended"].to_list() == ["neutral", "angry", "surprise"]
    assert people["speaker"].to_list() == ["ravdess/02", "ravdess/01", "ravdess/02"]
    assert people["gender"].to_list() == ["female", "male", "female"]
    assert people["intensity"].to_list() == ["normal", "strong", "normal"]
    assert len(corpus.votes) == 0
    assert _counts(corpus) == {"not_a_clip": 2, "no_votes": 3}
    assert len(_read("ravdess", tmp_path, channel="both").utterances) == 4
    assert _read("ravdess", tmp_path, channel="song").utterances.frame["intended"].to_list() == ["happy"]


def test_ravdess_with_songs_alone_names_the_flag_that_reads_them(tmp_path: Path) -> None:
    """It ended as a defect of the package: no column of a table without rows was found."""
    sound(tmp_path / "Actor_02" / "03-02-03-01-01-01-02.wav")
    with pytest.raises(InputError, match="1 recording of song and none of speech.*--channel song"):
        _read("ravdess", tmp_path)
    assert len(_read("ravdess", tmp_path, channel="song").utterances) == 1


def test_the_archives_of_ravdess_are_read_where_they_were_unpacked_beside_each_other(tmp_path: Path) -> None:
    for archive, name in (("Speech", "03-01-05-02-01-01-01"), ("Song", "03-02-05-02-01-01-01")):
        sound(tmp_path / f"Audio_{archive}_Actors_01-24" / "Actor_01" / f"{name}.wav")
    assert sorted(_read("ravdess", tmp_path, channel="both").utterances.frame["audio"]) == [
        "Audio_Song_Actors_01-24/Actor_01/03-02-05-02-01-01-01.wav",
        "Audio_Speech_Actors_01-24/Actor_01/03-01-05-02-01-01-01.wav",
    ]


def test_videos_and_copies_in_ravdess_are_counted(tmp_path: Path) -> None:
    video = tmp_path / "Actor_01" / "01-01-05-02-01-01-01.mp4"
    video.parent.mkdir()
    video.write_bytes(b"video")
    with pytest.raises(InputError, match="1 video of RAVDESS"):
        _read("ravdess", tmp_path)
    for folder in ("Actor_01", ".", "Audio_Speech_Actors_01-24/Actor_01"):
        sound(tmp_path / folder / "03-01-05-02-01-01-01.wav")
    corpus = _read("ravdess", tmp_path)
    assert len(corpus.utterances) == 1
    assert _counts(corpus) == {"not_a_clip": 1, "repeated": 2, "no_votes": 1}


def test_msp_improv_turns_activation_round_and_takes_a_worker_once(tmp_path: Path) -> None:
    corpus = _read("msp_improv", msp_improv(tmp_path))
    rows = {(row["utterance_id"][-16:], row["annotator"]): row for row in corpus.votes.frame.iter_rows(named=True)}
    first = "V-S01A-F01-S-FM01"[-16:]
    assert {key[1]: row["label"] for key, row in rows.items() if key[0] == first} == {
        "msp_improv/MA_1": "neutral",
        "msp_improv/MA_2": "sad",
        "msp_improv/consensus": "neutral",
    }
    rated = rows[first, "msp_improv/MA_2"]
    assert (rated["valence"], rated["arousal"], rated["dominance"]) == (None, 1.0, 1.0)
    counts = _counts(corpus)
    assert (counts["repeated"], counts["no_majority"], counts["unread_lines"], counts["no_audio"]) == (1, 1, 1, 1)
    people = corpus.utterances.frame.sort("utterance_id")
    assert people["intended"].to_list() == ["angry", "happy"]
    assert people["speaker"].to_list() == ["msp_improv/F01", "msp_improv/M04"]
    assert people["audio"].to_list() == ["Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav", None]


def test_a_turn_that_msp_improv_has_twice_has_its_published_label_once(tmp_path: Path) -> None:
    root = msp_improv(tmp_path)
    path = root / "Evalution.txt"
    turn = path.read_text().splitlines()[0]
    path.write_text(
        f"{path.read_text()}\n{turn}\nMA_1; Sad; ; A:1.0; V:1.0; D:1.0;\nMA_3; Sad; ; A:1.0; V:1.0; D:1.0;\n"
    )
    corpus = _read("msp_improv", root)
    votes = corpus.votes.frame.filter(pl.col("utterance_id").str.ends_with("FM01"))
    assert sorted(votes["annotator"]) == [f"msp_improv/{rater}" for rater in ("MA_1", "MA_2", "MA_3", "consensus")]
    assert _counts(corpus)["repeated"] == 2 + 1  # answers of MA_1, and the turn


def test_answers_below_a_turn_of_msp_improv_that_cannot_be_read_are_of_no_other_turn(tmp_path: Path) -> None:
    """They were votes on the turn before, and the line of the turn itself was a worker's vote."""
    root = msp_improv(tmp_path)
    path = root / "Evalution.txt"
    whole = _read("msp_improv", root).votes.frame
    worker = "MA_1; Angry; ; A:2.0; V:3.0; D:3.0; N:4.0;"
    path.write_text(path.read_text() + f"\nUTD-IMPROV-S07H-M04-R-MF2.avi; N; A:2.0; V:3.0; D:3.0;\n{worker}\n")
    corpus = _read("msp_improv", root)
    assert corpus.votes.frame.equals(whole)
    assert _counts(corpus)["unread_lines"] == 1 + 2


@pytest.mark.parametrize("name", ["emodb", "ravdess", "msp_improv"])
def test_a_wrong_folder_is_told_what_was_looked_for_and_what_is_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    with pytest.raises(InputError, match="looked for") as refused:
        _read(name, tmp_path)
    assert "'something'" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "make", "file"),
    [
        ("emodb", emodb, "erkennung.txt"),
        ("msp_improv", msp_improv, "Evalution.txt"),
    ],
)
def test_damaged_label_files_are_read_or_refused_in_a_sentence(
    name: str, make: Callable[[Path], Path], file: str, tmp_path: Path
) -> None:
    path = make(tmp_path) / file
    content = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(60):
        path.write_bytes(damaged(content, rng, 20))
        with suppress(InputError):  # anything else fails the test
            assert len(_read(name, tmp_path).utterances)
