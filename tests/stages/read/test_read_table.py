"""Tables of any shape: long, wide, soft labels, model answers, several files; and what is refused, with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alm_proxies.errors import AlmProxiesError, InputError, SettingsError
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read

LONG = """clip;rater;answer;who;sex;val
a;r1;Happy;s1;F;5
a;r2;joyful;s1;F;3
b;r1;Excited;s2;m;1
b;r2;sad;s2;m;
"""
COLUMNS = {"utterance_id": "clip", "annotator": "rater", "label": "answer", "speaker": "who", "gender": "sex"}


def table(path: Path, taxonomy: str | None = "iemocap4", **said: Any) -> Corpus:
    source = Source.model_validate({"format": "table", "corpus": "mine", "source": path, **said})
    return read(source, ReadSettings(taxonomy=taxonomy))


def put(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def votes(corpus: Corpus, *columns: str) -> list[tuple[Any, ...]]:
    return corpus.votes.frame.select("utterance_id", "annotator", *columns).rows()


def test_a_long_table_is_one_row_a_vote(tmp_path: Path) -> None:
    corpus = table(put(tmp_path / "t.csv", LONG), columns={**COLUMNS, "valence": "val"}, scales={"valence": [1, 5]})
    assert votes(corpus, "draw", "label", "valence", "status", "stated") == [
        ("mine/a", "mine/r1", 0, "happy", 1.0, "ok", "Happy"),
        ("mine/a", "mine/r2", 0, "happy", 0.5, "ok", "joyful"),
        ("mine/b", "mine/r1", 0, None, 0.0, "ok", "Excited"),
        ("mine/b", "mine/r2", 0, "sad", None, "ok", None),
    ]
    assert corpus.utterances.frame.select("utterance_id", "corpus", "speaker", "gender").rows() == [
        ("mine/a", "mine", "mine/s1", "female"),
        ("mine/b", "mine", "mine/s2", "male"),
    ]
    assert corpus.votes.about.scales == {"mine": {"valence": (1.0, 5.0)}}


def test_a_word_outside_the_taxonomy_is_kept_and_counted_and_never_merged_unasked(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", LONG)
    lost = table(path, columns=COLUMNS)
    assert votes(lost, "label", "status", "stated")[2] == ("mine/b", "mine/r1", None, "out_of_vocabulary", "Excited")
    assert lost.findings.counts()["out_of_vocabulary"] == 1
    merged = table(path, columns=COLUMNS, map={"Excited": "happy"})
    assert votes(merged, "label", "status", "stated")[2] == ("mine/b", "mine/r1", "happy", "ok", "Excited")
    assert merged.findings.counts()["mapped"] == 1
    outside = table(path, columns=COLUMNS, map={"Excited": "outside"})
    assert votes(outside, "label", "status")[2] == ("mine/b", "mine/r1", None, "out_of_vocabulary")
    assert outside.findings.counts()["outside"] == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiters_encodings_and_line_ends_make_no_difference(
    tmp_path: Path, delimiter: str, encoding: str, newline: str
) -> None:
    text = LONG.replace("s1", "Zoë").replace(";", delimiter).replace("\n", newline)
    said = {"encoding": encoding} if encoding == "latin-1" else {}
    corpus = table(put(tmp_path / "t.csv", text, encoding), columns=COLUMNS, **said)
    assert corpus.utterances.frame["speaker"].to_list() == ["mine/Zoë", "mine/s2"]
    assert corpus.votes.frame["stated"].to_list() == ["Happy", "joyful", "Excited", None]


def test_the_same_rows_as_csv_json_lines_and_parquet_give_the_same_tables(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", LONG)
    frame = pl.read_csv(tmp_path / "t.csv", separator=";")
    frame.write_ndjson(tmp_path / "t.jsonl")
    frame.write_parquet(tmp_path / "t.parquet")
    said: dict[str, Any] = {"columns": {**COLUMNS, "valence": "val"}, "scales": {"valence": [1, 5]}}
    made = [table(tmp_path / name, **said) for name in ("t.csv", "t.jsonl", "t.parquet")]
    for other in made[1:]:
        assert made[0].votes.frame.equals(other.votes.frame)
        assert made[0].utterances.frame.equals(other.utterances.frame)


def test_a_wide_table_is_counts_of_an_unknown_crowd_in_label_order(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,n_sad,n_joy,n_odd\na,2,1,0\nb,0,,1\nc,0,0,0\n")
    said = {"columns": {"utterance_id": "id"}, "counts": {"sad": "n_sad", "joy": "n_joy", "odd": "n_odd"}}
    corpus = table(path, **said)
    assert votes(corpus, "draw", "label", "stated", "status") == [
        ("mine/a", "mine/crowd", 0, "happy", "joy", "ok"),
        ("mine/a", "mine/crowd", 1, "sad", None, "ok"),
        ("mine/a", "mine/crowd", 2, "sad", None, "ok"),
        ("mine/b", "mine/crowd", 0, None, "odd", "out_of_vocabulary"),
    ]
    assert len(corpus.utterances) == 3


def test_counts_may_stand_in_one_column_as_a_list_or_an_object(tmp_path: Path) -> None:
    rows = [{"id": "a", "v": [0, 1, 0, 2]}, {"id": "b", "v": {"joy": 1, "sad": 0}}, {"id": "c", "v": None}]
    path = put(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    corpus = table(path, columns={"utterance_id": "id"}, counts="v")
    assert votes(corpus, "draw", "label") == [
        ("mine/a", "mine/crowd", 0, "happy"),
        ("mine/a", "mine/crowd", 1, "sad"),
        ("mine/a", "mine/crowd", 2, "sad"),
        ("mine/b", "mine/crowd", 0, "happy"),
    ]


def test_soft_labels_are_read_as_labels_and_lost_mass_is_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,h,s,x\na,.5,.25,.25\nb,0,.999,0\nc,0,0,1\n")
    corpus = table(path, columns={"utterance_id": "id"}, probabilities={"happy": "h", "sad": "s", "bewildered": "x"})
    assert corpus.labels is not None
    assert corpus.labels.frame.select("utterance_id", "p_angry", "p_happy", "p_neutral", "p_sad").rows() == [
        ("mine/a", 0.0, pytest.approx(2 / 3), 0.0, pytest.approx(1 / 3)),
        ("mine/b", 0.0, 0.0, 0.0, 1.0),
    ]
    assert len(corpus.votes) == 0
    assert corpus.findings.counts() == {"mass_outside": 2, "no_label": 1, "shares_rounded": 1}


def test_a_models_answers_are_proxy_votes_beside_the_votes_of_another_source(tmp_path: Path) -> None:
    people = Source.model_validate(
        {"format": "table", "corpus": "mine", "source": put(tmp_path / "t.csv", LONG), "columns": COLUMNS}
    )
    answers = put(tmp_path / "gpt.jsonl", '{"utt":"mine/a","said":"HAPPY"}\n\n{"utt":"c","said":"not happy, sad"}\n')
    model = Source.model_validate(
        {
            "format": "table",
            "corpus": "mine",
            "source": answers,
            "columns": {"utterance_id": "utt", "label": "said"},
            "constants": {"source": "proxy", "annotator": "gpt"},
        }
    )
    corpus = read([model, people], ReadSettings(taxonomy="iemocap4"))
    proxies = corpus.votes.frame.filter(pl.col("source") == "proxy")
    assert proxies.select("utterance_id", "annotator", "label", "status").rows() == [
        ("mine/a", "gpt", "happy", "ok"),
        ("mine/c", "gpt", None, "out_of_vocabulary"),
    ]
    assert sorted(corpus.utterances.frame["utterance_id"]) == ["mine/a", "mine/b", "mine/c"]
    assert corpus.findings.counts()["not_described"] == 1
    with pytest.raises(InputError, match="another source brought"):
        read([people, people], ReadSettings(taxonomy="iemocap4"))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("share", [(0, "happy", 0.5), (0, "sad", 0.5)]),
        ("each", [(0, "happy", 1.0), (1, "sad", 1.0)]),
        ("first", [(0, "happy", 1.0)]),
    ],
)
@pytest.mark.parametrize("cell", ["Happy; Sad", '["Happy", "Sad"]'])
def test_several_labels_in_one_answer_share_count_each_or_give_way_to_the_first(
    tmp_path: Path, policy: str, expected: list[tuple[Any, ...]], cell: str
) -> None:
    path = put(tmp_path / "t.jsonl", json.dumps({"id": "a", "who": "r", "label": cell}))
    columns = {"utterance_id": "id", "annotator": "who", "label": "label"}
    corpus = table(path, columns=columns, several_labels=policy)
    assert corpus.votes.frame.select("draw", "label", "weight").rows() == expected
    assert corpus.findings.counts()["several_labels"] == 1


def test_labels_of_one_answer_that_mean_the_same_or_nothing_stay_one_draw(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,who,label\na,r,happy; joy; odd; queer\n")
    corpus = table(path, columns={"utterance_id": "id", "annotator": "who", "label": "label"})
    rows = corpus.votes.frame.select("draw", "label", "weight", "status", "stated").rows()
    assert rows == [(0, "happy", 0.5, "ok", "joy"), (0, None, 0.5, "out_of_vocabulary", "odd; queer")]


def test_secondary_labels_are_mapped_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", 'id,who,label,more\na,r,sad,"Happiness,Amused,Happy"\nb,r,sad,\n')
    columns = {"utterance_id": "id", "annotator": "who", "label": "label", "secondary": "more"}
    corpus = table(path, columns=columns)
    assert corpus.votes.frame["secondary"].to_list() == [["happy"], None]
    assert corpus.findings.counts() == {"out_of_vocabulary": 1}


def test_shared_mass_of_an_annotator_is_one_draw(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,m,label,w\na,gpt,happy,0.75\na,gpt,sad,0.25\n")
    columns = {"utterance_id": "id", "annotator": "m", "label": "label", "weight": "w"}
    corpus = table(path, columns=columns, constants={"source": "proxy"})
    assert corpus.votes.frame.select("draw", "label", "weight").rows() == [(0, "happy", 0.75), (0, "sad", 0.25)]


def test_the_released_shape_of_msp_podcast_needs_no_mapping_of_its_own(tmp_path: Path) -> None:
    text = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
    text += 'MSP-PODCAST_9001_0002.wav,W07,Happy,"Happy,Amused",4,7,1\n'
    corpus = read(Source(format="table", corpus="msp_podcast", source=put(tmp_path / "labels_detailed.csv", text)))
    row = corpus.votes.frame.row(0, named=True)
    assert (row["annotator"], row["label"], row["secondary"]) == ("msp_podcast/W07", "happy", ["happy"])
    assert (row["valence"], row["arousal"], row["dominance"]) == (1.0, 0.5, 0.0)


def test_meld_is_read_by_the_mapping_of_its_card(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    row = '1,"Oh, come on.",Monica,{},negative,0,3,8,21,"00:16:41,126","00:16:44,337"\n'
    put(tmp_path / "train_sent_emo.csv", header + row.format("anger"))
    put(tmp_path / "dev_sent_emo.csv", header + row.format("joy"))
    corpus = read(Source(format="table", corpus="meld", source=tmp_path))
    wanted = ("utterance_id", "dialogue", "turn", "speaker", "transcript", "split", "start")
    assert corpus.utterances.frame.select(wanted).row(0) == (
        "meld/train_dia0_utt3",
        "meld/train_dia0",
        3,
        "meld/Monica",
        "Oh, come on.",
        "train",
        None,
    )
    assert votes(corpus, "label") == [
        ("meld/train_dia0_utt3", "meld/consensus", "angry"),
        ("meld/development_dia0_utt3", "meld/consensus", "happy"),
    ]
    assert corpus.findings.counts()["no_file"] == 1
    one = read(Source(format="table", corpus="meld", source=tmp_path / "dev_sent_emo.csv"))
    assert one.utterances.frame["split"].to_list() == ["development"]


def test_an_audiofolder_needs_no_mapping(tmp_path: Path) -> None:
    put(tmp_path / "train" / "metadata.jsonl", '{"file_name":"data/a.wav","label":"neutral","transcript":"Hm."}\n')
    put(tmp_path / "validation" / "metadata.csv", "file_name,label,transcript\nb.wav,sad,NA\n")
    corpus = table(tmp_path)
    assert corpus.utterances.frame.select("utterance_id", "audio", "split", "transcript").rows() == [
        ("mine/train/data/a", "train/data/a.wav", "train", "Hm."),
        ("mine/validation/b", "validation/b.wav", "development", None),
    ]
    assert corpus.utterances.about.roots == {"mine": str(tmp_path)}
    assert corpus.votes.frame["annotator"].to_list() == ["mine/crowd"] * 2


def test_audio_is_kept_under_the_root_or_as_it_stands_elsewhere(tmp_path: Path) -> None:
    text = f"id,f\na,x/a.wav\nb,{tmp_path}/b.wav\nc,/elsewhere/c.wav\nd,s3://bucket/d.wav\n"
    corpus = table(put(tmp_path / "t.csv", text), columns={"utterance_id": "id", "audio": "f"})
    assert corpus.utterances.frame["audio"].to_list() == ["x/a.wav", "b.wav", "/elsewhere/c.wav", "s3://bucket/d.wav"]


def test_groups_travel_as_text_and_columns_left_behind_are_named(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,age,room\na,44,x\n")
    corpus = table(path, columns={"utterance_id": "id"}, groups=["age"])
    assert corpus.utterances.frame["age"].to_list() == ["44"]
    assert corpus.findings.frame["what"].to_list() == ["1 columns were not taken: 'room'"]


def test_unknown_speakers_and_genders_are_left_empty_and_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,who,sex\na,Unknown,F\nb,7,?\n")
    corpus = table(path, columns={"utterance_id": "id", "speaker": "who", "gender": "sex"})
    assert corpus.utterances.frame.select("speaker", "gender").rows() == [(None, "female"), ("mine/7", None)]
    assert corpus.findings.counts() == {"unknown_gender": 1, "unknown_speaker": 1}


@pytest.mark.parametrize(
    ("text", "said", "line", "words"),
    [
        (LONG, {"columns": {"utterance_id": "Clip"}}, "t.csv", "Did you mean 'clip'?"),
        (LONG, {"columns": {**COLUMNS, "valence": "val"}}, "t.csv", "nothing says on which scale valence"),
        (LONG, {"columns": {**COLUMNS, "valence": "val"}, "scales": {"valence": [1, 3]}}, "line 2", "valence = 5"),
        (LONG, {"columns": {**COLUMNS, "start": "rater"}}, "line 2, column rater", "no number for start"),
        (LONG, {"columns": {**COLUMNS, "intended": "answer"}}, "line 3", "another row 'Happy'"),
        (LONG, {"columns": {**COLUMNS, "utterance_id": "val"}}, "line 5", "does not name its utterance"),
        (LONG, {"columns": {**COLUMNS, "status": "sex"}}, "line 2", "'f' is no status"),
        (LONG, {"columns": {**COLUMNS, "source": "sex"}}, "line 2", "human, proxy"),
        (LONG, {"columns": {"utterance_id": "clip"}, "counts": {"sad": "val"}}, "line 3", "there twice"),
        ("id,n\na,1\nb,1.5\n", {"columns": {"utterance_id": "id"}, "counts": {"sad": "n"}}, "line 3, column n", "1.5"),
        ("id,n\na,-1\n", {"columns": {"utterance_id": "id"}, "counts": {"sad": "n"}}, "line 2, column n", "-1"),
        ('id,n\na,"[1,2]"\n', {"columns": {"utterance_id": "id"}, "counts": "n"}, "line 2, column n", "in that order"),
        ("id,n\na,.5\n", {"columns": {"utterance_id": "id"}, "probabilities": {"sad": "n"}}, "line 2", "sum to 0.5"),
        ('id,t\na,"x\ny"\nb\n', {"columns": {"utterance_id": "id"}}, "line 4", "has 1 values where the header names 2"),
        ("id,t\na,b,c\n", {"columns": {"utterance_id": "id"}}, "line 2", "has 3 values"),
        ('id,t\na,b\na,"b\nc,d\n', {"columns": {"utterance_id": "id"}}, "line 3", "cannot be read as CSV"),
        ("id,id\na,b\n", {"columns": {"utterance_id": "id"}}, "header", "two columns 'id'"),
        ("", {"columns": {"utterance_id": "id"}}, "line 1", "is empty"),
        ("x,y\n1,2\n", {}, "t.csv", "Map them"),
        (
            "id,l,d\na,sad,0\na,sad,0\n",
            {"columns": {"utterance_id": "id", "label": "l", "draw": "d"}, "constants": {"annotator": "r"}},
            "line 3",
            "draw 0 of 'mine/r' is there twice",
        ),
        (
            "id,l\na,sad\n",
            {"columns": {"utterance_id": "id", "label": "l"}, "constants": {"source": "proxy"}},
            "line 2",
            "Name the model",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_file_line_and_mend(
    tmp_path: Path, text: str, said: dict[str, Any], line: str, words: str
) -> None:
    path = put(tmp_path / "t.csv", text)
    with pytest.raises((InputError, SettingsError)) as caught:
        table(path, **said)
    assert str(path) in str(caught.value.where)
    assert line in str(caught.value.where)
    assert words in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{"id": "a"}\n\n{"id": }\n', "line 3", "is not JSON"),
        ('{"id": "a"}\n[1]\n', "line 2", "is no JSON object"),
        ('{"id": "a"}\n{"id": "\\ud800"}\n', "line 2", "half a character"),
        ('{"id": "a"}\n{"id": "b", "l": "sad", "v": "x"}\n', "line 2, column v", "'x' is no number"),
        ('{"id": "a"}\n\n{"l": "sad", "v": 1}\n', "line 3", "does not name its utterance"),
    ],
)
def test_wrong_json_lines_are_refused_with_file_line_and_mend(tmp_path: Path, text: str, line: str, words: str) -> None:
    path = put(tmp_path / "t.jsonl", text)
    columns = {"utterance_id": "id", "label": "l", "valence": "v"}
    with pytest.raises(InputError) as caught:
        table(path, columns=columns, scales={"valence": [1, 5]})
    assert line in str(caught.value.where)
    assert words in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused_with_its_line_and_the_setting_that_helps(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", LONG.replace("s2", "Zoë"), "latin-1")
    with pytest.raises(InputError, match=r"line 4: is not utf-8 text.*latin-1"):
        table(path, columns=COLUMNS)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"columns": {"utterance": "clip"}}, "Did you mean 'utterance_id'?"),
        ({"columns": {"label": "x"}, "constants": {"label": "y"}}, "both a column and a constant"),
        ({"columns": {"label": "x"}, "counts": "y"}, "both a label and counts"),
        ({"columns": COLUMNS, "encoding": "utf-9"}, "no text encoding"),
        ({"columns": COLUMNS, "map": {"Excited": "hapy"}}, "Did you mean 'happy'?"),
        ({"columns": {"label": "answer"}}, "which column names the utterance"),
        ({"columns": {"utterance_id": "clip"}, "groups": ["speaker"]}, "speaker"),
        ({"modality": "face"}, "takes no 'modality'"),
        ({"format": "tabel"}, "Did you mean 'table'?"),
        ({"corpus": ""}, "which corpus"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_mend(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    path = put(tmp_path / "t.csv", LONG)
    with pytest.raises(AlmProxiesError) as caught:
        table(path, **said)
    assert words in str(caught.value)
    assert caught.value.mend


def test_a_table_without_card_or_taxonomy_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Name a taxonomy"):
        table(put(tmp_path / "t.csv", LONG), taxonomy=None, columns=COLUMNS)
    with pytest.raises(SettingsError, match="which labels medl has. Did you mean 'meld'"):
        table(put(tmp_path / "t.csv", LONG), taxonomy=None, columns=COLUMNS, corpus="medl")


def outcome(source: Source) -> Corpus | AlmProxiesError:
    try:
        return read(source, ReadSettings(taxonomy="iemocap4"))
    except AlmProxiesError as error:
        return error


GOOD = {
    "t.csv": LONG.encode(),
    "t.jsonl": b'{"clip":"a","rater":"r","answer":["sad","happy"],"who":"s","sex":"F","val":2}\n' * 2,
}
MAPPINGS: list[dict[str, Any]] = [
    {"columns": {**COLUMNS, "valence": "val"}, "scales": {"valence": [1, 5]}},
    {"columns": {"utterance_id": "{clip}-{rater}"}, "counts": {"sad": "val"}},
    {"columns": {"utterance_id": "{clip}-{rater}"}, "probabilities": "val"},
    {"columns": {"utterance_id": "clip", "weight": "val", "label": "answer", "secondary": "who"}},
    {},
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["t.csv", "t.jsonl", "t.parquet"]),
    said=st.sampled_from(MAPPINGS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=5)), max_size=4),
    whole=st.one_of(st.none(), st.none(), st.binary(max_size=200)),
)
def test_only_our_errors_escape_and_they_name_the_file(
    tmp_path: Path, name: str, said: dict[str, Any], cuts: list[tuple[float, int, bytes]], whole: bytes | None
) -> None:
    path = tmp_path / name
    if name == "t.parquet":
        pl.read_ndjson(GOOD["t.jsonl"]).write_parquet(path)
    data = whole if whole is not None else GOOD.get(name) or path.read_bytes()
    for place, length, inserted in cuts:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + length :]
    path.write_bytes(data)
    result = outcome(Source.model_validate({"format": "table", "corpus": "mine", "source": path, **said}))
    assert isinstance(result, Corpus) or str(path) in str(result)
