"""What becomes of a corpus's words: synonyms, the map's keys, and labels that are lost or empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from long_table import put, table

from alm_proxies.stages.read.stage import Corpus

COLUMNS = {"utterance_id": "clip", "annotator": "rater", "label": "heard"}
HAPPY = "clip,rater,heard\na,r1,Happy\na,r2,happy\nb,r1,Happiness\nb,r2,joy\nc,r1,sad\n"


def finding_of(corpus: Corpus, kind: str) -> dict[str, Any]:
    return corpus.findings.frame.row(by_predicate=pl.col("kind") == kind, named=True)


def heard(path: Path, **settings: Any) -> Corpus:
    return table(put(path, HAPPY), columns=COLUMNS, **settings)


def test_synonyms_that_were_taken_as_labels_are_said_in_one_line(tmp_path: Path) -> None:
    corpus = heard(tmp_path / "t.csv")
    assert corpus.votes.frame["label"].to_list() == ["happy"] * 4 + ["sad"]
    assert corpus.findings.counts() == {"synonyms": 2}
    row = finding_of(corpus, "synonyms")
    assert row["message"] == (
        "2 votes are a usual synonym of a label: 'Happiness' as 'happy' (1), 'joy' as 'happy' (1)"
    )
    assert "--map" in row["fix"]


def test_a_map_moves_the_word_it_names_and_no_other(tmp_path: Path) -> None:
    corpus = heard(tmp_path / "t.csv", map={"Joy": "sad"})
    assert corpus.votes.frame["label"].to_list() == ["happy", "happy", "happy", "sad", "sad"]
    assert corpus.findings.counts() == {"mapped": 1, "synonyms": 1}
    assert finding_of(corpus, "mapped")["message"] == "1 vote 'joy' became 'sad' by the map"
    assert finding_of(corpus, "synonyms")["message"].startswith("1 vote is a usual synonym of a label: ")


def test_a_map_of_a_word_to_what_it_is_anyway_is_not_said(tmp_path: Path) -> None:
    corpus = heard(tmp_path / "t.csv", map={"happy": "happy"})
    assert corpus.findings.counts() == {"synonyms": 2}


def test_a_key_of_the_map_that_no_vote_says_is_told_with_the_nearest_word(tmp_path: Path) -> None:
    corpus = heard(tmp_path / "t.csv", map={"Happyness": "sad", "Bored": "outside", "happiness": "happy"})
    rows = corpus.findings.frame.filter(pl.col("kind") == "map_not_used").sort("message")
    assert rows["message"].to_list() == [
        "the map names 'Bored', which no vote says",
        "the map names 'Happyness', which no vote says",
    ]
    assert "Did you mean 'Happiness'?" in rows["fix"][1]
    assert "'sad'" in rows["fix"][0]


def test_a_key_that_only_a_secondary_label_says_is_used(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", 'clip,rater,heard,more\na,r1,sad,"Excited,sad"\n')
    corpus = table(path, columns={**COLUMNS, "secondary": "more"}, map={"excited": "happy"})
    assert corpus.votes.frame["secondary"].to_list() == [["happy", "sad"]]
    assert corpus.findings.counts() == {"mapped": 1}


@pytest.mark.parametrize("many", ["counts", "probabilities"])
def test_a_key_that_no_column_of_counts_or_shares_is_named_by_is_told(tmp_path: Path, many: str) -> None:
    path = put(tmp_path / "t.csv", "clip,s,j\na,1,0\nb,0,1\n")
    settings: dict[str, Any] = {many: {"sad": "s", "joy": "j"}, "map": {"Joyy": "sad", "joy": "neutral"}}
    assert (
        "Did you mean 'joy'?"
        in finding_of(table(path, columns={"utterance_id": "clip"}, **settings), "map_not_used")["fix"]
    )


RATED = "clip,rater,heard,felt\na,r1,happy,1\na,r2,odd,2\nb,r1,,3\nb,r2,,\nc,r1,sad,\nc,r2,odd,\n"


def test_labels_that_are_empty_or_lost_are_told_though_their_ratings_are_kept(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"columns": {**COLUMNS, "valence": "felt"}, "scales": {"valence": [1, 3]}}
    corpus = table(put(tmp_path / "t.csv", RATED), **settings)
    assert finding_of(corpus, "empty_label")["message"] == "2 votes have no label; the ratings of 1 of them are kept"
    assert corpus.votes.frame["valence"].drop_nulls().to_list() == [0.0, 0.5, 1.0]
    assert corpus.left_out == 3
    assert table(tmp_path / "t.csv", columns=COLUMNS).left_out == 4


def test_a_table_of_ratings_alone_leaves_nothing_out(tmp_path: Path) -> None:
    columns = {"utterance_id": "clip", "annotator": "rater", "valence": "felt"}
    path = put(tmp_path / "t.csv", "clip,rater,felt\na,r1,1\na,r2,2\n")
    corpus = table(path, columns=columns, scales={"valence": [1, 3]})
    assert (corpus.left_out, corpus.findings.counts()) == (0, {})


def test_a_models_failures_that_are_given_as_such_are_no_empty_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv", "clip,rater,heard,how\na,r1,sad,ok\na,r2,,refused\n")
    corpus = table(path, columns={**COLUMNS, "status": "how"}, constants={"source": "proxy"})
    assert (corpus.left_out, corpus.findings.counts()) == (1, {})


def test_the_rare_words_of_many_are_told_as_one(tmp_path: Path) -> None:
    words = [f"word {n:02d}" for n in range(25) for _ in range(30 - n)]
    rows = "".join(f"u{n},r1,{word}\n" for n, word in enumerate(words))
    corpus = table(put(tmp_path / "t.csv", "clip,rater,heard\n" + rows), columns=COLUMNS)
    lost = corpus.findings.frame.filter(pl.col("kind") == "out_of_vocabulary")
    assert lost.height == 21
    assert lost["count"].sum() == len(words) == corpus.left_out
    rest = lost.filter(pl.col("message").str.contains("one of 5 further words"))["message"].to_list()
    assert rest == ["40 votes are one of 5 further words that are not labels, such as 'word 20'"]
