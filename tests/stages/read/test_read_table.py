"""Tables of any shape: long, wide, soft labels, model answers, several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from long_table import COLUMNS, LONG, put, table

from alm_proxies.errors import InputError, TableError
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.formats.tables import TablesSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, read
from alm_proxies.tables import Utterances


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
    settings = {"encoding": encoding} if encoding == "latin-1" else {}
    corpus = table(put(tmp_path / "t.csv", text, encoding), columns=COLUMNS, **settings)
    assert corpus.utterances.frame["speaker"].to_list() == ["mine/Zoë", "mine/s2"]
    assert corpus.votes.frame["stated"].to_list() == ["Happy", "joyful", "Excited", None]


def test_the_same_rows_as_csv_json_lines_and_parquet_give_the_same_tables(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", LONG)
    frame = pl.read_csv(tmp_path / "t.csv", separator=";")
    frame.write_ndjson(tmp_path / "t.jsonl")
    frame.write_parquet(tmp_path / "t.parquet")
    settings: dict[str, Any] = {"columns": {**COLUMNS, "valence": "val"}, "scales": {"valence": [1, 5]}}
    corpora = [table(tmp_path / name, **settings) for name in ("t.csv", "t.jsonl", "t.parquet")]
    for other in corpora[1:]:
        assert corpora[0].votes.frame.equals(other.votes.frame)
        assert corpora[0].utterances.frame.equals(other.utterances.frame)


def test_a_wide_table_is_counts_of_an_unknown_crowd_in_label_order(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,n_sad,n_joy,n_odd\na,2,1,0\nb,0,,1\nc,0,0,0\n")
    settings = {"columns": {"utterance_id": "id"}, "counts": {"sad": "n_sad", "joy": "n_joy", "odd": "n_odd"}}
    corpus = table(path, **settings)
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


@pytest.mark.parametrize("shares", [".33,.33,.33", ".67,.17,.17", ".99,0,0"])
def test_shares_that_are_rounded_to_two_decimals_are_normalised(shares: str, tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", f"id,h,s,n\na,{shares}\n")
    corpus = table(path, columns={"utterance_id": "id"}, probabilities={"happy": "h", "sad": "s", "neutral": "n"})
    assert corpus.labels is not None
    given = np.array([float(share) for share in shares.split(",")])
    np.testing.assert_allclose(
        corpus.labels.frame.select("p_happy", "p_sad", "p_neutral").to_numpy()[0], given / given.sum()
    )
    assert corpus.findings.counts() == {"shares_rounded": 1}


@pytest.mark.parametrize("shares", [".33,.33,.31", ".5,.52,0", ".98,0,0"])
def test_shares_that_no_rounding_explains_are_refused(shares: str, tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", f"id,h,s,n\na,{shares}\n")
    with pytest.raises(TableError, match="the shares sum to"):
        table(path, columns={"utterance_id": "id"}, probabilities={"happy": "h", "sad": "s", "neutral": "n"})


def test_soft_labels_that_the_map_leaves_outside_are_no_warning(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,h,s,x,a\na,.5,.25,.25,0\nb,0,.5,0,.5\n")
    shares = {"happy": "h", "sad": "s", "bewildered": "x", "angry": "a"}
    outside = {"bewildered": "outside", "angry": "outside"}
    corpus = table(path, columns={"utterance_id": "id"}, probabilities=shares, map=outside)
    assert corpus.labels is not None
    assert corpus.labels.frame.select("p_angry", "p_happy", "p_neutral", "p_sad").rows() == [
        (0.0, pytest.approx(2 / 3), 0.0, pytest.approx(1 / 3)),
        (0.0, 0.0, 0.0, 1.0),
    ]
    assert corpus.findings.frame.select("kind", "severity", "count").rows() == [("outside", "info", 1)] * 2


def test_a_models_answers_are_proxy_votes_beside_the_votes_of_another_source(tmp_path: Path) -> None:
    people = TableSource.model_validate(
        {"format": "table", "corpus": "mine", "source": put(tmp_path / "t.csv", LONG), "columns": COLUMNS}
    )
    answers = put(tmp_path / "gpt.jsonl", '{"utt":"mine/a","said":"HAPPY"}\n\n{"utt":"c","said":"not happy, sad"}\n')
    model = TableSource.model_validate(
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
    with pytest.raises(InputError, match="another source has too"):
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
    assert corpus.findings.counts() == {"out_of_vocabulary": 1, "synonyms": 1}


def test_shared_mass_of_an_annotator_is_one_draw(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,m,label,w\na,gpt,happy,0.75\na,gpt,sad,0.25\n")
    columns = {"utterance_id": "id", "annotator": "m", "label": "label", "weight": "w"}
    corpus = table(path, columns=columns, constants={"source": "proxy"})
    assert corpus.votes.frame.select("draw", "label", "weight").rows() == [(0, "happy", 0.75), (0, "sad", 0.25)]


def test_the_released_shape_of_msp_podcast_needs_no_mapping_of_its_own(tmp_path: Path) -> None:
    text = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom\n"
    text += 'MSP-PODCAST_9001_0002.wav,W07,Happy,"Happy,Amused",4,7,1\n'
    corpus = read(TableSource(corpus="msp_podcast", source=put(tmp_path / "labels_detailed.csv", text)))
    row = corpus.votes.frame.row(0, named=True)
    assert (row["annotator"], row["label"], row["secondary"]) == ("msp_podcast/W07", "happy", ["happy"])
    assert (row["valence"], row["arousal"], row["dominance"]) == (1.0, 0.5, 0.0)


def test_meld_is_read_by_the_mapping_of_its_card(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    row = '1,"Oh, come on.",Monica,{},negative,0,3,8,21,"00:16:41,126","00:16:44,337"\n'
    put(tmp_path / "train_sent_emo.csv", header + row.format("anger"))
    put(tmp_path / "dev_sent_emo.csv", header + row.format("joy"))
    corpus = read(TableSource(corpus="meld", source=tmp_path))
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
    development = read(TableSource(corpus="meld", source=tmp_path / "dev_sent_emo.csv"))
    assert development.utterances.frame["split"].to_list() == ["development"]


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
    assert corpus.findings.frame["message"].to_list() == ["1 column was not read: 'room'"]


def test_votes_on_utterances_that_no_source_has_are_a_finding(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,who,how\na,r1,sad\nb,r1,happy\nb,r2,happy\n")
    corpus = table(path, columns={"utterance_id": "id", "annotator": "who", "label": "how"})
    corpus.write(tmp_path / "part")
    Utterances(corpus.utterances.frame.head(1), corpus.utterances.about).write(tmp_path / "part" / "utterances.parquet")
    again = read(TablesSource(source=tmp_path / "part"))
    (row,) = again.findings.frame.filter(kind="not_described").select("message", "count").rows()
    assert row == ("2 votes are on 1 utterance that no source describes, such as 'mine/b'", 2)
    assert again.line == "1 utterance, 3 votes"


def test_unknown_speakers_and_genders_are_left_empty_and_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "id,who,sex\na,Unknown,F\nb,7,?\nc,8,w\n")
    corpus = table(path, columns={"utterance_id": "id", "speaker": "who", "gender": "sex"})
    people = [(None, "female"), ("mine/7", None), ("mine/8", "female")]
    assert corpus.utterances.frame.select("speaker", "gender").rows() == people
    assert corpus.findings.counts() == {"unknown_gender": 1, "unknown_speaker": 1}
    (gender,) = corpus.findings.frame.filter(kind="unknown_gender").select("message", "fix").rows()
    assert "such as '?'" in gender[0]
    assert gender[1] == "Write female, male or other; f, w and m are understood too."


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas_are_read_where_commas_do_not_separate(tmp_path: Path, delimiter: str) -> None:
    text = "id,who,how,felt\na,r1,sad,1|0\nb,r1,happy,5|25\nc,r1,sad,\nd,r1,sad,9\n"
    path = put(tmp_path / "t.csv", text.replace(",", delimiter).replace("|", ","))
    columns = {"utterance_id": "id", "annotator": "who", "label": "how", "valence": "felt"}
    corpus = table(path, columns=columns, scales={"valence": [1, 9]})
    assert corpus.votes.frame["valence"].to_list() == [0.0, 0.53125, None, 1.0]


@pytest.mark.parametrize("numbers", ["1,000 2,500", "1,5 2.5", "1,5 1.000,5", "1,5 2,,5"])
def test_commas_that_need_not_be_decimal_are_refused_with_line_and_column(tmp_path: Path, numbers: str) -> None:
    rows = [f"u{n};r1;sad;{number}" for n, number in enumerate(numbers.split())]
    path = put(tmp_path / "t.csv", "\n".join(["id;who;how;felt", *rows]) + "\n")
    columns = {"utterance_id": "id", "annotator": "who", "label": "how", "valence": "felt"}
    with pytest.raises(TableError, match=r"line [23], column felt: '[^']+' is not a number for valence"):
        table(path, columns=columns, scales={"valence": [1, 9]})
