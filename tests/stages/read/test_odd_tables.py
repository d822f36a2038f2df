"""Tables that are odd but honest: nothing is lost without a word, nothing ends in a traceback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from wording import Wording

from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.stage import Corpus, HoldOut, ReadSettings, read

TABLE = "file,rater,emotion\na,r1,happy\na,r2,sad\nb,r1,sad\n"
COLUMNS = {"utterance_id": "file", "annotator": "rater", "label": "emotion"}


def table(path: Path, *, cards: Path | None = None, **settings: Any) -> Corpus:
    source = TableSource.model_validate({"corpus": "mine", "source": path, **settings})
    return read(source, ReadSettings(taxonomy="happy,sad", cards=cards))


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_split_by_speaker_of_a_table_without_speakers_asks_for_them(tmp_path: Path, wording: Wording) -> None:
    with wording.refused(InputError):
        table(put(tmp_path / "t.csv", TABLE), columns=COLUMNS, split="speakers:.5,.5")


@pytest.mark.parametrize("encoding", ["undefined", "utf-99", "base64"])
def test_an_encoding_that_is_none_is_refused(tmp_path: Path, encoding: str, wording: Wording) -> None:
    with wording.refused(SettingsError):
        table(put(tmp_path / "t.csv", TABLE), columns=COLUMNS, encoding=encoding)


def test_a_table_without_rows_is_refused(tmp_path: Path, wording: Wording) -> None:
    with wording.refused(TableError):
        table(put(tmp_path / "t.csv", "file,rater,emotion\n"), columns=COLUMNS)
    pl.DataFrame(schema={"file": pl.String, "emotion": pl.String}).write_parquet(tmp_path / "t.parquet")
    with wording.refused(TableError):
        table(tmp_path / "t.parquet", columns={"utterance_id": "file", "label": "emotion"})


def test_rows_that_are_there_twice_count_and_are_said_with_their_line(tmp_path: Path) -> None:
    twice = table(put(tmp_path / "t.csv", TABLE + TABLE.partition("\n")[2]), columns=COLUMNS)
    assert len(twice.votes) == 6
    assert twice.findings.counts() == {"copied_rows": 3}
    finding = twice.findings.frame.row(0, named=True)
    assert "'mine/r1' on 'mine/a'" in finding["message"]
    assert "line 5" in finding["message"]
    assert finding["message"].startswith("3 rows repeat an earlier row")
    one = table(put(tmp_path / "one.csv", TABLE + TABLE.splitlines()[1] + "\n"), columns=COLUMNS)
    assert one.findings.frame["message"][0].startswith("1 row repeats an earlier row")
    assert "remove the copies" in finding["fix"]
    once = table(tmp_path / "t.csv", columns={"utterance_id": "file", "label": "emotion"})
    assert once.findings.counts() == {"columns_not_taken": 1}


def test_answers_of_a_rater_who_had_answered_otherwise_count_and_are_said_apart(tmp_path: Path) -> None:
    corpus = table(put(tmp_path / "t.csv", TABLE + "a,r1,sad\na,r1,happy\nb,r1,sad\nb,r2,sad\n"), columns=COLUMNS)
    assert len(corpus.votes) == 7
    assert corpus.findings.counts() == {"answered_again": 1, "copied_rows": 2}


@pytest.mark.parametrize("rater", ["", "r"])
@pytest.mark.parametrize("several", ["", ";happy"])
def test_the_order_of_the_rows_decides_nothing(tmp_path: Path, rater: str, several: str) -> None:
    """Votes without raters were held out by their place in the file, where they had ratings or several labels."""
    columns = {"utterance_id": "clip", "label": "heard", "annotator": "who", "valence": "felt", "secondary": "more"}
    rows = [
        f"{clip},{word}{several if felt > 2 else ''},{rater and rater + str(felt % 3)},{felt},{more}\n"
        for clip in "abc"
        for felt, word in enumerate(("happy", "sad", "sad", "glad", "happy", "sad"), start=1)
        for more in ("", "sad")
    ]
    held = []
    for name, ordered in (("forward", rows), ("backward", rows[::-1])):
        path = put(tmp_path / f"{name}.csv", "clip,heard,who,felt,more\n" + "".join(ordered))
        source = TableSource(source=path, corpus="mine", columns=columns, scales={"valence": (1, 9)})
        votes = read(source, ReadSettings(taxonomy="happy,sad", hold_out=HoldOut(keep=2))).votes.frame
        content = votes.filter("held_out").select(
            "utterance_id", "annotator", "label", "valence", "secondary", "weight"
        )
        held.append(sorted(map(str, content.iter_rows())))
    assert held[0] == held[1] != []


@pytest.mark.parametrize("folder", ["a?b", "[release]", "~", "a b é"])
def test_a_table_is_read_from_its_very_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (folder, "acb"):
        Path(name).mkdir()
        frame = pl.DataFrame({"file": [name], "emotion": ["happy"]})
        frame.write_parquet(Path(name).absolute() / "t.parquet")
    corpus = table(Path(folder, "t.parquet"), columns={"utterance_id": "file", "label": "emotion"})
    assert corpus.utterances.frame["utterance_id"].to_list() == [f"mine/{folder}"]


def test_votes_that_were_written_are_a_table_too(tmp_path: Path) -> None:
    first = table(put(tmp_path / "t.csv", TABLE), columns=COLUMNS)
    first.write(tmp_path / "out")
    again = table(tmp_path / "out" / "votes.parquet")
    keys = ["utterance_id", "annotator", "draw", "label"]
    assert again.votes.frame.select(keys).sort(keys).equals(first.votes.frame.select(keys).sort(keys))


def test_corpora_that_nothing_describes_are_read_side_by_side(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", TABLE)
    sources = [TableSource(corpus=name, source=path, columns=COLUMNS) for name in ("one", "two")]
    both = read(sources, ReadSettings(taxonomy="happy,sad"))
    assert both.utterances.frame["utterance_id"].to_list() == ["one/a", "one/b", "two/a", "two/b"]
    assert both.findings.counts() == {}


def test_holding_nothing_out_is_no_way_to_hold_out(wording: Wording) -> None:
    with wording.refused(ValidationError):
        HoldOut()


def test_a_folder_of_cards_that_is_not_there_is_refused(tmp_path: Path, wording: Wording) -> None:
    with wording.refused(SettingsError):
        table(put(tmp_path / "t.csv", TABLE), columns=COLUMNS, cards=tmp_path / "crads")


def test_many_labels_with_spaces_and_accents_are_labels_like_any_other(tmp_path: Path) -> None:
    labels = tuple(f"gefühl nr {i}" for i in range(30))
    rows = "".join(f"u{i},r,{label.upper()}\n" for i, label in enumerate(labels))
    source = TableSource(corpus="mine", source=put(tmp_path / "t.csv", "file,rater,emotion\n" + rows),
                    columns=COLUMNS)  # fmt: skip
    corpus = read(source, ReadSettings(taxonomy=labels))
    assert corpus.votes.taxonomy == labels
    assert sorted(corpus.votes.frame["label"].to_list()) == sorted(labels)


@pytest.mark.parametrize("name", [b"\xff.csv", b"v\xfe/t.csv"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, name: bytes, wording: Wording) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        put(path, TABLE)
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    with wording.refused(InputError):
        table(path, columns=COLUMNS)


NO_NUMBERS = ["n/a", "N/A", "NA", "nan", "NaN", "none", "None", "null", "-", " n/a ", ""]


@pytest.mark.parametrize("word", NO_NUMBERS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_usual_ways_to_write_no_number_are_missing_and_counted(tmp_path: Path, word: str, suffix: str) -> None:
    frame = pl.DataFrame({"file": ["a", "b", "c"], "felt": [word, "2", word], "emotion": ["sad"] * 3})
    path = tmp_path / f"t.{suffix}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](path)
    columns = {"utterance_id": "file", "label": "emotion", "valence": "felt"}
    corpus = table(path, columns=columns, scales={"valence": [1, 3]})
    assert corpus.votes.frame["valence"].to_list() == [None, 0.5, None]
    assert corpus.findings.counts() == {"missing_number": 2}
    message = corpus.findings.frame["message"][0]
    assert message.startswith("2 rows have no number for valence: the column 'felt' ")
    assert message.endswith(f"says {word.strip()!r}") or message.endswith("is empty")


def test_missing_counts_and_shares_are_none_and_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "file,h,s\na,1,\nb,n/a,1\nc,-,1\n")
    for many in ("counts", "probabilities"):
        corpus = table(path, columns={"utterance_id": "file"}, **{many: {"happy": "h", "sad": "s"}})
        messages = corpus.findings.frame.filter(pl.col("kind") == "missing_number")["message"].to_list()
        assert messages == [
            "2 rows have no number for happy, taken as 0: the column 'h' says '-', 'n/a'",
            "1 row has no number for sad, taken as 0: the column 's' is empty",
        ]


def test_any_other_word_for_a_number_is_refused_with_how_to_write_that_there_is_none(
    tmp_path: Path, wording: Wording
) -> None:
    path = put(tmp_path / "t.csv", "file,felt\na,2\nb,unrated\n")
    with wording.refused(TableError):
        table(path, columns={"utterance_id": "file", "valence": "felt"}, scales={"valence": [1, 3]})


def test_votes_and_utterances_without_a_name_beside_named_ones_are_counted(tmp_path: Path) -> None:
    text = "clip,who,rater,heard\na,s1,NA,happy\na,s1,r2,sad\nb,NA,,sad\nb,NA,r2,happy\nc,null,r2,sad\n"
    columns = {"utterance_id": "clip", "speaker": "who", "annotator": "rater", "label": "heard"}
    corpus = table(put(tmp_path / "t.csv", text), columns=columns)
    assert corpus.findings.counts() == {"unknown_rater": 2, "unknown_speaker": 2}
    (row,) = corpus.findings.frame.filter(kind="unknown_rater").rows(named=True)
    assert (f"{tmp_path / 't.csv'}, line 2" in row["message"], row["severity"]) == (True, "warning")
    assert sorted(corpus.votes.frame["annotator"]) == ["mine/crowd"] * 2 + ["mine/r2"] * 3
    alone = table(put(tmp_path / "t.csv", text), columns={"utterance_id": "clip", "label": "heard"})
    assert alone.findings.counts().keys() == {"columns_not_taken"}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "labels.jsonl"])
def test_a_table_of_labels_is_soft_labels_and_no_votes(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame(
        {"utterance_id": ["mine/a", "mine/b"], "label": ["happy", None], "p_sad": [0.1, 0.5], "p_happy": [0.9, 0.5],
         "weight": [2.5, 0.0], "start": [None, None], "valence": [0.9, 0.2], "speaker": ["s1", "s2"]}
    )  # fmt: skip
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    path = tmp_path / name
    writers[path.suffix](path)
    corpus = table(path)
    assert (len(corpus.votes), corpus.utterances.frame["speaker"].to_list()) == (0, ["mine/s1", "mine/s2"])
    assert corpus.labels is not None
    assert corpus.labels.distributions().tolist() == [[0.9, 0.1], [0.5, 0.5]]
    assert corpus.findings.counts() == {"columns_not_taken": 4}
    proxy = table(path, **{"as": "proxy:x", "trained_on_these_votes": "no"})
    assert proxy.votes.frame.select("label", "weight").rows() == [
        ("happy", 0.9), ("sad", 0.1), ("happy", 0.5), ("sad", 0.5),
    ]  # fmt: skip
    assert (proxy.line, proxy.counts["votes"]) == ("2 utterances, 2 votes", 2)


def test_a_folder_of_predictions_stands_for_its_labels_and_one_of_votes_does_not(tmp_path: Path) -> None:
    labels = pl.DataFrame({"utterance_id": ["mine/a"], "p_sad": [0.25], "p_happy": [0.75]})
    labels.write_parquet(put(tmp_path / "predictions" / "labels.parquet", ""))
    stated = {"as": "proxy:x", "trained_on_these_votes": "no"}
    votes = table(tmp_path / "predictions", **stated).votes
    assert votes.frame.select("utterance_id", "label", "weight").rows() == [
        ("mine/a", "happy", 0.75), ("mine/a", "sad", 0.25),
    ]  # fmt: skip
    put(tmp_path / "predictions" / "votes.parquet", "")
    with pytest.raises(InputError, match="Name the label file itself"):
        table(tmp_path / "predictions", **stated)


def test_the_metadata_of_a_folder_in_two_files_is_refused_and_of_two_folders_is_not(tmp_path: Path) -> None:
    put(tmp_path / "train" / "metadata.csv", "file_name,label\na.wav,happy\n")
    put(tmp_path / "test" / "metadata.jsonl", '{"file_name": "b.wav", "label": "sad"}\n')
    assert len(table(tmp_path).votes) == 2
    put(tmp_path / "train" / "metadata.jsonl", '{"file_name": "a.wav", "label": "happy"}\n')
    with pytest.raises(InputError, match=r"has both metadata\.csv and metadata\.jsonl") as refused:
        table(tmp_path)
    assert refused.value.where == str(tmp_path / "train")


def test_lists_and_objects_of_a_parquet_file_are_read_as_those_of_json_lines(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "clip": ["a", "b", "c"],
            "heard": [["happy", "sad"], ["sad"], None],
            "counts": [[1, 2], [3, 0], None],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    for columns, more in (
        ({"utterance_id": "clip", "label": "heard"}, {}),
        ({"utterance_id": "clip"}, {"counts": "counts"}),
    ):
        first, other = (
            table(tmp_path / name, columns=columns, **more).votes.frame.drop("stated")
            for name in ("t.parquet", "t.jsonl")
        )
        assert first.equals(other)
        assert (first.height, first["label"].null_count()) == ((6, 0) if more else (3, 0))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf_8"])
def test_a_byte_order_mark_is_no_part_of_the_first_column_where_utf_8_is_named(tmp_path: Path, encoding: str) -> None:
    for name, text in (("t.csv", "clip,heard\na,happy\n"), ("t.jsonl", '{"clip": "a", "heard": "happy"}\n')):
        path = put(tmp_path / name, f"\ufeff{text}")
        corpus = table(path, columns={"utterance_id": "clip", "label": "heard"}, encoding=encoding)
        assert corpus.votes.frame["label"].to_list() == ["happy"]


def test_ranks_of_ratings_do_not_depend_on_the_number_of_labels_beside_them(tmp_path: Path) -> None:
    text = "clip,rater,heard,v\n" + "".join(
        f"c{n},r{n % 3},{'happy;sad' if n < 6 else 'sad'},{n % 7 + 1}\n" for n in range(20)
    )
    path = put(tmp_path / "t.csv", text)
    source = {"corpus": "mine", "source": path, "scales": {"valence": [1, 7]},
              "columns": {"utterance_id": "clip", "annotator": "rater", "label": "heard", "valence": "v"}}  # fmt: skip
    ranked = {}
    for several in ("share", "first"):
        settings = ReadSettings(taxonomy="happy,sad", align_ratings="rank")
        corpus = read(TableSource.model_validate({**source, "several_labels": several}), settings)
        ranked[several] = dict(corpus.votes.frame.select("utterance_id", "valence").iter_rows())
        (row,) = corpus.findings.frame.filter(kind="ratings_aligned").rows(named=True)
        assert row["count"] == 20
    assert ranked["share"] == ranked["first"]
