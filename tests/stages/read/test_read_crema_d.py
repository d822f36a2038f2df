"""CREMA-D: the real tabulated votes, made-up finishedResponses in the shapes of the release, odd rows included."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.stages.read.crema_d import INTENDED, SENTENCES
from alm_proxies.stages.read.formats.crema_d import CremaDSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read

TABULATED = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","medianEmoRespNorm"
"100001",0,0,0,1,3,0,"1001_IEO_NEU_XX",4,0.75,"N",83.3
"100002",2,0,0,0,2,0,"1002_TSI_ANG_XX",4,0.5,"A:N",NA
"200001",4,0,0,0,0,0,"1001_IEO_NEU_XX",4,1,"A",NA
"300001",0,0,0,0,0,5,"1002_TSI_ANG_XX",5,1,"S",NA
"""
HEADER = (
    '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","subType","clipName",'
    '"sessionNums","respEmo","respLevel","dispEmo","dispVal","dispLevel"'
)


def answer(rater: str, ans: str, clip: str = "1001_IEO_NEU_XX", kind: int = 1, quest: int = 4, number: int = 7) -> str:
    emotion, _, level = ans.partition("_")
    return f'"1","{rater}",217,"{ans}","-12",{kind},0,{number},{quest},4,"{clip}",44,"{emotion}","{level}","N",50,"X"'


def responses(folder: Path, *answers: str) -> Corpus:
    (folder / "finishedResponses.csv").write_text("\n".join([HEADER, *answers]) + "\n", encoding="utf-8")
    return read(CremaDSource(source=folder))


def kinds(corpus: Corpus) -> dict[str, int]:
    return corpus.findings.counts()


@pytest.mark.parametrize(("modality", "votes"), [("voice", 34_715), ("face", 36_262), ("audio-visual", 36_312)])
def test_the_real_votes_are_all_there(test_data: Path, modality: str, votes: int) -> None:
    corpus = read(CremaDSource.model_validate({"source": test_data / "crema_d", "modality": modality}))
    assert len(corpus.utterances) == 3_760
    assert len(corpus.votes) == votes
    assert corpus.votes.frame["label"].null_count() == 0
    assert corpus.votes.frame["annotator"].unique().to_list() == ["crema_d/crowd"]


def test_actors_are_described_where_the_demographics_are_there(test_data: Path) -> None:
    frame = read(CremaDSource(source=test_data / "crema_d")).utterances.frame
    row = frame.row(by_predicate=pl.col("utterance_id") == "crema_d/1001_IEO_NEU_XX", named=True)
    expected = {
        "corpus": "crema_d",
        "audio": "AudioWAV/1001_IEO_NEU_XX.ogg",
        "speaker": "crema_d/1001",
        "gender": "male",
        "age": "51",
        "race": "Caucasian",
        "ethnicity": "Not Hispanic",
        "transcript": "It's eleven o'clock.",
        "intended": "neutral",
        "language": "en",
    }
    assert {name: row[name] for name in expected} == expected
    assert frame["gender"].null_count() == 0


def test_reading_again_gives_the_same_bytes(test_data: Path, tmp_path: Path) -> None:
    wanted = ReadSettings.model_validate({"seed": 5, "hold_out": {"splits": ["test"], "keep": 3}})
    for name in ("one", "two"):
        read(CremaDSource(source=test_data / "crema_d", split="speakers:.7,.1,.2"), wanted).write(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["findings.parquet", "utterances.parquet", "votes.parquet"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_modality_is_the_first_digit_of_the_row(tmp_path: Path) -> None:
    (tmp_path / "tabulatedVotes.csv").write_text(TABULATED, encoding="utf-8")
    votes = read(CremaDSource(source=tmp_path, modality="voice")).votes.frame
    rows = votes.select("utterance_id", "draw", "label").rows()
    assert rows == [
        ("crema_d/1001_IEO_NEU_XX", 0, "happy"),
        ("crema_d/1001_IEO_NEU_XX", 1, "neutral"),
        ("crema_d/1001_IEO_NEU_XX", 2, "neutral"),
        ("crema_d/1001_IEO_NEU_XX", 3, "neutral"),
        ("crema_d/1002_TSI_ANG_XX", 0, "angry"),
        ("crema_d/1002_TSI_ANG_XX", 1, "angry"),
        ("crema_d/1002_TSI_ANG_XX", 2, "neutral"),
        ("crema_d/1002_TSI_ANG_XX", 3, "neutral"),
    ]
    face = read(CremaDSource(source=tmp_path, modality="face"))
    assert face.votes.frame["label"].to_list() == ["angry"] * 4
    assert face.utterances.frame["utterance_id"].to_list() == ["crema_d/1001_IEO_NEU_XX"]


@pytest.mark.parametrize("name", ["AudioWAV/1001_IEO_NEU_XX.ogg", "AudioMP3/1001_IEO_NEU_XX.mp3"])
def test_sounds_are_found_in_any_container(tmp_path: Path, name: str) -> None:
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(TABULATED, encoding="utf-8")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"OggS")
    assert read(CremaDSource(source=tmp_path)).utterances.frame["audio"].to_list() == [name, None]


def test_sounds_are_found_beside_the_label_file_and_missing_ones_are_counted(tmp_path: Path) -> None:
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(TABULATED, encoding="utf-8")
    (tmp_path / "AudioWAV").mkdir()
    (tmp_path / "AudioWAV" / "1001_IEO_NEU_XX.wav").write_bytes(b"RIFF")
    corpus = read(CremaDSource(source=tmp_path))
    assert corpus.utterances.frame["audio"].to_list() == ["AudioWAV/1001_IEO_NEU_XX.wav", None]
    assert corpus.utterances.about.roots == {"crema_d": str(tmp_path)}
    assert kinds(corpus)["no_audio"] == 1


def tabulated(folder: Path, *clips: str, kind: str = "1") -> None:
    head = TABULATED.splitlines()[0]
    rows = [f'"{kind}{number:05d}",0,0,0,1,3,0,"{clip}",4,0.75,"N",83.3' for number, clip in enumerate(clips)]
    (folder / "tabulatedVotes.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


def recording(path: Path, content: bytes = b"RIFF") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def messages(corpus: Corpus, kind: str) -> list[str]:
    frame = corpus.findings.frame
    return frame.filter(pl.col("kind") == kind)["message"].to_list()


@pytest.mark.parametrize("ending", [".wav", ".WAV", ".flac", ".ogg", ".opus"])
def test_a_misnamed_recording_is_found_under_its_right_name(tmp_path: Path, ending: str) -> None:
    tabulated(tmp_path, "1040_ITH_SAD_XX")
    recording(tmp_path / "AudioWAV" / f"1040_ITH_SAD_X{ending}")
    corpus = read(CremaDSource(source=tmp_path))
    assert corpus.utterances.frame["audio"].to_list() == [f"AudioWAV/1040_ITH_SAD_X{ending}"]
    assert kinds(corpus) == {"misnamed": 1}
    recording(tmp_path / "AudioWAV" / f"1040_ITH_SAD_XX{ending}")
    corpus = read(CremaDSource(source=tmp_path))
    assert corpus.utterances.frame["audio"].to_list() == [f"AudioWAV/1040_ITH_SAD_XX{ending}"]
    assert kinds(corpus) == {}


def test_a_misnamed_clip_of_a_label_file_gets_its_right_name(tmp_path: Path) -> None:
    tabulated(tmp_path, "1040_ITH_SAD_X")
    assert read(CremaDSource(source=tmp_path)).votes.frame["utterance_id"].unique().to_list() == [
        "crema_d/1040_ITH_SAD_XX"
    ]
    (tmp_path / "tabulatedVotes.csv").unlink()
    corpus = responses(tmp_path, answer("r1", "S_9", clip="1040_ITH_SAD_X"), answer("r1", "S_8", "1040_ITH_SAD_XX"))
    assert corpus.votes.frame["utterance_id"].to_list() == ["crema_d/1040_ITH_SAD_XX"]
    assert kinds(corpus)["repeated"] == 1


FAULTY = ("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX")


def test_faulty_recordings_are_left_out_with_the_reason_of_the_authors_and_their_votes_are_kept(tmp_path: Path) -> None:
    tabulated(tmp_path, *FAULTY, "1001_IEO_NEU_XX")
    for clip in (*FAULTY, "1001_IEO_NEU_XX"):
        recording(tmp_path / "AudioMP3" / f"{clip}.mp3")
    corpus = read(CremaDSource(source=tmp_path))
    there = dict(corpus.utterances.frame.select("utterance_id", "audio").iter_rows())
    assert {name for name, audio in there.items() if audio is None} == {f"crema_d/{clip}" for clip in FAULTY}
    assert len(corpus.votes) == 5 * 4
    faults = messages(corpus, "known_fault")
    assert [message.split()[0] for message in faults] == ["4", "4"]
    assert all("very short, no audio" in message for message in faults)
    for clip in FAULTY:
        recording(tmp_path / "AudioWAV" / f"{clip}.wav")
    corpus = read(CremaDSource(source=tmp_path))
    silent = corpus.utterances.frame.filter(pl.col("audio").is_null())["utterance_id"].to_list()
    assert silent == ["crema_d/1076_MTI_SAD_XX"]
    assert corpus.findings.frame.filter(kind="known_fault")["count"].to_list() == [4, 1]


def test_recordings_of_a_folder_of_your_own_are_taken_as_they_are(tmp_path: Path) -> None:
    tabulated(tmp_path, "1076_MTI_SAD_XX")
    recording(tmp_path / "mine" / "1076_MTI_SAD_XX.mp3")
    corpus = read(CremaDSource(source=tmp_path, recordings=tmp_path / "mine"))
    assert corpus.utterances.frame["audio"].to_list() == ["1076_MTI_SAD_XX.mp3"]
    assert kinds(corpus) == {"known_fault": 1}


@pytest.mark.parametrize(("kind", "modality", "faults"), [("1", "voice", 0), ("3", "audio-visual", 1)])
def test_videos_without_sound_are_named_where_raters_saw_them(
    tmp_path: Path, kind: str, modality: str, faults: int
) -> None:
    tabulated(tmp_path, "1005_IWW_DIS_XX", "1001_IEO_NEU_XX", kind=kind)
    corpus = read(CremaDSource.model_validate({"source": tmp_path, "modality": modality}))
    assert kinds(corpus).get("known_fault", 0) == faults


def test_a_recording_that_is_only_a_pointer_to_git_lfs_is_not_taken(tmp_path: Path) -> None:
    tabulated(tmp_path, "1001_IEO_NEU_XX", "1001_IEO_SAD_LO")
    recording(tmp_path / "AudioWAV" / "1001_IEO_NEU_XX.wav", b"version https://git-lfs.github.com/spec/v1\noid 0\n")
    recording(tmp_path / "AudioWAV" / "1001_IEO_SAD_LO.wav")
    corpus = read(CremaDSource(source=tmp_path))
    assert corpus.utterances.frame.sort("utterance_id")["audio"].to_list() == [None, "AudioWAV/1001_IEO_SAD_LO.wav"]
    fixes = corpus.findings.frame.filter(kind="no_audio")["fix"].to_list()
    assert any("git lfs pull" in fix for fix in fixes)


def test_raters_are_known_from_finished_responses(tmp_path: Path) -> None:
    corpus = responses(tmp_path, answer("SSI_2", "A_100"), answer("SSI_1", "N_20"), answer("SSI_1", "H_5", kind=2))
    assert corpus.votes.frame.select("annotator", "draw", "label", "status").rows() == [
        ("crema_d/SSI_2", 0, "angry", "ok"),
        ("crema_d/SSI_1", 0, "neutral", "ok"),
    ]
    assert kinds(corpus) == {"no_audio": 1, "not_filtered": 1}


def test_odd_answers_are_read_or_counted(tmp_path: Path) -> None:
    corpus = responses(
        tmp_path,
        answer("r1", "H"),
        answer("r2", "S_40"),
        answer("r2", "A"),
        answer("r3", "A"),
        answer("r3", "N_9"),
        answer("r4", "X_9"),
        answer("r5", "A_1", clip="ANG_HI_practice", number=7443),
        answer("r6", "A_1", clip="not a clip"),
        answer("", "A_1"),
    )
    assert dict(corpus.votes.frame.select("annotator", "label").iter_rows()) == {
        "crema_d/r1": "happy",
        "crema_d/r2": "sad",
        "crema_d/r3": "neutral",
        "crema_d/r4": None,
    }
    assert corpus.votes.frame.filter(pl.col("status") == "out_of_vocabulary")["stated"].to_list() == ["X_9"]
    counts = kinds(corpus)
    wanted = {"practice": 1, "not_a_clip": 1, "no_rater": 1, "repeated": 2, "no_level": 3, "out_of_vocabulary": 1}
    assert {kind: counts[kind] for kind in wanted} == wanted


def test_answers_of_a_distracted_rater_are_left_out_where_first_clicks_are_there(tmp_path: Path) -> None:
    clicks = '"","localid","sessionNums","queryType","questNum","pos","ttr","numTries","clipNum","clipName"\n'
    clicks += (
        '"1","r1",44,1,4,1,"10001",0,7,"x"\n"2","r2",44,1,5,1,"10000",0,7,"x"\n"3","r3",44,2,6,1,"99999",0,7,"x"\n'
    )
    (tmp_path / "finishedEmoResponses.csv").write_text(clicks, encoding="utf-8")
    corpus = responses(
        tmp_path, answer("r1", "A_1", quest=4), answer("r2", "N_1", quest=5), answer("r3", "S_1", quest=6)
    )
    assert corpus.votes.frame["annotator"].to_list() == ["crema_d/r2", "crema_d/r3"]
    assert kinds(corpus) == {"no_audio": 1, "distracted": 1}
    # of an answer without a number of its question, no first click is known
    corpus = responses(tmp_path, answer("r1", "A_1", quest=4), answer("r2", "N_1", quest=5).replace(",5,", ",NA,"))
    assert corpus.votes.frame["annotator"].to_list() == ["crema_d/r2"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"100002",2,', '"100002",-2,', "line 3, column A", "'-2' is not a number of votes"),
        ('"100002",2,', '"100002",NA,', "line 3, column A", "None is not a number of votes"),
        ('"100002",2,', '"100002",2.5,', "line 3, column A", "not a number of votes"),
        ('"100002"', '"900002"', "line 3, column ", "is not 1, 2 or 3 and five digits"),
        ("1002_TSI_ANG_XX", "1002_TSI_ANG", "line 3, column fileName", "is not a clip name"),
        ('"fileName"', '"filename"', "", "Did you mean 'filename'"),
        ('"200001"', '"100001"', "line 4, column fileName", "two rows"),
        ("0.75", "0.75,1,2", "line 2", "has 14 values, but the header has 12"),
    ],
)
def test_a_wrong_tabulated_file_is_refused_with_file_line_and_mend(
    tmp_path: Path, old: str, new: str, line: str, words: str
) -> None:
    path = tmp_path / "tabulatedVotes.csv"
    path.write_text(TABULATED.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(CremaDSource(source=path))
    assert str(path) in str(caught.value.where)
    assert line in str(caught.value.where)
    assert words in str(caught.value)
    assert caught.value.fix


def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "finishedResponses.csv").write_bytes(pointer)
    with pytest.raises(InputError, match="git lfs pull"):
        read(CremaDSource(source=tmp_path))


def test_a_folder_without_label_files_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no label file"):
        read(CremaDSource(source=tmp_path))
    with pytest.raises(InputError, match="no such file") as error:
        read(CremaDSource(source=tmp_path / "nowhere"))
    assert "--set read.source=PATH" in (error.value.fix or ""), "of the shipped pipeline that was given no folder"


def test_every_sentence_and_emotion_of_a_name_is_known() -> None:
    assert len(SENTENCES) == 12
    assert set(INTENDED.values()) == {"angry", "disgust", "fear", "happy", "neutral", "sad"}


def outcome(source: Source) -> Corpus | AlmProxiesError:
    try:
        return read(source)
    except AlmProxiesError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["tabulatedVotes.csv", "finishedResponses.csv"]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=5)), max_size=4),
    whole=st.one_of(st.none(), st.binary(max_size=300)),
)
def test_only_our_errors_escape_and_they_name_the_file(
    tmp_path: Path, name: str, cuts: list[tuple[float, int, bytes]], whole: bytes | None
) -> None:
    for other in tmp_path.glob("*.csv"):
        other.unlink()
    good = TABULATED if name == "tabulatedVotes.csv" else "\n".join([HEADER, answer("r1", "A_1"), answer("r2", "H")])
    data = good.encode() if whole is None else whole
    for place, length, inserted in cuts:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + length :]
    path = tmp_path / name
    path.write_bytes(data)
    result = outcome(CremaDSource(source=path))
    assert isinstance(result, Corpus) or str(path) in str(result)
