"""Tables that are refused, with file, line and fix; whatever bytes there are, only our errors escape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from long_table import COLUMNS, LONG, put, table

from alm_proxies.errors import AlmProxiesError, InputError, SettingsError, TableError
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read


@pytest.mark.parametrize(
    ("text", "wrong", "line", "words"),
    [
        (LONG, {"columns": {"utterance_id": "Clip"}}, "t.csv", "Did you mean 'clip'?"),
        (LONG, {"columns": {**COLUMNS, "valence": "val"}}, "t.csv", "the scale of valence is not known"),
        (LONG, {"columns": {**COLUMNS, "valence": "val"}, "scales": {"valence": [1, 3]}}, "line 2", "valence = 5"),
        (LONG, {"columns": {**COLUMNS, "start": "rater"}}, "line 2, column rater", "not a number for start"),
        (LONG, {"columns": {**COLUMNS, "intended": "answer"}}, "line 3", "another row has 'Happy'"),
        (LONG, {"columns": {**COLUMNS, "utterance_id": "val"}}, "line 5", "has no utterance id"),
        ("id,l\na,sad\n,\n,\n", {"columns": {"utterance_id": "id", "label": "l"}}, "line 3", "(and 1 more row). Fill"),
        (LONG, {"columns": {**COLUMNS, "status": "sex"}}, "line 2", "'f' is not a valid status"),
        (LONG, {"columns": {**COLUMNS, "source": "sex"}}, "line 2", "human, proxy"),
        (LONG, {"columns": {"utterance_id": "clip"}, "counts": {"sad": "val"}}, "line 3", "occurs twice"),
        ("id,n\na,1\nb,1.5\n", {"columns": {"utterance_id": "id"}, "counts": {"sad": "n"}}, "line 3, column n", "1.5"),
        ("id,n\na,-1\n", {"columns": {"utterance_id": "id"}, "counts": {"sad": "n"}}, "line 2, column n", "-1"),
        ('id,n\na,"[1,2]"\n', {"columns": {"utterance_id": "id"}, "counts": "n"}, "line 2, column n", "in that order"),
        ("id,n\na,.5\n", {"columns": {"utterance_id": "id"}, "probabilities": {"sad": "n"}}, "line 2", "sum to 0.5"),
        ('id,t\na,"x\ny"\nb\n', {"columns": {"utterance_id": "id"}}, "line 4", "has 1 value, but the header has 2"),
        ("id,t\na,b,c\n", {"columns": {"utterance_id": "id"}}, "line 2", "has 3 values"),
        ('id,t\na,b\na,"b\nc,d\n', {"columns": {"utterance_id": "id"}}, "line 3", "cannot be read as CSV"),
        ("id,id\na,b\n", {"columns": {"utterance_id": "id"}}, "header", "two columns 'id'"),
        ("", {"columns": {"utterance_id": "id"}}, "line 1", "is empty"),
        ("x,y\n1,2\n", {}, "t.csv", "Map them"),
        (
            "id,l,d\na,sad,0\na,sad,0\n",
            {"columns": {"utterance_id": "id", "label": "l", "draw": "d"}, "constants": {"annotator": "r"}},
            "line 3",
            "draw 0 of 'mine/r' occurs twice",
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
    tmp_path: Path, text: str, wrong: dict[str, Any], line: str, words: str
) -> None:
    path = put(tmp_path / "t.csv", text)
    with pytest.raises((InputError, SettingsError)) as caught:
        table(path, **wrong)
    assert str(path) in str(caught.value.where)
    assert line in str(caught.value.where)
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{"id": "a"}\n\n{"id": }\n', "line 3", "is not JSON"),
        ('{"id": "a"}\n[1]\n', "line 2", "is not a JSON object"),
        ('{"id": "a"}\n{"id": "\\ud800"}\n', "line 2", "half a character"),
        ('{"id": "a"}\n{"id": "b", "l": "sad", "v": "x"}\n', "line 2, column v", "'x' is not a number"),
        ('{"id": "a"}\n\n{"l": "sad", "v": 1}\n', "line 3", "has no utterance id"),
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
    ("wrong", "words"),
    [
        ({"columns": {"utterance": "clip"}}, "Did you mean 'utterance_id'?"),
        ({"columns": {"label": "x"}, "constants": {"label": "y"}}, "both a column and a constant"),
        ({"columns": {"label": "x"}, "counts": "y"}, "both a label and counts"),
        ({"columns": {"weight": "x"}, "counts": "y"}, "both counts and weight"),
        ({"columns": COLUMNS, "encoding": "utf-9"}, "no text encoding"),
        ({"columns": COLUMNS, "map": {"Excited": "hapy"}}, "Did you mean 'happy'?"),
        ({"columns": {"label": "answer"}}, "no column for the utterance id"),
        ({"columns": {"utterance_id": "clip"}, "groups": ["speaker"]}, "no column 'speaker'"),
        ({"modality": "face"}, "unknown key 'modality'"),
        ({"corpus": ""}, "does not name its corpus"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_mend(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    path = put(tmp_path / "t.csv", LONG)
    with pytest.raises(AlmProxiesError) as caught:
        table(path, **wrong)
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("group", "columns", "fix"),
    [
        ("gender", {}, "--columns gender=gender"),
        ("gender", {"gender": "gender"}, "leave it out of the groups"),
        ("corpus", {}, "Rename it in the file"),
        ("label", {"label": "label"}, "leave it out of the groups"),
    ],
)
def test_a_group_with_a_name_of_ours_is_refused_with_how_to_map_it(
    tmp_path: Path, group: str, columns: dict[str, str], fix: str
) -> None:
    path = put(tmp_path / "t.csv", "clip,gender,corpus,label\na,F,x,sad\n")
    with pytest.raises(SettingsError) as caught:
        table(path, columns={"utterance_id": "clip", **columns}, groups=[group])
    assert f"the group {group!r} has the name of one of our columns" in str(caught.value)
    assert fix in str(caught.value)
    assert "Ours are: audio, speaker, dialogue, gender," in str(caught.value)


def test_a_table_without_card_or_taxonomy_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Name a taxonomy"):
        table(put(tmp_path / "t.csv", LONG), taxonomy=None, columns=COLUMNS)
    with pytest.raises(SettingsError, match="medl are not known. Did you mean 'meld'"):
        table(put(tmp_path / "t.csv", LONG), taxonomy=None, columns=COLUMNS, corpus="medl")


def test_a_format_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(AlmProxiesError, match="Did you mean 'table'?"):
        read(Source(format="tabel", source=put(tmp_path / "t.csv", LONG)))


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
    mapping=st.sampled_from(MAPPINGS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=5)), max_size=4),
    whole=st.one_of(st.none(), st.none(), st.binary(max_size=200)),
)
def test_only_our_errors_escape_and_they_name_the_file(
    tmp_path: Path, name: str, mapping: dict[str, Any], cuts: list[tuple[float, int, bytes]], whole: bytes | None
) -> None:
    path = tmp_path / name
    if name == "t.parquet":
        pl.read_ndjson(GOOD["t.jsonl"]).write_parquet(path)
    data = whole if whole is not None else GOOD.get(name) or path.read_bytes()
    for place, length, inserted in cuts:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + length :]
    path.write_bytes(data)
    result = outcome(TableSource.model_validate({"corpus": "mine", "source": path, **mapping}))
    assert isinstance(result, Corpus) or str(path) in str(result)


@pytest.mark.parametrize("key", ["keep_splits", "folds"])
def test_a_folder_or_a_file_that_is_not_there_is_not_taken_for_one_of_another_format(tmp_path: Path, key: str) -> None:
    votes = put(tmp_path / "t.csv", "id,who,label\na,ann,sad\n")
    columns = {"utterance_id": "id", "speaker": "who", "label": "label"}
    of_key = {
        "keep_splits": {"split": "speakers:.8,.2"},
        "folds": {"as": "proxy:p", "trained_on_these_votes": "out_of_fold"},
    }
    with pytest.raises(InputError, match="there is no such file") as refused:
        table(votes, columns=columns, **of_key[key], **{key: tmp_path / "week"})
    assert refused.value.where == str(tmp_path / "week")


def test_a_sheet_is_refused_with_how_to_save_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t\.xlsx: has an unknown format \(\.xlsx\)\. Save the sheet as CSV\."):
        table(put(tmp_path / "t.xlsx", "PK"), columns={"utterance_id": "id"})


def test_a_key_that_an_object_has_twice_is_refused_since_one_value_would_be_lost(tmp_path: Path) -> None:
    lines = put(
        tmp_path / "t.jsonl", '{"clip": "a", "heard": "sad"}\n{"clip": "b", "heard": "sad", "heard": "happy"}\n'
    )
    with pytest.raises(TableError, match=r"t.jsonl, line 2: an object has the key 'heard' twice. Keep one of them."):
        table(lines, columns={"utterance_id": "clip", "label": "heard"})
    counts = put(tmp_path / "t.csv", 'clip;n\na;{"sad": 1, "sad": 2}\n')
    with pytest.raises(TableError, match="is no list or object of numbers"):
        table(counts, columns={"utterance_id": "clip"}, counts="n")
